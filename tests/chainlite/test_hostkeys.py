"""Which key spoke for a host: nothing is taken that the newest key did not sign, in order."""

from __future__ import annotations

import pytest

from chainlite import domains, hostkeys, hostlog, keys
from chainlite.errors import TamperError

PAIRS = [keys.make_key_pair(bytes([number]) * 32) for number in range(5)]
HOST = keys.compute_host_id(PAIRS[0].public)


def make_key(at: int, number: int, by: int, **changes: object) -> hostlog.Key:
    leaf = hostlog.Key(HOST, number, at, PAIRS[number].public, 7, b"")
    leaf = leaf._replace(**changes)  # type: ignore[arg-type]
    return hostkeys.sign_key(leaf, PAIRS[by])


def make_revocation(at: int, number: int, by: int, first: int, signer: int) -> hostlog.Revocation:
    leaf = hostlog.Revocation(HOST, number, by, at, first, 7, b"")
    return hostkeys.sign_revocation(leaf, PAIRS[signer])


def make_chain() -> hostkeys.HostKeys:
    """Key 0 from leaf 0, key 1 from leaf 10, key 2 from leaf 20."""
    found = hostkeys.HostKeys(PAIRS[0].public)
    found.take(make_key(0, 0, 0))
    found.take(make_key(10, 1, 0))
    found.take(make_key(20, 2, 1))
    return found


def test_a_host_keeps_its_id_and_each_leaf_has_one_key() -> None:
    found = make_chain()
    assert (found.host, found.number, found.public) == (HOST, 2, PAIRS[2].public)
    numbers = [found.get_at(index).number for index in (0, 1, 9, 10, 19, 20, 10**9)]
    assert numbers == [0, 0, 0, 1, 1, 2, 2]


def test_an_evidence_file_need_not_have_the_first_record() -> None:
    found = hostkeys.HostKeys(PAIRS[0].public)
    found.take(make_key(10, 1, 0))
    assert found.number == 1


@pytest.mark.parametrize(
    ("index", "leaf"),
    [
        (30, make_key(30, 3, 3)),
        (30, make_key(30, 3, 1)),
        (30, make_key(30, 4, 2)),
        (30, make_key(30, 2, 2)),
        (30, make_key(30, 1, 2)),
        (30, make_key(30, 0, 2)),
        (20, make_key(20, 3, 2)),
        (19, make_key(19, 3, 2)),
        (30, make_key(30, 3, 2, host=b"\x01" * 32)),
        (30, make_key(30, 3, 2)._replace(public=PAIRS[4].public)),
        (30, make_key(30, 3, 2)._replace(time=8)),
        (30, make_key(30, 3, 2)._replace(signature=bytes(64))),
        (30, make_revocation(30, 0, 2, 5, 1)),
        (30, make_revocation(30, 0, 1, 5, 1)),
        (30, make_revocation(30, 0, 1, 5, 2)),
        (30, make_revocation(30, 2, 2, 5, 2)),
        (30, make_revocation(30, 3, 2, 5, 2)),
        (30, make_revocation(30, 0, 2, 31, 2)),
    ],
)
def test_a_record_that_does_not_follow_is_refused_and_changes_nothing(
    index: int, leaf: hostlog.Key | hostlog.Revocation
) -> None:
    found = make_chain()
    before = found.records
    with pytest.raises(TamperError, match=f"leaf {index}"):
        found.take(leaf)
    assert found.records == before
    found.take(make_key(30, 3, 2))


def test_a_first_record_that_enrols_another_key_is_refused() -> None:
    for leaf in (make_key(0, 1, 0), make_key(1, 0, 0), make_key(0, 0, 1)):
        with pytest.raises(TamperError):
            hostkeys.HostKeys(PAIRS[0].public).take(leaf)
    wrong = hostkeys.sign_key(make_key(0, 0, 0)._replace(public=PAIRS[1].public), PAIRS[0])
    with pytest.raises(TamperError, match="enrols another"):
        hostkeys.HostKeys(PAIRS[0].public).take(wrong)


def test_a_revocation_reaches_back_as_far_as_the_earliest_says() -> None:
    found = make_chain()
    found.take(make_revocation(30, 1, 2, 25, 2))
    found.take(make_revocation(31, 1, 2, 15, 2))
    found.take(make_revocation(32, 1, 2, 18, 2))
    revoked = [index for index in range(40) if found.is_revoked_at(index)]
    assert revoked == [15, 16, 17, 18, 19]
    assert found.records[1].revoked_from == 15


def test_the_signer_of_what_has_no_leaf_is_found_among_the_later_keys() -> None:
    found = make_chain()
    tag = domains.SIGN_CERTIFICATE
    for number in range(3):
        signature = keys.sign(PAIRS[number], tag, b"certificate")
        signer = found.find_signer(tag, b"certificate", signature, first_index=12)
        assert (signer is not None and signer.number) == (number if number else False)
    other = keys.sign(PAIRS[4], tag, b"certificate")
    assert found.find_signer(tag, b"certificate", other, first_index=0) is None


def test_a_record_and_a_revocation_cannot_be_taken_for_each_other_or_for_a_certificate() -> None:
    leaf = make_key(10, 1, 0)
    unsigned = hostlog.encode_key(leaf._replace(signature=b""))
    for tag in (domains.SIGN_CERTIFICATE, domains.SIGN_SEAL, domains.SIGN_SEGMENT, b""):
        assert not keys.is_signed(PAIRS[0].public, tag, unsigned, leaf.signature)
