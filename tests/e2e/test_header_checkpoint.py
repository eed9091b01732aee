"""Through the command line: a header that a witness cosigned is trusted when all else is stale.

Every process is a real one: validators, a witness, and whoever verifies.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chainlite import checkpoint, cosignature, note
from chainlite.ledger.genesis import parse_genesis
from chainlite.note import encode_vkey
from chainlite.proofs import trusted
from chainlite.quorum import Member, Quorum
from docklock.paths import Paths
from tests.e2e.chains import DevnetProcess, NodeProcess
from tests.e2e.conftest import Docklock
from tests.e2e.test_final import anchor, verify_alone
from tests.evidence.recording import make_id, make_paths, record
from tests.witness.witnesses import Running, find_port, make_policy, write_policy

AGE_MIN_MS = 2_500
"""The header is so much younger than the genesis: whole seconds fit in between."""


class World(NamedTuple):
    """A chain with a final receipt, its witness, and what the user holds of both."""

    dock: Docklock
    devnet: DevnetProcess
    witness: Running
    paths: Paths
    top: Path

    @property
    def genesis(self) -> str:
        return f"{self.devnet.directory('v1')}/genesis.toml"

    def write_keys(self) -> str:
        """What the witness's operator has published."""
        path = self.top / "w.pub"
        path.write_text("".join(f"{encode_vkey(key)}\n" for key in self.witness.keys))
        return str(path)

    def write_policy(self, keys: tuple[note.VerifierKey, ...]) -> str:
        member = Member(self.witness.name, "somebody", self.witness.url, keys)
        return str(write_policy(self.top / "policy.toml", Quorum("acme", 1, 0, (member,))))

    def witness_at(self, *words: str, name: str = "v1", code: int = 0) -> tuple[Any, str]:
        """`docklock chain checkpoint` there: its JSON, and what it said."""
        done = self.devnet.chain(name, "checkpoint", *words, "--format", "json", code=code)
        return (json.loads(done.stdout) if done.stdout else None), done.stderr


def know_chain(dock: Docklock, directory: str, witness: Running) -> None:
    """What a witness's operator does once, with the file that somebody of the chain sends."""
    printed = dock("chain", "checkpoint", "--keys", "--dir", directory).stdout
    keys = tuple(note.parse_vkey(line, "--log") for line in printed.splitlines())
    witness.configure([(keys, "")])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    top = tmp_path_factory.mktemp("world")
    paths = make_paths(top)
    dock = Docklock(Path(paths.state))
    record(paths, make_id(1), count=12)
    witness = Running(top, "w1.example")
    with DevnetProcess(dock, top / "net") as devnet:
        anchor(devnet, paths, top / "tx")
        know_chain(dock, devnet.directory("v1"), witness)
        witness.start()
        made = World(dock, devnet, witness, paths, top)
        start_ms = get_genesis(made).timestamp_ms
        dock.wait_for(
            lambda: devnet.ask("v1", "status")["head_time_ms"] >= start_ms + AGE_MIN_MS, 30.0
        )
        yield made
        witness.stop()


def get_genesis(world: World) -> trusted.Trusted:
    return trusted.trust_genesis(parse_genesis(Path(world.genesis).read_bytes(), world.genesis))


def verify(world: World, *words: str) -> tuple[int, str]:
    """Evidence, by somebody who comes when the genesis is stale and the header is just not."""
    file = trusted.decode_header_checkpoint((world.top / "header").read_bytes())
    now_s = (file.header.timestamp_ms + get_genesis(world).period_ms) // 1000
    evidence, final = str(world.top / "evidence"), str(world.top / "final")
    words = ("--final", final, "--genesis", world.genesis, "--now", str(now_s), *words)
    done = world.dock("verify", evidence, *words, code=None)
    return done.returncode, done.stdout + done.stderr


def have_cosigned(world: World) -> tuple[str, int]:
    """The checkpoint's file, and evidence for who trusts it."""
    header = str(world.top / "header")
    asked = ("--witness", world.witness.url, "--witness-key", world.write_keys(), "-o", header)
    shown, _ = world.witness_at(*asked)
    height = shown["height"]
    final, chain = str(world.top / "final"), world.devnet.directory("v1")
    later = ("--trusted-height", str(height), "--chain", chain)
    world.dock("prove", "web", "7", "--final", *later, "-o", str(world.top / "proof"))
    evidence = str(world.top / "evidence")
    world.dock("evidence", "web", "-o", evidence, "--final", final, *later)
    return header, height


