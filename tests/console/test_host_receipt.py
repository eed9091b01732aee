"""A receipt's way up, out of real stores, logs, chains, servers; each step is seen to break."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from chainlite import cosignature
from chainlite.errors import StateError
from chainlite.proof import Opened, Proof
from chainlite.quorum import Member, Quorum
from docklock.agent import config as agent_config
from docklock.agent import config_file
from docklock.console.facts import ProofStep, ReceiptFacts
from docklock.console.host_evidence import HostEvidence
from docklock.console.host_receipt import CLASSES, HostReceipts, Place
from docklock.console.proof_steps import UNNAMED, make_steps
from docklock.evidence import proving
from docklock.evidence.cosigned import store_cosigned
from docklock.evidence.proving import collect_proof
from docklock.paths import Paths
from tests.chainlite.samples import WITNESS
from tests.evidence.recording import cosign_log, make_id, make_paths, record
from tests.evidence.test_final_proving import made as final_host
from tests.ledger.samples import TIME_MS
from tests.outbox.sends import get_host, run_pass, write_config
from tests.outbox.servers import Books, BooksServer
from tests.outbox.test_checking import claim_other_root
from tests.witness.witnesses import write_policy

__all__ = ["final_host"]
NOW_NS = (TIME_MS + 3_600_000) * 10**6
PLACE = Place(make_id(1), 0, 4)


@pytest.fixture(autouse=True)
def no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_file, "FILE_DEFAULT", "/nowhere/agent.toml")
    monkeypatch.setattr(proving, "LOGGED_WITHIN_S", 0.05)
    monkeypatch.setattr(agent_config, "POLICY_DEFAULT", "/nowhere/witnesses.toml")


def show(facts: ReceiptFacts) -> list[tuple[str, bool | None]]:
    return [(step.kind, step.is_held) for step in facts.steps]


def test_what_this_host_alone_has_holds_and_says_what_it_has_not(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1))
    evidence = HostEvidence(paths)
    read = evidence.read_receipt(*PLACE)
    kinds = ["receipt", "segment", "log", "checkpoint", "block"]
    assert show(read) == [(kind, None) for kind in kinds]
    assert (read.is_whole, read.why) == (None, "")
    checked = evidence.check_receipt(*PLACE)
    assert show(checked) == [*((kind, True) for kind in kinds[:-1]), ("block", None)]
    assert (checked.is_whole, checked.why) == (True, "")
    assert checked.steps[-1].why == "this host has no node of a chain"
    assert checked.event == read.event and checked.event.op == "syscall.connect"
    fields = dict(read.fields)
    assert (fields["index"], fields["nr"], fields["decision"]) == ("4", "42", "allowed")
    assert fields["args"] == "4 4 4 4 4 4" and len(fields["sha256(salt path)"]) == 64
    assert all(len(one) == 64 for step in read.steps for one in step.path)
    with pytest.raises(StateError, match="has no receipt 99"):
        evidence.read_receipt(make_id(1), 0, 99)


def test_block_witness_and_server_hold_where_they_are_named(
    final_host: Paths, tmp_path: Path
) -> None:
    paths = final_host
    policy = tmp_path / "witnesses.toml"
    write_policy(policy, Quorum("acme", 1, 0, (Member(WITNESS.name, "o", "", (WITNESS,)),)))
    with BooksServer(Books()) as server:
        config = write_config(tmp_path / "agent.toml", server)
        assert run_pass(paths, server).error is None
    note = Path(cosign_log(paths, tmp_path / "note")).read_bytes()
    store_cosigned(paths, note)
    with open(config, "r+", encoding="utf-8") as file:
        tables = file.read()
        file.seek(0)
        file.write(f"witnesses = {json.dumps(str(policy))}\n{tables}")
    receipts = HostReceipts(paths, config, lambda: NOW_NS)
    event = HostEvidence(paths).read_receipt(*PLACE).event
    facts = receipts.read(event, PLACE, is_checked=True)
    kinds = ["receipt", "segment", "log", "checkpoint", "witness", "block", "server"]
    assert show(facts) == [(kind, True) for kind in kinds], facts.steps
    steps = {step.kind: step for step in facts.steps}
    assert dict(steps["witness"].fields) == {"cosigned": "2026-11-18T11:06:40Z"}
    assert "sealed by" in dict(steps["block"].fields)
    assert dict(steps["server"].fields)["url"] == server.url and steps["server"].path
    policy.write_text("need = x")
    unread = receipts.read(event, PLACE, is_checked=True)
    witness = next(step for step in unread.steps if step.kind == "witness")
    assert witness.is_held is None and str(policy) in witness.why and unread.is_whole
    later = receipts.read(event, Place(make_id(2), 0, 1), is_checked=True)
    block = next(step for step in later.steps if step.kind == "block")
    assert (block.title, block.is_held) == ("not final yet", None) and later.is_whole
    stale = HostReceipts(paths, config, lambda: NOW_NS + 10**18)
    block = next(
        step for step in stale.read(event, PLACE, is_checked=True).steps if step.kind == "block"
    )
    assert block.is_held is None and block.why
    held = server.books.get_held(get_host(paths))
    put_acknowledgement(paths, claim_other_root(server, held))
    other = receipts.read(event, PLACE, is_checked=True)
    assert other.is_whole is False and "another history of this host's log" in other.why
    put_acknowledgement(paths, server.books.acknowledge(held))
    assert receipts.read(event, PLACE, is_checked=True).is_whole
    edit(f"{paths.state}/outbox/sent.db", "acknowledgements", "bytes", 120)
    spoilt = receipts.read(event, PLACE, is_checked=True)
    assert [step.kind for step in spoilt.steps if step.is_held is False] == ["server"]
    assert spoilt.is_whole is False and "server office" in spoilt.why


def put_acknowledgement(paths: Paths, data: bytes) -> None:
    db = sqlite3.connect(f"{paths.state}/outbox/sent.db", isolation_level=None)
    assert db.execute("UPDATE acknowledgements SET bytes = ?", (data,)).rowcount == 1
    db.close()


@pytest.mark.parametrize(
    ("column", "where"),
    [("signature", []), ("secret", ["receipt"]), ("body", [])],
)
def test_a_stored_segment_that_was_changed_is_seen_at_its_step(
    tmp_path: Path, column: str, where: list[str]
) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1))
    event = HostEvidence(paths).read_receipt(*PLACE).event
    edit(f"{paths.evidence}/{make_id(1)}.db", "segments", column)
    receipts = HostReceipts(paths)
    if column == "signature":  # the log has no such leaf: nothing leads up from it
        with pytest.raises(StateError, match="has not reached the host's log"):
            receipts.read(event, PLACE, is_checked=True)
        return
    facts = HostEvidence(paths).check_receipt(*PLACE)
    assert facts.is_whole is False and facts.why
    assert facts.event.event_index == 4
    assert [step.kind for step in facts.steps if step.is_held is False][:1] == where


def test_a_store_that_cannot_be_read_is_said_to_be(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1))
    event = HostEvidence(paths).read_receipt(*PLACE).event
    path = Path(f"{paths.evidence}/{make_id(1)}.db")
    for each in (path, path.with_suffix(".db-wal")):
        if each.exists():
            each.write_bytes(b"no database" * 999)
    facts = HostReceipts(paths).read(event, PLACE, is_checked=True)
    assert (facts.is_whole, facts.steps) == (False, ()) and facts.why


def edit(path: str, table: str, column: str, at: int = 0) -> None:
    """Another byte in a column of all rows."""
    db = sqlite3.connect(path, isolation_level=None)
    rows = db.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall()
    assert rows
    for (data,) in rows:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (flip(data, at), data))
    db.close()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    top = tmp_path_factory.mktemp("parts")
    paths = make_paths(top)
    record(paths, make_id(1))
    record(paths, make_id(2))
    store_cosigned(paths, Path(cosign_log(paths, top / "note")).read_bytes())
    return collect_proof(paths, *PLACE, classes=CLASSES, note=b"")


def flip(data: bytes, at: int = 0) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def change_value(parts: Proof) -> Proof:
    [opened, *rest] = parts.values
    assert opened is not None
    return parts._replace(values=(Opened(opened.salt, b"/other"), *rest))


def change_certificate(parts: Proof) -> Proof:
    [(certificate, signature), *rest] = parts.certificates
    return parts._replace(certificates=((certificate, flip(signature)), *rest))


CHANGES: list[tuple[Callable[[Proof], Proof], str]] = [
    (change_value, "receipt"),
    (lambda parts: parts._replace(segment_proof=(flip(parts.segment_proof[0]),)), "segment"),
    (lambda parts: parts._replace(signature=flip(parts.signature)), "segment"),
    (change_certificate, "segment"),
    (lambda parts: parts._replace(log_proof=(flip(parts.log_proof[0]),)), "log"),
    (lambda parts: parts._replace(public=flip(parts.public)), "checkpoint"),
    (lambda parts: parts._replace(note=parts.note.replace(b"docklock/", b"docklacK/", 1)),
     "checkpoint"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "where"), CHANGES)
def test_each_part_that_was_changed_breaks_its_step(
    parts: Proof, change: Callable[[Proof], Proof], where: str
) -> None:
    whole = make_steps(parts, (WITNESS,), is_checked=True)
    assert [(step.kind, step.is_held) for step in whole] == [
        (kind, True) for kind in ("receipt", "segment", "log", "checkpoint", "witness")
    ]
    steps = make_steps(change(parts), (WITNESS,), is_checked=True)
    broken = [step for step in steps if step.is_held is False]
    assert where in [step.kind for step in broken], steps
    assert all(step.why for step in broken)
    assert all(step.is_held is None for step in make_steps(change(parts), (), is_checked=False))


def test_a_witness_counts_only_where_it_is_named_and_signs(parts: Proof) -> None:
    def get(note: bytes, *witnesses: cosignature.Witness) -> ProofStep:
        steps = make_steps(parts._replace(note=note), witnesses, is_checked=True)
        [step] = [step for step in steps if step.kind == "witness"]
        return step

    assert get(parts.note, WITNESS).is_held is True
    unnamed = get(parts.note)
    assert (unnamed.is_held, unnamed.why) == (None, UNNAMED)
    assert unnamed.title == f"witness {WITNESS.name}"
    line = parts.note.splitlines(keepends=True)[-1]
    letter = b"B" if line[-9:-8] == b"A" else b"A"
    spoilt = parts.note.replace(line, line[:-9] + letter + line[-8:])
    assert get(spoilt, WITNESS).is_held is False
