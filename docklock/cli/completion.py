"""`docklock completion`: what the shell may offer, as a script for bash, zsh or fish.

The words and options are in the script, made of the tree; names (containers, images, policies,
capabilities) the script asks for with `docklock completion names KIND...`, which reads two
directories and an index and changes nothing. Not here: the shells' languages (completion_bash,
completion_zsh, completion_fish).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from docklock.cli import options
from docklock.cli.options import FLAG, Command, UsageError
from docklock.nearest import suggest

if TYPE_CHECKING:
    from docklock.cli.tree import Node
    from docklock.paths import Paths

COMPLETION = Command(
    "completion",
    "bash|zsh|fish | names KIND...",
    "Print a script that completes commands, options and names in a shell; or the names that it "
    "asks for: container, image, policy, capability, command.",
    examples=("docklock completion bash > /usr/share/bash-completion/completions/docklock",),
)
FILE, DIRECTORY = "file", "directory"
# What stands in usages and for values -> what a shell offers there. Whole words, then beginnings.
KINDS = {
    "APP": "container", "SOURCE": "image", "TARGET": "image", "POLICY": "policy",
    "CAP": "capability", "DIR": DIRECTORY, "DIRECTORY": DIRECTORY, "SRC": FILE, "DEST": FILE,
    "TAR": FILE, "GRANT": FILE, "ENTRY": FILE, "COMMAND": FILE, "ARG": FILE, "PATH": FILE,
    "PROGRAM": FILE, "TOPIC": "command",
}  # fmt: skip
BEGINNINGS = {"CONTAINER": "container", "IMAGE": "image", "FILE": FILE, "HOST:CONTAINER": FILE}
# NAME is what the command is about.
NAMES_OF = {
    "inspect": "container image", "rmi": "image", "images": "image", "policy": "policy",
    "pull": "image", "push": "image",
}  # fmt: skip
# Values whose words are known, whatever stands for them in the help.
VALUES = {
    "--restart": ("@no", "@always", "@on-failure", "@unless-stopped"),
    "--network": ("@none", "@host"),
    "--signal": tuple(
        f"@{name}" for name in ("TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2")
    ),
    "--type": ("@container", "@image"),
    "--cap-add": ("@ALL", "capability"),
    "--cap-drop": ("@ALL", "capability"),
}
REPEATED = "..."


class Entry(NamedTuple):
    """What may follow one command: `paths` are the words that lead there.

    `takes` has the kinds of each option's value, by name; `places` those of each further word, the
    last one for all that follow if it is REPEATED. A kind is FILE, DIRECTORY, one that `names`
    knows, or `@word` for a word as it stands.
    """

    paths: tuple[str, ...]
    verbs: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...]
    takes: dict[str, tuple[str, ...]]
    places: tuple[tuple[str, ...], ...]
    is_repeated: bool
    is_program_last: bool


def run_completion(argv: list[str], paths: Paths) -> int:
    """`docklock completion SHELL`, or `names KIND...`."""
    _, words = options.parse(COMPLETION, argv)
    from docklock.cli import completion_bash, completion_fish, completion_zsh

    shells = {
        "bash": completion_bash.write_script,
        "zsh": completion_zsh.write_script,
        "fish": completion_fish.write_script,
    }
    if words[:1] == ["names"]:
        for name in list_names(words[1:], paths):
            print(name)
        return 0
    if len(words) != 1 or words[0] not in shells:
        hint = suggest(words[0], shells) if words else ""
        raise UsageError(f"docklock completion: want one of {', '.join(shells)}{hint}")
    from docklock.cli.tree import read_tree

    print(shells[words[0]](read_entries(read_tree(paths))), end="")
    return 0


def list_names(kinds: list[str], paths: Paths) -> list[str]:
    """What is called so here, sorted by kind; nothing of what the caller may not read."""
    readers = {
        "container": _list_containers,
        "image": _list_images,
        "policy": _list_policies,
        "capability": _list_capabilities,
        "command": _list_commands,
    }
    found: list[str] = []
    for kind in kinds:
        if kind not in readers:
            raise UsageError(f"docklock completion names: no kind {kind!r}{suggest(kind, readers)}")
        try:
            found += sorted(readers[kind](paths))
        except OSError:
            continue
    return found


def _list_containers(paths: Paths) -> list[str]:
    from docklock.lifecycle import names_dir

    return os.listdir(names_dir(paths))


def _list_images(paths: Paths) -> set[str]:
    from docklock.image.reference import get_familiar_name
    from docklock.image.store import ImageStore

    entries = ImageStore(paths).list_entries()
    return {get_familiar_name(entry.reference) for entry in entries if entry.reference}


def _list_policies(_: Paths) -> tuple[str, ...]:
    from docklock.policy.shipped import list_profiles

    return list_profiles()


def _list_capabilities(_: Paths) -> list[str]:
    from docklock.capability import CAPABILITIES

    return [name.removeprefix("CAP_") for name in CAPABILITIES]


def _list_commands(_: Paths) -> list[str]:
    from docklock.cli.main import COMMANDS, NOUNS

    return [*NOUNS, *(name for name in COMMANDS if " " not in name)]


def read_entries(tree: dict[str, Node]) -> list[Entry]:
    """An entry for each command; one for all the paths that lead to the same."""
    from docklock.cli.tree import GLOBAL, HELP, Node, walk

    version = options.flag("--version", help="show the version")
    top = Node(Command("", "COMMAND", "", (*GLOBAL, version)), tree)
    nodes = [("", top), *walk(tree)]
    paths: dict[str, list[str]] = {}
    for path, node in nodes:
        paths.setdefault(node.command.name, []).append(path)
    first = {node.command.name: node for _, node in reversed(nodes)}
    return [_make_entry(tuple(paths[name]), first[name], HELP) for name in paths]


def _make_entry(paths: tuple[str, ...], node: Node, asking: options.Option) -> Entry:
    command = node.command
    known = (*command.options, asking)
    noun = command.name.partition(" ")[0]
    usage = "" if node.verbs and command.usage.split()[:1] in (["VERB"], ["COMMAND"]) else (
        command.usage
    )  # fmt: skip
    places, is_repeated = _read_usage(usage, noun)
    return Entry(
        paths,
        tuple((verb, below.command.summary) for verb, below in node.verbs.items()),
        tuple((name, option.help) for option in known for name in option.names),
        {
            name: VALUES.get(option.names[-1]) or get_kinds(option.metavar, noun)
            for option in known
            if option.kind != FLAG
            for name in option.names
        },
        places,
        is_repeated,
        command.is_program_last,
    )


def _read_usage(usage: str, noun: str) -> tuple[tuple[tuple[str, ...], ...], bool]:
    """The kinds of each word, and whether the last is REPEATED; ` | ` and ` or ` part ways."""
    ways = [
        [word for word in way.split() if word.strip("[]") != "OPTIONS"]
        for way in usage.replace("  or  ", " | ").split(" | ")
    ]
    count = max(map(len, ways))
    places = []
    for number in range(count):
        here = [kind for way in ways if number < len(way) for kind in get_kinds(way[number], noun)]
        places.append(tuple(dict.fromkeys(here)))
    return tuple(places), any(way[-1].rstrip("]").endswith(REPEATED) for way in ways if way)


def get_kinds(shown: str, noun: str) -> tuple[str, ...]:
    """The kinds of what a usage or a value is written as: FILE|NAME, CONTAINER..., text|json."""
    found = []
    for word in shown.strip("[].").split("|"):
        bare = word.partition("[")[0].strip("[].")
        if bare.isalpha() and bare.islower():
            found.append(f"@{bare}")
        elif bare == "NAME":
            found += NAMES_OF.get(noun, "").split()
        elif bare in KINDS:
            found.append(KINDS[bare])
        else:
            found += [kind for start, kind in BEGINNINGS.items() if bare.startswith(start)][:1]
    if FILE in found:
        found = [kind for kind in found if kind != DIRECTORY]
    return tuple(dict.fromkeys(found))