def test_a_cosigned_header_is_trusted_when_the_genesis_is_stale(world: World) -> None:
    header, height = have_cosigned(world)
    keys = world.write_keys()
    code, said = verify(world, "--header-checkpoint", header, "--witness-key", keys)
    assert code == 0, said
    assert "run 0: final through index 11" in said
    policy = world.write_policy(world.witness.keys)
    code, said = verify(world, "--header-checkpoint", header, "--witness-policy", policy)
    assert code == 0, said
    early, chain = str(world.top / "early"), world.devnet.directory("v1")
    world.dock("prove", "web", "7", "--final", "--chain", chain, "-o", early)
    file = (early, "--genesis", world.genesis, "--header-checkpoint", header)
    code, said = verify_alone(*file, "--witness-key", keys)
    assert (code, f"prove it with --trusted-height {height}" in said) == (3, True)
    code, said = verify(world)
    assert (code, "stale trust: what you trust of this chain is 21 days old" in said) == (2, True)
    code, said = verify(world, "--header-checkpoint", header)
    assert (code, "not cosigned by enough witnesses that you named" in said) == (2, True)
    file = (str(world.top / "proof"), "--genesis", world.genesis, "--header-checkpoint", header)
    assert verify_alone(*file, "--witness-key", keys)[0] in (0, 4)
    made = trusted.decode_header_checkpoint(Path(header).read_bytes())
    assert made.header.height == height
    assert len(made.validators.keys) == 4


def test_a_policy_that_asks_for_both_keys_is_met_and_refuses_where_one_was_stripped(
    world: World,
) -> None:
    header, _ = have_cosigned(world)
    made = trusted.decode_header_checkpoint(Path(header).read_bytes())
    signed = note.parse_note(made.note)
    ours = {note.compute_key_id(key): key.kind for key in world.witness.keys}
    kinds = {ours[line.key_id] for line in signed.lines if line.key_id in ours}
    assert kinds == {note.COSIGNED_ED25519, note.COSIGNED_MLDSA44}
    both = world.write_policy(world.witness.keys)
    assert verify(world, "--header-checkpoint", header, "--witness-policy", both)[0] == 0
    for key_id in ours:
        left = [line for line in signed.lines if line.key_id != key_id]
        stripped = made._replace(note=note.encode_note(signed.text, left))
        path = world.top / "stripped"
        path.write_bytes(trusted.encode_header_checkpoint(stripped))
        code, said = verify(world, "--header-checkpoint", str(path), "--witness-policy", both)
        assert (code, "not cosigned by enough" in said) == (2, True)
        named = world.write_policy(
            tuple(key for key in world.witness.keys if note.compute_key_id(key) != key_id)
        )
        words = ("--header-checkpoint", str(path), "--witness-policy", named)
        assert verify(world, *words)[0] == 0, "who asks for one key has it"
        world.write_policy(world.witness.keys)


def test_any_node_asks_and_the_witness_goes_on_from_what_it_saw(world: World) -> None:
    words = ("--witness-policy", world.write_policy(world.witness.keys))
    first, _ = world.witness_at(*words, "-o", str(world.top / "first"))
    world.devnet.wait_height("v2", first["height"] + 1)
    later, _ = world.witness_at(*words, "-o", str(world.top / "later"), name="v2")
    assert later["height"] > first["height"]
    assert later["policy"]["met"]
    held = world.witness.get(f"/checkpoints/{get_hash(world)}").body
    assert f"\n{later['height'] + 1}\n".encode() in held
    read = trusted.decode_header_checkpoint((world.top / "later").read_bytes())
    (by,) = cosignature.get_cosignatures(read.note, world.witness.keys)
    assert by.name == world.witness.name


def get_hash(world: World) -> str:
    from chainlite.witness import compute_origin_hash

    return compute_origin_hash(checkpoint.get_chain_origin(get_genesis(world).chain_id))


def test_too_few_cosignatures_write_nothing_and_say_who_said_what(
    world: World, tmp_path: Path
) -> None:
    keys, output = world.write_keys(), tmp_path / "header"
    output.write_bytes(b"the one before")
    away = f"http://127.0.0.1:{find_port()}"
    words = ("--witness", world.witness.url, "--witness", away, "--witness-key", keys)
    shown, said = world.witness_at(*words, "-o", str(output), code=1)
    assert shown["why"] == "1 of 2 witnesses have not cosigned"
    assert [one["name"] for one in shown["witnesses"]] == [world.witness.name]
    assert (away in said, shown["file"]) == (True, "")
    assert output.read_bytes() == b"the one before"
    stranger = Running(tmp_path, "w2.example")
    stranger.configure([((note.VerifierKey("other", bytes(31) + b"\1", note.ED25519),), "")])
    stranger.start()
    try:
        words = ("--witness", stranger.url, "--witness-key", encode_vkey(stranger.keys[0]))
        _, said = world.witness_at(*words, "-o", str(output), code=1)
        assert "refused (404): this log is not known here" in said
        words = ("--witness", world.witness.url, "--witness-key", encode_vkey(stranger.keys[0]))
        _, said = world.witness_at(*words, "-o", str(output), code=1)
        assert "does not hold under the keys that are named" in said
        members = [world.witness, stranger]
        policy = write_policy(tmp_path / "policy.toml", make_policy(members, need=2))
        shown, _ = world.witness_at("--witness-policy", str(policy), "-o", str(output), code=1)
        assert not shown["policy"]["met"]
    finally:
        stranger.stop()
    words = ("--witness", world.witness.url, "--witness-key", keys, "-o", f"{output}/x")
    assert "/x: cannot write it" in world.devnet.chain("v1", "checkpoint", *words, code=1).stderr
    for words, what in (
        ((), "name who is to cosign"),
        (("--witness", away), "name its keys with --witness-key"),
        (("--witness", "w1.example", "--witness-key", keys), "want http://HOST:PORT"),
        (("--keys", "--witness", away), "--keys asks no witness"),
    ):
        assert what in world.devnet.chain("v1", "checkpoint", *words, code=2).stderr


