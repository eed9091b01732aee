"""CDI: which file is meant, what its edits do, what is refused and why."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import SpecError
from docklock.cli.cdi import choose_gpus, inject
from docklock.cli.cdi_files import Offers, read_offers
from docklock.cli.devices import is_cdi_name
from docklock.defaults import default_spec
from docklock.spec import Device, DeviceRule, Mount, Spec, encode_spec, parse_spec

pytestmark = pytest.mark.usefixtures("need_root")  # files are root's

# As a vendor's tool writes it, cut down.
YAML = """
---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  deviceNodes:
  - path: /dev/nvidiactl
    hostPath: /dev/null
  mounts:
  - hostPath: /etc/hostname
    containerPath: /usr/lib/libcuda.so
    options: [ro, nosuid, nodev, bind]
devices:
- name: "0"
  containerEdits:
    additionalGids: [44]
    deviceNodes:
    - {path: /dev/nvidia0, type: c, major: 195, minor: 0, fileMode: 438, permissions: rw}
- name: "1"
  containerEdits:
    deviceNodes:
    - {path: /dev/nvidia1, type: c, major: 195, minor: 1, uid: 7}
- name: all
  containerEdits:
    deviceNodes:
    - {path: /dev/nvidia0, type: c, major: 195, minor: 0}
    - {path: /dev/nvidia1, type: c, major: 195, minor: 1}
