"""From the words of a command line to the source that they name.

`--root DIR --runroot DIR` is this host, as for each docklock command; `--replay FILE` is what was
saved of one; `--bpci URL --server-key FILE --key FILE [--ca-file FILE]` is a server, asked as the
member that has the key. Not here: what else `docklock top` takes (tui/start.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite.errors import SpecError
from docklock.paths import get_paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docklock.console.source import Source

HOST_WORDS = ("--root", "--runroot")
SERVER_WORDS = ("--bpci", "--server-key", "--key", "--ca-file")
REPLAY = "--replay"
WORDS = (*HOST_WORDS, *SERVER_WORDS, REPLAY)


def open_source(words: Sequence[str]) -> Source:
    """The source; SpecError for a word that is none of WORDS, has no value, or goes with no other.

    StateError: a server's key file is not there.
    """
    given = parse_words(words)
    kinds = [kind for kind in (REPLAY, "--bpci") if kind in given]
    strange = [word for word in given if word in SERVER_WORDS and "--bpci" not in given]
    if len(kinds) > 1 or (REPLAY in given and strange):
        raise SpecError("docklock top: --replay and --bpci are two sources: give one")
    if strange:
        raise SpecError(f"docklock top: {strange[0]} is of a server: name it with --bpci URL")
    if REPLAY in given:
        return _open_saved(given[REPLAY])
    if "--bpci" in given:
        return _open_server(given)
    from docklock.console.host import open_host

    return open_host(get_paths(given.get("--root"), given.get("--runroot")))


def parse_words(words: Sequence[str]) -> dict[str, str]:
    """`--name VALUE` and `--name=VALUE`, each once."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        name, has_value, value = rest.pop(0).partition("=")
        if name not in WORDS:
            raise SpecError(f"docklock top: {name}: give {', '.join(WORDS[:-1])} or {WORDS[-1]}")
        if not has_value and not rest:
            raise SpecError(f"docklock top: {name} needs a value")
        if name in found:
            raise SpecError(f"docklock top: {name} is given twice")
        found[name] = value if has_value else rest.pop(0)
    return found


def _open_saved(path: str) -> Source:
    from docklock.console.saved import load_saved
    from docklock.console.saved_format import FILE_BYTES_MAX

    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SpecError(f"{path}: cannot read it: {error.strerror}") from None
    return load_saved(data, path)


def _open_server(given: dict[str, str]) -> Source:
    from docklock.console.server import open_server

    for name in ("--server-key", "--key"):
        if name not in given:
            raise SpecError(f"docklock top: a server needs {name} FILE, as docklock audit does")
    ca_file = given.get("--ca-file", "")
    return open_server(given["--bpci"], given["--server-key"], given["--key"], ca_file)
