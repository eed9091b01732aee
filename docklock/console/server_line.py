"""Calls to one server for screens: blocking, bounded in time, from any thread, one at a time.

The connection and its event loop live in a thread of their own. Not here: what is asked (server_*),
how a call is signed (docklock.auditor.calls). Invariants: a server that is away is asked again only
after a pause, which grows to AGAIN_MAX_S; until then each question is answered with what was wrong.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from chainlite.errors import StateError
from docklock.auditor.calls import NoAnswer, ServerCalls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from chainlite.keys import Signer
    from chainlite.note import VerifierKey

ASK_MAX_S = 10.0
WAIT_MAX_S = 5
"""As long as a screen waits for a server that asks to."""
WORK_MAX_S = 60.0
"""A proof of several parts."""
AGAIN_MIN_S, AGAIN_MAX_S = 1.0, 30.0
PARTS_MAX = 64
CLOSE_S = 0.05
"""For a connection to be let go of."""

Done = TypeVar("Done")


class Line:
    """To one server, as one member."""

    def __init__(
        self, url: str, log_keys: tuple[VerifierKey, ...], key: Signer, ca_file: str,
        enrolled: bytes,
    ) -> None:  # fmt: skip
        self.url = url
        self.log_keys = log_keys
        self._calls = ServerCalls(url, log_keys, key, ca_file, enrolled, ASK_MAX_S, WAIT_MAX_S)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._trouble: StateError | None = None
        self._again_s = 0.0
        self._pause_s = AGAIN_MIN_S

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """A JSON answer. StateError: it is away, or refuses; TamperError: it did not sign it."""
        said = self.run(lambda calls: calls.get(path, query))
        with reading(path):
            return dict(json.loads(said.body))

    def get_parts(self, path: str, **query: str) -> list[dict[str, Any]]:
        """All answers until there is no cursor, PARTS_MAX at most."""
        parts: list[dict[str, Any]] = []
        for _ in range(PARTS_MAX):
            parts.append(self.get(path, **query))
            with reading(path):
                cursor = parts[-1]["cursor"]
            if not cursor:
                break
            query["cursor"] = str(cursor)
        return parts

    def get_all(self, path: str, name: str, **query: str) -> list[dict[str, Any]]:
        """The lists of this name of all parts."""
        parts = self.get_parts(path, **query)
        with reading(path):
            return [one for part in parts for one in part[name]]

    def run(self, work: Callable[[ServerCalls], Awaitable[Done]]) -> Done:
        """What comes of some calls; errors as those of `get`."""
        with self._lock:
            if self._trouble is not None and time.monotonic() < self._again_s:
                raise StateError(str(self._trouble))
            loop = self._get_loop()
            future = asyncio.run_coroutine_threadsafe(_await(work(self._calls)), loop)
            try:
                done = future.result(WORK_MAX_S)
            except TimeoutError:
                future.cancel()
                error = StateError(f"{self.url}: no answer within {WORK_MAX_S:g} s")
                self._note(error)
                raise error from None
            except NoAnswer as error:
                self._note(error)
                raise
            self._trouble, self._pause_s = None, AGAIN_MIN_S
            return done

    def _get_loop(self) -> asyncio.AbstractEventLoop:
        """That of this line's thread, which ends once nobody has the line."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            name = "server line"
            threading.Thread(target=_run, args=(self._loop,), name=name, daemon=True).start()
            weakref.finalize(self, _end, self._loop, self._calls)
        return self._loop

    def _note(self, error: StateError) -> None:
        self._trouble = error
        self._again_s = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, AGAIN_MAX_S)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """An answer that is not as it should be is said to be, whatever is wrong with it."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise StateError(f"{what}: the server's answer does not read: {error!r:.200}") from None


async def _await(work: Awaitable[Done]) -> Done:
    return await work


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _end(loop: asyncio.AbstractEventLoop, calls: ServerCalls) -> None:
    """Close the connection, then the loop; whatever thread this is called in."""

    def close() -> None:
        calls.close()
        loop.call_later(CLOSE_S, loop.stop)

    loop.call_soon_threadsafe(close)
