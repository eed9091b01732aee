"""A proof of one event: small, alone, and every bit of it covered."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import NamedTuple

import pytest

from chainlite import (
    checkpoint,
    cosignature,
    domains,
    hostkeys,
    hostlog,
    keys,
    merkle,
    proof,
    receipt,
    redaction,
    segment,
)
from chainlite.errors import SpecError, TamperError
from chainlite.proven import describe_proof, judge_proof, render_proof
from chainlite.report import Trust, format_time
from tests.chainlite.samples import (
    WITNESS,
    WITNESS_KEY,
    encode_segment,
    make_key,
    make_sample,
    make_tree,
)
from tests.chainlite.test_verify import run_alone

HOST = make_key(1)
HOST_ID = keys.compute_host_id(HOST.public)
EPOCH = make_key(2)
TIME_S = 1_795_000_000
SEEN = b"\x66" * 32
"""The checkpoint that the certificates name, but the first, when none was cosigned yet."""


class Made(NamedTuple):
    parts: proof.Proof
    log_size: int


def certify(epoch: int, issuer: int, public: bytes, by: keys.KeyPair) -> tuple[bytes, bytes]:
    container = make_sample(count=1).genesis.container
    certificate = segment.Certificate(
        HOST_ID, container, 0, epoch, 0, issuer, public, b"\x44" * 16, (5 + 60 * epoch) * 10**9,
        (TIME_S + 60 * epoch) * 10**9, SEEN if epoch else bytes(32),
    )  # fmt: skip
    data = segment.encode_certificate(certificate)
    return data, keys.sign(by, domains.SIGN_CERTIFICATE, data)


def make(
    *,
    events: int = 20,
    at: int = 7,
    log_size: int = 5,
    epochs: int = 0,
    witnesses: int = 0,
    certificates: tuple[tuple[bytes, bytes], ...] = (),
) -> Made:
    """The parts of a proof: a real segment, a real tree, the leaf in its middle.

    `certificates` are those of `epochs` if none are given.
    """
    sample = make_sample(count=events, per_segment=events)
    chain = segment.compute_genesis_hash(segment.encode_genesis(sample.genesis))
    certificates = certificates or make_certificates(epochs)
    stored, _ = encode_segment(sample, 0, events, chain, EPOCH, certificates[-1][0])
    found = list(redaction.iterate_events(stored, segment.unpack_body(stored.body)))
    _, read = make_tree([merkle.compute_leaf_hash(event.raw) for event in found])
    leaf_index = log_size // 2
    leaves = [number.to_bytes(32, "big") for number in range(log_size)]
    leaf = hostlog.encode_segment(hostlog.Segment(stored.header, stored.signature))
    leaves[leaf_index] = merkle.compute_leaf_hash(leaf)
    root, read_log = make_tree(leaves)
    state = checkpoint.Checkpoint(checkpoint.get_origin(HOST_ID), log_size, root)
    note = checkpoint.sign_checkpoint(state, HOST)
    for number in range(witnesses):
        key = WITNESS_KEY if number == 0 else make_key(0x77 + number)
        name = WITNESS.name if number == 0 else f"witness.example.org/{number}"
        note = cosignature.cosign(note, name, key, TIME_S + number)
    return Made(
        proof.Proof(
            HOST.public, note, stored.header, stored.signature, certificates, leaf_index,
            merkle.compute_inclusion(leaf_index, log_size, read_log),
            merkle.compute_inclusion(at, events, read),
            found[at].raw,
            tuple(
                None if value is None else proof.Opened(salt, value)
                for value, salt in zip(found[at].values, found[at].salts, strict=True)
            ),
        ),
        log_size,
    )  # fmt: skip


def make_certificates(epochs: int) -> tuple[tuple[bytes, bytes], ...]:
    """The list from the host's key to the epoch's, as long as the run is old."""
    pairs = [make_key(3 + number % 200) for number in range(epochs)] + [EPOCH]
    made = [certify(0, segment.BY_HOST, pairs[0].public, HOST)]
    for number in range(1, epochs + 1):
        issuer = pairs[number - 1]
        made.append(certify(number, segment.BY_EPOCH, pairs[number].public, issuer))
    return tuple(made)


def refuse(parts: proof.Proof) -> str:
    with pytest.raises(TamperError) as error:
        proof.check_proof(proof.encode_proof(parts))
    return str(error.value)


def test_a_proof_takes_4_kib_at_a_million_segments_and_a_day_of_epochs() -> None:
    """The longest paths: 1,024 events in the segment, a million leaves, the last epoch of a day."""
    for epochs, is_certified in ((0, True), (5, True), (1439, False)):
        made = make(events=1024, at=1000, log_size=1_000_000, epochs=epochs, witnesses=3)
        parts = made.parts._replace(values=tuple(None for _ in made.parts.values))
        assert (len(parts.segment_proof), len(parts.log_proof)) == (10, 20)
        data = proof.fit(parts)
        assert len(data) <= proof.PROOF_TARGET_BYTES
        proven = proof.check_proof(data)
        assert proven.is_certified == is_certified
        assert proven.certificate == segment.decode_certificate(parts.certificates[-1][0])
        assert (proven.event.event_index, proven.log.size) == (1000, 1_000_000)
        assert judge_proof(proven, Trust(HOST_ID.hex(), (WITNESS,))).by[0].time == TIME_S


def test_a_proof_comes_back_as_it_went_in() -> None:
    for epochs in (0, 2, 40):
        data = proof.fit(make(epochs=epochs).parts)
        assert proof.encode_proof(proof.decode_proof(data)) == data


@pytest.mark.parametrize("epochs", [0, 2, 40])
def test_every_flipped_bit_of_a_proof_is_refused(epochs: int, *, full: bool, seed: int) -> None:
    data = proof.fit(make(epochs=epochs).parts)
    rng = random.Random(seed)
    positions = range(len(data)) if full else sorted(rng.sample(range(len(data)), 400))
    for position in positions:
        spoilt = bytearray(data)
        spoilt[position] ^= 1 << rng.randrange(8)
        with pytest.raises((TamperError, SpecError)):
            proof.check_proof(bytes(spoilt))
    for spoilt_data in (data + b"\0", data[:-1], data[: len(data) // 2]):
        with pytest.raises(TamperError):
            proof.check_proof(spoilt_data)


def test_every_part_must_belong_to_the_others() -> None:
    made, other = make().parts, make(at=8).parts
    stranger = make_key(9)
    assert "not in the segment" in refuse(made._replace(receipt=other.receipt, values=()))
    assert "not in the segment" in refuse(made._replace(segment_proof=other.segment_proof))
    assert "host's log" in refuse(made._replace(leaf_index=made.leaf_index + 1))
    assert "host's key" in refuse(made._replace(public=stranger.public))
    changed = receipt.decode_receipt(made.receipt)._replace(container=bytes(32))
    raw = receipt.encode_receipt(changed)
    assert "another host, container or run" in refuse(made._replace(receipt=raw))
    signature = keys.sign(stranger, domains.SIGN_SEGMENT, made.header)
    assert "not signed by its epoch" in refuse(made._replace(signature=signature))


def test_certificates_must_lead_from_the_host_to_the_segments_epoch() -> None:
    parts = make(epochs=3).parts
    certificates = parts.certificates
    for spoilt in (
        certificates[1:],
        certificates[:-1],
        certificates[::-1],
        (certificates[0], *certificates[2:]),
        (*certificates, certificates[-1]),
    ):
        why = refuse(parts._replace(certificates=spoilt))
        assert "do not lead" in why or "another certificate" in why
    forged = certify(0, segment.BY_HOST, EPOCH.public, make_key(9))
    assert "signed by its issuer" in refuse(parts._replace(certificates=(forged,)))
    recovered = make(certificates=(certify(3, segment.BY_RECOVERY, EPOCH.public, HOST),)).parts
    proven = proof.check_proof(proof.fit(recovered))
    assert (proven.is_certified, proven.certificate.epoch) == (True, 3)
    for alone in (recovered, make().parts):
        unsigned = ((alone.certificates[0][0], b""),)
        assert "signature of the epoch's certificate" in refuse(
            alone._replace(certificates=unsigned)
        )


def test_an_epoch_has_the_certificate_that_its_segments_name() -> None:
    """Another by the same issuer, for the same key, with or without the list that leads to it."""
    parts, issuer = make(epochs=2).parts, make_key(4)
    *before, (data, _) = parts.certificates
    other = segment.decode_certificate(data)
    for changed in (
        other._replace(time=other.time - 1),
        other._replace(boot=bytes(16)),
        other._replace(checkpoint=bytes(32)),
    ):
        shown = segment.encode_certificate(changed)
        signature = keys.sign(issuer, domains.SIGN_CERTIFICATE, shown)
        for certificates in ((*before, (shown, signature)), ((shown, b""),)):
            assert "another certificate" in refuse(parts._replace(certificates=certificates))


def test_a_certificate_is_of_the_run_and_epoch_that_names_it() -> None:
    """Also where an epoch's key signs a header that says otherwise."""
    parts = make(epochs=40).parts
    data = parts.certificates[-1][0]
    for changes in ({"epoch": 41}, {"run": 1}, {"container": bytes(32)}):
        header = segment.decode_header(parts.header)._replace(**changes)  # type: ignore[arg-type]
        changed = parts._replace(header=segment.encode_header(header), certificates=((data, b""),))
        assert "of another run or epoch" in refuse(changed)


