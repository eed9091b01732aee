"""A program's terminal by its master: output read, input written, size set.

The master's output is the program's stdout: a terminal has one stream. Its end is EIO, once no
process holds the slave. Not here: making the terminal (docklock.become), the caller's own
(docklock.cli.terminal). Invariant: `resize` and `write` act on a descriptor of their own, which
stays open for as long as this object does.
"""

from __future__ import annotations

import os

from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING
from docklock import enter
from docklock.kernel.terminal import SIZE_MAX, set_size
from docklock.supervisor.loop import Loop
from docklock.supervisor.stdio import Ends, Input, Output
from docklock.supervisor.wire import STDERR, STDOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.lifecycle import Container

SIGNAL_EXIT_BASE = 128


class Terminal:
    """The master of a terminal. `output` closes `master`; without `takes_input` none is written."""

    def __init__(self, loop: Loop, output: Output, master: int, *, takes_input: bool) -> None:
        self._fd = os.dup(master)
        self._takes_input = takes_input
        self._input = Input(loop, self._fd)
        output.add_pipe(master, STDOUT)

    def write(self, data: bytes) -> None:
        """What the user typed. Empty data, the end of one client's input, does not end it."""
        if data and self._takes_input:
            self._input.write(data)

    def set_upon_full(self, upon_full: Callable[[bool], None]) -> None:
        """As Input's."""
        self._input.set_upon_full(upon_full)

    def close(self) -> None:
        """Close the input's descriptor; `output` closes its own."""
        self._input.close()

    def resize(self, rows: int, columns: int) -> None:
        """Set the size; ValueError unless both are in 0..65535."""
        if not (0 <= rows <= SIZE_MAX and 0 <= columns <= SIZE_MAX):
            raise ValueError(f"a terminal of {rows} x {columns}")
        if not self._input.is_closed:
            set_size(self._fd, rows, columns)


def connect_stdio(
    loop: Loop, output: Output, ends: Ends, container: Container, pidfd: int
) -> tuple[Input | Terminal | None, Terminal | None]:
    """(where input goes, its terminal) of init `pidfd`, whose output goes to `output` from now."""
    if container.tty and container.detached_stdio:
        master = enter.take_terminal(pidfd)
        terminal = Terminal(loop, output, master, takes_input=container.stdin_open)
        return terminal, terminal
    if ends.output_fd >= 0:
        output.add_pipe(ends.output_fd, STDOUT)
        output.add_pipe(ends.error_fd, STDERR)
    return (Input(loop, ends.input_fd) if ends.input_fd >= 0 else None), None


def wait_exit_code(pidfd: int) -> int:
    """Reap a child: its exit code, 128+n after signal n."""
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert result is not None
    is_exit = result.si_code == os.CLD_EXITED
    return int(result.si_status) if is_exit else SIGNAL_EXIT_BASE + int(result.si_status)


def require(terminal: Terminal | None) -> Terminal:
    """StateError if there is none."""
    if terminal is None:
        raise StateError("the container has no terminal")
    return terminal
