"""Four hosts run containers and are the validators; one is killed, one votes twice, one host's log
forks; a fifth machine, which has the genesis file and what the hosts handed over, says what is
final, what is not, and who lied.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from chainlite import fork
from chainlite.checkpoint import parse_claim
from chainlite.ledger.genesis import Parameters
from chainlite.ledger.operations import ForkEvidence
from chainlite.net.registration import Address
from chainlite.note import parse_vkey
from docklock.evidence.host_log import HostLog
from docklock.paths import Paths
from tests.consensus.nodes import Host as Submitting
from tests.e2e.conftest import Docklock, find_leaks
from tests.e2e.validators import Validators
from tests.net.spaces import enter
from tests.net.wires import Wires

HOSTS = 4
FORKED, KILLED, LIAR, ALONE = 1, 2, 3, 4
LOAD = "while :; do /bin/true; done"
QUICK = Parameters(block_interval_ms=100)
FINAL_S = 60.0


class NamespacedDocklock(Docklock):
    """The command line on one root, in one network namespace."""

    def __init__(self, root: Path, namespace: str) -> None:
        super().__init__(root)
        self.prefix = enter(namespace)

    def argv(self, *words: str) -> list[str]:
        return [*self.prefix, *super().argv(*words)]


class Host:
    """One host: its docklock, its validator's directory, its submitter."""

    def __init__(self, dock: Docklock, node: str) -> None:
        self.dock, self.node = dock, node
        self.submitter: subprocess.Popen[str] | None = None

    def submit(self) -> None:
        words = ("--follow", "--dir", self.node, "--parent", str(os.getpid()))
        self.submitter = self.dock.start("chain", "submit", *words)

    def end_submitting(self) -> None:
        if self.submitter is not None:
            self.submitter.kill()
            self.submitter.communicate()
            self.submitter = None

    def run(self, name: str, source: str) -> None:
        self.dock("run", "--name", name, "busybox", "sh", "-c", source)

    @property
    def id(self) -> str:
        shown = json.loads(self.dock("keys", "show", "--format", "json").stdout)
        return str(shown["fingerprint"])

    def is_final(self) -> bool:
        """Whether the whole log is on the chain, and enough validators hold its bodies."""
        done = self.dock("chain", "submit", "--dir", self.node, "--format", "json", code=None)
        shown = json.loads(done.stdout) if done.returncode in (0, 1) and done.stdout else {}
        return bool(shown.get("size")) and shown["size"] == shown["available"]

    def hand_over(self, name: str, files: Path) -> str:
        """The evidence of a container, and what of the host's log is final; the file's stem."""
        stem = str(files / f"{self.dock.root.name}-{name}")
        words = ("--chain", self.node, "--final", f"{stem}.final", "-o", f"{stem}.evidence")
        self.dock("evidence", name, *words)
        return stem


async def live(validators: Validators, hosts: list[Host]) -> None:
    """Containers under load, one validator killed, one that lies."""
    for host in hosts:
        host.submit()
        host.dock("run", "-d", "--name", "load", "busybox", "sh", "-c", LOAD)
        host.run("first", "for n in $(seq 20); do /bin/true; done")
    await validators.kill(KILLED)
    await validators.rise(5, 0, 1, 3)
    hosts[0].run("meanwhile", "/bin/true")
    await validators.spawn(KILLED)
    await validators.wait_votes(KILLED)
    for host in hosts:
        host.dock("kill", "load")
        host.dock("wait", "load")
    for host in hosts:
        host.dock.wait_for(host.is_final, FINAL_S)
    await validators.kill(LIAR)
    hosts[LIAR].end_submitting()
    await validators.spawn_odd(LIAR, "equivocate")
    await validators.until(lambda: is_removed(validators))
    await validators.kill(LIAR)
    for number in (0, 1, KILLED):
        hosts[number].run("after", "/bin/true")
        hosts[number].dock.wait_for(hosts[number].is_final, FINAL_S)
    hosts[LIAR].run("after", "/bin/true")
    hosts[0].end_submitting()
    hosts[0].run("late", "/bin/true")
    await validators.check_accused(LIAR)


async def is_removed(validators: Validators) -> bool:
    return all([(await validators.ask(n, "/validators"))["n"] == 3 for n in (0, 1, KILLED)])


def fork_log(host: Host, twin: Docklock) -> bytes:
    """The host's disk is copied and both copies go on; their checkpoints show it."""
    host.end_submitting()
    subprocess.run(("cp", "-a", str(host.dock.root), str(twin.root)), check=True)
    found = []
    for dock in (host.dock, twin):
        dock("run", "--rm", "busybox", "/bin/true")
        note = dock("log", "checkpoint").stdout.encode()
        found.append((parse_claim(note).size, str(dock.root), note))
    (size, _, first), (size_after, root, second) = sorted(found)
    with HostLog(Paths(root, f"{root}/run"), None) as log, log.read():
        proof = log.get_consistency(size, size_after) if size < size_after else ()
        old_root = log.compute_root(size)
    vkey = host.dock("log", "keys").stdout.splitlines()[0]
    public = parse_vkey(vkey, "log keys").public
    made = fork.make_fork((public,), (first, second), old_root, tuple(proof))
    assert made is not None
    return fork.encode_fork(made)