def test_a_checkpoint_of_another_chain_is_refused_and_one_validator_signs_without_a_node(
    world: World, tmp_path: Path
) -> None:
    have_cosigned(world)
    witness = Running(tmp_path, "w3.example")
    with DevnetProcess(world.dock, tmp_path / "one", "--validators", "1", "--keep") as other:
        other.wait_height("v1", 2)
        know_chain(world.dock, other.directory("v1"), witness)
    witness.start()
    keys = "".join(f"{encode_vkey(key)}\n" for key in (*witness.keys, *world.witness.keys))
    (tmp_path / "keys").write_text(keys)
    words = ("--witness", witness.url, "--witness-key", str(tmp_path / "keys"))
    output = tmp_path / "header"
    try:
        done = other.chain("v1", "checkpoint", *words, "-o", str(output))
        assert f"cosigned by {witness.name}" in done.stdout
    finally:
        witness.stop()
    words = ("--header-checkpoint", str(output), "--witness-key", str(tmp_path / "keys"))
    code, said = verify(world, *words)
    assert (code, "the header checkpoint is of another chain" in said) == (2, True)


def test_a_second_history_of_a_chain_is_refused_and_kept_as_a_fork(tmp_path: Path) -> None:
    """One validator's directory is copied, and both go on: the witness has seen the first."""
    dock = Docklock(tmp_path / "root")
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    listen = f"127.0.0.1:{find_port()}"
    done = dock("chain", "init", "--dir", first, "--listen", listen, "--operator", "me")
    (tmp_path / "entry.toml").write_text(done.stdout)
    genesis = str(tmp_path / "genesis.toml")
    quick = ("--set", "block_interval_ms=100", "-o", genesis)
    dock("chain", "genesis", "--name", "solo", str(tmp_path / "entry.toml"), *quick)
    dock("chain", "init", "--dir", first, "--genesis", genesis)
    shutil.copytree(first, second)
    size = run_until(dock, first, 3) + 1
    assert run_until(dock, second, size + 1) > size
    witness = Running(tmp_path, "w4.example")
    know_chain(dock, first, witness)
    witness.start()
    (tmp_path / "keys").write_text("".join(f"{encode_vkey(key)}\n" for key in witness.keys))
    words = ("--witness", witness.url, "--witness-key", str(tmp_path / "keys"))
    try:
        output = tmp_path / "header"
        dock("chain", "checkpoint", "--dir", first, *words, "-o", str(output))
        other = ("chain", "checkpoint", "--dir", second, *words)
        done = dock(*other, "-o", str(tmp_path / "forged"), code=3)
        assert "has seen another history" in done.stderr
        assert not (tmp_path / "forged").exists()
        (fork,) = (tmp_path / "root/forks").glob("*.fork")
        assert "name the chain's genesis with --genesis" in dock("verify", str(fork), code=2).stderr
        said = dock("verify", str(fork), "--genesis", genesis, code=3).stdout
        assert "FORKED: docklock/chain/" in said
        # A proof from a power of two leaves that tree out, and then shows the witness nothing.
        is_shown = size & (size - 1) != 0
        assert (len(witness.list_forks()) == 1, "FORK: " in witness.said()) == (is_shown,) * 2
        again = tmp_path / "again"
        dock("chain", "checkpoint", "--dir", first, *words, "-o", str(again))
    finally:
        witness.stop()


def run_until(dock: Docklock, directory: str, least: int) -> int:
    """The height of a node that ran until it had one of at least this."""
    with NodeProcess(dock, directory) as node:
        dock.wait_for(lambda: node.show().get("height", 0) >= least, 30.0)
    return int(node.show()["height"])
