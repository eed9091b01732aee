"""Keep a docklock command running as a child of the agent's: notary, submitter, node of a chain.

A process apart, since it loads SQLite and keys and hashes for seconds after a busy hour. It ends
when the agent does: told so, or because it sees that its parent is gone. Not here: what it does
(docklock/notary.py, enc/notary; docklock/submitter.py; docklock/chain).
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from docklock.program import find_program

if TYPE_CHECKING:
    from docklock.agent.journal import Log
    from docklock.paths import Paths

AGAIN_S = 5.0


class Child:
    """The process of a command; after one that ended the next comes in AGAIN_S."""

    def __init__(
        self, paths: Paths, log: Log, name: str, *words: str, for_good: tuple[int, ...] = ()
    ) -> None:
        """`name` is how the log calls it; `words` the command, which takes `--parent PID`.

        After an exit code of `for_good` it is not started again: nothing would be otherwise.
        """
        self._for_good = for_good
        self._argv = [*find_program(paths), *words, "--parent", str(os.getpid())]
        self._log, self._name = log, name
        self._process: asyncio.subprocess.Process | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End it; what it has not taken yet the next one takes."""
        self._task.cancel()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    async def _run(self) -> None:
        while True:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            assert self._process.stdout is not None, "it is a pipe"
            async for line in self._process.stdout:
                text = line.decode(errors="replace").rstrip("\n")
                self._log.warning(text.removeprefix("docklock: "))
            code = await self._process.wait()
            if code in self._for_good:
                self._log.error(f"the {self._name} ended with code {code}; not started again")
                return
            self._log.error(f"the {self._name} ended with code {code}; again in {AGAIN_S:g} s")
            await asyncio.sleep(AGAIN_S)