def test_every_bit_of_a_certificate_that_stands_alone_is_covered() -> None:
    """Nothing but the header's hash holds it, and the log holds that."""
    parts = make(epochs=40).parts
    data = parts.certificates[-1][0]
    assert proof.check_proof(proof.fit(parts)).certificate == segment.decode_certificate(data)
    for bit in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        refuse(parts._replace(certificates=((bytes(spoilt), b""),)))


def test_what_the_epochs_certificate_says_is_told_with_what_holds_it() -> None:
    for epochs, holder in ((2, "signed from the host's key on"), (40, "which alone holds it")):
        proven = proof.check_proof(proof.fit(make(epochs=epochs).parts))
        verdict = judge_proof(proven, Trust(HOST_ID.hex()))
        text = render_proof(proven, verdict)
        began = format_time(TIME_S + 60 * epochs)
        when = f"{began}, {5 + 60 * epochs} s after boot {'44' * 16}"
        assert f"its epoch {epochs} began at the host's time {when}\n" in text
        assert f"not before others had cosigned the checkpoint with SHA-256 {SEEN.hex()}\n" in text
        assert holder in text
        shown = describe_proof(proven, verdict)
        assert shown["certified"] == (epochs == 2)
        assert (shown["epoch"]["epoch"], shown["epoch"]["issuer"]) == (epochs, "epoch")
        assert shown["epoch"]["not_before_checkpoint"] == SEEN.hex()
    first = proof.check_proof(proof.fit(make().parts))
    verdict = judge_proof(first, Trust())
    assert "names no cosigned checkpoint" in render_proof(first, verdict)
    assert describe_proof(first, verdict)["epoch"]["not_before_checkpoint"] is None
    recovered = make(certificates=(certify(3, segment.BY_RECOVERY, EPOCH.public, HOST),)).parts
    assert ", after a crash\n" in render_proof(proof.check_proof(proof.fit(recovered)), verdict)


