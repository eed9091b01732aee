"""--device-read-bps and its like: a block device, a value that fits, or a refusal that says why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chainlite.errors import SpecError
from docklock.block_io import BlockLimit
from docklock.cli.block_options import KINDS, add_block_limits, parse_limit
from docklock.cli.limits import parse_limits
from docklock.cli.values import LIMIT_OPTIONS
from docklock.defaults import default_spec


def find_disk() -> tuple[str, int, int]:
    """Some block device of this host."""
    for name in os.listdir("/sys/block"):
        path = f"/dev/{name}"
        if os.path.exists(path):
            major, minor = Path(f"/sys/block/{name}/dev").read_text().strip().split(":")
            return path, int(major), int(minor)
    pytest.skip("this host has no disk")


def test_of_two_limits_of_one_kind_for_a_disk_the_later_one_is_meant() -> None:
    path, major, minor = find_disk()
    values: dict[str, list[str]] = {key: [] for key in KINDS} | {
        "device_read_bps": [f"{path}:1mb", f"{path}:2mb"],
        "device_write_iops": [f"{path}:30"],
        "blkio_weight_device": [f"{path}:200"],
    }
    spec = add_block_limits(default_spec(args=("a",)), values)
    assert set(spec.linux.resources.blkio_devices) == {
        BlockLimit("read_bps", major, minor, 2 << 20),
        BlockLimit("write_iops", major, minor, 30),
        BlockLimit("weight", major, minor, 200),
    }


@pytest.mark.parametrize(
    ("kind", "word", "why"),
    [
        ("read_bps", "/x:1mb", "bad format for path"),
        ("read_bps", "disk:1mb", "bad format for path"),
        ("read_bps", "/dev/null:1mb", "no block device"),
        ("read_bps", "/dev/none-such:1mb", "No such file or directory"),
        ("read_bps", "/dev/null:fast", "give a size"),
        ("read_iops", "/dev/null:1k", "give a number from 1 to"),
        ("read_iops", "/dev/null:0", "give a number from 1 to"),
        ("weight", "/dev/null:5", "give a number from 10 to 1000"),
    ],
)
def test_what_is_no_limit_of_a_disk_is_refused(kind: str, word: str, why: str) -> None:
    path, _, value = word.rpartition(":")
    with pytest.raises(SpecError, match=rf"^--device-x {path}[: ]{value}: .*{why}"):
        parse_limit("--device-x", kind, word)


def test_a_weight_of_none_is_none() -> None:
    empty = {option.key: None for option in LIMIT_OPTIONS}
    assert parse_limits(empty | {"blkio_weight": "0"}) == {}
    assert parse_limits(empty | {"blkio_weight": "300"}) == {"blkio_weight": 300}
    with pytest.raises(SpecError, match="--blkio-weight 5: give a number from 10 to 1000"):
        parse_limits(empty | {"blkio_weight": "5"})
