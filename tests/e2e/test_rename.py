"""A renamed container is found by its new name alone, whatever it does meanwhile."""

from __future__ import annotations

import json
import os

from tests.e2e.conftest import Docklock


def test_a_container_is_renamed_at_rest_and_running(dock: Docklock) -> None:
    dock("create", "--name", "one", "busybox", "true")
    dock("run", "-d", "--name", "two", "busybox", "sleep", "60")
    two = str(dock.inspect("two")["Id"])
    assert dock("rename", "one", "uno").stdout == ""
    dock("container", "rename", "two", "dos")
    assert dock.inspect("uno")["Name"] == "/uno"
    assert dock.inspect("dos")["Id"] == two
    for old in ("one", "two"):
        assert "No such" in dock("inspect", old, code=1).stderr
    dock("create", "--name", "two", "busybox", "true")  # the name is free
    assert "in use by container" in dock("rename", "dos", "two", code=1).stderr
    assert "same name" in dock("rename", "dos", "dos", code=1).stderr
    assert "container name" in dock("rename", "dos", "a/b", code=2).stderr
    assert "No such container" in dock("rename", "nobody", "x", code=1).stderr
    assert dock.inspect("dos")["Id"] == two
    assert sorted(os.listdir(dock.root / "names")) == ["dos", "two", "uno"]
    leaves = dock("receipts", "--host", "--json", "--op", "rename").stdout.splitlines()
    assert json.loads(leaves[1])["labels"] == {"name": "dos", "old_name": "two"}
    dock("rm", "-f", "dos", "two", "uno")
    assert os.listdir(dock.root / "names") == []


def test_a_container_that_is_removed_at_its_end_leaves_no_name(dock: Docklock) -> None:
    dock("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "60")
    dock("rename", "brief", "short")
    dock("stop", "-t", "0", "short")
    dock.wait_for(lambda: not os.listdir(dock.root / "names"))


def test_a_rename_that_was_killed_halfway_can_be_asked_again(dock: Docklock) -> None:
    dock("create", "--name", "half", "busybox", "true")
    os.symlink(str(dock.inspect("half")["Id"]), dock.root / "names" / "whole")
    dock("rename", "half", "whole")
    assert os.listdir(dock.root / "names") == ["whole"]
    dock("rm", "whole")


def test_prune_of_one_kind_leaves_the_other(dock: Docklock) -> None:
    dock("tag", "busybox", "spare")
    dock("create", "--name", "idle", "busybox", "true")
    idle = str(dock.inspect("idle")["Id"])
    assert "[y/N]" in dock("container", "prune", stdin="n\n").stdout
    assert "Total reclaimed space: 0B" in dock("image", "prune", "-f").stdout
    said = dock("container", "prune", stdin="y\n").stdout
    assert f"Deleted Containers:\n{idle}\n\nTotal reclaimed space: " in said
    assert dock("image", "ls", "-q").stdout
    dock("rmi", "spare")
