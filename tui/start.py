"""`docklock top` with no container: words to a source, and the app on this terminal.

Not here: what the words of a source mean (docklock.console.door).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docklock.console.source import Source
    from tui.app import DocklockApp

PROGRAM = "docklock top"
DUMB = frozenset(("", "dumb", "unknown"))
EXIT_REFUSED = 2

ABOUT = """\
The terminal UI: what runs, what it does, and whether the evidence is whole.
`docklock top CONTAINER` lists a container's processes instead, as docker does."""
AFTER = """\
In it: ? tells what a screen shows and all its keys. 1-5 are the screens, / filters, : takes
commands, q leaves. NO_COLOR is honoured. Over ssh and in tmux nothing needs to be set."""


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; exits 2 with a usage line where it is wrong."""
    parser = argparse.ArgumentParser(
        PROGRAM, description=ABOUT, epilog=AFTER, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--root", metavar="DIR", help="this host's state is there")
    parser.add_argument("--runroot", metavar="DIR", help="and what a reboot may take, there")
    parser.add_argument("--bpci", metavar="URL", help="show the hosts of this BPCI server")
    parser.add_argument("--server-key", metavar="FILE", help="the server's public key (--bpci)")
    parser.add_argument("--key", metavar="FILE", help="the key that asks it (--bpci)")
    parser.add_argument("--ca-file", metavar="FILE", help="who vouches for its TLS (--bpci)")
    parser.add_argument("--replay", metavar="FILE", help="show what --save has written")
    parser.add_argument("--save", metavar="FILE", help="write what was shown there at the end")
    given = parser.parse_args(argv)
    if given.replay and (given.bpci or given.root or given.runroot):
        parser.error("--replay shows a file: no --bpci, --root or --runroot beside it")
    if given.bpci and not (given.server_key and given.key):
        parser.error("--bpci needs --server-key FILE and --key FILE")
    if not given.bpci and (given.server_key or given.key or given.ca_file):
        parser.error("--server-key, --key and --ca-file go with --bpci URL")
    return given


def find_terminal_fault(term: str, *, is_terminal: bool) -> str:
    """Why no screen can be drawn here; empty if it can."""
    if not is_terminal:
        return (
            "input, output and errors must be a terminal: else docklock ps, stats, receipts, verify"
        )
    if term in DUMB:
        return f"TERM is {term or 'not set'}: this terminal cannot place a cursor"
    return ""


def open_given(given: argparse.Namespace) -> Source:
    """The source that the command line names."""
    if given.replay:
        from docklock.console.saved import load_saved

        return load_saved(Path(given.replay).read_bytes(), given.replay)
    from docklock.console.door import open_source

    words: list[str] = []
    for name in ("root", "runroot", "bpci", "server_key", "key", "ca_file"):
        if (value := getattr(given, name)) is not None:
            words += [f"--{name.replace('_', '-')}", value]
    return open_source(words)


def run_app(app: DocklockApp) -> int:
    """Until the person leaves. What went wrong in it is on the terminal afterwards."""
    app.run()
    return app.return_code or 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the UI; returns the process's exit status."""
    given = parse_arguments(sys.argv[1:] if argv is None else argv)
    is_terminal = all(f.isatty() for f in (sys.stdin, sys.stdout, sys.stderr))
    fault = find_terminal_fault(os.environ.get("TERM", ""), is_terminal=is_terminal)
    if fault:
        print(f"{PROGRAM}: {fault}", file=sys.stderr)
        return EXIT_REFUSED
    try:
        source = open_given(given)
    except (OSError, ValueError) as error:
        return _refuse(error)
    except Exception as error:
        if not isinstance(getattr(error, "exit_code", None), int):
            raise
        return _refuse(error)
    return _run(source, given.save)


def _run(source: Source, save: str | None) -> int:
    from tui.app import DocklockApp

    if save is None:
        return run_app(DocklockApp(source))
    from docklock.console.saving import Saver

    saver = Saver(source)
    with open(save, "wb") as file:  # before the screen: a name that cannot be written is said now
        status = run_app(DocklockApp(saver.source))
        file.write(saver.encode())
    print(f"written: {save}", file=sys.stderr)
    return status


def _refuse(error: Exception) -> int:
    print(f"{PROGRAM}: {error}", file=sys.stderr)
    return getattr(error, "exit_code", 1)
