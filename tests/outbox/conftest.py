"""Servers that the tests of the outbox share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from docklock.agent import config_file
from docklock.evidence import offering
from docklock.outbox import sending
from tests.outbox.servers import Books, BooksServer


@pytest.fixture(autouse=True)
def no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of settings on the machine that tests run on is nobody's here."""
    monkeypatch.setattr(config_file, "FILE_DEFAULT", "/nowhere/agent.toml")


@pytest.fixture
def server() -> Iterator[BooksServer]:
    with BooksServer(Books()) as made:
        yield made


@pytest.fixture
def other() -> Iterator[BooksServer]:
    with BooksServer(Books(78), "vault") as made:
        yield made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of a few leaves."""
    monkeypatch.setattr(sending, "BATCH", offering.BATCH._replace(fill_bytes=3_500))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    """Passes that end after a few batches."""
    monkeypatch.setattr(sending, "BATCHES_OF_PASS_MAX", 3)
