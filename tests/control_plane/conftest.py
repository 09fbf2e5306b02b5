"""A console with two workers that answer, one that refuses and one that stays silent."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .console_app import Console
from .contract_worker import ContractWorker


@pytest.fixture
def eu() -> ContractWorker:
    return ContractWorker()


@pytest.fixture
def us() -> ContractWorker:
    return ContractWorker()


@pytest.fixture
async def console(eu: ContractWorker, us: ContractWorker) -> AsyncIterator[Console]:
    made = Console({"eu": eu, "us": us})
    yield made
    await made.registry.aclose()
