"""`docklock context`: Docker's words for which daemon is asked. Here is one, this host itself.

A context of Docker's names a daemon, often elsewhere. docklock has none: each command works on the
host and root that it is run with, so `default` is all there is, and what would name another is
refused with what to do instead. Docker's own contexts, and the variables that choose one, are
neither read nor changed; whoever has set such a variable is told.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from chainlite.errors import StateError
from docklock.cli import options
from docklock.cli.options import Command, check_count, choose_verb, flag, text

if TYPE_CHECKING:
    from docklock.paths import Paths

DEFAULT = "default"
DESCRIPTION = "This host, without a daemon"
VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT")
INSTEAD = (
    "docklock has no daemon that a context could name: it works on the host that it is run on. For"
    " another host: ssh HOST docklock ...; for another store on this one: docklock --root DIR"
)
HEADS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "DockerEndpoint": "DOCKER ENDPOINT",
    "Error": "ERROR",
}
LS = Command(
    "context ls",
    "[OPTIONS]",
    "List contexts: default, which is this host.",
    (
        text("--format", help="a Go template, 'table TEMPLATE', table or json", metavar="FORMAT"),
        flag("-q", "--quiet", help="only names"),
    ),
    examples=("docklock context ls", "docklock context ls --format '{{.DockerEndpoint}}'"),
)
SHOW = Command(
    "context show",
    "",
    "Print the name of the context in use: default.",
    examples=("docklock context show",),
)
INSPECT = Command(
    "context inspect",
    "[OPTIONS] [CONTEXT...]",
    "Show all about contexts as JSON.",
    (text("-f", "--format", help="a Go template, or json", metavar="FORMAT"),),
    examples=("docklock context inspect",),
)
USE = Command(
    "context use",
    "CONTEXT",
    "Use a context: there is default, which is this host.",
    examples=("docklock context use default",),
)
RM = Command(
    "context rm",
    "[OPTIONS] CONTEXT...",
    "Remove contexts: default cannot be removed.",
    (flag("-f", "--force", help="no error where there is none of that name"),),
    examples=("docklock context rm -f far",),
)
REFUSED = {
    name: Command(
        f"context {name}", usage, f"Refused: {why}.", examples=(f"docklock context {name} {words}",)
    )
    for name, usage, why, words in (
        ("create", "CONTEXT", "there is no daemon elsewhere to name", "far"),
        ("update", "CONTEXT", "default is this host, and stays so", "default"),
        ("export", "CONTEXT [FILE|-]", "default holds nothing for another host", "default -"),
        ("import", "CONTEXT FILE|-", "there is no daemon elsewhere to name", "far -"),
    )
}


def run_context(argv: list[str], paths: Paths) -> int:
    """`docklock context`: ls, show, inspect, use, rm; the others are refused."""
    verbs = {
        "create": REFUSED["create"], "export": REFUSED["export"], "import": REFUSED["import"],
        "inspect": INSPECT, "ls": LS, "rm": RM, "show": SHOW, "update": REFUSED["update"],
        "use": USE,
    }  # fmt: skip
    aliases = {"list": "ls", "remove": "rm"}
    if argv and argv[0] in aliases:
        argv = [aliases[argv[0]], *argv[1:]]
    verb = choose_verb("context", verbs, argv)
    if verb in REFUSED:
        if {"--help", "-h"} & set(argv):
            options.parse(REFUSED[verb], ["--help"])
        raise StateError(f"docklock context {verb}: {INSTEAD}")
    runs = {"ls": run_ls, "show": run_show, "inspect": run_inspect, "use": run_use, "rm": run_rm}
    return runs[verb](argv[1:], paths)


def run_ls(argv: list[str], paths: Paths) -> int:
    """`docklock context ls`: Docker's columns; the one in use has a star."""
    values, words = options.parse(LS, argv)
    check_count(LS, words, 0, 0)
    row: dict[str, object] = {
        "Current": True,
        "Description": DESCRIPTION,
        "DockerEndpoint": get_endpoint(paths),
        "Error": "",
        "Name": DEFAULT,
    }
    form = values["format"] or "table"
    if values["quiet"]:
        print(DEFAULT)
    elif form == "table":
        from docklock.image.listing import show_table

        cells = [str(row[key]) for key in HEADS]
        sys.stdout.write(show_table(list(HEADS.values()), [[f"{DEFAULT} *", *cells[1:]]]))
    else:
        from docklock.cli.template import show_rows

        sys.stdout.write(show_rows([row], form, HEADS | {"Current": "CURRENT"}))
    warn()
    return 0


def run_show(argv: list[str], _paths: Paths) -> int:
    """`docklock context show`."""
    _, words = options.parse(SHOW, argv)
    check_count(SHOW, words, 0, 0)
    print(DEFAULT)
    warn()
    return 0


def run_inspect(argv: list[str], paths: Paths) -> int:
    """`docklock context inspect`: Docker's document; exit 1 if one is not there."""
    values, words = options.parse(INSPECT, argv)
    names = words or [DEFAULT]
    found = [describe(paths) for name in names if name == DEFAULT]
    if values["format"] in (None, "json"):
        print(json.dumps(found, indent=4 if values["format"] is None else None))
    else:
        from docklock.cli.template import render
        from docklock.cli.template_parse import parse_template

        nodes = parse_template(values["format"])
        for value in found:
            print(render(nodes, value))
    for name in names:
        if name != DEFAULT:
            print(f"docklock: {_miss(name)}", file=sys.stderr)
    return int(len(found) < len(names))


def run_use(argv: list[str], _paths: Paths) -> int:
    """`docklock context use`."""
    _, words = options.parse(USE, argv)
    check_count(USE, words, 1, 1)
    if words[0] != DEFAULT:
        raise StateError(f"{_miss(words[0])}: {INSTEAD}")
    print(DEFAULT)
    print(f'Current context is now "{DEFAULT}"', file=sys.stderr)
    warn()
    return 0


def run_rm(argv: list[str], _paths: Paths) -> int:
    """`docklock context rm`: every name is tried, as with Docker."""
    values, words = options.parse(RM, argv)
    check_count(RM, words, 1)
    code = 0
    for name in words:
        if name != DEFAULT and values["force"]:
            print(name)
            continue
        why = "cannot be removed" if name == DEFAULT else "does not exist"
        print(f'docklock: context "{name}" {why}', file=sys.stderr)
        code = 1
    return code


def get_endpoint(paths: Paths) -> str:
    """What stands for a daemon's address: the root on this host."""
    return f"file://{os.path.abspath(paths.state)}"


def describe(paths: Paths) -> dict[str, object]:
    """Docker's document of a context."""
    return {
        "Name": DEFAULT,
        "Metadata": {"Description": DESCRIPTION},
        "Endpoints": {"docker": {"Host": get_endpoint(paths), "SkipTLSVerify": False}},
        "TLSMaterial": {},
        "Storage": {"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"},
    }


def warn() -> None:
    """Whoever has set Docker's variables thinks that they are heeded."""
    for name in VARIABLES:
        if os.environ.get(name, DEFAULT) not in ("", DEFAULT):
            print(f"Warning: {name} is set, and docklock does not heed it", file=sys.stderr)


def _miss(name: str) -> str:
    return f'context "{name}": context not found'
