"""`?`: what a screen shows, what to do next, and each of its keys, made from its bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import App
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from tui.screens.base import DockScreen
from tui.view.keynames import write_key

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import ActiveBinding

    from tui.view.commands import Command

FIRST_STEPS = """\
Something is wrong, what now?
  1  The line under the title says where evidence is not whole, since when;
     key 5 (Alerts) lists all that is wrong, and what to do.
  2  Calls that a policy refused: key 2 (Policy). enter explains the one
     under the cursor; a shows the rule that would allow it and the change
     to the policy, and there y writes it, on record. Nothing changes
     before you say y.
  3  Evidence for others: key 1 (Containers), move to the container; there
     w writes its evidence file. Anyone checks it: docklock verify FILE
  4  v verifies the container under the cursor, V all of them."""


class HelpScreen(DockScreen):
    """Made of another screen's bindings when it is opened."""

    HELP_TEXT = "esc goes back to where you were."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "app.leave", "Back", show=False),
    ]
    DEFAULT_CSS = """
    HelpScreen VerticalScroll { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    HelpScreen Static { height: auto; }
    """

    def __init__(
        self,
        title: str,
        words: str,
        bindings: tuple[ActiveBinding, ...],
        fields: tuple[str, ...],
        commands: tuple[Command, ...],
    ) -> None:
        super().__init__(f"Help: {title}")
        self._text = make_help(title, words, make_keys(bindings), fields, commands)

    def compose_body(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(self._text)

    def begin(self) -> None:
        self.query_one(VerticalScroll).focus()


def make_keys(bindings: tuple[ActiveBinding, ...]) -> tuple[tuple[str, str], ...]:
    """Each action once: its keys, and what it does in a sentence."""
    found: dict[str, tuple[list[str], str]] = {}
    for active in sorted(bindings, key=_get_rank):
        binding = active.binding
        if binding.system or not binding.description or not active.enabled:
            continue
        if binding.action in UNTOLD:
            continue
        does = binding.tooltip or binding.description
        keys, _ = found.setdefault(binding.action, ([], does))
        keys.append(write_key(binding.key))
    return tuple((" ".join(keys), does) for keys, does in found.values())


def _get_rank(active: ActiveBinding) -> int:
    """The screen's own keys, those of the list in it, those that are the same everywhere."""
    return 0 if isinstance(active.node, Screen) else 2 if isinstance(active.node, App) else 1


UNTOLD = frozenset(
    (
        "scroll_left",
        "scroll_right",
        "page_left",
        "page_right",
        "screen.copy_text",
        "quit",
        "app.focus_next",
        "app.focus_previous",
    )
)
"""Textual's, that do nothing here or that ours say better."""


def make_help(
    title: str,
    words: str,
    keys: tuple[tuple[str, str], ...],
    fields: tuple[str, ...],
    commands: tuple[Command, ...],
) -> Text:
    """The whole text: this screen, first steps, keys, filter, commands."""
    text = Text()
    text.append(f"{title}\n", "bold")
    if words:
        text.append(f"{words.strip()}\n")
    text.append(f"\n{FIRST_STEPS.partition(chr(10))[0]}\n", "bold")
    text.append(f"{FIRST_STEPS.partition(chr(10))[2]}\n")
    text.append("\nKeys here\n", "bold")
    for key, does in keys:
        text.append(f"  {key:<14}", "bold")
        text.append(f" {does}\n")
    if fields:
        text.append("\nFilter: / then words that must be there\n", "bold")
        text.append("  web  status:running  cpu>50  !app:db     (all that you write must hold)\n")
        text.append(f"  fields: {', '.join(fields)}\n")
    text.append("\nCommands: : then a word (tab completes)\n", "bold")
    for command in commands:
        text.append(f"  :{f'{command.word} {command.takes}'.strip():<23}", "bold")
        text.append(f" {command.about}\n")
    return text
