"""Receivers of callbacks and alerts on real sockets: one for HTTP, one for mail."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

_STATUS_WORDS = {200: "OK", 302: "Found", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass
class Posted:
    """One POST: its path, its headers by lower-case name, its body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """Listens on a port of this machine. Subclasses answer one connection."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._guarded, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""

    async def note(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def wait(self, reached: Callable[[], bool], seconds: float = 5) -> None:
        """Until it is so; TimeoutError when it takes longer."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(reached)


class HttpReceiver(Receiver):
    """Answers each POST with the next of `statuses`, then with 200; after `delay` seconds."""

    def __init__(self, *statuses: int, delay: float = 0.0, location: str = "", cookie: str = "") -> None:
        super().__init__()
        self.posts: list[Posted] = []
        self.statuses = list(statuses)
        self.delay = delay
        self.location = location
        self.cookie = cookie

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def wait_for(self, count: int, seconds: float = 5) -> list[Posted]:
        await self.wait(lambda: len(self.posts) >= count, seconds)
        return self.posts

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.rstrip("\r\n").split("\r\n")
            pairs = (line.partition(":") for line in lines)
            headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.posts.append(Posted(first.split(" ")[1], headers, body))
            await self.note()
            await asyncio.sleep(self.delay)
            status = self.statuses.pop(0) if self.statuses else 200
            where = f"Location: {self.location}\r\n" if self.location else ""
            where += f"Set-Cookie: {self.cookie}\r\n" if self.cookie else ""
            answer = f"HTTP/1.1 {status} {_STATUS_WORDS[status]}\r\n{where}Content-Length: 2\r\n\r\nok"
            writer.write(answer.encode())
            await writer.drain()


@dataclass
class Mail:
    sender: str = ""
    recipients: list[str] = field(default_factory=list)
    text: str = ""


class MailReceiver(Receiver):
    """A mail server that takes everything from whoever signs in as `user` with `password`, or from all without."""

    def __init__(self, user: str = "", password: str = "") -> None:
        super().__init__()
        self.mails: list[Mail] = []
        self.signed_in: list[str] = []
        self._expected = base64.b64encode(f"\0{user}\0{password}".encode()).decode() if user else ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mail = Mail()
        writer.write(b"220 here\r\n")
        while line := (await reader.readline()).decode().strip():
            word, _, rest = line.partition(" ")
            word, answer = word.upper(), "250 fine"
            if word == "EHLO":
                answer = "250-here\r\n250 AUTH PLAIN"
            elif word == "AUTH":
                is_right = rest == f"PLAIN {self._expected}"
                self.signed_in.append(rest)
                answer = "235 welcome" if is_right else "535 no"
            elif word == "MAIL":
                mail.sender = rest.partition(":")[2].partition(">")[0].lstrip("<")
            elif word == "RCPT":
                mail.recipients.append(rest.partition(":")[2].partition(">")[0].lstrip("<"))
            elif word == "DATA":
                writer.write(b"354 go on\r\n")
                mail.text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                self.mails.append(mail)
                await self.note()
            elif word == "QUIT":
                writer.write(b"221 bye\r\n")
                return
            writer.write(f"{answer}\r\n".encode())
