"""The .deb on a machine that systemd runs: each check of systemd_guest.py is a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import FULL
from tests.vm.machine import Boot
from tests.vm.systemd_guest import get_checks, get_short_checks
from tests.vm.systemd_machine import boot_systemd
from tests.vm.test_cgroup_v2 import find_name, show

BOOTS = ["1", "2"] if FULL else ["1"]
CHECKS = [*get_checks("first"), *get_checks("second")] if FULL else list(get_short_checks())


@pytest.fixture(scope="module")
def booted(need_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boot]:
    directory = tmp_path_factory.mktemp("systemd")
    try:
        yield boot_systemd(directory, full=FULL)
    finally:
        for path in directory.glob("*.deb"):
            path.unlink()


def test_the_machine_came_to_its_end(booted: Boot) -> None:
    lines = booted.results.splitlines()
    assert lines[-1:] == ["done"], show(booted)
    assert [line.split()[1] for line in lines if line.startswith("boot ")] == BOOTS
    names = [find_name(line) for line in lines if line.startswith(("ok ", "not ok "))]
    assert names == CHECKS, show(booted)
    print("\n".join(line for line in lines if line.startswith("measured ")))


@pytest.mark.parametrize("name", CHECKS)
def test_under_systemd(booted: Boot, name: str) -> None:
    said = [line for line in booted.results.splitlines() if find_name(line) == name]
    assert said and said[0].startswith("ok "), f"{said}\n{show(booted)}"