def test_a_value_is_told_with_its_salt_or_not_at_all() -> None:
    parts = make().parts
    opened = parts.values[0]
    assert opened is not None
    told = proof.check_proof(proof.encode_proof(parts))
    assert told.values[0] == ("v0", opened.value)
    hidden = proof.check_proof(proof.encode_proof(parts._replace(values=(None,) * 2)))
    assert [value for _, value in hidden.values] == [None, None]
    other = parts._replace(values=(opened._replace(value=b"other"), *parts.values[1:]))
    assert "committed" in refuse(other)


def test_a_proof_verifies_alone_with_the_exit_codes_of_evidence(tmp_path: Path) -> None:
    data = proof.fit(make(witnesses=1).parts)
    host, witness = HOST_ID.hex(), cosignature.encode_witness(WITNESS)
    code, text = run_alone(tmp_path, data, "--host-key", host)
    assert code == 0
    assert "syscall.connect" in text and "this is that host's word" in text
    anchored = ("--host-key", host, "--require-anchor", "--witness-key")
    code, text = run_alone(tmp_path, data, *anchored, witness)
    assert code == 0
    assert f"anchored by {WITNESS.name} at 2026-" in text
    stranger = cosignature.Witness(WITNESS.name, make_key(5).public)
    code, text = run_alone(tmp_path, data, *anchored, cosignature.encode_witness(stranger))
    assert (code, text.splitlines()[0]) == (3, "REFUSED: the receipt is not anchored")
    assert run_alone(tmp_path, data)[0] == 4
    assert run_alone(tmp_path, data[:-1], "--host-key", host)[0] == 3
    assert run_alone(tmp_path, data[:9], "--host-key", host)[0] == 2
    code, text = run_alone(tmp_path, data, "--json", "--host-key", host)
    shown = json.loads(text)
    assert (code, shown["ok"], shown["receipt"]["index"]) == (0, True, "7")


def test_a_checkpoint_of_another_history_refuses_the_proof(tmp_path: Path) -> None:
    made = make()
    state = checkpoint.parse_claim(made.parts.note)
    forked = checkpoint.sign_checkpoint(state._replace(root=bytes(32)), HOST)
    proven = proof.check_proof(proof.fit(made.parts))
    assert "forked" in judge_proof(proven, Trust(note=forked)).refusal
    other = checkpoint.sign_checkpoint(state._replace(size=99), HOST)
    assert "does not show" in judge_proof(proven, Trust(note=other)).refusal
    assert judge_proof(proven, Trust(note=made.parts.note)).refusal == ""


@pytest.mark.parametrize("epochs", [0, 40])
def test_a_proof_under_a_revoked_key_is_not_trusted(epochs: int) -> None:
    """With certificates and without: the leaf lies where the host takes its old key back."""
    made = make(epochs=epochs)
    new = make_key(0x55)
    key = hostkeys.sign_key(hostlog.Key(HOST_ID, 1, 3, new.public, 0, b""), HOST)
    for first_index, is_revoked in ((0, True), (made.parts.leaf_index + 1, False)):
        leaf = hostlog.Revocation(HOST_ID, 0, 1, 4, first_index, 0, b"")
        revocation = hostkeys.sign_revocation(leaf, new)
        parts = made.parts._replace(
            note=checkpoint.sign_checkpoint(checkpoint.parse_claim(made.parts.note), new),
            key_records=(hostlog.encode_key(key), hostlog.encode_revocation(revocation)),
        )
        proven = proof.check_proof(proof.fit(parts))
        assert proven.is_certified == (epochs == 0)
        assert proven.is_revoked == is_revoked
        verdict = judge_proof(proven, Trust(HOST_ID.hex()))
        assert verdict.is_trusted != is_revoked