def accuse(host: Host, chain_id: bytes, accused: str, evidence: bytes, files: Path) -> str:
    """Somebody whom the chain does not know registers and submits it; its transaction."""
    witness = Submitting(chain_id, 1)
    digest = ""
    for tx in (witness.register(), witness.sign(ForkEvidence(bytes.fromhex(accused), evidence))):
        (files / "tx").write_bytes(tx.encoded)
        words = ("--dir", host.node, "--format", "json")
        told = json.loads(host.dock("chain", "tx", "submit", str(files / "tx"), *words).stdout)
        assert told["height"], told
        digest = told["hash"]
    return digest


def hand_over_all(validators: Validators, hosts: list[Host], files: Path) -> dict[str, bool]:
    """Files of every container, and whether its receipts are final; who lied; one receipt."""
    is_final = {}
    for number, host in enumerate(hosts):
        for name in ("first", "load", "after"):
            is_final[host.hand_over(name, files)] = name != "after" or number != LIAR
    is_final[hosts[0].hand_over("meanwhile", files)] = True
    is_final[hosts[0].hand_over("late", files)] = False
    refused = hosts[0].dock("prove", "late", "0", "--final", "--chain", hosts[0].node, code=1)
    assert "it may come with the next one" in refused.stderr
    liar = validators.publics[LIAR].hex()
    words = ("--dir", hosts[1].node, "--evidence", liar, "-o", str(files / "lied.final"))
    hosts[1].dock("chain", "proof", *words)
    words = ("--chain", hosts[1].node, "-o", str(files / "event.final"))
    hosts[1].dock("prove", "first", "0", "--final", *words)
    return is_final


class Stranger:
    """A machine of its own that reaches nobody, and has the genesis file alone."""

    def __init__(self, dock: Docklock, files: Path) -> None:
        self.dock, self.genesis = dock, str(files / "genesis.toml")

    def verify(self, *words: str, code: int) -> Any:
        done = self.dock("verify", *words, "--genesis", self.genesis, "--json", code=code)
        return json.loads(done.stdout)

    def check(self, stem: str, host: str, *, is_final: bool) -> None:
        """Exit 4: whole, and the host's key was not named, since only the genesis is trusted."""
        shown = self.verify(f"{stem}.evidence", "--final", f"{stem}.final", code=4)
        assert shown["ok"] and shown["final"]["by"]["host"] == host
        (run,) = shown["final"]["runs"]
        assert run["final_whole"] == is_final, stem
        assert bool(run["final_receipts"]) == is_final
        if is_final:
            assert run["final_receipts"] == shown["receipts"]

    def check_spoilt(self, path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        assert not self.verify(str(path), code=3)["ok"]


def judge(stranger: Stranger, hosts: list[str], liar: str, files: Path, final: Any) -> None:
    for stem, is_final in final.items():
        number = int(Path(stem).name.partition("-")[0].removeprefix("host"))
        stranger.check(stem, hosts[number], is_final=is_final)
    event = stranger.verify(str(files / "event.final"), code=4)
    assert event["host"] == hosts[1] and event["receipt"]
    lied = stranger.verify(str(files / "lied.final"), code=0)
    assert lied["convicted"] == {"validator": liar}
    words = ("verify", str(files / "lied.final"), "--genesis", stranger.genesis)
    assert f"validator {liar} said two things" in stranger.dock(*words).stdout
    forked = stranger.verify(str(files / "forked.final"), code=0)
    assert forked["convicted"] == {"host": hosts[FORKED]}
    for name in ("event.final", "lied.final", "forked.final"):
        stranger.check_spoilt(files / name)


async def run(top: Path, busybox_tree: Path) -> None:
    files = top / "files"
    files.mkdir()
    with Wires(HOSTS + 1) as wires:
        wires.cut([ALONE])
        addresses = [Address(host, 7000) for host in wires.addresses[:HOSTS]]
        docks = [
            NamespacedDocklock(top / f"host{number}", name)
            for number, name in enumerate(wires.namespaces)
        ]
        async with Validators(top, addresses, QUICK, wires.namespaces) as validators:
            hosts = [
                Host(docks[number], directory.path)
                for number, directory in enumerate(validators.directories)
            ]
            try:
                await validators.spawn(*range(HOSTS))
                await validators.wait_votes()
                for host in hosts:
                    host.dock("import", str(busybox_tree), "busybox")
                await live(validators, hosts)
                final = hand_over_all(validators, hosts, files)
                twin = NamespacedDocklock(top / "twin", wires.namespaces[FORKED])
                evidence = fork_log(hosts[FORKED], twin)
                forked = hosts[FORKED].id
                digest = accuse(hosts[0], validators.chain.id, forked, evidence, files)
                words = ("--dir", hosts[0].node, "--evidence", digest)
                hosts[0].dock("chain", "proof", *words, "-o", str(files / "forked.final"))
            finally:
                for host in hosts:
                    host.end_submitting()
            shutil.copy(validators.genesis, files / "genesis.toml")
            stranger = Stranger(docks[ALONE], files)
            liar = validators.publics[LIAR].hex()
            judge(stranger, [host.id for host in hosts], liar, files, final)
            for host in hosts:
                host.dock("rm", "-f", *host.dock("ps", "-aq").stdout.split())
            await validators.end()
            validators.check_one_history(0, 1, KILLED)
    for dock in (*docks, twin):
        assert find_leaks(dock.root) == []


def test_a_stranger_with_the_genesis_says_what_is_final_what_is_not_and_who_lied(
    tmp_path: Path, busybox_tree: Path, need_root: None
) -> None:
    asyncio.run(run(tmp_path, busybox_tree))
