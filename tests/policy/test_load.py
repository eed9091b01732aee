from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chainlite.errors import SpecError
from docklock.capability import CAPABILITIES
from docklock.paths import Paths
from docklock.policy import load
from docklock.policy.load import Compiled, encode_cache, load_policy, parse_cache
from tests.policy.policies import compile_shipped

PROFILES = ("batch", "default", "network-service", "observe", "strict")
CACHED_LOAD_MS_MAX = 1.0
COMPILE_MS_MAX = 30.0
ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = ("yaml", "dataclasses", "argparse", "logging", "subprocess", "difflib", "inspect")
FORBIDDEN += ("docklock.policy.parse", "docklock.policy.compile", "docklock.policy.arguments")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path / "state"), str(tmp_path / "run"))


def get_cache_files(paths: Paths) -> list[Path]:
    return sorted(Path(paths.policies, "cache").iterdir())


@pytest.mark.parametrize("machine", ["aarch64", "x86_64"])
@pytest.mark.parametrize("name", PROFILES)
def test_a_cached_policy_is_the_compiled_one(name, machine, paths) -> None:
    first = load_policy(name, paths, arch=machine)
    second = load_policy(name, paths, arch=machine)
    assert isinstance(second, Compiled)
    assert first == second == compile_shipped(name, machine)
    assert len(get_cache_files(paths)) == 1
    for nr, arms in second.arms.items():
        assert all(type(check).__name__ == "Check" for arm in arms for check in arm.when), nr


def test_source_machine_and_capabilities_each_have_their_own_entry(paths, tmp_path) -> None:
    plain = load_policy("default", paths)
    more = load_policy("default", paths, capabilities=CAPABILITIES)
    load_policy("default", paths, arch="aarch64", capabilities=reversed(CAPABILITIES))
    load_policy("default", paths, capabilities=reversed(CAPABILITIES))
    assert plain.digest != more.digest
    assert len(get_cache_files(paths)) == 3
    own = tmp_path / "own.yaml"
    own.write_text("name: own\ndefault: {action: allow}\n")
    assert load_policy(str(own), paths).decide(0, (0,) * 6).action == "deny"
    own.write_text(own.read_text() + "rules: [{syscalls: [read], action: record}]\n")
    assert load_policy(str(own), paths).rules[load_number("read")].action == "record"


def load_number(name: str) -> int:
    from docklock.policy.machines import get_machine

    return get_machine(os.uname().machine).numbers[name]


def test_a_spoilt_cache_file_is_compiled_anew(paths) -> None:
    whole = load_policy("default", paths)
    [path] = get_cache_files(paths)
    good = path.read_bytes()
    spoilt = [b"", good[:-1], good + b"\0", good[:40], b"x" * len(good)]
    for at in range(0, len(good), 97):
        spoilt.append(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    for data in spoilt:
        path.write_bytes(data)
        assert parse_cache(data) is None
    assert load_policy("default", paths) == whole
    assert path.read_bytes() == good


def test_a_state_that_cannot_be_written_costs_time_only(tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    paths = Paths(str(blocked), str(blocked))
    assert load_policy("default", paths) == compile_shipped("default", os.uname().machine)


def test_names_and_files_that_are_not_there_are_spec_errors(paths, tmp_path) -> None:
    for name in ("nothing", "", "../default", "/nowhere.yaml", str(tmp_path), "a\0b", "x/\0.yaml"):
        with pytest.raises(SpecError):
            load_policy(name, paths)
    with pytest.raises(SpecError, match="batch, default, network-service, observe, strict"):
        load_policy("defualt", paths)
    with pytest.raises(SpecError, match="riscv64"):
        load_policy("default", paths, arch="riscv64")
    assert not Path(paths.policies).exists()


def test_a_cached_load_imports_no_yaml_and_nothing_slow(paths) -> None:
    load_policy("default", paths)
    code = (
        "import sys; from docklock.paths import Paths;"
        "from docklock.policy.load import load_policy;"
        f"load_policy('default', Paths({paths.state!r}, {paths.run!r}));"
        f"print(*[name for name in {FORBIDDEN!r} if name in sys.modules])"
    )
    # -S: what a site-packages directory imports by .pth files is not ours.
    command = [sys.executable, "-S", "-c", code]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    assert ran.stdout.split() == []


def measure_ms(run: object, times: int) -> float:
    best = float("inf")
    for _ in range(times):
        begun = time.perf_counter()
        run()  # type: ignore[operator]
        best = min(best, time.perf_counter() - begun)
    return best * 1000


def test_a_cached_load_takes_at_most_a_millisecond(paths) -> None:
    load_policy("default", paths)
    assert measure_ms(lambda: load_policy("default", paths), 50) <= CACHED_LOAD_MS_MAX


def test_compiling_takes_at_most_thirty_milliseconds() -> None:
    assert measure_ms(lambda: compile_shipped("default"), 10) <= COMPILE_MS_MAX


def test_the_cache_names_its_version(paths, monkeypatch) -> None:
    load_policy("default", paths)
    monkeypatch.setattr(load, "COMPILER_VERSION", load.COMPILER_VERSION + 1)
    load_policy("default", paths)
    assert len(get_cache_files(paths)) == 2
    compiled = compile_shipped("observe")
    bases = [("a.yaml", "00")]
    assert parse_cache(encode_cache(compiled, bases)) == (compiled, bases)


@pytest.mark.parametrize("place", ["policies", "docklock/policy/profiles"])
def test_profiles_are_found_in_a_checkout_and_in_a_wheel(place, tmp_path) -> None:
    """A wheel has them beside the room: [tool.hatch.build.targets.wheel.sources]."""
    for room in ("docklock", "chainlite"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("profiles"))
    shutil.copytree(ROOT / "policies", tmp_path / place)
    code = "from docklock.policy.shipped import *; print(*list_profiles(), find_policy('default'))"
    command = [sys.executable, "-S", "-c", code]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert ran.stdout.split() == [*PROFILES, str(tmp_path / place / "default.yaml")]
