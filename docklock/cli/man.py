"""`docklock man`: the manual page of a command, shown by man(1), or all pages into a directory.

Not here: what stands in them (man_pages).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from chainlite.errors import SpecError, StateError
from docklock.cli import options
from docklock.cli.options import Command, UsageError, check_count, text

if TYPE_CHECKING:
    from docklock.cli.tree import Node
    from docklock.paths import Paths

MAN = Command(
    "man",
    "[OPTIONS] [TOPIC [VERB]]",
    "Show the manual page of a command (TOPIC), or of docklock. Elsewhere than on a terminal its "
    "man(7) source is printed.",
    (text("-o", "--output", help="write all pages into this directory", metavar="DIR"),),
    examples=(
        "docklock man run",
        "docklock man chain > docklock-chain.1",
        "docklock man -o /usr/local/share/man/man1",
    ),
)
SUFFIX = ".1"


def run_man(argv: list[str], paths: Paths) -> int:
    """`docklock man [COMMAND]`; man(1)'s exit code where it shows the page."""
    values, words = options.parse(MAN, argv)
    check_count(MAN, words, 0, 0 if values["output"] else 2)
    from docklock.cli.man_pages import list_aliases, name_page, write_pages
    from docklock.cli.tree import read_tree

    tree = read_tree(paths)
    pages, aliases = write_pages(tree), list_aliases(tree)
    if values["output"]:
        links = {name_page(other): name_page(name) for other, name in aliases.items()}
        write_all(pages, links, values["output"])
        return 0
    page = name_page(find_command(tree, aliases, words))
    if sys.stdout.isatty():
        return show(page, pages[page])
    sys.stdout.write(pages[page])
    return 0


def find_command(tree: dict[str, Node], aliases: dict[str, str], words: list[str]) -> str:
    """The command whose page has what is asked for. UsageError for what is no command."""
    if not words:
        return ""
    if words == ["runtime"]:
        return "runtime"  # a program of its own
    known, verb = tree, words[0]
    if words[0] in tree:
        known, verb = tree[words[0]].verbs, "".join(words[1:])
        if not verb or verb in known:
            return aliases.get(" ".join(words), words[0])
    from docklock.nearest import suggest

    raise UsageError(f"docklock man: no command {' '.join(words)!r}{suggest(verb, known)}")


def show(page: str, source: str) -> int:
    """Have man(1), of man-db or mandoc, show a page. StateError if there is none."""
    if shutil.which("man") is None:
        raise StateError(
            "man is not installed here: docklock COMMAND --help says the same, and docklock man "
            "COMMAND | less shows the page as it is written"
        )
    with tempfile.TemporaryDirectory(prefix="docklock-man-") as directory:
        path = f"{directory}/{page}{SUFFIX}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(source)
        return subprocess.run(["man", "-l", path], check=False).returncode


def write_all(pages: dict[str, str], links: dict[str, str], directory: str) -> None:
    """Each page to a file of its own, in the place of an older one; links to some of them."""
    try:
        os.makedirs(directory, exist_ok=True)
        for page, source in pages.items():
            with open(f"{directory}/{page}{SUFFIX}", "w", encoding="utf-8") as file:
                file.write(source)
        for page, target in links.items():
            path = f"{directory}/{page}{SUFFIX}"
            if os.path.lexists(path):
                os.unlink(path)
            os.symlink(f"{target}{SUFFIX}", path)
    except OSError as error:
        raise SpecError(f"{directory}: {error.strerror}") from None
