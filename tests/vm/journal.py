"""What a container with the log driver journald writes, as a real journald has it."""

from __future__ import annotations

import json
import subprocess

from tests.e2e.conftest import Docklock

LIMIT_S = 60.0  # emulated


def read_journal(name: str) -> list[dict[str, str]]:
    """The entries of a container, oldest first."""
    done = subprocess.run(
        ["journalctl", "-o", "json", "--all", "--no-pager", f"CONTAINER_NAME={name}"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def check_journal(dock: Docklock) -> None:
    """Each line is an entry, by its stream, with Docker's fields; `docklock logs` has it, too."""
    words = ("--log-driver", "journald", "--log-opt", "tag=job/{{.Name}}", "-l", "message=forged")
    script = "echo out; echo err >&2; printf %020000d 0"
    labels = ("--log-opt", "labels=message")
    dock("run", "--name", "noted", *words, *labels, "busybox", "sh", "-c", script)
    dock.wait_for(lambda: len(read_journal("noted")) == 4, LIMIT_S)
    found = {entry["MESSAGE"][:3]: entry for entry in read_journal("noted")}
    assert {found["out"]["PRIORITY"], found["err"]["PRIORITY"]} == {"6", "3"}, found
    container = dock.inspect("noted")["Id"]
    for entry in found.values():
        assert entry["CONTAINER_ID_FULL"] == container, entry
        assert entry["CONTAINER_TAG"] == entry["SYSLOG_IDENTIFIER"] == "job/noted", entry
    pieces = [one for one in read_journal("noted") if one["MESSAGE"].startswith("0")]
    assert [len(one["MESSAGE"]) for one in pieces] == [16_384, 20_000 - 16_384], pieces
    assert pieces[0]["CONTAINER_PARTIAL_MESSAGE"] == "true", pieces
    assert dock("logs", "noted").stdout == "out\n" + "0" * 20_000
    dock("rm", "noted")
