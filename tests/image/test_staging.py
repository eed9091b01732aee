"""Writers that are killed or run at the same time leave a store that is whole."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from docklock.image.imports import import_directory
from docklock.image.reference import parse_reference
from docklock.image.staging import Staging, read_diff_ids, read_layer_digests
from docklock.image.store import ImageStore
from docklock.paths import Paths

IMPORT = (
    "import sys; from docklock.paths import Paths;"
    "from docklock.image.imports import import_directory as add;"
    "from docklock.image.reference import parse_reference as name;"
    "paths = Paths(sys.argv[1], sys.argv[1]);"
    "[add(paths, sys.argv[2], name(f'{sys.argv[3]}:{index}'), [f'USER {sys.argv[3]}{index}'])"
    " for index in range(int(sys.argv[4]))]"
)


def start(paths: Paths, tree: Path, name: str, times: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", IMPORT, paths.state, str(tree), name, str(times)]
    )


def make_tree(root: Path, seed: int) -> Path:
    dice = random.Random(seed)
    root.mkdir()
    for index in range(60):
        (root / f"f{index}").write_bytes(dice.randbytes(20_000))
    return root


def check_whole(paths: Paths) -> int:
    """Everything that index.json names is there, and nothing else; gives the number of images."""
    store = ImageStore(paths)
    blobs, layers = set(), set()
    entries = store.list_entries()
    for entry in entries:
        blobs |= {entry.digest, entry.image_id, *read_layer_digests(store, entry.digest)}
        layers |= set(read_diff_ids(store, entry.image_id))
        for directory in store.read_image(entry, entries).layers:
            assert len(os.listdir(directory)) == 60
    assert {f"sha256:{name}" for name in os.listdir(f"{store.root}/blobs/sha256")} == blobs
    assert {f"sha256:{name}" for name in os.listdir(f"{store.root}/layers")} == layers
    assert os.listdir(f"{store.root}/staging") == []
    return len(entries)


def test_kill_9_anywhere_leaves_nothing_after_the_next_command(
    paths: Paths, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree", 1)
    last = make_tree(tmp_path / "last", 2)
    dice = random.Random(3)
    for round_ in range(6):
        writer = start(paths, tree, f"k{round_}", 50)
        time.sleep(0.1 + dice.random() * 0.25)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    import_directory(paths, str(last), parse_reference("last"))
    assert check_whole(paths) >= 1


def test_kill_9_at_each_step_of_a_commit(paths: Paths, tmp_path: Path) -> None:
    """Stops before every rename of a commit in turn; the next command sees old or new, whole."""
    tree = make_tree(tmp_path / "tree", 1)
    import_directory(paths, str(tree), parse_reference("first"))
    stop = (
        "import os; real, left = os.rename, [int(os.environ['STEP'])]\n"
        "def rename(*names, **more):\n"
        "    left[0] -= 1\n"
        "    if left[0] < 0: os.kill(os.getpid(), 9)\n"
        "    return real(*names, **more)\n"
        "os.rename = rename\n"
    )
    codes = []
    for step in range(12):
        argv = [sys.executable, "-c", stop + IMPORT, paths.state, str(tree), f"s{step}", "1"]
        codes.append(subprocess.run(argv, env={**os.environ, "STEP": str(step)}).returncode)
        with Staging(paths):
            pass
        assert check_whole(paths) == 1 + codes.count(0)
    assert codes[0] == -signal.SIGKILL
    assert codes[-1] == 0


def test_writers_at_the_same_time_all_arrive(paths: Paths, tmp_path: Path) -> None:
    trees = [make_tree(tmp_path / f"tree{index}", index % 2) for index in range(3)]
    writers = [start(paths, tree, f"w{index}", 3) for index, tree in enumerate(trees)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert check_whole(paths) == 9


def test_a_living_writer_s_staging_is_left_alone(paths: Paths, archives: Any) -> None:
    from docklock.image.layer import take_layer

    with Staging(paths) as living:
        data = archives.tar(archives.member("f"))
        layer = take_layer(living, io.BytesIO(data), "a.tar")
        with Staging(paths):
            assert len(os.listdir(f"{paths.images}/staging")) == 2
        assert os.path.isdir(living.layer(layer.diff_id))
    assert os.listdir(f"{paths.images}/staging") == []


@pytest.mark.parametrize("moment", ["listdir", "open"])
def test_a_writer_that_ends_while_another_looks_is_no_error(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """It ends without the store's lock: after it was listed, or after its directory was opened."""
    ending = [Staging(paths)]
    look = getattr(os, moment)

    def look_and_end(path: str, *more: int, **named: int) -> Any:
        found = look(path, *more, **named)
        if ending and str(path).startswith(f"{paths.images}/staging"):
            ending.pop().__exit__(None, None, None)
        return found

    monkeypatch.setattr(os, moment, look_and_end)
    with Staging(paths) as writer:
        assert not ending and os.listdir(f"{paths.images}/staging") == [writer.path[-16:]]


def test_other_users_cannot_reach_the_layers(paths: Paths, tmp_path: Path) -> None:
    """A layer may hold set-user-id programs."""
    import_directory(paths, str(make_tree(tmp_path / "tree", 1)), parse_reference("x"))
    assert os.stat(paths.images).st_mode & 0o777 == 0o700
