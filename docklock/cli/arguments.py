"""argparse, for the commands that use it, with this command line's help and errors.

What it knows of a command it can say as an options.Command, so that help and completion
are made of one kind of table. Not on the way to a run: argparse takes 6 ms to import.
"""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from typing import TYPE_CHECKING, Any, NoReturn

from docklock.cli.options import (
    FLAG,
    LIST,
    TEXT,
    Command,
    HelpWanted,
    Option,
    UsageError,
    format_examples,
    format_verbs,
)
from docklock.nearest import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNKNOWN_OPTION = re.compile(r"unrecognized arguments: (?:.* )?(-[^\s=]+)")
_UNKNOWN_WORD = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)")


class _Verbs(_SubParsersAction):  # type: ignore[type-arg]  # not generic when it runs
    """Verbs whose line in the noun's help is what their own help says, too."""

    def add_parser(self, name: str, *, help: str | None = None, **more: Any) -> Any:
        about = f"{help[:1].upper()}{help[1:]}." if help else ""
        return super().add_parser(name, help=help, description=about, **more)


class Parser(ArgumentParser):
    """One whose --help and mistakes are exceptions, as those of options.parse are."""

    def __init__(self, *words: Any, examples: tuple[str, ...] = (), **more: Any) -> None:
        super().__init__(*words, **more)
        self.examples = examples

    def add_subparsers(self, **more: Any) -> Any:
        """argparse's, with what the verbs' own help says."""
        return super().add_subparsers(action=_Verbs, **more)

    def print_help(self, _file: Any = None) -> NoReturn:
        """Raise HelpWanted."""
        shown = self.describe()
        if not isinstance(shown, Command):
            text = format_verbs(self.get_name(), shown, self.description or "")
            raise HelpWanted(text, shown, self)
        text = self.format_help().rstrip().replace("usage:", "Usage:", 1)
        raise HelpWanted("\n".join([text, *format_examples(self.examples)]), shown, self)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, with the nearest of what is known."""
        hint = ""
        if found := _UNKNOWN_WORD.search(message):
            hint = suggest(found[1], re.findall(r"'(.*?)'", found[2]))
        elif found := _UNKNOWN_OPTION.search(message):
            message = f"unknown option {found[1]}"
            hint = suggest(found[1], self.list_names())
        raise UsageError(f"{self.prog}: {message}{hint}; see {self.prog} --help")

    def get_name(self) -> str:
        """As COMMANDS has it, with the verb."""
        return self.prog.removeprefix("docklock ")

    def get_verbs(self) -> Mapping[str, Parser]:
        """Its verbs' parsers by name; none if it has no subparsers."""
        for action in self._actions:
            if isinstance(action.choices, dict):
                return action.choices
        return {}

    def list_names(self) -> list[str]:
        """All options' names, the verbs' too: argparse tells mistakes to the noun's parser."""
        parsers = (self, *self.get_verbs().values())
        return [
            name for one in parsers for action in one._actions for name in action.option_strings
        ]

    def describe(self) -> Command | dict[str, Command]:
        """What it knows, as options.py's tables have it."""
        verbs = self.get_verbs()
        if verbs:
            return {name: verb.make_command() for name, verb in verbs.items()}
        return self.make_command()

    def make_command(self) -> Command:
        """Itself as one Command."""
        words = [_format_word(one) for one in self._actions if not one.option_strings]
        shown = [one for one in self._actions if one.option_strings and one.help != SUPPRESS]
        has_options = any(one.dest != "help" for one in shown)
        return Command(
            self.get_name(),
            " ".join([*(["[OPTIONS]"] if has_options else []), *words]),
            self.description or "",
            tuple(_make_option(one) for one in shown if one.dest != "help"),
            examples=self.examples,
        )


class _Choose(Action):
    """--format json is --json."""

    def __call__(self, _parser: Any, namespace: Any, value: Any, _name: Any = None) -> None:
        namespace.json = value == "json"


def add_format(parser: ArgumentParser, about: str) -> None:
    """Add --format text|json, and --json, which is older and the same: the value `json`."""
    parser.add_argument("--json", action="store_true", help=f"{about}, as --format json")
    parser.add_argument(
        "--format", action=_Choose, choices=("text", "json"), dest=SUPPRESS, help=f"json: {about}"
    )


def _make_option(action: Action) -> Option:
    names = tuple(action.option_strings)
    about = action.help or ""
    if action.nargs == 0:
        return Option(names, FLAG, about)
    metavar = str(action.metavar or "|".join(map(str, action.choices or ())) or "VALUE")
    return Option(names, LIST if isinstance(action.default, list) else TEXT, about, metavar)


def _format_word(action: Action) -> str:
    word = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest)
    if isinstance(action.nargs, int):
        return " ".join([word] * action.nargs)
    if action.nargs == "?":
        return f"[{word}]"
    return f"{word}..." if action.nargs == "+" else word
