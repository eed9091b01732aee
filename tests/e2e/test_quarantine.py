"""Through the command line: a quarantined container does nothing and reaches nobody, till released.

With a veth pair in its own network namespace (tests/e2e/test_usage.py); both ends are in it.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainlite.errors import StateError
from docklock import client
from docklock.kernel.links import list_links
from docklock.paths import get_paths
from tests.e2e.conftest import Docklock
from tests.e2e.test_pause import find_cgroup, is_going_on
from tests.e2e.test_watch import read_leaves
from tests.e2e.test_worker import of

SEND = (
    "ip link add v0 type veth && ip addr add 10.99.0.1/24 dev v0"
    " && ip -6 addr add fd99::1/64 dev v0 && ip link set v0 up && ip link set veth0 up"
    " && ip link add down type veth && ip route add default via 10.99.0.2 && ip route add"
    " 10.98.0.0/16 via 10.99.0.3 metric 7 && busybox arp -i v0 -s 10.99.0.2 02:00:00:00:00:02"
    " || exit 2; touch /ready; while true; do ping -c 1 -W 1 -s 100 10.99.0.2 >/dev/null; done"
)
OPTIONS = ("--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW")
CUT = {"state": "quarantined", "network": "cut"}
UP = {"state": "released", "network": "up"}


def get_state(dock: Docklock, name: str) -> dict[str, object]:
    state = dock.inspect(name)["State"]
    assert isinstance(state, dict)
    return state


def get_pid(dock: Docklock, name: str) -> int:
    return int(str(get_state(dock, name)["Pid"]))


def count_sent(pid: int) -> int:
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()
    (line,) = [line for line in lines if line.strip().startswith("v0:")]
    return int(line.split(":")[1].split()[8])


def list_up(pid: int) -> set[bytes]:
    pidfd = os.pidfd_open(pid)
    try:
        return {link.name for link in list_links(pidfd) if link.is_up}
    finally:
        os.close(pidfd)


def read_routes(pid: int) -> list[list[str]]:
    """Of IPv4, and the addresses of IPv6 that are not link-local."""
    lines = Path(f"/proc/{pid}/net/route").read_text().splitlines()[1:]
    found = sorted([*line.split()[:3], line.split()[6]] for line in lines)
    addresses = [
        line.split() for line in Path(f"/proc/{pid}/net/if_inet6").read_text().splitlines()
    ]
    return found + sorted(words[:1] for words in addresses if words[0].startswith("fd99"))


@pytest.fixture
def sending(dock: Docklock) -> Iterator[int]:
    """The pid of a container `loud` that sends without an end."""
    dock("run", "-d", "--name", "loud", *OPTIONS, "busybox", "sh", "-c", SEND)
    pid = get_pid(dock, "loud")
    dock.wait_for(Path(f"/proc/{pid}/root/ready").exists)
    before = count_sent(pid)
    dock.wait_for(lambda: count_sent(pid) > before + 100)
    yield pid
    dock("rm", "-f", "loud")


def test_it_sends_no_more_until_it_is_released(dock: Docklock, sending: int) -> None:
    own = os.readlink("/proc/self/ns/net")
    guard = dock.supervisor_pid("loud")
    routes, cgroup = read_routes(sending), find_cgroup(dock, "loud")
    assert len(routes) == 4
    assert list_up(sending) == {b"lo", b"v0", b"veth0"}
    assert dock("quarantine", "loud").stdout == "loud\n"
    assert list_up(sending) == {b"lo"}
    assert os.readlink(f"/proc/{guard}/ns/net") == own  # it has come back
    sent = count_sent(sending)
    assert not is_going_on(cgroup)
    assert count_sent(sending) == sent
    state = get_state(dock, "loud")
    assert (state["Status"], state["Paused"], state["Running"]) == ("quarantined", True, True)
    (row,) = [json.loads(line) for line in dock("ps", "--format", "json").stdout.splitlines()]
    assert row["State"] == "quarantined"
    assert row["Status"].endswith(" (Quarantined)")
    assert dock("quarantine", "--release", "loud").stdout == "loud\n"
    assert list_up(sending) == {b"lo", b"v0", b"veth0"}
    assert read_routes(sending) == routes
    dock.wait_for(lambda: count_sent(sending) > sent + 1000)
    assert get_state(dock, "loud")["Status"] == "running"
    assert read_leaves(dock, "loud", "quarantine") == [CUT, UP]
    assert [one["labels"] for one in of(dock, "loud", "runtime.quarantine")] == [CUT, UP]
    assert of(dock, "loud", "runtime.warning") == []
    lines = dock("events", "--since", "1h", "--until", "0s", "--format", "json").stdout.splitlines()
    actions = [json.loads(line)["Action"] for line in lines]
    assert actions[-2:] == ["quarantine", "release"]
    dock("verify", "loud")


def test_nothing_else_lets_it_go_on_or_joins_it(dock: Docklock, sending: int) -> None:
    dock("pause", "loud")  # it stays paused after the release
    dock("quarantine", "loud")
    container_id = str(dock.inspect("loud")["Id"])
    refused = {
        ("unpause", "loud"): "docklock quarantine --release lets it go on",
        ("pause", "loud"): "docklock quarantine --release lets it go on",
        ("quarantine", "loud"): f"Container {container_id} is already quarantined",
        ("exec", "loud", "true"): "is quarantined, release the container before exec",
        ("attach", "loud"): "You cannot attach to a quarantined container, release it first",
        ("start", "loud"): "cannot start a quarantined container, try quarantine --release instead",
        ("rm", "loud"): "container loud is quarantined: stop it first, or use rm -f",
    }
    for words, text in refused.items():
        result = dock(*words, code=125 if words[0] in ("exec", "start") else 1)
        assert result.stderr.endswith(f"{text}\n"), result.stderr
    with client.connect(get_paths(str(dock.root)), container_id) as channel:
        for verb, why in (("unpause", "--release lets it go on"), ("quarantine", "already")):
            with pytest.raises(StateError, match=why):
                client.request(channel, {"verb": verb})
    os.kill(dock.worker_pid("loud"), signal.SIGKILL)  # the guard has another
    dock("kill", "-s", "TERM", "loud")  # which a program could ignore: it would go on
    assert get_state(dock, "loud")["Status"] == "quarantined"
    assert list_up(sending) == {b"lo"}
    dock("quarantine", "--release", "loud")
    assert get_state(dock, "loud")["Status"] == "paused"


@pytest.mark.parametrize("words", [("stop",), ("kill",), ("rm", "-f"), ("restart",)])
def test_what_ends_it_ends_it_as_it_stands(dock: Docklock, words: tuple[str, ...]) -> None:
    """Its program would write on TERM; a user's start, and nothing else, begins it anew."""
    script = "trap 'echo ran > /ran; exit 9' TERM; touch /ready; while true; do sleep 0.05; done"
    dock("run", "-d", "--name", "end", "--restart", "always", "busybox", "sh", "-c", script)
    pid = get_pid(dock, "end")
    dock.wait_for(Path(f"/proc/{pid}/root/ready").exists)
    dock("quarantine", "end")
    dock(*words, "end")
    if words[0] == "rm":
        assert not Path(f"/proc/{pid}").exists()
        return
    if words[0] == "restart":
        assert get_state(dock, "end")["Status"] == "running"
    else:
        dock("wait", "end")
        state = get_state(dock, "end")
        assert (state["Status"], state["ExitCode"], state["Paused"]) == ("exited", 137, False)
        dock("start", "end")
        assert get_state(dock, "end")["Status"] == "running"
    dock("exec", "end", "test", "!", "-e", "/ran")
    assert dock.inspect("end")["RestartCount"] == 0
    dock("verify", "end")
    dock("rm", "-f", "end")


