"""The programs that take light proofs: alone, by `verify FILE`, and over an evidence file."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chainlite import cosignature, keys, verify
from chainlite.errors import SpecError
from chainlite.ledger.genesis import encode_genesis, format_genesis
from chainlite.proofs import light, light_report, trusted
from chainlite.proofs.light_format import LightProof, encode_light
from chainlite.proofs.light_make import make_light_proof
from chainlite.report import Report, SeenLog
from tests.chainlite.samples import WITNESS, encode_sample, make_key, make_sample
from tests.chainlite.test_proof import HOST_ID, make
from tests.proofs.light_samples import NOW_MS, START_MS, Chain, make_light, seal_final
from tests.proofs.test_light import make_changed, make_checkpoint, make_linked

ROOT = Path(__file__).resolve().parents[2]
NOW = str(NOW_MS // 1000)
HOST = HOST_ID.hex()


def run_alone(module: str, *arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


class Files:
    """A proof and its genesis as files."""

    def __init__(self, place: Path, chain: Chain, proof: LightProof) -> None:
        self.proof, self.genesis = place / "proof", place / "genesis.toml"
        self.proof.write_bytes(encode_light(proof))
        self.genesis.write_text(format_genesis(chain.genesis))


def test_the_program_alone_has_an_exit_code_for_each_verdict(tmp_path: Path) -> None:
    chain = Chain()
    files = Files(tmp_path, chain, make_light(chain, make()))
    for module in ("chainlite.proofs.light", "chainlite.verify"):
        common = (files.proof, "--genesis", files.genesis)
        code, text = run_alone(module, *common, "--now", NOW, "--host-key", HOST)
        assert code == 0, text
        assert text.startswith("final: in block 1 (")
        assert "sealed by 3 validators" in text
        assert "receipt 7 of run 0: syscall.connect allowed" in text
        code, text = run_alone(module, *common, "--now", NOW)
        assert code == 4
        assert "UNTRUSTED" in text
        stale = str(START_MS // 1000 + 22 * 86400)
        code, text = run_alone(module, *common, "--now", stale)
        assert code == 2
        assert "--header-checkpoint" in text
        assert run_alone(module, files.proof, "--now", NOW)[0] == 2
        assert run_alone(module, files.genesis, "--genesis", files.genesis, "--now", NOW)[0] == 2
        code, text = run_alone(module, *common, "--now", NOW, "--host-key", HOST, "--json")
        shown = json.loads(text)
        assert (code, shown["ok"], shown["trusted"], shown["height"]) == (0, True, True, 1)
        assert (shown["host"], shown["log"]["size"]) == (HOST, 5)
        assert shown["receipt"]["index"] == "7"
    spoilt = bytearray(files.proof.read_bytes())
    spoilt[-1] ^= 1
    files.proof.write_bytes(bytes(spoilt))
    code, text = run_alone(
        "chainlite.verify", files.proof, "--genesis", files.genesis, "--now", NOW
    )
    assert code == 3
    assert text.startswith("TAMPERED: ")


def test_a_genesis_may_be_its_bytes(tmp_path: Path) -> None:
    chain = Chain()
    files = Files(tmp_path, chain, make_light(chain, make(), is_event=False))
    files.genesis.write_bytes(encode_genesis(chain.genesis))
    common = (files.proof, "--genesis", files.genesis, "--now", NOW)
    code, text = run_alone("chainlite.proofs.light", *common, "--host-key", HOST)
    assert code == 0, text
    assert "receipt" not in text


def test_a_header_checkpoint_needs_its_witnesses(tmp_path: Path) -> None:
    chain = make_changed()
    proof = make_linked(chain)
    files = Files(tmp_path, chain, proof._replace(links=proof.links[1:]))
    held = tmp_path / "header"
    held.write_bytes(trusted.encode_header_checkpoint(make_checkpoint(chain, 3)))
    common = (files.proof, "--genesis", files.genesis, "--now", NOW, "--host-key", HOST)
    named = ("--header-checkpoint", held)
    witness = cosignature.encode_witness(WITNESS)
    assert run_alone("chainlite.verify", *common, *named, "--witness-key", witness)[0] == 0
    code, text = run_alone("chainlite.verify", *common, *named)
    assert code == 2
    assert "--witness-key" in text
    assert run_alone("chainlite.verify", *common)[0] == 3, "the links begin at that header"


def test_the_program_alone_loads_formats_only() -> None:
    code = (
        "import sys, chainlite.proofs.light_program; "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('docklock', 'enc', 'tui', 'sqlite3', 'socket', 'subprocess', 'asyncio', 'random') "
        "or m.startswith(('chainlite.net', 'chainlite.consensus.', 'chainlite.ledger.'))])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.strip("[]\n").replace("'", "").split(", "))
    assert loaded == {
        "chainlite.consensus.validators",
        "chainlite.ledger.block",
        "chainlite.ledger.genesis",
        "chainlite.ledger.header",
        "chainlite.ledger.operations",
        "chainlite.ledger.tx",
    }


# Which receipts of an evidence file are final

SEED = b"\x09" * 32
KEY = keys.make_key_pair(SEED)
EVIDENCE = encode_sample(make_sample(count=20), SEED)


def check_evidence() -> Report:
    return verify.verify_file(io.BytesIO(EVIDENCE).read)


def anchor_log(log: tuple[int, bytes], key: keys.KeyPair = KEY) -> tuple[Chain, LightProof]:
    chain = Chain()
    txs = chain.make_anchors(3, log, key)
    block = chain.add(txs)
    made = make_light_proof(chain.chain_id, txs, (1, 0), block.header, seal_final(block))
    return chain, made


def get_final(log: tuple[int, bytes], key: keys.KeyPair = KEY) -> light.Final:
    chain, proof = anchor_log(log, key)
    return light.check_finality(encode_light(proof), chain.trusted, NOW_MS)


def test_a_file_whose_log_is_final_is_final_to_its_end(tmp_path: Path) -> None:
    log = check_evidence().logs[0]
    chain, proof = anchor_log((log.size, log.root))
    files = Files(tmp_path, chain, proof)
    evidence = tmp_path / "evidence"
    evidence.write_bytes(EVIDENCE)
    common = ("chainlite.verify", evidence, "--genesis", files.genesis, "--now", NOW)
    code, text = run_alone(*common, "--final", files.proof, "--host-key", check_evidence().host)
    assert code == 0, text
    assert "final: in block 1" in text
    assert text.endswith("run 0: final through index 19\n")
    code, text = run_alone(*common, "--final", files.proof, "--json")
    shown = json.loads(text)
    assert (code, shown["ok"], shown["final"]["by"]["height"]) == (4, True, 1)
    assert shown["final"]["runs"] == [{"run": 0, "final_receipts": 20, "final_whole": True}]
    assert run_alone("chainlite.verify", evidence, "--final", files.proof)[0] == 2


def test_a_file_is_final_exactly_as_far_as_the_anchor_goes() -> None:
    report = check_evidence()
    run, own = report.runs[0], report.logs[0]
    places = [(leaf.leaf_index, leaf.event_count) for leaf in run.logged]
    assert len(places) > 1
    for size in range(1, own.size):
        earlier = SeenLog(size, size.to_bytes(32, "big"), b"")
        shown = report._replace(logs=(own, earlier))
        found = light_report.find_final(shown, (get_final((size, earlier.root)),))
        counts = [count for index, count in places if index < size]
        leaf = found.runs[0]
        assert (leaf.event_count if leaf else None) == (counts[-1] if counts else None)
        assert not found.refusal
        said = light_report.render_final_runs(shown, found)
        assert "the rest is this host's word" in said or "nothing is final" in said


def test_the_newest_final_state_that_the_file_shows_counts() -> None:
    report = check_evidence()
    own = report.logs[0]
    earlier = SeenLog(1, b"\x01" * 32, b"")
    shown = report._replace(logs=(own, earlier))
    finals = tuple(get_final((log.size, log.root)) for log in (earlier, own))
    for order in (finals, finals[::-1]):
        found = light_report.find_final(shown, order)
        assert found.final == finals[1]


def test_a_final_state_of_another_history_is_refused(tmp_path: Path) -> None:
    own = check_evidence().logs[0]
    chain, proof = anchor_log((own.size, b"\x05" * 32))
    files = Files(tmp_path, chain, proof)
    evidence = tmp_path / "evidence"
    evidence.write_bytes(EVIDENCE)
    common = ("chainlite.verify", evidence, "--genesis", files.genesis, "--now", NOW)
    code, text = run_alone(*common, "--final", files.proof)
    assert code == 3
    assert text.startswith("REFUSED: the host's log of")
    assert "forked or rewritten" in text
    files.proof.write_bytes(encode_light(anchor_log((own.size + 1, own.root))[1]))
    code, text = run_alone(*common, "--final", files.proof, "--json")
    assert (code, json.loads(text)["ok"]) == (3, False)
    assert "written anew" in json.loads(text)["final"]["refused"]


def test_a_final_state_of_another_host_says_nothing() -> None:
    own = check_evidence().logs[0]
    other = get_final((own.size, own.root), make_key(8))
    with pytest.raises(SpecError, match="of host"):
        light_report.find_final(check_evidence(), (other,))
