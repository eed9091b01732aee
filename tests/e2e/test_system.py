"""docklock system, check and info: what is here, what takes space, what is in order."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.e2e.agents import Agent
from tests.e2e.conftest import Docklock
from tests.e2e.test_crash import is_running

FILE_BYTES = 3_000_000


def df(dock: Docklock) -> dict[str, dict[str, int]]:
    rows = [
        json.loads(line) for line in dock("system", "df", "--format", "json").stdout.splitlines()
    ]
    numbers = {"SizeBytes": "size", "ReclaimableBytes": "reclaimable", "TotalCount": "total"}
    names = numbers | {"Active": "active"}
    return {row["Type"]: {names[key]: int(row[key]) for key in names} for row in rows}


def test_df_counts_what_containers_wrote_and_prune_frees_it(
    dock: Docklock, busybox_tree: Path
) -> None:
    before = df(dock)
    words = f"dd if=/dev/zero of=/x bs={FILE_BYTES} count=1 2>/dev/null; sync"
    dock("run", "--name", "fat", "busybox", "sh", "-c", words)
    dock("run", "-d", "--name", "up", "busybox", "sleep", "60")
    after = df(dock)
    grown = after["Containers"]["size"] - before["Containers"]["size"]
    assert FILE_BYTES <= grown < 2 * FILE_BYTES
    assert FILE_BYTES <= after["Containers"]["reclaimable"] < 2 * FILE_BYTES
    assert (after["Containers"]["total"], after["Containers"]["active"]) == (2, 1)
    assert (after["Images"]["total"], after["Images"]["reclaimable"]) == (1, 0)
    assert after["Evidence"]["reclaimable"] == 0
    assert "RECLAIMABLE" in dock("system", "df").stdout
    assert "[y/N]" in dock("system", "prune", stdin="n\n").stdout
    assert df(dock)["Containers"]["total"] == 2
    fat = str(dock.inspect("fat")["Id"])
    said = dock("system", "prune", stdin="y\n").stdout
    assert fat in said
    assert "Total reclaimed space: 3" in said
    assert dock("ps", "-q").stdout
    assert dock("images", "-q").stdout
    dock("verify", fat)  # its evidence stays
    dock("rm", "-f", "up")


def test_prune_all_removes_unused_images_and_leaves_used_ones(
    dock: Docklock, busybox_tree: Path
) -> None:
    dock("import", str(busybox_tree), "unused")
    dock("run", "-d", "--name", "user", "busybox", "sleep", "60")
    dock("system", "prune", "-f")
    assert "unused" in dock("images").stdout
    assert "Untagged: unused" in dock("system", "prune", "-af").stdout
    assert "unused" not in dock("images").stdout
    assert "busybox" in dock("images").stdout
    dock("rm", "-f", "user")


def test_check_says_what_is_out_of_order(dock: Docklock) -> None:
    dock("run", "-d", "--name", "bad", "busybox", "sleep", "60")
    assert "runs: OK" in dock("check", code=None).stdout
    init = int(dock.inspect("bad")["State"]["Pid"])  # type: ignore[index]
    os.kill(dock.supervisor_pid("bad"), signal.SIGKILL)
    dock.wait_for(lambda: not is_running(init))
    dock.wait_for(lambda: "1 lost their supervisor: docklock mend" in dock("check", code=1).stdout)
    dock("mend")
    record = dock.root / "containers" / str(dock.inspect("bad")["Id"]) / "state.json"
    text = record.read_text()
    record.write_text(text[:-5])
    lines = [
        json.loads(line) for line in dock("check", "--format", "json", code=1).stdout.splitlines()
    ]
    problems = {line["name"]: line["problem"] for line in lines if line["problem"]}
    assert "damaged" in problems["containers"]
    record.write_text(text)
    assert "containers: OK" in dock("check", code=None).stdout
    dock("rm", "bad")


def test_info_names_the_agent(dock: Docklock) -> None:
    assert "agent: none" in dock("info").stdout
    with Agent(dock) as agent:
        assert f"agent: process {agent.process.pid}" in dock("info").stdout
    assert json.loads(dock("info", "--format", "json").stdout)["images"] == 1


def test_prune_takes_what_fits_its_filters(dock: Docklock) -> None:
    for name, label in (("keep", "tier=front"), ("drop", "tier=back")):
        dock("run", "--name", name, "-l", label, "busybox", "true")
    kept, dropped = (str(dock.inspect(name)["Id"]) for name in ("keep", "drop"))
    question = dock("container", "prune", "--filter", "label=tier=back", stdin="n\n").stdout
    assert "filtered with:\n  - label=tier=back\n" in question
    assert dropped not in dock("container", "prune", "-f", "--filter", "until=1h").stdout
    said = dock("container", "prune", "-f", "--filter", "label!=tier=front").stdout
    assert dropped in said
    assert kept not in said
    assert "No such" in dock("inspect", "drop", code=1).stderr
    dock("system", "prune", "-f", "--filter", "label=tier=front", "--filter", "until=-1h")
    assert "No such" in dock("inspect", "keep", code=1).stderr


def test_df_shows_each_container_and_its_evidence(dock: Docklock) -> None:
    dock("run", "--name", "shown", "busybox", "sh", "-c", f"head -c {FILE_BYTES} /dev/zero > /x")
    found = json.loads(dock("system", "df", "-v", "--format", "json").stdout)
    (row,) = [one for one in found["Containers"] if one["Names"] == "shown"]
    assert row["Size"].startswith("3")
    assert row["Status"].startswith("Exited (0)")
    assert row["ID"] in {one["Container"] for one in found["Evidence"]}
    (image,) = [one for one in found["Images"] if one["Repository"] == "busybox"]
    assert int(image["Containers"]) >= 1
    assert "Evidence space usage:" in dock("system", "df", "-v").stdout
    dock("rm", "shown")
