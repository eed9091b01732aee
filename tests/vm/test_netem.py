"""Validators on bad networks that `tc netem` makes, in a virtual machine. Full form only."""

from __future__ import annotations

import pytest

from tests.conftest import FULL
from tests.vm.machine import NEEDED, Boot, Machine, boot, make_second_init
from tests.vm.netem_guest import get_checks
from tests.vm.test_cgroup_v2 import find_name, show

pytestmark = pytest.mark.skipif(
    not FULL, reason="an emulated processor takes its time: ./test --full"
)

PACKAGES = ("busybox-static", "iproute2", "python3")
GUEST_LIMIT_S = 2_400  # alone it takes 600
MACHINE = Machine(
    PACKAGES,
    make_second_init("netem_guest", GUEST_LIMIT_S),
    limit_s=GUEST_LIMIT_S + 60,
    needed=(*NEEDED, "cryptography"),
)


@pytest.fixture(scope="module")
def booted(need_root: None, tmp_path_factory: pytest.TempPathFactory) -> Boot:
    return boot(tmp_path_factory.mktemp("netem"), MACHINE)


def test_the_machine_came_to_its_end(booted: Boot) -> None:
    lines = booted.results.splitlines()
    assert lines[-1:] == ["done"], show(booted)
    names = [find_name(line) for line in lines if line.startswith(("ok ", "not ok "))]
    assert names == list(get_checks()), show(booted)
    print("\n".join(line for line in lines if line.startswith("measured ")))


@pytest.mark.parametrize("name", get_checks())
def test_with_netem(booted: Boot, name: str) -> None:
    said = [line for line in booted.results.splitlines() if find_name(line) == name]
    assert said and said[0].startswith("ok "), f"{said}\n{show(booted)}"
