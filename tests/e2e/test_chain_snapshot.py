"""Through the command line: a node that begins with the state of its peers, killed or not."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.e2e.chains import DevnetProcess, NodeProcess, write_registration
from tests.e2e.conftest import Docklock
from tests.e2e.test_chain import QUICK, make_key

HOSTS = 12


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Docklock:
    return Docklock(tmp_path_factory.mktemp("docklock"))


@pytest.fixture(scope="module")
def devnet(host: Docklock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevnetProcess]:
    """A chain with some hosts and some blocks."""
    with DevnetProcess(host, tmp_path_factory.mktemp("chain") / "net", *QUICK) as made:
        chain_id = made.ask("v1", "status")["chain_id"]
        for number in range(HOSTS):
            path = made.top.parent / f"tx-{number}"
            write_registration(path, make_key(f"host {number}"), chain_id)
            made.chain("v1", "tx", "submit", str(path), "--no-wait")
        made.wait_height("v1", 8)
        yield made


def make_node(devnet: DevnetProcess, path: Path, *options: str) -> str:
    """A fifth node's directory."""
    settings = Path(devnet.directory("v1"), "node.toml").read_text()
    introducer = re.search('introduce = "(.*)"', settings)[1]  # type: ignore[index]
    genesis = f"{devnet.directory('v1')}/genesis.toml"
    words = ("--genesis", genesis, "--introducers", introducer, "--operator", "five", *options)
    devnet.dock("chain", "init", "--dir", str(path), *words)
    return str(path)


def check_follows(devnet: DevnetProcess, node: NodeProcess) -> int:
    """It has a snapshot's block first, and later blocks as the others have; the first one."""
    dock = devnet.dock
    dock.wait_for(lambda: node.show().get("running"), 40)
    first = int(node.show()["first_block"])
    height = devnet.height("v1") + 3
    dock.wait_for(lambda: node.show()["height"] >= height, 30)
    devnet.wait_height("v4", height)
    words = ("blocks", str(height), "--format", "json")
    mine = json.loads(dock("chain", *words, "--dir", node.directory).stdout)
    theirs = [devnet.ask(name, "blocks", str(height)) for name in ("v1", "v4")]
    assert [one["state_root"] for one in theirs] == [mine["state_root"]] * 2
    assert mine["hash"] == theirs[0]["hash"]
    return first


def test_a_node_begins_with_a_snapshot_follows_and_says_what_it_lacks(
    devnet: DevnetProcess, host: Docklock, tmp_path: Path
) -> None:
    directory = make_node(devnet, tmp_path / "v5")
    with NodeProcess(host, directory, "--snapshot") as node:
        first = check_follows(devnet, node)
        assert first >= 8
        lines = {
            "blocks 3": f"block 3 is not here: this store begins with a snapshot, at block {first}",
            "validators 3": "block 2 is not here",
            f"tx {'00' * 32}": f"this store begins with a snapshot, at block {first}",
        }
        for words, why in lines.items():
            done = host("chain", *words.split(), "--dir", directory, code=1)
            assert why in done.stderr, done.stderr
        listed = host("chain", "blocks", "--last", "999", "--dir", directory, "--format", "json")
        assert json.loads(listed.stdout)[-1]["height"] == first
        status = host("chain", "status", "--dir", directory).stdout
        assert f"first block: {first}: it began with a snapshot" in status
    assert f"begins with the state of block {first}" in node.said
    assert sorted(os.listdir(directory)).count("chain.db.part") == 0
    done = host("chain", "blocks", "3", "--dir", directory, code=1)
    assert "this store begins with a snapshot" in done.stderr
    with NodeProcess(host, directory, "--snapshot") as node:
        assert check_follows(devnet, node) == first
    assert "goes on by blocks; to begin with a snapshot, move" in node.said
    for name in ("v1", "v2", "v3", "v4"):
        peers = devnet.ask(name, "status")["peers"]
        told = [one["last_misdeed"] for one in peers if one["misdeeds"]]
        assert all(why.startswith("TLS") for why in told), told  # who was not known yet


def test_a_node_killed_while_it_joins_joins_again(
    devnet: DevnetProcess, host: Docklock, tmp_path: Path, full: bool, seed: int
) -> None:
    directory = make_node(devnet, tmp_path / "v6", "--begin", "snapshot")
    rng = Random(seed)
    for _ in range(20 if full else 4):
        process = host.start("chain", "start", "--dir", directory)
        time.sleep(rng.uniform(0.3, 3.0))
        process.kill()
        process.communicate()
        names = [name for name in os.listdir(directory) if name.startswith("chain.db")]
        assert "chain.db" in names or names == [], names
    with NodeProcess(host, directory) as node:
        assert check_follows(devnet, node) >= 8
    assert [name for name in os.listdir(directory) if name.startswith("chain.db")] == ["chain.db"]


def test_a_node_that_is_told_to_end_while_it_joins_ends(
    devnet: DevnetProcess, host: Docklock, tmp_path: Path
) -> None:
    """Nobody is there to answer it; and without a peer it goes on with blocks after a while."""
    directory = make_node(devnet, tmp_path / "v7")
    settings = Path(directory, "node.toml")
    settings.write_text("".join(
        line for line in settings.read_text().splitlines(True) if "introducers" not in line
    ))  # fmt: skip
    with NodeProcess(host, directory, "--snapshot"):
        host.wait_for(Path(directory, "chain.db").exists, 20)
        shown = host("chain", "status", "--dir", directory, code=1)
        assert "begins or ends" in shown.stderr
    wrong = {
        ("--snapshot", "--witness-key", "x"): "are of which --header-checkpoint?",
        ("--snapshot", "--header-checkpoint", "/none"): "/none: cannot read it",
    }
    for options, why in wrong.items():
        assert why in host("chain", "start", "--dir", directory, *options, code=2).stderr


def test_a_validator_that_lost_its_store_and_not_its_votes_votes_for_nothing_twice(
    devnet: DevnetProcess, host: Docklock
) -> None:
    directory = devnet.directory("v2")
    os.kill(int(devnet.ask("v2", "status")["pid"]), signal.SIGTERM)
    host.wait_for(lambda: "v2 was ended" in devnet.said(), 20)
    votes = Path(directory, "votes").read_bytes()
    for path in Path(directory).glob("chain.db*"):
        path.unlink()
    process = host.start("chain", "start", "--dir", directory, "--snapshot", "--follow")
    host.wait_for(lambda: '"running":true' in show(devnet, "v2"), 40)
    assert Path(directory, "votes").read_bytes() == votes
    process.terminate()
    process.communicate(timeout=20)
    with NodeProcess(host, directory) as node:
        assert check_follows(devnet, node) >= 8
        node.wait_votes()
        devnet.wait_height("v1", devnet.height("v1") + 5)
        for name in ("v1", "v3", "v4"):
            assert devnet.ask(name, "status")["accused"] == []


def show(devnet: DevnetProcess, name: str) -> str:
    return devnet.chain(name, "status", "--format", "json", code=None).stdout
