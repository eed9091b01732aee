"""`prove --final`, `chain proof` and `verify --final` over a real log and a real chain's store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainlite.errors import SpecError, StateError, TamperError
from chainlite.proofs.light_format import LightProof, decode_light
from chainlite.verify import main as verify_main
from docklock.chain.directory import ChainDirectory, join_chain, make_chain, make_directory
from docklock.chain.views import Views
from docklock.cli.chain import run_chain
from docklock.cli.evidence import run_evidence
from docklock.cli.prove import run_prove
from docklock.cli.verify import run_verify
from docklock.evidence.final_proving import make_final_proof
from docklock.evidence.keyring import get_fingerprint
from docklock.paths import Paths
from docklock.submitter import Submitter
from tests.evidence.chain_doors import Nodes
from tests.evidence.recording import make_id, make_paths, record
from tests.evidence.test_submitting import settle
from tests.ledger.samples import TIME_MS, Chain
from tests.ledger.test_store import make_store
from tests.proofs.light_samples import HOST
from tests.proofs.light_samples import Chain as LightChain
from tests.proofs.test_light_program import anchor_log

NOW = str(TIME_MS // 1000 + 3600)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Paths]:
    """A host with two runs, the first anchored; its node's directory, in which none runs."""
    paths = make_paths(tmp_path)
    nodes = Nodes(tmp_path / "nodes")
    submitter = Submitter(paths, nodes.all, "somebody")
    record(paths, make_id(1), count=12)
    settle(submitter, nodes)
    write_directory(paths, nodes.chain)
    record(paths, make_id(2), count=5, app="later")
    yield paths
    nodes.close()


def write_directory(paths: Paths, chain: Chain) -> None:
    directory = ChainDirectory(f"{paths.state}/chain")
    make_directory(directory)
    join_chain(directory, make_chain(chain.genesis))
    make_store(Path(directory.database), chain).close()


def test_a_receipt_is_proven_final_to_who_has_the_genesis(
    made: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, genesis = str(tmp_path / "p"), f"{made.state}/chain/genesis.toml"
    assert run_prove(["web", "7", "--final", "--values", "paths", "-o", file], made) == 0
    assert "bytes; final in block " in capsys.readouterr().out
    assert Path(file).stat().st_size <= 2500
    named = ["--genesis", genesis, "--now", NOW, "--host-key", get_fingerprint(made)]
    assert verify_main([file, *named]) == 0
    text = capsys.readouterr().out
    assert text.startswith("final: in block ")
    assert "receipt 7 of run 0" in text
    assert run_verify([file, "--now", NOW, "--json"], made) == 0, "the node's own genesis serves"
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ok"], shown["trusted"], shown["receipt"]["index"]) == (True, True, "7")


def test_a_receipt_is_proven_final_to_who_trusts_a_later_header(
    made: Paths, tmp_path: Path
) -> None:
    file = tmp_path / "p"
    arguments = ["web", "7", "--final", "--trusted-height", "3", "-o", str(file)]
    assert run_prove(arguments, made) == 0
    chain = make_chain(Path(f"{made.state}/chain/genesis").read_bytes())
    assert decode_light(file.read_bytes(), chain.id).header.height > 0
    with pytest.raises(StateError, match="not here yet"):
        run_prove([*arguments[:4], "1000000", "-o", str(file)], made)


def test_what_is_not_final_yet_is_said(made: Paths, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no final block has an anchor"):
        run_prove(["later", "2", "--final", "-o", str(tmp_path / "p")], made)
    with pytest.raises(StateError, match="none has the index 12"):
        run_prove(["web", "12", "--final", "-o", str(tmp_path / "p")], made)
    with pytest.raises(SpecError, match="not under a --checkpoint"):
        run_prove(["web", "1", "--final", "--checkpoint", str(tmp_path / "note")], made)
    with pytest.raises(StateError, match="has no node yet"):
        run_prove(["web", "1", "--final", "--chain", str(tmp_path / "none")], made)
    assert not (tmp_path / "p").exists()


def test_a_file_says_which_of_its_receipts_are_final(
    made: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final, evidence = str(tmp_path / "final"), str(tmp_path / "evidence")
    host = get_fingerprint(made)
    genesis = f"{made.state}/chain/genesis.toml"
    named = ["--genesis", genesis, "--now", NOW, "--host-key", host]
    assert run_evidence(["web", "-o", evidence, "--final", final], made) == 0
    record(made, make_id(1), run=1, count=4)
    capsys.readouterr()
    assert verify_main([evidence, "--final", final, *named]) == 0
    text = capsys.readouterr().out
    assert text.endswith("  run 0: final through index 11\n")
    assert run_evidence(["web", "-o", evidence, "--final", final], made) == 0
    capsys.readouterr()
    assert run_verify([evidence, "--final", final, "--now", NOW, "--json"], made) == 0
    runs = json.loads(capsys.readouterr().out)["final"]["runs"]
    assert [run["final_receipts"] for run in runs] == [12, 0]


def test_evidence_that_does_not_show_the_final_state_is_refused(
    made: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final, evidence = str(tmp_path / "final"), str(tmp_path / "evidence")
    assert run_chain(["proof", get_fingerprint(made), "-o", final], made) == 0
    assert "leaves is final in block" in capsys.readouterr().out
    assert run_evidence(["web", "-o", evidence], made) == 0
    capsys.readouterr()
    assert run_verify([evidence, "--final", final, "--now", NOW], made) == 3
    assert "have it written anew" in capsys.readouterr().out
    with pytest.raises(StateError, match="no final block"):
        run_chain(["proof", "00" * 32, "-o", final], made)
    with pytest.raises(SpecError, match="64 hex digits"):
        run_chain(["proof", "00", "-o", final], made)


def test_a_chain_with_another_history_of_the_log_is_told(made: Paths) -> None:
    def give(log: tuple[int, bytes]) -> LightProof:
        chain: LightChain
        chain, proof = anchor_log(log, HOST)
        assert proof.chain_id == chain.chain_id
        return proof

    def prove(log: tuple[int, bytes]) -> None:
        make_final_proof(
            made, make_id(1), 0, 3, classes=frozenset(), find=lambda _host, _leaf: give(log)
        )

    with pytest.raises(TamperError, match="another history"):
        prove((4, b"\x01" * 32))
    with pytest.raises(StateError, match="set back"):
        prove((1_000_000, b"\x01" * 32))


def test_the_question_is_checked(made: Paths) -> None:
    from chainlite.ledger.store import open_store

    store = open_store(Path(f"{made.state}/chain/chain.db"))
    views = Views(store)
    host = get_fingerprint(made)
    try:
        assert "proof" in views.answer(f"/finality/{host}/newest")
        for target in (f"/finality/{host}", f"/finality/{host}/x/0", f"/finality/{host}/1/x"):
            with pytest.raises(SpecError):
                views.answer(target)
    finally:
        store.tables.db.close()
