"""The dump test: root reads a recorder's memory and every file, and finds no earlier key."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Generator
from pathlib import Path

import pytest

from chainlite import segment
from docklock.evidence import container_store, keyring
from docklock.evidence.export import verify_container
from docklock.paths import Paths
from tests.evidence.recording import ROOT, make_id, make_paths
from tests.memory import count_in_memory, find_in_files, find_secrets, get_guarded

RECORDER = textwrap.dedent(
    """
    import os, signal, sys, time
    from chainlite import segment
    segment.EPOCH_NS = 1
    from docklock.paths import get_paths
    from tests.evidence.recording import append, begin
    live = begin(get_paths(sys.argv[1]))
    child = os.fork()  # as the guard forks its worker
    if child == 0:
        signal.pause()
    for number in range(int(sys.argv[2])):
        index = append(live, number)
        live.request_commit(now=True)
        while live.durable_count <= index:
            time.sleep(0.001)
        time.sleep(0.1)  # the leaves reach the host log meanwhile, and its key comes and goes
        print(child, flush=True)
        sys.stdin.readline()
    live.close(0)
    print("closed", flush=True)
    sys.stdin.readline()
    """
)
EPOCHS = 4


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_paths(tmp_path)


@pytest.fixture
def recorder(paths: Paths, need_root: None) -> Generator[subprocess.Popen[str], None, None]:
    """A process that records one event an epoch, and waits after each."""
    process = subprocess.Popen(
        [sys.executable, "-c", RECORDER, paths.state, str(EPOCHS)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        yield process
        process.kill()


def wait(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def read_publics(paths: Paths) -> list[bytes]:
    """The keys of the epochs whose certificates are in the store, in order."""
    db = container_store.open_store(paths, make_id())
    try:
        rows = list(container_store.iterate_epochs(db, 0))
    finally:
        db.close()
    return [segment.decode_certificate(row.certificate).public for row in rows]


def test_no_earlier_key_is_in_memory_or_in_a_file(
    paths: Paths, tmp_path: Path, recorder: subprocess.Popen[str]
) -> None:
    earlier: list[bytes] = []
    child = 0
    try:
        for epoch in range(EPOCHS):
            child = int(wait(recorder))
            held = find_secrets(recorder.pid)
            assert list(held) == read_publics(paths)[epoch:], "the key of now, and no other"
            (secret,) = held.values()
            assert count_in_memory(recorder.pid, secret) == 1, "in its page alone"
            assert count_in_memory(child, secret) == 0
            for old in earlier:
                assert count_in_memory(recorder.pid, old) == 0
                assert find_in_files(tmp_path, old) == []
            assert find_in_files(tmp_path, secret) == []
            earlier.append(secret)
            go_on(recorder)
        assert wait(recorder) == "closed"
        assert get_guarded(recorder.pid) == []
        assert sum(count_in_memory(recorder.pid, old) for old in earlier) == 0
        assert len(set(earlier)) == EPOCHS
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
    assert verify_container(paths, make_id()).first_bad is None


def test_the_hosts_key_is_in_its_file_and_not_in_memory(
    paths: Paths, tmp_path: Path, recorder: subprocess.Popen[str]
) -> None:
    child = int(wait(recorder))
    try:
        path = Path(keyring.get_key_path(paths))
        secret = path.read_bytes()[-32:]
        assert count_in_memory(recorder.pid, secret) == 0
        assert count_in_memory(child, secret) == 0
        assert find_in_files(tmp_path, secret) == [path]
    finally:
        os.kill(child, signal.SIGKILL)