"""
SPEC = default_spec(args=("sh",), env=("PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all"))


def write(directory: Path, name: str, content: str | dict[str, Any]) -> None:
    directory.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (directory / name).write_text(text)


def make(edits: dict[str, Any], kind: str = "vendor.com/device") -> dict[str, Any]:
    return {
        "cdiVersion": "0.6.0",
        "kind": kind,
        "devices": [{"name": "x", "containerEdits": edits}],
    }


def offer(tmp_path: Path, edits: dict[str, Any]) -> Offers:
    write(tmp_path / "etc", "vendor.json", make(edits))
    return read_offers([str(tmp_path / "etc")])


@pytest.fixture
def nvidia(tmp_path: Path) -> Offers:
    write(tmp_path / "etc", "nvidia.yaml", YAML)
    return read_offers([str(tmp_path / "etc"), str(tmp_path / "none")])


def added(spec: Spec) -> list[Device]:
    return [device for device in spec.linux.devices if device not in SPEC.linux.devices]


def test_a_device_brings_its_edits_and_those_of_its_file_once(nvidia: Offers) -> None:
    spec = inject(SPEC, ["nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=0"], nvidia)
    assert spec.process.env == ("PATH=/bin", "NVIDIA_VISIBLE_DEVICES=void")
    assert spec.process.user.groups == (44,)
    null = os.stat("/dev/null")
    assert added(spec) == [
        Device("/dev/nvidiactl", "c", 1, 3, null.st_mode & 0o7777),
        Device("/dev/nvidia0", "c", 195, 0, 0o666),
        Device("/dev/nvidia1", "c", 195, 1, 0o666, uid=7),
    ]
    assert spec.linux.resources.devices[len(SPEC.linux.resources.devices) :] == (
        DeviceRule(True, "c", 1, 3, "rwm"),
        DeviceRule(True, "c", 195, 0, "rw"),
        DeviceRule(True, "c", 195, 1, "rwm"),
    )
    mounts = [mount for mount in spec.mounts if mount not in SPEC.mounts]
    options = ("bind", "rprivate", "ro", "nosuid", "nodev")
    assert mounts == [Mount("/usr/lib/libcuda.so", "bind", "/etc/hostname", options)]
    assert parse_spec(encode_spec(spec), "again") == spec


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("all", ["all"]),
        ("-1", ["all"]),
        ("1", ["0"]),
        ("2", ["0", "1"]),
        ("device=1", ["1"]),
        ('"device=0,1"', ["0", "1"]),
        ("count=1,driver=nvidia,capabilities=gpu", ["0"]),
    ],
)
def test_gpus_are_dockers_words(nvidia: Offers, word: str, names: list[str]) -> None:
    assert choose_gpus(word, nvidia) == [f"nvidia.com/gpu={name}" for name in names]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("3", "nvidia.com/gpu has 2 numbered devices"),
        ("some", "give all, a number"),
        ("driver=intel", "driver=intel: docklock has"),
        ("all,capabilities=utility", "capabilities=utility: docklock has"),
        ("driver=amd", 'could not select device driver "amd"'),
    ],
)
def test_gpus_that_are_not_there_are_told(nvidia: Offers, word: str, why: str) -> None:
    with pytest.raises(SpecError, match=rf"^--gpus {word}: .*{why}"):
        choose_gpus(word, nvidia)


def test_without_a_file_there_is_no_gpu() -> None:
    with pytest.raises(SpecError, match="could not select device driver"):
        choose_gpus("all", read_offers([]))


def test_another_vendors_only_gpu_is_one(tmp_path: Path) -> None:
    write(tmp_path / "etc", "a.json", make({}, "intel.com/gpu"))
    offers = read_offers([str(tmp_path / "etc")])
    assert choose_gpus("all", offers) == ["intel.com/gpu=x"]


def test_the_later_directory_is_meant_and_two_in_one_are_a_mistake(tmp_path: Path) -> None:
    for at, directory in enumerate(("etc", "run")):
        write(tmp_path / directory, "vendor.json", make({"env": [f"FROM={at}"]}))
    directories = [str(tmp_path / "etc"), str(tmp_path / "run")]
    assert "FROM=1" in inject(SPEC, ["vendor.com/device=x"], read_offers(directories)).process.env
    write(tmp_path / "run", "other.json", make({}))
    with pytest.raises(SpecError, match="other.json and .*vendor.json have it"):
        inject(SPEC, ["vendor.com/device=x"], read_offers(directories))


@pytest.mark.parametrize(
    ("edits", "why"),
    [
        ({"hooks": [{"hookName": "createContainer", "path": "/x"}]}, "hooks: docklock runs no"),
        ({"intelRdt": {"closID": "x"}}, "intelRdt: docklock sets no resctrl"),
        ({"netDevices": [{"hostInterfaceName": "a"}]}, "netDevices: docklock moves no"),
        ({"env": ["X"]}, "expected NAME=VALUE"),
        ({"deviceNodes": [{"path": "/dev/none-such"}]}, "No such file or directory"),
        ({"deviceNodes": [{"path": "/etc/hostname"}]}, "is not a device node"),
        ({"deviceNodes": [{"path": "/dev/../null"}]}, "an absolute path below /"),
        ({"deviceNodes": [{"path": "/dev/null", "permissions": "x"}]}, "letters of rwm"),
        ({"mounts": [{"hostPath": "/none", "containerPath": "/x"}]}, "no such path on this host"),
        ({"mounts": [{"hostPath": "/etc", "containerPath": "/"}]}, "an absolute path below /"),
        (
            {"mounts": [{"hostPath": "/etc", "containerPath": "/x", "options": ["shared"]}]},
            "unknown option 'shared'",
        ),
        ({"mounts": [{"hostPath": "/etc", "containerPath": "/x", "type": "nfs"}]}, "expected bind"),
        ({"additionalGids": [0]}, "additionalGids"),
    ],
)
def test_what_docklock_does_not_do_is_refused_by_name(
    tmp_path: Path, edits: dict[str, Any], why: str
) -> None:
    with pytest.raises(SpecError, match=r"vendor.json: devices\[0\].containerEdits.*" + why):
        inject(SPEC, ["vendor.com/device=x"], offer(tmp_path, edits))


def test_a_file_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    write(tmp_path / "etc", "vendor.json", make({}))
    for mode, owner in ((0o666, 0), (0o644, 1000)):
        os.chmod(tmp_path / "etc" / "vendor.json", mode)
        os.chown(tmp_path / "etc" / "vendor.json", owner, 0)
        with pytest.raises(SpecError, match="could not be read: .*others than root may write it"):
            inject(SPEC, ["vendor.com/device=x"], read_offers([str(tmp_path / "etc")]))


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", '{"cdiVersion": "2.0.0"}', "docklock reads 0.x and 1.x"),
        ("a.json", '{"cdiVersion": "0.6.0", "kind": "x", "devices": []}', "expected VENDOR/CLASS"),
        ("a.yaml", "cdiVersion: &x 0.6.0", "could not be read: .*a.yaml"),
        ("a.yaml", "cdiVersion: 0.6.0\nkind: a/b\ndevices: [{name: no}]", "YAML 1.1 reads it"),
    ],
)
def test_a_file_that_cannot_be_read_hides_no_other_device(
    tmp_path: Path, name: str, text: str, why: str
) -> None:
    write(tmp_path / "etc", name, text)
    offers = offer(tmp_path, {"env": ["A=b"]})
    assert "A=b" in inject(SPEC, ["vendor.com/device=x"], offers).process.env
    with pytest.raises(SpecError, match=rf"unresolvable CDI devices vendor.com/other=x.*{why}"):
        inject(SPEC, ["vendor.com/other=x"], offers)


def test_a_name_is_no_path() -> None:
    assert is_cdi_name("vendor.com/class=x")
    assert not any(map(is_cdi_name, ("/dev/a=b/c", "./a/b=c", "/dev/null", "x=y")))
