"""A config.json is read whole or refused with its place; encoding it is canonical."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest

from chainlite.errors import SpecError
from docklock.block_io import BlockLimit
from docklock.capability import CAPABILITIES, DEFAULT_CAPABILITIES
from docklock.defaults import compute_capabilities, default_spec
from docklock.spec import DeviceRule, Mount, Resources, Rlimit, Spec, User, encode_spec, parse_spec

# The example of the runtime-spec's config.md, cut to what a Linux container has.
EXAMPLE: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {
        "terminal": False,
        "user": {"uid": 1, "gid": 1, "additionalGids": [5, 6], "umask": 63},
        "args": ["sh"],
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": []},
        "rlimits": [{"type": "RLIMIT_CORE", "hard": 1024, "soft": 0}],
        "noNewPrivileges": True,
        "oomScoreAdj": 100,
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "slartibartfast",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/v/", "type": "none", "source": "v", "options": ["rbind", "ro"]},
    ],
    "linux": {
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
        "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "network"}],
        "cgroupsPath": "/my/own",
        "resources": {
            "memory": {"limit": 536870912, "swap": -1},
            "cpu": {"shares": 1024, "quota": 1000000, "period": 500000, "cpus": "0-1"},
            "pids": {"limit": 32},
            "devices": [{"allow": False, "access": "rwm"}],
            "blockIO": {},
        },
        "maskedPaths": ["/proc/kcore"],
        "sysctl": {"net.core.somaxconn": "256"},
    },
    "annotations": {"com.example.key": "value"},
    "someThingNew": {"is": "ignored"},
}


def parse(document: Any) -> Spec:
    return parse_spec(json.dumps(document).encode(), "config.json")


def change(path: str, value: Any) -> Any:
    document = copy.deepcopy(EXAMPLE)
    target = document
    *parents, last = path.split(".")
    for name in parents:
        target = target.setdefault(name, {})
    target[last] = value
    return document


def test_the_specifications_example_is_read() -> None:
    spec = parse(EXAMPLE)
    assert spec.process.user == User(1, 1, (5, 6), 63)
    assert spec.process.rlimits == (Rlimit("RLIMIT_CORE", 0, 1024),)
    assert spec.mounts[1] == Mount("/v", "bind", "v", ("rbind", "ro"))
    assert spec.linux.resources.devices == (
        DeviceRule(allow=False, kind="a", major=-1, minor=-1, access="rwm"),
    )
    assert spec.linux.resources.memory_swap_bytes == -1


def test_encoding_is_canonical_and_complete() -> None:
    kinds = ("weight", "read_bps", "write_bps", "read_iops", "write_iops")
    limits = tuple(BlockLimit(kind, 8, at, 100 + at) for at, kind in enumerate(kinds))
    resources = Resources(5, 4, 9, 512, 1000, 2000, "0", "0", 7, (), 200, limits)
    for spec in (
        parse(EXAMPLE),
        default_spec(args=("a",), hostname="h", user=User(3, 4, (5,), 0o77), resources=resources),
        default_spec(args=("a", ""), privileged=True, network="host", readonly=True),
        default_spec(args=("sh",), terminal=True, console_size=(24, 80)),
    ):
        encoded = encode_spec(spec)
        assert parse_spec(encoded, "again") == spec
        assert encode_spec(parse_spec(encoded, "again")) == encoded


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("ociVersion", "2.0.0", "ociVersion: docklock reads 1.x"),
        ("hooks", {"prestart": [{"path": "/x"}]}, "hooks: docklock runs no hooks"),
        ("process.terminal", "yes", "process.terminal: expected true or false"),
        ("process.consoleSize", {"height": 1}, "process.consoleSize.width: missing"),
        ("process.consoleSize", {"height": 1, "width": 65536}, "an integer in 0..65535"),
        ("process.args", [], "process.args: expected a program"),
        ("process.args", ["a\0b"], "process.args[0]: a NUL byte"),
        ("process.env", ["=x"], "process.env[0]: expected NAME=VALUE"),
        ("process.cwd", "a/b", "process.cwd: expected an absolute path"),
        ("process.user", {"uid": -1}, "process.user.uid: expected an integer in 0.."),
        ("process.capabilities", {"bounding": ["CAP_X"]}, "bounding[0]: no such capability"),
        ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}], "rlimits[0].soft"),
        ("process.selinuxLabel", "x", "process.selinuxLabel: docklock does not support"),
        ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW"}, "from its own policy"),
        ("linux.uidMappings", [{"size": 1}], "linux.uidMappings: docklock does not support"),
        ("linux.namespaces", [{"type": "user"}], "does not support user namespaces"),
        ("linux.namespaces", [{"type": "pid"}], "a new mount namespace is needed"),
        ("linux.namespaces", [{"type": "mount"}], "a hostname needs a uts namespace"),
        ("linux.sysctl", {"vm.swappiness": "1"}, "belongs to the host"),
        ("linux.sysctl", {"kernel.shmmax": "1"}, "without a ipc namespace"),
        ("linux.resources.unified", {"a": "b"}, "linux.resources.unified: docklock does not"),
        ("linux.resources.blockIO", {"weight": 5}, "blockIO.weight: expected an integer in 10.."),
        ("linux.resources.blockIO", {"leafWeight": 50}, "blockIO.leafWeight: no kernel"),
        (
            "linux.resources.blockIO",
            {"throttleReadBpsDevice": [{"major": 8, "minor": 0}]},
            "throttleReadBpsDevice[0].rate: missing",
        ),
        ("linux.rootfsPropagation", "shared", "expected one of"),
        ("mounts", [{"destination": "/", "type": "tmpfs"}], "cannot replace the root"),
        ("mounts", [{"destination": "/a/../b", "type": "tmpfs"}], "without .."),
        ("mounts", [{"destination": "/proc/keys", "type": "tmpfs"}], "inside /proc"),
        ("mounts", [{"destination": "/a", "options": ["bind"]}], "needs a source"),
        ("root", {"path": ""}, "root.path: expected a path"),
    ],
)
def test_what_docklock_cannot_do_is_refused_by_name(path: str, value: Any, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(change(path, value))
    assert str(caught.value).startswith("config.json: ")
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_spoilt_document_is_a_spec_error_and_nothing_else(seed: int, full: bool) -> None:
    rng = random.Random(seed)
    good = encode_spec(default_spec(args=("a",), hostname="h"))
    odd: list[Any] = [None, 3, -1, 2**70, 1.5, True, "", "x", [], {}, [None], {"a": 1}]
    refused = 0
    for _ in range(20_000 if full else 1_500):
        document = json.loads(good)
        target: Any = document
        while isinstance(target, dict | list) and target:
            keys = list(target) if isinstance(target, dict) else list(range(len(target)))
            key = rng.choice(keys)
            if not isinstance(target[key], dict | list) or not target[key] or rng.random() < 0.3:
                target[key] = rng.choice(odd)
                break
            target = target[key]
        try:
            parse(document)
        except SpecError:
            refused += 1
    assert refused > 500


def test_the_default_capabilities_are_dockers_fourteen() -> None:
    assert len(DEFAULT_CAPABILITIES) == 14
    assert compute_capabilities((), ()) == DEFAULT_CAPABILITIES
    assert compute_capabilities(("net_admin",), ("ALL",)) == ("CAP_NET_ADMIN",)
    assert set(compute_capabilities(("ALL",), ("CAP_KILL",))) == set(CAPABILITIES) - {"CAP_KILL"}
    assert set(compute_capabilities((), (), privileged=True)) == set(CAPABILITIES)
    with pytest.raises(SpecError, match="no such capability: frob"):
        compute_capabilities(("frob",), ())
