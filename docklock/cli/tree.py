"""Every command with its verbs and options: what each says of itself when it is asked for --help.

So nothing is written twice, and nothing here can be behind a command: help and completion
scripts are made of the same tables that parse. Loads every command's module, which a
run never does. Not here: the text of any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from docklock.cli.main import COMMANDS, NOUNS, PLACES
from docklock.cli.nouns import ALIASES, get_verbs
from docklock.cli.options import Command, HelpWanted, Option, text

if TYPE_CHECKING:
    from docklock.paths import Paths

# A verb that its command, which takes other words too, does not list.
MORE_VERBS = {"evidence": ("erase",)}
GLOBAL = (
    text("--root", help="where all is kept (/var/lib/docklock)", metavar="DIR"),
    text("--runroot", help="where what runs has its sockets (/run/docklock)", metavar="DIR"),
)
HELP = Option(("--help",), "flag", "say what the command does, and its options")


class Node(NamedTuple):
    """A command, or a noun with its verbs. `same` names the command that a verb stands for."""

    command: Command
    verbs: dict[str, Node]
    same: str = ""

    def list_names(self) -> list[str]:
        """All names of its options."""
        return [name for option in (*self.command.options, HELP) for name in option.names]


def read_tree(paths: Paths) -> dict[str, Node]:
    """All commands and nouns by name, in the order of docklock --help. Changes nothing."""
    assert {option.names[0] for option in GLOBAL} == set(PLACES)
    nodes = {name: _read_node(name, paths) for name in COMMANDS}
    tree = {name: node for name, node in nodes.items() if " " not in name}
    for noun, summary in NOUNS.items():
        verbs = {
            verb: nodes[words[0]]._replace(same=words[0] if words[0] != f"{noun} {verb}" else "")
            for verb, words in get_verbs(noun, COMMANDS).items()
            if verb not in ALIASES
        }
        tree[noun] = Node(Command(noun, "COMMAND ...", f"{summary}."), verbs)
    return tree


def walk(tree: dict[str, Node]) -> list[tuple[str, Node]]:
    """All nodes with the words that lead to them, nouns before their verbs."""
    found = []
    for name, node in tree.items():
        found.append((name, node))
        found += [(f"{name} {verb}", below) for verb, below in node.verbs.items()]
    return found


def ask(name: str, words: list[str], paths: Paths) -> HelpWanted:
    """What a command answers to these words, --help among them."""
    module_name, function_name, _ = COMMANDS[name]
    module = getattr(__import__(f"docklock.cli.{module_name}").cli, module_name)
    try:
        getattr(module, function_name)(words, paths)
    except HelpWanted as wanted:
        return wanted
    raise AssertionError(f"docklock {name} {' '.join(words)} gives no help")


def _read_node(name: str, paths: Paths) -> Node:
    shown = ask(name, ["--help"], paths).shown
    if isinstance(shown, Command):
        more = {verb: ask(name, [verb, "--help"], paths).shown for verb in MORE_VERBS.get(name, ())}
        verbs = {verb: Node(of, {}) for verb, of in more.items() if isinstance(of, Command)}
        return Node(shown, verbs)
    summary = f"{COMMANDS[name][2]}."
    return Node(
        Command(name, "VERB ...", summary), {verb: Node(of, {}) for verb, of in shown.items()}
    )