def test_no_restart_policy_starts_what_lost_its_guard_in_quarantine(dock: Docklock) -> None:
    dock("run", "-d", "--name", "cut", "--restart", "always", "busybox", "sleep", "60")
    dock("quarantine", "cut")
    os.kill(dock.supervisor_pid("cut"), signal.SIGKILL)
    dock.wait_for(lambda: get_state(dock, "cut")["Status"] == "exited")
    dock("mend")
    assert get_state(dock, "cut")["Status"] == "exited"
    dock("start", "cut")
    dock("quarantine", "cut")
    dock("quarantine", "--release", "cut")
    os.kill(dock.supervisor_pid("cut"), signal.SIGKILL)  # released, it is as any other
    dock.wait_for(
        lambda: dock("mend").returncode == 0 and get_state(dock, "cut")["Status"] != "exited"
    )
    dock("rm", "-f", "cut")


def test_of_a_shared_network_the_sockets_stay_open_and_it_is_said(dock: Docklock) -> None:
    dock(
        "run",
        "-d",
        "--name",
        "host",
        "--network",
        "host",
        "busybox",
        "sh",
        "-c",
        "while :; do :; done",
    )
    before = list_up(os.getpid())
    result = dock("quarantine", "host")
    assert "its sockets stay open" in result.stderr
    assert list_up(os.getpid()) == before
    assert not is_going_on(find_cgroup(dock, "host"))
    assert get_state(dock, "host")["Status"] == "quarantined"
    assert "stay open" not in dock("quarantine", "--release", "host").stderr
    assert is_going_on(find_cgroup(dock, "host"))
    labels = [{**CUT, "network": "open"}, {**UP, "network": "open"}]
    assert read_leaves(dock, "host", "quarantine") == labels
    dock("rm", "-f", "host")


def test_what_does_not_run_cannot_be_quarantined(dock: Docklock) -> None:
    dock("create", "--name", "still", "busybox", "true")
    for words in (("still",), ("--release", "still")):
        assert "is not running" in dock("quarantine", *words, code=1).stderr
    assert "No such container" in dock("quarantine", "nobody", code=1).stderr
    assert read_leaves(dock, "still", "quarantine") == []
    dock("rm", "still")


def test_health_checks_wait_until_it_is_released(dock: Docklock) -> None:
    check = ("--health-cmd", "echo x >> /checked", "--health-interval", "100ms")
    dock("run", "-d", "--name", "sick", *check, "busybox", "sleep", "60")
    checked = Path(f"/proc/{get_pid(dock, 'sick')}/root/checked")
    dock.wait_for(checked.exists)
    dock("quarantine", "sick")
    seen = of(dock, "sick", "runtime.exec")
    size = checked.stat().st_size
    is_going_on(find_cgroup(dock, "sick"))  # it takes two intervals
    assert checked.stat().st_size == size
    assert len(of(dock, "sick", "runtime.exec")) == len(seen)
    dock("quarantine", "--release", "sick")
    dock.wait_for(lambda: checked.stat().st_size > size)
    dock("rm", "-f", "sick")
