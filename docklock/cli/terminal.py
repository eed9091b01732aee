"""The caller's own terminal: raw while a container uses it, its size, the keys that leave it.

Not here: copying (attach.py), the container's terminal (docklock.supervisor.terminal). Invariant:
whatever ends this process but SIGKILL, the terminal's settings are put back first.
Source: termios(3), cfmakeraw; the keys and the words are Docker's (docker attach --detach-keys).
"""

from __future__ import annotations

import os
import sys

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from docklock.bare import signal, socket
from docklock.supervisor.wire import send_message

if TYPE_CHECKING:
    from typing import Any

DETACH_KEYS_DEFAULT = "ctrl-p,ctrl-q"
DETACH_KEYS_MAX = 16
_CTRL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"  # ctrl- and the n-th of these is byte n
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
SIGNAL_EXIT_BASE = 128


class Ended(Exception):
    """A signal that ends this process, as the exit code that says so."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = SIGNAL_EXIT_BASE + number


def parse_detach_keys(text: str | None) -> bytes:
    """The bytes of `ctrl-p,ctrl-q`, `ctrl-a,x`; Docker's default for none. SpecError."""
    keys = bytearray()
    words = (text or DETACH_KEYS_DEFAULT).split(",")
    for word in words:
        letter = word.removeprefix("ctrl-")
        if len(word) == 1 and word.isascii() and word.isprintable():
            keys += word.encode()
        elif word != letter and len(letter) == 1 and letter.lower() in _CTRL:
            keys.append(_CTRL.index(letter.lower()))
        else:
            raise SpecError(
                f"--detach-keys {text}: {word!r} is no key; give a character, or ctrl- and one of "
                f"a-z @ [ \\ ] ^ _, separated by commas"
            )
    if len(keys) > DETACH_KEYS_MAX:
        raise SpecError(f"--detach-keys: {len(keys)} keys, at most {DETACH_KEYS_MAX} are taken")
    return bytes(keys)


class DetachKeys:
    """Finds the keys in what is typed. Keys that may be their beginning are held back."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what is to be passed on, whether the keys are complete); what follows them is lost."""
        passed = bytearray()
        for number in data:
            self._held += bytes((number,))
            while not self._keys.startswith(self._held):
                passed.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._keys:
                return bytes(passed), True
        return bytes(passed), False


def complain_without_terminal(*, interactive: bool, tty: bool) -> bool:
    """Whether a terminal is to be typed into and standard input is none; then Docker's words."""
    is_wrong = interactive and tty and not os.isatty(0)
    if is_wrong:
        print("the input device is not a TTY", file=sys.stderr)
    return is_wrong


def get_size() -> tuple[int, int] | None:
    """(rows, columns) of the terminal on standard output, else input; None if none has a size."""
    for fd in (1, 0):
        try:
            columns, rows = os.get_terminal_size(fd)
        except OSError:
            continue
        if rows and columns:
            return rows, columns
    return None


class LocalTerminal:
    """This process's terminal while it shows a container's, from `open` to `close`."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._saved: list[Any] = []

    def open(self, *, is_raw: bool, redraw: bool) -> None:
        """Raw if `is_raw`: then signals end us with Ended. Tells the size, now and on SIGWINCH.

        With `redraw` the size changes for a moment, so that a program draws for a second client.
        """
        if is_raw:
            import termios

            self._saved = termios.tcgetattr(0)
            for number in _ENDING:
                signal.signal(number, self._upon_end)
            self._make_raw()
            signal.signal(signal.SIGCONT, lambda *_: self._make_raw())
        signal.signal(signal.SIGWINCH, lambda *_: self._send_size())
        if redraw:
            self._send_size(flip=1)
        self._send_size()

    def close(self) -> None:
        """Put the settings back; also after an `open` that was interrupted."""
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        if self._saved:
            # From here on nothing may come between, not even a stop as a background process.
            for number in (*_ENDING, signal.SIGCONT, signal.SIGTTOU):
                signal.signal(number, signal.SIG_IGN)
            self._set(self._saved)

    def _upon_end(self, number: int, _frame: object) -> None:
        """Put the settings back here: whatever this interrupts might not come to it."""
        self._set(self._saved)
        raise Ended(number)

    def _make_raw(self) -> None:
        import termios as t

        iflag, oflag, cflag, lflag, ispeed, ospeed, chars = self._saved
        iflag &= ~(t.IGNBRK | t.BRKINT | t.PARMRK | t.ISTRIP | t.INLCR | t.IGNCR | t.ICRNL | t.IXON)
        cflag = cflag & ~(t.CSIZE | t.PARENB) | t.CS8
        lflag &= ~(t.ECHO | t.ECHONL | t.ICANON | t.ISIG | t.IEXTEN)
        chars = list(chars)
        chars[t.VMIN], chars[t.VTIME] = 1, 0
        self._set([iflag, oflag & ~t.OPOST, cflag, lflag, ispeed, ospeed, chars])

    def _set(self, settings: list[Any]) -> None:
        import termios

        try:
            termios.tcsetattr(0, termios.TCSANOW, settings)
        except termios.error:
            pass  # it was hung up: there is no terminal to set any more

    def _send_size(self, flip: int = 0) -> None:
        size = get_size()
        if size is None:
            return
        message = {"verb": "resize", "rows": size[0] ^ flip, "columns": size[1] ^ flip}
        try:
            send_message(self._channel, message)
        except OSError:
            pass  # it has ended; its exit is on the way
