"""The language of `:`: a command's word and what it is said to, with completion. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LENGTH_MAX = 300
OFFERED_MAX = 8


class Command(NamedTuple):
    """A word after `:`. `takes` names its argument: empty for none, "[...]" where it may lack."""

    word: str
    about: str
    action: str  # of the screen or the app, as Textual names actions; {} is the argument
    takes: str = ""
    also: tuple[str, ...] = ()


class Said(NamedTuple):
    """What a line means; a `complaint` where it means nothing."""

    command: Command | None = None
    argument: str = ""
    complaint: str = ""


def parse_command(text: str, commands: Sequence[Command]) -> Said:
    """Read a line; a word may be cut short where only one command begins so."""
    word, _, argument = text.strip()[:LENGTH_MAX].lstrip(":").partition(" ")
    word, argument = word.lower(), argument.strip()
    if not word:
        return Said()
    exact = [command for command in commands if word == command.word or word in command.also]
    near = exact or [command for command in commands if command.word.startswith(word)]
    if not near:
        return Said(None, "", f"no command {word}: ? lists all")
    if len(near) > 1:
        return Said(None, "", f"{word} may be {', '.join(c.word for c in near[:OFFERED_MAX])}")
    command = near[0]
    if argument and not command.takes:
        return Said(None, "", f"{command.word} takes nothing after it")
    if not argument and command.takes and not command.takes.startswith("["):
        return Said(None, "", f"{command.word} wants {command.takes}")
    return Said(command, argument)


def complete(text: str, commands: Sequence[Command], names: Iterable[str] = ()) -> tuple[str, ...]:
    """Whole lines that begin as this one does; `names` are what an argument may be."""
    word, space, argument = text.lstrip(":").partition(" ")
    if not space:
        found = (c.word for c in commands if c.word.startswith(word.lower()))
        return tuple(found)[:OFFERED_MAX]
    command = parse_command(word, [c._replace(takes="") for c in commands]).command
    if command is None or not any(c.takes for c in commands if c.word == command.word):
        return ()
    offered = []
    for name in names:
        if name.startswith(argument):
            offered.append(f"{command.word} {name}")
            if len(offered) == OFFERED_MAX:
                break
    return tuple(offered)
