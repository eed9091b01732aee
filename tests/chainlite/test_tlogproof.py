"""tlog-proof files: what is signed by both keys and under the root, and nothing else, is proven."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from chainlite import checkpoint, cosignature, hostlog, merkle, mldsa, note, tlogproof, verify
from chainlite.errors import SpecError, TamperError
from tests.chainlite.samples import WITNESS, WITNESS_KEY, make_key
from tests.chainlite.test_note import BOTH, HOST, ORIGIN, SEED

SIZE = 500
LEAVES = [
    hostlog.encode_boot(hostlog.Boot(bytes(32), bytes(16), 1, 2, number)) for number in range(SIZE)
]
HASHES = [merkle.compute_leaf_hash(leaf) for leaf in LEAVES]


def make_proof(index: int = 123, **changes: object) -> bytes:
    def read(level: int, number: int) -> bytes:
        return merkle.compute_root(HASHES[number << level : (number + 1) << level])

    state = checkpoint.Checkpoint(ORIGIN, SIZE, merkle.compute_root(HASHES))
    signed = checkpoint.sign_checkpoint(state, HOST)
    whole = cosignature.cosign_mldsa(signed, BOTH[1], mldsa.Signer(SEED).sign, 1_795_000_000)
    seen = cosignature.cosign(whole, WITNESS.name, WITNESS_KEY, 1_795_000_001)
    path = merkle.compute_inclusion(index, SIZE, read)
    proof = tlogproof.LogProof(LEAVES[index], index, path, seen)
    return tlogproof.encode_log_proof(proof._replace(**changes))


def test_a_proof_shows_its_leaf_its_place_and_who_saw_it() -> None:
    for index in (0, 1, 123, SIZE - 1):
        data = make_proof(index)
        proven = tlogproof.check_log_proof(data, BOTH, (WITNESS,))
        assert (proven.leaf, proven.leaf_index) == (LEAVES[index], index)
        assert [one.name for one in proven.cosignatures] == [WITNESS.name]
        assert tlogproof.encode_log_proof(tlogproof.parse_log_proof(data)) == data
        without = make_proof(index, extra=b"")
        assert tlogproof.check_log_proof(without, BOTH, leaf=LEAVES[index]).leaf == LEAVES[index]


def test_another_leaf_index_path_or_log_is_refused() -> None:
    proof = tlogproof.parse_log_proof(make_proof())
    for changed in (
        proof._replace(extra=LEAVES[5]),
        proof._replace(leaf_index=124),
        proof._replace(leaf_index=SIZE),
        proof._replace(path=proof.path[:-1]),
        proof._replace(path=(*proof.path, bytes(32))),
        proof._replace(path=proof.path[::-1]),
    ):
        with pytest.raises(TamperError, match="is not this one"):
            tlogproof.check_log_proof(tlogproof.encode_log_proof(changed), BOTH)
    with pytest.raises(SpecError):
        tlogproof.check_log_proof(make_proof(), (BOTH[0]._replace(name="other"), BOTH[1]))


def test_every_flipped_bit_of_head_and_state_is_refused() -> None:
    data = make_proof()
    end = data.index("\u2014".encode())
    for position in range(end):
        for bit in range(8):
            spoilt = bytearray(data)
            spoilt[position] ^= 1 << bit
            with pytest.raises((SpecError, TamperError)):
                tlogproof.check_log_proof(bytes(spoilt), BOTH)


def test_random_damage_is_an_error_with_a_name_or_changes_no_verdict() -> None:
    data, rng = make_proof(), random.Random(11)
    expected = tlogproof.check_log_proof(data, BOTH)
    for _ in range(500):
        spoilt = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        try:
            found = tlogproof.check_log_proof(bytes(spoilt), BOTH)
        except (SpecError, TamperError):
            continue
        assert found == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "index 1\n\n", "index 01\n\nx", "index -1\n\nx", "extra AA==\n\nx",
        "index 1\nAAAA\n\nx",
        "extra A\nindex 1\n\nx", "index 1 \n\nx", "index 1", "index 99999999999999999999\n\nx",
        "extra \nindex 1\n\nx", "index 1\n" + "A" * 43 + "=\n" * 65 + "\nx",
    ],
)  # fmt: skip
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        tlogproof.check_log_proof(tlogproof.MAGIC + text.encode(), BOTH)


def test_the_verifier_takes_it_with_both_keys_and_not_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "leaf.tlog-proof"
    path.write_bytes(make_proof())
    both = [f"--log-key={note.encode_vkey(key)}" for key in BOTH]
    witness = f"--witness-key={cosignature.encode_witness(WITNESS)}"
    assert verify.main([str(path), *both, witness, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["leaf_index"], shown["kind"]) == ("123", "Boot")
    assert shown["witnesses"] == [{"name": WITNESS.name, "time": "1795000001"}]
    assert verify.main([str(path), *both]) == 0
    assert "no witness that you named" in capsys.readouterr().out
    for keys in ([], both[:1], both[1:]):
        assert verify.main([str(path), *keys]) == 2
        assert "--log-key" in capsys.readouterr().err
    stranger = cosignature.Witness(WITNESS.name, make_key(3).public)
    named = f"--witness-key={cosignature.encode_witness(stranger)}"
    assert verify.main([str(path), *both, named, "--require-anchor"]) == 3
    path.write_bytes(make_proof(extra=LEAVES[9]))
    assert verify.main([str(path), *both]) == 3
    assert capsys.readouterr().out.endswith("is not this one, in the log of 500\n")
