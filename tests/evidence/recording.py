"""Record small runs under a root of a test's own, in this process or in one that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from chainlite import receipt
from chainlite.cosignature import cosign
from docklock.evidence.attempts import RuleText
from docklock.evidence.host_log import HostLog
from docklock.evidence.recorder import RunRecorder
from docklock.paths import Paths, get_paths
from tests.chainlite.samples import WITNESS, WITNESS_KEY

ROOT = Path(__file__).parents[2]


def make_paths(tmp_path: Path) -> Paths:
    return get_paths(str(tmp_path / "root"))


def make_id(number: int = 1) -> str:
    return f"{number:064x}"


def begin(
    paths: Paths,
    container: str = "",
    *,
    run: int = 0,
    app: str = "web",
    sign_each: bool = False,
    rules: tuple[RuleText, ...] = (),
) -> RunRecorder:
    recorder = RunRecorder.begin(
        paths,
        container_id=container or make_id(),
        run=run,
        app=app,
        image_digest="sha256:" + "ab" * 32,
        policy_digest=b"\x05" * 32,
        closed=("io_uring_setup", "bpf"),
        sign_each=sign_each,
        rules=rules,
    )
    recorder.begin_commits()
    return recorder


def append(recorder: RunRecorder, number: int) -> int:
    """An event with no, one or two values, which the number tells."""
    values = ((), (("path", b"/tmp/%d" % number),), (("path", b""), ("argv", b"ls\0-l\0")))
    return recorder.append(
        ("syscall.connect", "syscall.execve")[number % 2],
        decision=(receipt.ALLOWED, receipt.DENIED)[number % 2],
        plane=receipt.GATE,
        seen=receipt.CLAIMED,
        pid=number % 1000,
        tid=number % 1000,
        nr=42,
        args=(number,) * 6,
        values=values[number % 3],
        errno=number % 2,
    )


def append_durably(recorder: RunRecorder, number: int) -> int:
    """As append, then wait for a commit: the event is durable, and a segment of its own."""
    index = append(recorder, number)
    recorder.request_commit(now=True)
    deadline = time.monotonic() + 10
    while recorder.durable_count <= index and time.monotonic() < deadline:
        time.sleep(0.002)
    return index


def record(paths: Paths, container: str = "", *, count: int = 10, **changes: object) -> str:
    recorder = begin(paths, container, **changes)  # type: ignore[arg-type]
    for number in range(count):
        append(recorder, number)
    recorder.close(0)
    return container or make_id()


def record_and_die(paths: Paths, source: str, *, before: str = "", rules: bool = False) -> str:
    """Run `source` (with `recorder` begun) in a process that ends by SIGKILL; what it printed."""
    code = f"""
        import os, signal, sys, time
        from docklock.paths import get_paths
        from tests.evidence.recording import append, begin
        from tests.evidence.test_attempts import RULES
        recorder = begin(get_paths({paths.state!r}), rules=RULES if {rules} else ())
        say = lambda text: os.write(1, text.encode())
    """
    code = before + textwrap.dedent(code) + textwrap.dedent(source)
    done = subprocess.run(
        [sys.executable, "-c", code + "\nos.kill(os.getpid(), signal.SIGKILL)"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    return done.stdout


def cosign_log(paths: Paths, file: Path, *, time_s: int = 1_795_000_000) -> str:
    """Write the log's checkpoint as it is now, cosigned by WITNESS; the file's name."""
    with HostLog(paths, None) as log:
        note = log.get_note()
    file.write_bytes(cosign(note, WITNESS.name, WITNESS_KEY, time_s))
    return str(file)
