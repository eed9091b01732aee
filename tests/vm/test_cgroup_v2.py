"""docklock on a pure cgroup v2 host, in a virtual machine: each check of guest.py is a test."""

from __future__ import annotations

import pytest

from tests.vm.guest import get_checks
from tests.vm.machine import Boot, boot

SHOWN_CHARS = 6000


@pytest.fixture(scope="module")
def booted(need_root: None, tmp_path_factory: pytest.TempPathFactory) -> Boot:
    return boot(tmp_path_factory.mktemp("machine"))


def test_the_machine_came_to_its_end(booted: Boot) -> None:
    """Every check was made, and none that this host does not know of."""
    lines = booted.results.splitlines()
    assert lines[-1:] == ["done"], show(booted)
    names = [find_name(line) for line in lines[:-1] if line.startswith(("ok ", "not ok "))]
    assert names == list(get_checks()), show(booted)


@pytest.mark.parametrize("name", get_checks())
def test_on_pure_v2(booted: Boot, name: str) -> None:
    said = [line for line in booted.results.splitlines() if find_name(line) == name]
    assert said and said[0].startswith("ok "), f"{said}\n{show(booted)}"


def find_name(line: str) -> str:
    return line.removeprefix("not ").removeprefix("ok ").partition(" ")[0].rstrip(":")


def show(booted: Boot) -> str:
    return f"{booted.results[-SHOWN_CHARS:]}\n--- console\n{booted.console[-SHOWN_CHARS:]}"
