"""The spreading of tests over workers: what is named is there, and no container is made apart."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from tests.conftest import is_anothers
from tests.spread import HOST, LONG, WITHOUT_CONTAINERS, find_order, get_group

TOP = Path(__file__).parents[1]
MAKES = {"dock", "victim"}
"""Fixtures of a docklock with containers."""


def test_each_name_is_a_file_that_is_there() -> None:
    for name in (*WITHOUT_CONTAINERS, *LONG):
        assert name == HOST or (TOP / name).is_file(), name


@pytest.mark.parametrize("name", WITHOUT_CONTAINERS)
def test_a_file_apart_asks_for_no_container(name: str) -> None:
    tree = ast.parse((TOP / name).read_text())
    functions = [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]
    fixtures = [
        one
        for one in functions
        if one.name.startswith("test_") or any("fixture" in ast.dump(d) for d in one.decorator_list)
    ]
    assert fixtures
    assert not [
        (one.name, arg.arg) for one in fixtures for arg in one.args.args if arg.arg in MAKES
    ]


def test_the_host_is_one_group_and_comes_first() -> None:
    nodeids = [
        "tests/agent/test_few.py::test_one",
        "tests/agent/test_many.py::test_one",
        "tests/agent/test_many.py::test_two",
        "tests/e2e/test_chain_kills.py::test_a",
        "tests/e2e/test_run.py::test_a",
        "tests/kernel/test_mounts.py::test_a[x::y]",
        "tests/e2e/test_run.py::test_b",
        "tests/vm/test_cgroup_v2.py::test_a",
    ]
    ordered = [nodeids[index] for index in find_order(nodeids)]
    assert ordered == [nodeids[n] for n in (4, 5, 6, 7, 1, 2, 0, 3)]
    assert {get_group(one) for one in nodeids[4:7]} == {HOST}
    assert get_group(nodeids[3]) == "tests/e2e/test_chain_kills.py"


def test_what_another_worker_makes_is_no_leak_of_ours() -> None:
    run = "/tmp/pytest-of-root/pytest-7"
    pid = os.getpid() % 100_000
    assert is_anothers(f"{run}/popen-gw1/test_a0/disk", f"{run}/popen-gw0")
    assert is_anothers(f"/run/netns/dw{(pid + 1) % 100_000}-0", run)
    ours = (f"{run}/popen-gw0/test_a0", f"/run/netns/dw{pid}-3", "/run/netns/other", "/var/lib/x")
    assert not any(is_anothers(path, f"{run}/popen-gw0") for path in ours)
