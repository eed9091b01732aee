"""`docklock demo pipeline`: a container's receipts through every stage, each proof shown, checked.

Not here: what runs and what is proven (docklock.demo). Exit codes: 0 all stages were shown and
checked; 1 it could not be run here (why is said); 2 a wrong argument; 3 a proof that does not hold;
130 ended by a signal. In any case nothing of it runs or stays but the files of --keep.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from docklock.cli import options
from docklock.cli.options import Command, UsageError, check_count, text

if TYPE_CHECKING:
    from docklock.demo.place import Place
    from docklock.demo.stages import Stage
    from docklock.paths import Paths

HASH_CHARS = 16
PIPELINE = Command(
    "demo pipeline",
    "[OPTIONS]",
    "Start a chain of four validators, a server and the agent of a host, all on loopback in a "
    "directory of their own; run a container; follow a receipt of it through LogBlock, final block "
    "and the server's acknowledgement; check each proof; end and remove all. Needs root and "
    "docklock[server].",
    (
        text("--keep", help="keep the proofs here, with the commands that check them: a directory "
             "that is empty or not there yet", metavar="DIRECTORY"),
        text("--format", help="json: one object", metavar="json"),
    ),
    examples=("docklock demo pipeline --keep proofs",),
)  # fmt: skip


class Shown(NamedTuple):
    """What is put out, as it is found; with `is_json` nothing before the end."""

    is_json: bool

    def say(self, line: str) -> None:
        """A line for people."""
        if not self.is_json:
            print(line, flush=True)


def run_demo(argv: list[str], _: Paths) -> int:
    """`docklock demo pipeline`."""
    options.choose_verb("demo", {"pipeline": PIPELINE}, argv)
    values, words = options.parse(PIPELINE, argv[1:])
    check_count(PIPELINE, words, 0, 0)
    if values["format"] not in (None, "json", "text"):
        raise UsageError("docklock demo pipeline: --format takes json or text")
    keep = _make_kept(values["keep"])
    _check_host()
    return _run_pipeline(keep, Shown(values["format"] == "json"), Ending())


class Ending:
    """Ctrl-C, SIGTERM and SIGHUP, each a KeyboardInterrupt.

    Python drops an exception that is raised in a weak reference's callback or in `__del__`, and
    each import makes one: check() tells at the next stage what was dropped.
    """

    def __init__(self) -> None:
        from docklock.demo.commands import SIGNALS

        self._has_come = False
        for number in SIGNALS:
            signal.signal(number, self._raise)

    def _raise(self, *_: object) -> None:
        self._has_come = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """KeyboardInterrupt if a signal has come."""
        if self._has_come:
            raise KeyboardInterrupt


def _make_kept(keep: str | None) -> str:
    """The directory that the proofs go to, absolute and there; empty: they are not kept."""
    from chainlite.errors import SpecError

    if not keep:
        return ""
    path = os.path.abspath(keep)
    try:
        os.makedirs(path, exist_ok=True)
        is_used = bool(os.listdir(path))
    except OSError as error:
        raise SpecError(f"--keep {keep}: cannot make it: {error.strerror}") from None
    if is_used:
        raise SpecError(f"--keep {keep}: is not empty")
    return path


def _check_host() -> None:
    """StateError unless this machine can run it."""
    from chainlite.errors import StateError

    if os.geteuid():
        raise StateError("docklock demo pipeline runs a container: run it as root")
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise StateError(
            "docklock demo pipeline needs docklock[server]: pip install 'docklock[server]'"
        ) from None


def _run_pipeline(keep: str, shown: Shown, ending: Ending) -> int:
    from docklock.demo.place import hold_place

    with hold_place() as place:
        into = keep or f"{place.path}/proofs"
        os.makedirs(into, exist_ok=True)
        try:
            stages = _follow(place, into, shown, ending)
        except BaseException:  # some proofs are none, and the directory is to serve again
            for name in os.listdir(into):
                os.unlink(f"{into}/{name}")
            raise
        if shown.is_json:
            _print_json(stages, keep)
        elif keep:
            _write_commands(stages, into)
            shown.say(f"kept in {keep}: the proofs, what they are checked by, and `commands`")
        else:
            shown.say("All of it is removed; --keep DIRECTORY keeps the proofs.")
    return 0


def _follow(place: Place, into: str, shown: Shown, ending: Ending) -> list[Stage]:
    from docklock.demo.commands import Commands
    from docklock.demo.pipeline import VALIDATORS, run_pipeline
    from docklock.demo.stages import follow, run_container

    reader = f"{place.path}/reader"
    os.makedirs(reader)
    shown.say(f"A chain of {VALIDATORS} validators, a server, the agent of a host: "
              f"in {place.path} ...")  # fmt: skip
    with run_pipeline(place) as pipeline:
        ending.check()
        printed = run_container(pipeline, place.path)
        shown.say("A container of busybox ran, and printed:")
        for line in printed.splitlines():
            shown.say(f"    {line}")
        stages = []
        for stage in follow(pipeline, into, Commands(reader, place.fd)):
            ending.check()
            stages.append(stage)
            for line in render_stage(len(stages), stage):
                shown.say(line)
        shown.say("")
    return stages


def render_stage(number: int, stage: Stage) -> list[str]:
    """A stage for people: what was found, the file, the command that checks it, what it said."""
    size = os.path.getsize(stage.file)
    lines = ["", f"{number}. {TITLES[stage.name]}"]
    lines += [f"   {line}" for line in RENDERED[stage.name](stage.found)]
    lines += [f"   proof  {stage.file} ({size} bytes)", f"   check  {format_check(stage)}"]
    return lines + [f"          {line}" for line in stage.said.splitlines()]


def format_check(stage: Stage) -> str:
    """The command line that checks a stage's file."""
    return shlex.join(["docklock", *stage.check])


