"""Docker's nouns: `image ls`, `container rm` and the like, each a command that is there anyway.

One table says which; a verb whose command this docklock has not is not shown and not known.
Source: docker/cli, cli/command/{image,container}/cmd.go, and their Aliases.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    Commands = Mapping[str, tuple[str, str, str]]

# noun -> verb -> the words of the command that it stands for
VERBS: dict[str, dict[str, tuple[str, ...]]] = {
    "image": {
        **{name: (name,) for name in ("build", "history", "import", "load", "pull", "push")},
        **{name: (name,) for name in ("save", "tag")},
        "inspect": ("inspect", "--type=image"),
        "ls": ("images",),
        "list": ("images",),
        "prune": ("image prune",),
        "rm": ("rmi",),
        "remove": ("rmi",),
    },
    "container": {
        **{name: (name,) for name in ("attach", "commit", "cp", "create", "diff", "exec")},
        **{name: (name,) for name in ("export", "kill", "logs", "pause", "port", "quarantine")},
        **{name: (name,) for name in ("rename", "restart", "rm", "run", "start", "stats", "stop")},
        **{name: (name,) for name in ("top", "unpause", "update", "wait")},
        "inspect": ("inspect", "--type=container"),
        "ls": ("ps",),
        "list": ("ps",),
        "ps": ("ps",),
        "prune": ("container prune",),
        "remove": ("rm",),
    },
}
ALIASES = frozenset(("list", "ps", "remove"))  # not shown in lists


def get_verbs(noun: str, commands: Commands) -> dict[str, tuple[str, ...]]:
    """The verbs of a noun whose commands are there."""
    return {verb: words for verb, words in VERBS[noun].items() if words[0] in commands}


def find_command(noun: str, verb: str, commands: Commands) -> tuple[str, ...]:
    """The words that `noun verb` stands for. SpecError for a verb that is none."""
    verbs = get_verbs(noun, commands)
    if verb not in verbs:
        from docklock.nearest import suggest

        hint = suggest(verb, verbs)
        raise SpecError(
            f"docklock {noun}: unknown command {verb!r}{hint}; see docklock {noun} --help"
        )
    return verbs[verb]


def format_noun(noun: str, summary: str, commands: Commands) -> str:
    """The text of `docklock NOUN --help`."""
    from docklock.cli.options import format_examples

    verbs = get_verbs(noun, commands)
    shown = sorted(verb for verb in verbs if verb not in ALIASES)
    lines = [f"Usage: docklock {noun} COMMAND ...", "", f"{summary}.", ""]
    lines += [f"  {verb:<10} {commands[verbs[verb][0]][2]}" for verb in shown]
    lines += format_examples((f"docklock {noun} ls",))
    return "\n".join([*lines, "", f"docklock {noun} COMMAND --help says more."])


def rename_help(text: str, command: str, called: str) -> str:
    """A command's --help under the name that it was called by, and its other names."""
    noun = called.partition(" ")[0]
    names = [
        f"docklock {noun} {verb}" for verb, words in VERBS[noun].items() if words[0] == command
    ]
    if " " not in command:
        names.append(f"docklock {command}")
    text = text.replace(f"Usage: docklock {command}", f"Usage: docklock {called}", 1)
    return f"{text}\n\nAliases: {', '.join(names)}"
