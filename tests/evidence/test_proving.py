"""Proofs out of real stores: long runs, recovered ones, and what their epochs say."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from chainlite import proof, segment
from chainlite.proven import Proven
from docklock.cli.prove import run_prove
from docklock.cli.verify import run_verify
from docklock.evidence import boot
from docklock.evidence.cosigned import store_cosigned
from docklock.evidence.proving import make_proof
from docklock.evidence.recovery import recover_runs
from docklock.paths import Paths
from tests.evidence.recording import (
    append_durably,
    begin,
    cosign_log,
    make_id,
    make_paths,
    record,
    record_and_die,
)


def prove(paths: Paths, index: int) -> Proven:
    data, proven = make_proof(paths, make_id(), 0, index, classes=frozenset(), note=b"")
    assert len(data) <= proof.PROOF_TARGET_BYTES
    assert proof.check_proof(data) == proven
    return proven


def test_each_receipt_of_a_long_run_tells_when_its_epoch_began(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "EPOCH_NS", 1)
    paths = make_paths(tmp_path)
    live = begin(paths)
    for number in range(20):
        append_durably(live, number)
    live.close(0)
    found = [prove(paths, index) for index in range(20)]
    assert [one.certificate.epoch for one in found] == list(range(1, 21))
    assert [one.certificate.first_index for one in found] == list(range(20))
    assert {one.certificate.boot for one in found} == {boot.get_boot_id()}
    times = [one.certificate.boottime for one in found]
    assert times == sorted(times)
    assert (found[0].is_certified, found[-1].is_certified) == (True, False)
    file = str(tmp_path / "p")
    for index, holder in ((0, "signed from the host's key on"), (19, "which alone holds it")):
        assert run_prove(["web", str(index), "-o", file], paths) == 0
        assert run_verify([file], paths) == 0
        said, *lines = capsys.readouterr().out.splitlines()
        assert holder in said
        assert holder in "".join(lines)


def test_the_receipts_of_a_recovery_tell_its_own_epoch(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record_and_die(paths, "append(recorder, 0)")
    recover_runs(paths, lambda _: False)
    certificate = prove(paths, 1).certificate
    assert (certificate.epoch, certificate.issuer) == (1, segment.BY_RECOVERY)


def test_a_run_that_knew_a_cosigned_checkpoint_names_it_in_its_proofs(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(2))
    note = Path(cosign_log(paths, tmp_path / "note"))
    store_cosigned(paths, note.read_bytes())
    record(paths)
    [hashed] = {prove(paths, index).certificate.checkpoint for index in range(10)}
    assert hashed.hex() == sha256(note.read_bytes()).hexdigest()
