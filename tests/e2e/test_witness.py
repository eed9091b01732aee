"""Through the command line and the agent: the log is cosigned after starts, and forks are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from docklock.evidence.tiles import publish, read_log_keys
from docklock.paths import get_paths
from tests.chainlite.trees import make_tree
from tests.e2e.agents import Agent
from tests.e2e.conftest import Docklock
from tests.witness.witnesses import Running, make_policy, write_policy


@pytest.fixture
def running(dock: Docklock, tmp_path: Path) -> Iterator[list[Running]]:
    """Two witnesses of this host's log."""
    paths = get_paths(str(dock.root))
    dock("run", "--rm", "busybox", "true")
    publish(paths)
    made = [Running(tmp_path, f"w{number}.example") for number in (1, 2)]
    for one in made:
        one.configure([(read_log_keys(paths), "")], made)
        one.start(wait=False)
    yield made
    for one in made:
        one.stop()


def test_an_agent_has_the_log_cosigned_after_starts_and_tells_of_forks(
    dock: Docklock, running: list[Running], tmp_path: Path
) -> None:
    policy = write_policy(tmp_path / "witnesses.toml", make_policy(running, need=2))
    config = tmp_path / "agent.toml"
    config.write_text(f'witnesses = "{policy}"\nwitness-seconds = 3600\n')
    with Agent(dock, "--config", str(config)) as agent:
        dock.wait_for(lambda: "docklock_witness_policy_met 1" in agent.ask("/metrics"))
        size = json.loads(dock("verify", "--json", "--witness-policy", str(policy)).stdout)
        before = size["log"]["size"]
        dock("run", "-d", "--name", "seen", "busybox", "sleep", "60")
        held = ("verify", "seen", "--json", "--witness-policy", str(policy))
        dock.wait_for(
            lambda: (json.loads(dock(*held).stdout)["anchored_to"] or {"size": 0})["size"] > before
        )
        shown = json.loads(dock(*held).stdout)
        assert shown["policy"]["operators"] == ["operator-w1.example", "operator-w2.example"]
        dock("rm", "-f", "seen")
        assert "docklock_forks 0" in agent.ask("/metrics")
        make_fork(dock)
        dock.wait_for(lambda: "docklock_forks 1" in agent.ask("/metrics"))
        assert '"Action": "fork"' in dock(
            "events", "--since", "1h", "--until", "0s", "--format", "json"
        ).stdout  # fmt: skip


def make_fork(dock: Docklock) -> None:
    """As a witness on this host keeps one that it finds of another host's log."""
    from chainlite import fork
    from docklock.witness.forks import keep_fork

    tree = make_tree()
    found = fork.make_fork((tree.key.public,), (tree.note(7), tree.fork(5).note(7)))
    assert found is not None
    assert keep_fork(get_paths(str(dock.root)), found)
    assert keep_fork(get_paths(str(dock.root)), found) == ""


def test_a_witness_prints_its_keys_and_says_what_is_wrong(dock: Docklock) -> None:
    keys = dock("witness", "key", "--name", "w.example").stdout.splitlines()
    assert [line.partition("+")[0] for line in keys] == ["w.example", "w.example"]
    assert dock("witness", "key").stdout.splitlines() == keys
    for words, said in (
        (("witness",), "no verb; verbs are key, serve, ask"),
        (("witness", "serve"), "name a log with --log"),
        (("witness", "serve", "--log", keys[0]), "a witness's key, not a log's"),
        (("witness", "serve", "--listen", "x"), "--listen x: want ADDRESS:PORT"),
        (("witness", "ask", "--config", "/nowhere"), "/nowhere: cannot read it"),
    ):
        assert said in dock(*words, code=2).stderr, words
