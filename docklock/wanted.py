"""How the agent has a mend made by another unit of systemd's: two files in the run directory.

`mend.wanted`: a request, which a path unit sees and starts `docklock mend --wanted` for; its text
tells it from others. `mend.done`: that text, and 0 or 1, whether the mend failed. Both are written
by rename. A request that comes while a mend runs is there when that ends, so that another follows.
Not here: who asks (agent/mend_request.py), the units (systemd/).
"""

from __future__ import annotations

import os

from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from docklock.paths import Paths

WANTED, DONE = "mend.wanted", "mend.done"
TEXT_BYTES_MAX = 64


def ask(paths: Paths, text: str) -> None:
    """Want a mend."""
    _write(f"{paths.run}/{WANTED}", text)


def take(paths: Paths) -> str:
    """The request that is there, which is nobody else's then; empty if there is none."""
    path = f"{paths.run}/{WANTED}"
    text = _read(path)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # a mend by hand
    return text


def tell(paths: Paths, text: str, *, is_whole: bool) -> None:
    """The mend for a request is over."""
    _write(f"{paths.run}/{DONE}", f"{text} {int(not is_whole)}")


def read_done(paths: Paths) -> tuple[str, bool]:
    """(the request's text, whether all could be mended) of the last mend that is over."""
    text, _, code = _read(f"{paths.run}/{DONE}").partition(" ")
    return text, code == "0"


def _write(path: str, text: str) -> None:
    with open(f"{path}.new", "w") as file:
        file.write(text)
    os.replace(f"{path}.new", path)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(TEXT_BYTES_MAX).decode("ascii", "replace")
    except FileNotFoundError:
        return ""