def _render_receipts(found: dict[str, Any]) -> list[str]:
    return [
        f"{found['receipts']} receipts in {found['segments']} signed segments; followed: receipt "
        f"{found['receipt']}, {found['op']} {found['decision']}",
        f"its segment is the leaf {_cut(found['segment_leaf'])} of the host's log",
    ]


def _render_block(found: dict[str, Any]) -> list[str]:
    return [
        f"LogBlock {found['height']} ({_cut(found['hash'])}) of notary {_cut(found['notary'])}",
        f"that leaf is segment {found['segment_index']} of {found['segments']}: a path of "
        f"{len(found['path'])} hashes to the root {_cut(found['root'])}",
    ]


def _render_final(found: dict[str, Any]) -> list[str]:
    return [
        f"block {found['height']} ({_cut(found['block'])}) of chain {_cut(found['chain'])}, sealed "
        f"by {len(found['sealed_by'])} of {found['validators']} validators",
        f"it anchors {found['log_size']} leaves of the host's log; that leaf is number "
        f"{found['leaf_index']}; the server has checked it as well (GET /v1/blocks)",
    ]


def _render_held(found: dict[str, Any]) -> list[str]:
    return [
        f"{found['held_logblocks']} LogBlocks are there, too; {found['server']}:",
        f"leaf {found['leaf_index']} of its own log, under its signature,",
        f"says that it holds {found['held_size']} leaves of the host's log: a path of "
        f"{len(found['path'])} hashes from that leaf to their root {_cut(found['held_root'])}",
    ]


RENDERED = {
    "receipts": _render_receipts,
    "logblock": _render_block,
    "final": _render_final,
    "acknowledgement": _render_held,
}
TITLES = {
    "receipts": "Receipts: what the container did, signed by its host",
    "logblock": "LogBlock: verified and grouped by a notary",
    "final": "Final: no history of the host's log without it is possible any more",
    "acknowledgement": "Acknowledged: a server holds and has verified it, and cannot deny that",
}


def _cut(digest: str) -> str:
    return digest[:HASH_CHARS]


def _write_commands(stages: list[Stage], into: str) -> None:
    with open(f"{into}/commands", "w", encoding="utf-8") as file:
        file.write("".join([f"{format_check(stage)}\n" for stage in stages]))


def _print_json(stages: list[Stage], keep: str) -> None:
    from docklock.json_text import encode_json

    if keep:
        _write_commands(stages, keep)
    described = [
        {
            "stage": stage.name,
            "ok": True,
            "file": stage.file if keep else None,
            "bytes": os.path.getsize(stage.file),
            "check": format_check(stage),
            "said": stage.said,
            "found": stage.found,
        }
        for stage in stages
    ]
    sys.stdout.write(encode_json({"ok": True, "kept": keep or None, "stages": described}) + "\n")
