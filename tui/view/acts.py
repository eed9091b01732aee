"""What may be done to a container, in words: the question before it, and what will follow. Pure.

Not here: doing it (docklock.console.source.Acts, each the command of its name).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tui.view.commands import Command
from tui.view.text import make_harmless

if TYPE_CHECKING:
    from docklock.console.facts import ContainerRow, Done, Progress, Verdict

NAME_MAX = 60
TEXT_MAX = 300
BAR_CELLS = 40
FAILURES_MAX = 12


class Question(NamedTuple):
    """What is asked before an act, and what will follow."""

    words: str
    effects: tuple[str, ...]


EFFECTS = {
    "stop": (
        "Its main process is sent its stop signal (SIGTERM unless the image has another),",
        "and SIGKILL when its stop timeout is over.",
    ),
    "restart": ("It is stopped as by x, and started again: a new run, with receipts of its own.",),
    "kill": ("Its main process is sent SIGKILL now: it cannot finish what it was doing.",),
    "quarantine": (
        "All its processes are frozen where they stand, and its network is cut.",
        "Its memory and files stay as they are, to be looked at. Q again releases it.",
    ),
    "rm": (
        "Container, its changes to the image and its output are deleted: no way back.",
        "A running one is refused. Write its evidence file first (w) if anyone may ask.",
    ),
}
WORDS = (
    Command("start", "start one that is not running", "act_named('start', {})", "[CONTAINER]"),
    Command("stop", "stop it (asks)", "act_named('stop', {})", "[CONTAINER]"),
    Command("restart", "stop and start it (asks)", "act_named('restart', {})", "[CONTAINER]"),
    Command("kill", "SIGKILL (asks)", "act_named('kill', {})", "[CONTAINER]"),
    Command("pause", "freeze it", "act_named('pause', {})", "[CONTAINER]"),
    Command("unpause", "let it go on", "act_named('unpause', {})", "[CONTAINER]"),
    Command(
        "quarantine", "freeze it and cut its network (asks)", "act_named('quarantine', {})",
        "[CONTAINER]",
    ),
    Command("release", "out of quarantine", "act_named('release', {})", "[CONTAINER]"),
    Command("rm", "delete it (asks)", "act_named('rm', {})", "[CONTAINER]"),
    Command("describe", "all about it", "open_named('', {})", "[CONTAINER]", also=("open",)),
    Command("logs", "its output", "open_named('logs', {})", "[CONTAINER]"),
    Command("shell", "a shell in it", "shell_named({})", "[CONTAINER]"),
    Command("evidence", "write its evidence file", "evidence_named({})", "[CONTAINER]"),
    Command("verify", "verify its evidence now, or all", "verify_named({})", "[CONTAINER]"),
)  # fmt: skip


def get_verb(key: str, row: ContainerRow) -> str:
    """The act that a key means for a container as it is: p, Q and S go both ways."""
    is_quarantined = row.status == "quarantined"
    if key == "pause":
        return "unpause" if row.status == "paused" else "pause"
    if key == "quarantine":
        return "release" if is_quarantined else "quarantine"
    return key


def make_question(verb: str, row: ContainerRow) -> Question:
    """What is asked before it; all on record as the command of its name."""
    name = make_harmless(row.name or row.id[:12], NAME_MAX)
    about = [f"container {row.id[:12]}, {make_harmless(row.status, NAME_MAX)}"]
    if row.image:
        about.append(f"image {make_harmless(row.image, NAME_MAX)}")
    if row.host:
        about.append(f"host {make_harmless(row.host, NAME_MAX)}")
    effects = (", ".join(about), "", *EFFECTS.get(verb, ()), "It is on record as any command is.")
    return Question(f"{verb.capitalize()} {name}?", effects)


def make_evidence_name(row: ContainerRow) -> str:
    """A file's name for a container's evidence: no path, whatever the container is called."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", row.name[:NAME_MAX]).lstrip(".-")
    return f"{name or row.id[:12]}.evidence"


def describe_done(name: str, done: Done) -> str:
    """A line of what an act came to."""
    words = " ".join(done.text.split())[: TEXT_MAX + 1]
    text = make_harmless(words, TEXT_MAX)
    sign = "done" if done.is_done else "not done"
    return f"{name}: {sign}{f': {text}' if text else ''}"


def draw_progress(progress: Progress, cells: int = BAR_CELLS) -> str:
    """A bar, how many of how many, and what is looked at now."""
    now = make_harmless(progress.now, TEXT_MAX)
    if progress.total <= 0 and progress.done <= 0:
        return f"under way  {now}".rstrip()
    if progress.total <= 0:
        return f"{progress.done:,} so far  {now}".rstrip()
    share = min(1.0, max(0.0, progress.done / progress.total))
    full = int(share * cells)
    bar = "#" * full + "." * (cells - full)
    return f"[{bar}] {share * 100:.0f} %\n{progress.done:,} of {progress.total:,}  {now}".rstrip()


def describe_verdicts(verdicts: tuple[Verdict, ...]) -> tuple[bool, tuple[str, ...]]:
    """Whether all is whole, and in words what was found."""
    broken = [verdict for verdict in verdicts if not verdict.is_whole]
    if not broken:
        return True, ("whole: every receipt is as it was signed",)
    lines = [
        f"{make_harmless(verdict.where, TEXT_MAX)}: {make_harmless(verdict.why, TEXT_MAX)}"
        for verdict in broken[:FAILURES_MAX]
    ]
    if len(broken) > FAILURES_MAX:
        lines.append(f"and {len(broken) - FAILURES_MAX:,} more")
    return False, (f"NOT WHOLE, in {len(broken):,} place{'s' * (len(broken) > 1)}", *lines)
