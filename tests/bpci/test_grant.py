"""A grant, and a member's next key: every bit counts, and each is one signer's word."""

from __future__ import annotations

import random

import pytest

from chainlite import domains, keys
from chainlite.bpci import grant
from chainlite.bpci.actor import Role
from chainlite.bpci.grant import (
    GRANT_LIMIT_BYTES,
    Grant,
    NextKey,
    check_grant,
    read_next_key,
    sign_grant,
    sign_next_key,
)
from chainlite.errors import DocklockError, PeerError, SpecError
from tests.bpci.joined import make_pair

SERVER = make_pair(77)
MEMBER = bytes(range(32))


@pytest.mark.parametrize("role", list(Role))
def test_what_is_signed_is_what_is_read(role: Role) -> None:
    for by in (b"", MEMBER):
        for tenant in ("a", "ä" * 32):
            given = Grant(tenant, MEMBER, 5, role, by)
            data = sign_grant(given, SERVER)
            assert check_grant(data, SERVER.public, 5) == given
            assert len(data) <= GRANT_LIMIT_BYTES
            with pytest.raises(PeerError, match="its time is over"):
                check_grant(data, SERVER.public, 6)
            with pytest.raises(PeerError, match="not signed"):
                check_grant(data, make_pair(78).public, 5)
    for tenant in ("", "ä" * 33):
        with pytest.raises(SpecError, match="1 to 64 bytes"):
            sign_grant(Grant(tenant, MEMBER, 5, role), SERVER)


def test_no_bit_of_a_grant_can_be_changed(seed: int, full: bool) -> None:
    data = sign_grant(Grant("acme", MEMBER, 2**50, Role.READER, MEMBER), SERVER)
    rng = random.Random(seed)
    bits = range(8 * len(data))
    for bit in bits if full else rng.sample(bits, 300):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises((SpecError, PeerError)):
            check_grant(bytes(spoilt), SERVER.public, 5)
    for cut in range(len(data)):
        with pytest.raises(SpecError):
            check_grant(data[:cut], SERVER.public, 5)


def test_a_next_key_is_signed_by_both_keys_for_one_member(seed: int) -> None:
    old, new = make_pair(1), make_pair(2)
    data = sign_next_key(MEMBER, old, new)
    assert read_next_key(data) == NextKey(MEMBER, old.public, new.public)
    assert len(data) <= GRANT_LIMIT_BYTES
    rng = random.Random(seed)
    for bit in rng.sample(range(8 * len(data)), 300):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DocklockError):
            read_next_key(bytes(spoilt))
    head = grant._encode_next_key(NextKey(MEMBER, old.public, new.public))
    for signers in ((old, old), (new, new), (new, old)):
        forged = head + b"".join([keys.sign(one, domains.SIGN_GRANT, head) for one in signers])
        with pytest.raises(DocklockError, match="both keys"):
            read_next_key(forged)


def test_no_word_of_a_server_is_a_members_and_no_members_is_a_servers() -> None:
    """Both are signed under one tag; the first byte of what is signed tells them apart."""
    given = sign_grant(Grant("acme", MEMBER, 2**50, Role.ADMIN), SERVER)
    with pytest.raises(SpecError):
        read_next_key(given)
    with pytest.raises(SpecError):
        check_grant(sign_next_key(MEMBER, SERVER, SERVER), SERVER.public, 5)
