"""How alerts reach people: Slack, a webhook, e-mail. Each takes several at once and raises Undelivered."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from email.message import EmailMessage

import httpx
import msgspec

from ..settings import Settings
from .alerts import TEST, Alert
from .delivery_queue import Undelivered
from .http_post import post_json

Deliver = Callable[[Sequence[Alert]], Awaitable[None]]

DESTINATIONS = ("slack", "webhook", "email")
_SMTP_SECONDS = 5.0
_TITLE = "Quarterdeck"


def destination(name: str, settings: Settings, http: httpx.AsyncClient) -> Deliver | None:
    """How to reach one of DESTINATIONS; None when its address is not set, or it is none of them."""
    if name == "slack" and (settings.slack_webhook_url or settings.alert_to_webhook_url):
        return _slack(settings, http)
    if name == "webhook" and settings.webhook_url:
        return _webhook(settings.webhook_url, http)
    if name == "email" and settings.smtp_host and settings.smtp_sender_email:
        return _email(settings)
    return None


class _Posts:
    """The posts of a batch. One dead address keeps nothing from the others, and another try repeats no arrival."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._batch: Sequence[Alert] = ()
        self._done: set[int] = set()

    async def send(self, batch: Sequence[Alert], posts: Sequence[tuple[str, bytes]]) -> None:
        """Send each `(url, body)`. Raises Undelivered when one did not arrive; then the same `batch` is tried again."""
        if batch is not self._batch:
            self._batch, self._done = batch, set()
        problems: dict[str, Undelivered] = {}
        for number, (url, body) in enumerate(posts):
            if number in self._done or url in problems:
                continue
            try:
                await post_json(self._http, url, body, {})
            except Undelivered as problem:
                problems[url] = problem
            else:
                self._done.add(number)
        if problems:
            raise min(problems.values(), key=lambda problem: problem.is_final)


def _slack(settings: Settings, http: httpx.AsyncClient) -> Deliver:
    own = settings.alert_to_webhook_url or {}
    usual = (settings.slack_webhook_url,) if settings.slack_webhook_url else ()
    everywhere = tuple(dict.fromkeys((*usual, *(url for urls in own.values() for url in urls))))
    posts = _Posts(http)

    async def deliver(alerts: Sequence[Alert]) -> None:
        lines: dict[str, list[str]] = {}
        for alert in alerts:
            for url in everywhere if alert.type == TEST else own.get(alert.type, usual):
                lines.setdefault(url, []).append(f"*{_TITLE}* `{alert.type}` {_escaped(alert.message)}")
        await posts.send(
            alerts, [(url, msgspec.json.encode({"text": "\n".join(texts)})) for url, texts in lines.items()]
        )

    return deliver


def _escaped(text: str) -> str:
    """Slack's own marks in a name must not become links or mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _webhook(url: str, http: httpx.AsyncClient) -> Deliver:
    posts = _Posts(http)

    async def deliver(alerts: Sequence[Alert]) -> None:
        await posts.send(alerts, [(url, msgspec.json.encode(dict(alert.fields))) for alert in alerts])

    return deliver


def _email(settings: Settings) -> Deliver:
    async def deliver(alerts: Sequence[Alert]) -> None:
        await _in_thread(lambda: _send_mail(settings, _mail(settings, alerts)))

    return deliver


def _mail(settings: Settings, alerts: Sequence[Alert]) -> EmailMessage:
    mail = EmailMessage()
    subject = alerts[0].message if len(alerts) == 1 else f"{len(alerts)} alerts"
    mail["Subject"] = f"{_TITLE}: {' '.join(subject.split())[:150]}"
    mail["From"] = settings.smtp_sender_email
    mail["To"] = ", ".join(settings.alert_emails or (settings.smtp_sender_email or "",))
    mail.set_content("\n\n".join(f"{alert.type}: {alert.message}" for alert in alerts))
    return mail


def _send_mail(settings: Settings, mail: EmailMessage) -> None:
    """Blocks. Raises OSError or SMTPException."""
    with smtplib.SMTP(settings.smtp_host or "", settings.smtp_port, timeout=_SMTP_SECONDS) as server:
        if settings.smtp_tls:
            server.starttls(context=ssl.create_default_context())
        if settings.smtp_username and settings.smtp_password:
            server.login(settings.smtp_username, settings.smtp_password)
        server.send_message(mail)


async def _in_thread(work: Callable[[], None]) -> None:
    """Run what blocks in a thread that does not keep the process from ending. Raises Undelivered."""
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[str | None] = loop.create_future()

    def report(problem: str | None) -> None:
        if not finished.done():
            finished.set_result(problem)

    def run() -> None:
        try:
            work()
            problem = None
        except Exception as error:  # noqa: BLE001 - whatever the mail library raises, the waiting task must hear of it
            problem = type(error).__name__
        if not loop.is_closed():
            loop.call_soon_threadsafe(report, problem)

    threading.Thread(target=run, name="mail of alerts", daemon=True).start()
    problem = await finished
    if problem is not None:
        raise Undelivered(problem)
