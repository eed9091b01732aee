"""Through the command line: a chain of real processes, made, asked, voted on, hurt and ended."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainlite import keys
from tests.e2e.agents import Agent
from tests.e2e.chains import DevnetProcess, NodeProcess, write_registration
from tests.e2e.conftest import Docklock

QUICK = ("--set", "block_interval_ms=200")
HALT_TRIES = 4
HALT_S = 15.0


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Docklock:
    """A docklock without containers: a chain needs neither root nor an image."""
    return Docklock(tmp_path_factory.mktemp("docklock"))


@pytest.fixture(scope="module")
def devnet(host: Docklock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevnetProcess]:
    with DevnetProcess(host, tmp_path_factory.mktemp("chain") / "net", *QUICK) as made:
        yield made
        top = made.top
    assert not top.exists(), "a devnet leaves nothing behind"
    assert made.pids() == []


def make_key(name: str) -> keys.KeyPair:
    return keys.make_key_pair(hashlib.sha256(name.encode()).digest())


def test_the_height_rises_at_every_validator_and_all_have_one_chain(devnet: DevnetProcess) -> None:
    before = devnet.height("v1")
    devnet.wait_height("v1", before + 3)
    devnet.wait_height("v4", before + 3)
    status = devnet.ask("v1", "status")
    assert status["validators"] == {"n": 4, "f": 1, "quorum": 3}
    assert (status["running"], status["role"], status["votes"]) == (True, "validator", True)
    assert (status["peers_up"], status["halted"], status["waits_for"]) == (3, "", "")
    assert status["finality_ms"]["p50"] > 0
    hashes = {devnet.ask(name, "blocks", "3")["hash"] for name in ("v1", "v2", "v3", "v4")}
    assert len(hashes) == 1
    shown = devnet.chain("v1", "status").stdout
    assert "validators: 4, 4 up; quorum 3, 1 may fail" in shown


def test_a_transaction_is_in_a_block_and_found_at_another_node(
    devnet: DevnetProcess, tmp_path: Path
) -> None:
    chain_id = devnet.ask("v1", "status")["chain_id"]
    digest = write_registration(tmp_path / "tx", make_key("first"), chain_id)
    told = devnet.ask("v1", "tx", "submit", str(tmp_path / "tx"))
    assert (told["hash"], told["verdict"]) == (digest, "taken")
    devnet.wait_height("v3", told["height"])
    found = devnet.ask("v3", "tx", digest)
    assert (found["height"], found["block"]) == (told["height"], told["block"])
    assert found["operations"] == [
        {"kind": "register", "operator": "tester", "certificate": "00" * 32}
    ]
    block = devnet.ask("v3", "blocks", str(told["height"]))
    assert [one["hash"] for one in block["list"]] == [digest]
    again = devnet.chain("v1", "tx", "submit", str(tmp_path / "tx"), code=1)
    assert "nonce 0 was used" in again.stderr


def test_a_killed_validator_comes_back_and_the_others_go_on(devnet: DevnetProcess) -> None:
    pid = int(devnet.ask("v2", "status")["pid"])
    os.kill(pid, signal.SIGKILL)
    before = devnet.height("v1")
    devnet.wait_height("v1", before + 3)
    devnet.dock.wait_for(lambda: get_pid(devnet, "v2") not in (0, pid), 20)
    devnet.wait_height("v2", before + 3)
    devnet.dock.wait_for(lambda: devnet.ask("v2", "status")["votes"], 20)
    assert "v2 ended by signal 9" in devnet.said()
    assert devnet.ask("v1", "status")["accused"] == []


def get_pid(devnet: DevnetProcess, name: str) -> int:
    """The process of a validator that runs; 0 if none answers."""
    done = devnet.chain(name, "status", "--format", "json", code=None)
    return int(json.loads(done.stdout).get("pid", 0)) if done.stdout else 0


def test_validators_vote_a_node_in_and_it_votes_then(
    devnet: DevnetProcess, host: Docklock, tmp_path: Path
) -> None:
    entry, genesis = tmp_path / "entry.toml", f"{devnet.directory('v1')}/genesis.toml"
    joining = tmp_path / "v5"
    words = ("--dir", str(joining), "--listen", f"127.0.0.1:{find_port()}", "--operator", "five")
    entry.write_text(host("chain", "init", *words).stdout)
    made = json.loads(
        host(
            "chain", "init", "--dir", str(joining), "--genesis", genesis, "--format", "json"
        ).stdout
    )  # fmt: skip
    assert made["role"] == "follower"
    for name in ("v1", "v2", "v3"):
        devnet.chain(name, "validators", "add", str(entry), "--no-wait")
    devnet.dock.wait_for(lambda: devnet.ask("v1", "validators")["n"] == 5, 20)
    with NodeProcess(host, str(joining)) as node:
        node.wait_votes()
        with_it = int(devnet.ask("v1", "status")["height"])
        joined = {
            one["operator"]: one["since"] for one in devnet.ask("v1", "validators")["validators"]
        }
        assert 0 < joined.pop("five") <= with_it + 1 and set(joined.values()) == {0}
        devnet.dock.wait_for(lambda: node.show()["height"] > with_it, 20)
        for name in ("v1", "v2", "v3", "v4"):
            devnet.chain(name, "validators", "remove", made["node"][:8], "--no-wait")
        devnet.dock.wait_for(lambda: devnet.ask("v1", "validators")["n"] == 4, 20)
    before = devnet.height("v1")
    devnet.wait_height("v1", before + 2)
    sizes = [devnet.ask("v1", "validators", str(at))["n"] for at in (1, with_it, before + 1)]
    assert sizes == [4, 5, 4]


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_what_is_on_disk_is_read_without_a_node(host: Docklock, tmp_path: Path) -> None:
    with DevnetProcess(host, tmp_path / "net", "--keep", *QUICK) as net:
        chain_id = net.ask("v1", "status")["chain_id"]
        digest = write_registration(tmp_path / "tx", make_key("offline"), chain_id)
        height = net.ask("v1", "tx", "submit", str(tmp_path / "tx"))["height"]
        net.wait_height("v1", height + 2)
        assert net.stop(signal.SIGTERM) == 0
        assert net.top.exists()
        done = net.chain("v1", "status", "--format", "json", code=1)
        status = json.loads(done.stdout)
        assert not status["running"] and status["height"] >= height + 2
        assert "no node runs: docklock chain start --dir" in done.stderr
        assert [one["height"] for one in net.ask("v1", "blocks", "--last", "2")] == [
            status["height"], status["height"] - 1,
        ]  # fmt: skip
        assert net.ask("v1", "tx", digest)["height"] == height
        assert net.ask("v1", "validators")["n"] == 4
        assert "HEIGHT" in net.chain("v1", "blocks").stdout
        refused = net.chain("v1", "tx", "submit", str(tmp_path / "tx"), code=1)
        assert "no node runs on" in refused.stderr
        net.start()
        assert net.height("v1") >= status["height"]


def test_a_killed_devnet_leaves_no_validator_running(host: Docklock, tmp_path: Path) -> None:
    with DevnetProcess(host, tmp_path / "net") as net:
        pids = net.pids()
        assert len(pids) == 4
        net.stop(signal.SIGKILL)
        host.wait_for(lambda: net.pids() == [], 20)


def test_a_damaged_store_is_refused_with_its_place_and_repaired_from_peers(
    host: Docklock, tmp_path: Path
) -> None:
    with DevnetProcess(host, tmp_path / "net", *QUICK) as net:
        net.wait_height("v1", 12)
        start = ("start", "--dir", net.directory("v2"))
        os.kill(int(net.ask("v2", "status")["pid"]), signal.SIGTERM)
        host.wait_for(lambda: "v2 was ended" in net.said(), 20)
        with sqlite3.connect(f"{net.directory('v2')}/chain.db") as db:
            db.execute("UPDATE blocks SET block = zeroblob(length(block)) WHERE height = 7")
        db.close()
        refused = host("chain", *start, code=3)
        assert "table blocks, height 7" in refused.stderr
        assert "docklock chain start --repair" in refused.stderr
        height = net.height("v1")
        with NodeProcess(host, net.directory("v2"), "--repair") as node:
            node.wait_votes()
            net.wait_height("v2", height)
        assert "kept the blocks to 6; the rest comes from the peers" in node.said
        assert net.ask("v1", "status")["accused"] == []


def test_a_validator_whose_disk_was_put_back_votes_for_nothing_twice(
    host: Docklock, tmp_path: Path
) -> None:
    with DevnetProcess(host, tmp_path / "net", *QUICK) as net:
        directory, backup = net.directory("v2"), tmp_path / "backup"
        os.kill(int(net.ask("v2", "status")["pid"]), signal.SIGTERM)
        host.wait_for(lambda: "v2 was ended" in net.said(), 20)
        shutil.copytree(directory, backup)
        with NodeProcess(host, directory) as node:
            node.wait_votes()
            net.wait_height("v2", net.height("v1") + 5)
        shutil.rmtree(directory)
        shutil.copytree(backup, directory)
        with NodeProcess(host, directory) as node:
            node.wait_votes()
            net.wait_height("v2", net.height("v1") + 5)
        assert [net.ask(name, "status")["accused"] for name in ("v1", "v3", "v4")] == [[], [], []]
        assert net.ask("v1", "validators")["n"] == 4


def test_a_validator_alone_says_nothing_before_a_quorum_has_told_its_height(
    host: Docklock, tmp_path: Path
) -> None:
    with DevnetProcess(host, tmp_path / "net", "--keep", *QUICK) as net:
        assert net.stop() == 0
    votes = Path(net.directory("v2"), "votes")
    before = votes.read_bytes()
    with NodeProcess(host, net.directory("v2")) as second:
        host.wait_for(lambda: second.show().get("running"), 20)
        assert second.show()["why_no_votes"] == "2 more validators must be up to make a quorum of 3"
        with NodeProcess(host, net.directory("v1")) as first:
            host.wait_for(lambda: second.show()["peers_up"], 20)
            assert not second.show()["votes"] and votes.read_bytes() == before
            with NodeProcess(host, net.directory("v3")) as third:
                for node in (first, second, third):
                    node.wait_votes()
                height = first.show()["height"]
                host.wait_for(lambda: second.show()["height"] > height + 2, 20)
    assert votes.read_bytes() != before


def test_a_newcomer_is_introduced_and_follows(
    host: Docklock, devnet: DevnetProcess, tmp_path: Path
) -> None:
    genesis, node = f"{devnet.directory('v1')}/genesis.toml", str(tmp_path / "node")
    settings = Path(devnet.directory("v1"), "node.toml").read_text()
    introducer = re.search('introduce = "(.*)"', settings)[1]  # type: ignore[index]
    words = ("--genesis", genesis, "--introducers", introducer, "--operator", "new")
    host("chain", "init", "--dir", node, *words)
    with NodeProcess(host, node) as newcomer:
        host.wait_for(lambda: newcomer.show().get("peers_up") == 4, 30)
        height = devnet.height("v1")
        host.wait_for(lambda: newcomer.show()["height"] >= height, 20)
        assert newcomer.show()["role"] == "follower"
        listed = devnet.ask("v3", "peers")
        assert [one["up"] for one in listed if one["operator"] == "new"] == [True]


def run_beside(host: Docklock, fourth: Path, others: list[str]) -> tuple[int, str]:
    """How a node ends beside others: they may see what it is first, halt, and show it nothing."""
    beside = [host.start("chain", "start", "--dir", directory) for directory in others]
    process = host.start("chain", "start", "--dir", str(fourth))
    try:
        process.wait(timeout=HALT_S)
    except subprocess.TimeoutExpired:
        process.terminate()
    for other in beside:
        other.terminate()
    _, said = process.communicate(timeout=20)
    for other in beside:
        other.communicate(timeout=20)
    # One that the fourth's halt forestalled has not come so far as to take the signal itself.
    assert {other.returncode for other in beside} <= {0, 3, -signal.SIGTERM}
    return process.returncode, said


def test_a_node_that_is_shown_two_histories_halts_and_says_so(
    host: Docklock, tmp_path: Path
) -> None:
    """Its own was sealed by a quorum, and what the others have was too."""
    with DevnetProcess(host, tmp_path / "one", "--keep", *QUICK) as net:
        net.wait_height("v4", 3)
        assert net.stop() == 0
    for name in ("v1", "v2", "v3", "v4"):
        for file in ("chain.db", "votes"):
            Path(net.directory(name), file).rename(Path(net.directory(name), f"{file}.first"))
    with net:  # the same keys begin again
        net.wait_height("v1", 8)
        assert net.stop() == 0
    fourth = Path(net.directory("v4"))
    for file in ("chain.db", "votes"):
        (fourth / f"{file}.first").rename(fourth / file)
    for _ in range(HALT_TRIES):
        code, said = run_beside(host, fourth, [net.directory(name) for name in ("v1", "v2")])
        if code == 3:
            break
    assert "HALTED at height" in said
    assert "sealed by a quorum" in said
    shown = host("chain", "status", "--dir", str(fourth), code=3)
    assert "HALTED: " in shown.stdout


def test_a_parameter_changes_once_a_quorum_has_voted_for_it(devnet: DevnetProcess) -> None:
    def get_value() -> int:
        shown = devnet.ask("v4", "parameters")["parameters"]
        return int(next(one["value"] for one in shown if one["name"] == "vote_blocks"))

    for name in ("v1", "v2"):
        devnet.chain(name, "parameters", "set", "vote_blocks=5000")
    height = devnet.height("v1")
    devnet.wait_height("v4", height)
    assert get_value() == 1_000_000
    shown = devnet.chain("v4", "parameters").stdout
    assert "parameter vote_blocks becomes 5000: 2 of 3 votes" in shown
    devnet.chain("v3", "parameters", "set", "vote_blocks=5000")
    devnet.dock.wait_for(lambda: get_value() == 5000, 20)
    refused = devnet.chain("v1", "parameters", "set", "vote_blocks=1", code=2)
    assert "vote_blocks: 1 is not 10 to" in refused.stderr


def test_systemd_is_told_when_it_serves_and_when_it_ends(host: Docklock, tmp_path: Path) -> None:
    with DevnetProcess(host, tmp_path / "net", "--keep", "--validators", "1") as net:
        assert net.stop() == 0
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(20)
    manager.bind(str(tmp_path / "notify"))
    told = Docklock(host.root)
    told.environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    with manager, NodeProcess(told, net.directory("v1")) as node:
        assert manager.recv(4096).startswith(b"READY=1\n")
        assert node.show()["running"] is True
        node.tell_to_end()
        assert manager.recv(4096) == b"STOPPING=1"


def test_a_second_node_on_a_directory_is_refused(devnet: DevnetProcess) -> None:
    refused = devnet.chain("v1", "start", code=1)
    assert "another node (process" in refused.stderr


def test_init_makes_an_entry_and_a_genesis_of_entries(host: Docklock, tmp_path: Path) -> None:
    entries = []
    for number in (1, 2):
        words = ("--dir", str(tmp_path / f"n{number}"), "--listen", f"127.0.0.1:{7000 + number}")
        done = host("chain", "init", *words, "--operator", f"op{number}")
        entries.append(tmp_path / f"{number}.toml")
        entries[-1].write_text(done.stdout)
        assert host("chain", "init", *words).stdout == done.stdout, "a key that is there stays"
    output = tmp_path / "g.toml"
    host("chain", "genesis", "--name", "pair", *map(str, entries), "-o", str(output))
    joined = host("chain", "init", "--dir", str(tmp_path / "n1"), "--genesis", str(output))
    assert "validator of chain pair" in joined.stderr
    follower = host("chain", "init", "--dir", str(tmp_path / "f"), "--genesis", str(output))
    assert "follower of chain pair" in follower.stderr
    for private in ("node.key", "node.pem"):
        assert (tmp_path / "n1" / private).stat().st_mode & 0o777 == 0o600


WRONG = (
    (("chain",), 2, "verbs are init, genesis"),
    (("chain", "statsu"), 2, "did you mean status?"),
    (("chain", "status", "--dir", "DIR/none"), 1, "`docklock chain init --dir"),
    (("chain", "start", "--dir", "DIR/none"), 1, "`docklock chain devnet` a chain to try"),
    (("chain", "blocks", "x", "--dir", "DIR/n"), 1, "has a key but no chain yet"),
    (("chain", "init", "--dir", "DIR/n", "--listen", "x"), 2, "--listen x: want HOST:PORT"),
    (("chain", "init", "--dir", "DIR/n", "--listen", "0.0.0.0:1"), 2, "give an address too"),
    (("chain", "init", "--dir", "DIR/n", "--operator", "a b"), 2, "plain characters"),
    (("chain", "init", "--dir", "DIR/n", "--genesis", "DIR/bad"), 2, "bad: line 1: validator"),
    (("chain", "init", "--dir", "DIR/n", "--genesis", "DIR/none"), 2, "No such file"),
    (("chain", "genesis", "DIR/entry"), 2, "--name NAME"),
    (("chain", "genesis", "--name", "x", "DIR/bad"), 2, "an entry has [[validator]]"),
    (("chain", "genesis", "--name", "x", "DIR/entry", "DIR/entry"), 2, "its key is that of"),
    (("chain", "genesis", "--name", "x", "DIR/entry", "--set", "a=1"), 2, "parameters are anchor_"),
    (("chain", "devnet", "--validators", "0"), 2, "want 1 to 16"),
    (("chain", "devnet", "--dir", "DIR"), 1, "is not empty and no devnet"),
    (("chain", "start", "--log-level", "loud"), 2, "takes one of error"),
)  # fmt: skip


def test_every_error_says_what_where_and_what_to_do(host: Docklock, tmp_path: Path) -> None:
    words = ("--dir", str(tmp_path / "n"), "--listen", "127.0.0.1:7001")
    (tmp_path / "entry").write_text(host("chain", "init", *words).stdout)
    (tmp_path / "bad").write_text('name = "x"\ntime_ms = -1\n')
    for argv, code, said in WRONG:
        done = host(*(word.replace("DIR", str(tmp_path)) for word in argv), code=code)
        assert said in done.stderr, (argv, done.stderr)
        assert "Traceback" not in done.stderr


def test_questions_that_cannot_be_answered_are_refused(devnet: DevnetProcess) -> None:
    for words, code, said in (
        (("blocks", "99999999"), 1, "is not here yet: the last one is"),
        (("blocks", "-x"), 2, "unknown option -x"),
        (("blocks", "1e3"), 2, "want a whole number"),
        (("tx", "00"), 2, "want 64 hex digits"),
        (("tx", "00" * 32), 1, "no block here has this transaction"),
        (("validators", "remove", "ff"), 2, "want a key, or 4 or more digits"),
        (("tx", "submit", "/dev/null"), 2, "transaction: 0 bytes"),
    ):
        done = devnet.chain("v1", *words, code=code)
        assert said in done.stderr, (words, done.stderr)


def test_a_spoilt_genesis_is_named(host: Docklock, tmp_path: Path) -> None:
    with DevnetProcess(host, tmp_path / "net", "--keep", "--validators", "1") as net:
        assert net.stop() == 0
    genesis = Path(f"{net.directory('v1')}/genesis")
    data = bytearray(genesis.read_bytes())
    data[-1] ^= 1
    genesis.write_bytes(data)
    done = net.chain("v1", "start", code=3)
    assert "is of another genesis than" in done.stderr


def test_what_a_host_runs_is_anchored_and_held_by_the_agents_node(
    dock: Docklock, devnet: DevnetProcess, tmp_path: Path
) -> None:
    node, config = tmp_path / "node", tmp_path / "agent.toml"
    genesis = f"{devnet.directory('v1')}/genesis.toml"
    dock("chain", "init", "--dir", str(node), "--operator", "host", "--genesis", genesis)
    devnet.chain("v2", "peers", "add", str(node / "registration"))
    config.write_text(f'[chain]\nrole = "submitter"\ndir = "{node}"\n')
    dock("run", "--rm", "busybox", "true")
    with Agent(dock, "--config", str(config)) as agent:
        dock.wait_for(lambda: "docklock_chain_up 1" in agent.ask("/metrics"), 20)
        dock.wait_for(lambda: is_all_available(dock, node), 40)
        page = agent.ask("/metrics")
        assert "docklock_chain_validators 4" in page and "docklock_chain_votes 0" in page
        heights = [line for line in page.splitlines() if line.startswith("docklock_chain_height ")]
        assert int(heights[0].split()[1]) > 0
        with make_archive(dock, devnet, tmp_path) as archive:
            dock("run", "--name", "proven", "busybox", "true")
            dock.wait_for(lambda: is_all_available(dock, node), 40)
            dock.wait_for(lambda: archive.show().get("receipts_kept"), 20)
    prove_final(dock, node, genesis, tmp_path)
    dock("rm", "proven")
    shown = json.loads(
        dock("chain", "status", "--dir", str(node), "--format", "json", code=1).stdout
    )
    assert shown["running"] is False


def make_archive(dock: Docklock, devnet: DevnetProcess, tmp_path: Path) -> NodeProcess:
    """A node that the validators have voted to be an archive."""
    directory, entry = str(tmp_path / "archive"), tmp_path / "archive.toml"
    words = ("--dir", directory, "--listen", f"127.0.0.1:{find_port()}", "--operator", "archive")
    words += ("--admit", "anybody")
    entry.write_text(dock("chain", "init", *words).stdout)
    genesis = f"{devnet.directory('v1')}/genesis.toml"
    dock("chain", "init", "--dir", directory, "--genesis", genesis)
    devnet.chain("v1", "peers", "add", f"{directory}/registration")
    for name in ("v1", "v2", "v3"):
        devnet.chain(name, "validators", "add", "--archive", str(entry), "--no-wait")
    dock.wait_for(lambda: devnet.ask("v1", "validators")["archives"], 20)
    archive = NodeProcess(dock, directory)
    dock.wait_for(lambda: archive.show().get("peers_up", 0) >= 4, 30)
    return archive


def is_all_available(dock: Docklock, node: Path) -> bool:
    """Whether the whole log is on the chain, and f + 1 validators hold its bodies."""
    words = ("chain", "submit", "--dir", str(node), "--format", "json")
    done = dock(*words, code=None)
    if done.returncode not in (0, 1) or not done.stdout:
        return False
    shown = json.loads(done.stdout)
    return bool(shown["size"]) and shown["size"] == shown["available"]


def prove_final(dock: Docklock, node: Path, genesis: str, tmp_path: Path) -> None:
    """With no node running: a receipt, and the log, are final to who has the genesis alone."""
    host = json.loads(dock("keys", "show", "--format", "json").stdout)["fingerprint"]
    trust = ("--genesis", genesis, "--host-key", host)
    event, log = tmp_path / "event.final", tmp_path / "log.final"
    dock("prove", "proven", "0", "--final", "--chain", str(node), "-o", str(event))
    dock("chain", "proof", host, "--dir", str(node), "-o", str(log))
    for path in (event, log):
        shown = dock("verify", str(path), *trust).stdout
        assert "final" in shown, shown
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        dock("verify", str(path), *trust, code=3)
