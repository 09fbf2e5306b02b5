"""What a page shows and where it comes from: a page, and each block that htmx replaces alone, names its reads.

A read makes the worker calls of one thing and returns it under the names that templates use. A request makes the reads
of what it is answered with, each once and all at the same time, and no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from quart import Response

from .rendering import fragment, is_asking_for, page
from .worker_client import WorkerClient

Context = dict[str, Any]
Read = Callable[[WorkerClient], Awaitable[Context]]


async def read_all(client: WorkerClient, reads: Iterable[Read]) -> Context:
    """The context of all of them. Raises what the first of them raises."""
    parts = await asyncio.gather(*(read(client) for read in dict.fromkeys(reads)))
    return {name: value for part in parts for name, value in part.items()}


@dataclass(frozen=True)
class Block:
    """A part of a page that htmx replaces: the element with this id, drawn by this block of the page's template."""

    element: str
    name: str
    reads: tuple[Read, ...]


@dataclass(frozen=True)
class Page:
    """A page of one worker. `reads` is what it shows around its blocks, as the choices of a filter."""

    template: str
    blocks: tuple[Block, ...] = ()
    reads: tuple[Read, ...] = ()

    async def show(self, client: WorkerClient) -> Response:
        """The one block that htmx asks for, or the whole page."""
        for block in self.blocks:
            if is_asking_for(block.element):
                return await fragment(self.template, block.name, **await read_all(client, block.reads))
        return await page(self.template, **await self.read(client))

    async def read(self, client: WorkerClient, *more: Read) -> Context:
        """The context of the whole page; `more` is what a sheet in front of it needs."""
        return await read_all(client, (*(read for block in self.blocks for read in block.reads), *self.reads, *more))
