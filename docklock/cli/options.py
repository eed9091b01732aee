"""Parse a command's options: Docker's habits, and cheap enough for every start (argparse: 6 ms).

`-v` and `--volume`, `--name=x` and `--name x`, clusters (`-it`), `--` ends the options. For
commands that run a program the first word that is no option ends them too, as with docker run.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from docklock.cli.arguments import Parser

FLAG, TEXT, LIST = "flag", "text", "list"


class Option(NamedTuple):
    """One option. `names` are written with their dashes; `metavar` is empty for a flag."""

    names: tuple[str, ...]
    kind: str
    help: str
    metavar: str = ""

    @property
    def key(self) -> str:
        return self.names[-1].lstrip("-").replace("-", "_")


class Command(NamedTuple):
    """A command's words: `usage` is what follows its name; `examples` are lines of a shell."""

    name: str
    usage: str
    summary: str
    options: tuple[Option, ...] = ()
    is_program_last: bool = False
    examples: tuple[str, ...] = ()


class UsageError(SpecError):
    """The command line does not parse, so that nothing was asked for."""


class HelpWanted(Exception):
    """The user asked for --help; the text is the message, `shown` what it is of.

    A noun's verbs by name, or one command. The tree of all commands is made of it (tree.py).
    `parser` is argparse's, of the commands that use it.
    """

    def __init__(
        self,
        message: str,
        shown: Command | Mapping[str, Command],
        parser: Parser | None = None,
    ) -> None:
        super().__init__(message)
        self.shown = shown
        self.parser = parser


def choose_verb(noun: str, commands: Mapping[str, Command], argv: list[str]) -> str:
    """The verb of `docklock NOUN VERB`; HelpWanted for --help, UsageError for what is none."""
    verb = argv[0] if argv else ""
    if verb in ("--help", "-h"):
        raise HelpWanted(format_verbs(noun, commands), commands)
    if verb not in commands:
        from docklock.nearest import suggest

        hint = suggest(verb, commands) if verb else ""
        known = ", ".join(commands)
        raise UsageError(f"docklock {noun}: {verb or 'no verb'}{hint}; verbs are {known}")
    return verb


def format_verbs(noun: str, commands: Mapping[str, Command], about: str = "") -> str:
    """The text of a noun's --help: its verbs, and the first one's first example."""
    from docklock.screen import wrap

    width = max(map(len, commands))
    lines = [
        wrap(f"  {name:<{width}}  {command.summary}", width + 4)
        for name, command in commands.items()
    ]
    first = next(iter(commands.values()))
    return "\n".join(
        [
            f"Usage: docklock {noun} VERB ...",
            "",
            *([wrap(about, 0), ""] if about else []),
            *lines,
            *format_examples(first.examples[:1]),
            "",
        ]
        + [f"docklock {noun} VERB --help says more."]
    )


def flag(*names: str, help: str) -> Option:
    """An option without a value."""
    return Option(names, FLAG, help)


def text(*names: str, help: str, metavar: str = "VALUE") -> Option:
    """An option with one value."""
    return Option(names, TEXT, help, metavar)


def listed(*names: str, help: str, metavar: str = "VALUE") -> Option:
    """An option that may be given several times."""
    return Option(names, LIST, help, metavar)


def parse(command: Command, argv: list[str]) -> tuple[dict[str, Any], list[str]]:
    """(values by key, words). A flag is a bool, a text str or None, a list a list of str.

    UsageError if they do not parse.
    """
    by_name = {name: option for option in command.options for name in option.names}
    values: dict[str, Any] = {
        option.key: False if option.kind == FLAG else None if option.kind == TEXT else []
        for option in command.options
    }
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return values, words + rest
        if word == "--help" or (word == "-h" and "-h" not in by_name):
            raise HelpWanted(format_help(command), command)
        if not word.startswith("-") or word == "-":
            words.append(word)
            if command.is_program_last:
                return values, words + rest
        elif word.startswith("--"):
            name, has_value, value = word.partition("=")
            option = _find(command, by_name, name)
            _take(command, option, name, values, value if has_value else None, rest)
        else:
            _take_cluster(command, by_name, word, values, rest)
    return values, words


def format_help(command: Command) -> str:
    """The text of --help."""
    from docklock.screen import wrap

    usage = f"Usage: docklock {command.name} {command.usage}".rstrip()
    lines = [usage, "", wrap(command.summary, 0), ""]
    for option in command.options:
        lines.append(f"  {', '.join(option.names)} {option.metavar}".rstrip())
        lines.append(wrap(f"        {option.help}", 8))
    return "\n".join([*lines, *format_examples(command.examples)])


def format_examples(examples: tuple[str, ...]) -> list[str]:
    """The lines of --help that show them, after an empty one; none if there are none."""
    if not examples:
        return []
    return ["", f"Example{'s' if examples[1:] else ''}:", *(f"  {line}" for line in examples)]


def check_count(command: Command, words: list[str], least: int, most: int | None = None) -> None:
    """UsageError unless the number of words is in range; `most` None: no upper limit."""
    if len(words) < least or (most is not None and len(words) > most):
        raise UsageError(
            f"docklock {command.name}: expected {command.usage or 'no arguments'}; "
            f"see docklock {command.name} --help"
        )


def _take_cluster(
    command: Command,
    by_name: dict[str, Option],
    word: str,
    values: dict[str, Any],
    rest: list[str],
) -> None:
    for position in range(1, len(word)):
        name = f"-{word[position]}"
        option = _find(command, by_name, name)
        value = word[position + 1 :]
        if option.kind != FLAG:
            _take(command, option, name, values, value.removeprefix("=") if value else None, rest)
            return
        _take(command, option, name, values, None, rest)


def _take(
    command: Command,
    option: Option,
    name: str,
    values: dict[str, Any],
    value: str | None,
    rest: list[str],
) -> None:
    if option.kind == FLAG:
        if value not in (None, "true", "false"):
            raise UsageError(f"docklock {command.name}: {name} takes true or false, not {value!r}")
        values[option.key] = value != "false"
        return
    if value is None:
        if not rest:
            raise UsageError(f"docklock {command.name}: {name} needs {option.metavar}")
        value = rest.pop(0)
    if option.kind == LIST:
        values[option.key].append(value)
    else:
        values[option.key] = value


def _find(command: Command, by_name: dict[str, Option], name: str) -> Option:
    option = by_name.get(name)
    if option is None:
        from docklock.cli.missing import explain
        from docklock.nearest import suggest

        why = explain(command.name, name)
        if why:
            raise UsageError(f"docklock {command.name}: {name}: {why}")
        raise UsageError(
            f"docklock {command.name}: unknown option {name}{suggest(name, by_name)}; "
            f"see docklock {command.name} --help"
        )
    return option
