"""Install, a sealed key and a power cut, in a virtual machine: a test for each check. Full form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import FULL
from tests.vm import power_guest
from tests.vm.power_machine import HELD_MIN, Cut, cut_and_boot, get_held
from tests.vm.systemd_guest import get_checks
from tests.vm.test_cgroup_v2 import find_name, show

pytestmark = pytest.mark.skipif(not FULL, reason="two boots and an installation: ./test --full")
CHECKS = [("before", name) for name in get_checks("first", vars(power_guest))]
CHECKS += [("after", name) for name in get_checks("second", vars(power_guest))]


@pytest.fixture(scope="module")
def cut(need_root: None, tmp_path_factory: pytest.TempPathFactory, seed: int) -> Iterator[Cut]:
    directory = tmp_path_factory.mktemp("power")
    try:
        yield cut_and_boot(directory, seed)
    finally:
        for path in (*directory.glob("*.ext4"), *directory.glob("*.tar")):
            path.unlink()


def test_the_power_went_while_containers_ran(cut: Cut) -> None:
    lines = cut.before.results.splitlines()
    assert lines[0] == "boot 1" and "done" not in lines, show(cut.before)
    assert cut.after.results.splitlines()[0] == "boot 2", show(cut.after)
    assert cut.after.results.splitlines()[-1] == "done", show(cut.after)


def test_every_held_call_that_had_returned_is_in_the_evidence(cut: Cut) -> None:
    (kept,) = [line for line in cut.after.results.splitlines() if line.startswith("kept ")]
    held = get_held(cut.before.results)
    print(f"held calls that had returned: {held}; in the evidence: {kept.split()[1]}")
    assert int(kept.split()[1]) >= held >= HELD_MIN, show(cut.before)


@pytest.mark.parametrize(("boot", "name"), CHECKS)
def test_around_a_power_cut(cut: Cut, boot: str, name: str) -> None:
    found = cut.before if boot == "before" else cut.after
    said = [line for line in found.results.splitlines() if find_name(line) == name]
    assert said and said[0].startswith("ok "), f"{said}\n{show(found)}"
