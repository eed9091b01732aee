"""What each role may do, and how who calls is named."""

from __future__ import annotations

import itertools

import pytest

from chainlite.bpci import actor
from chainlite.bpci.actor import Actor, Role, require, require_host
from chainlite.cage.refusal import Refusal
from chainlite.errors import SpecError

NAME = bytes(range(32))
ORDER = (Role.HOST, Role.READER, Role.AUDITOR, Role.ADMIN)


def make_actor(role: Role, tenant: str = "acme", *, is_sure: bool = True) -> Actor:
    host = NAME if role is Role.HOST else b""
    return Actor(role, tenant, host, is_sure, NAME, b"" if host else NAME)


def get_status(who: Actor, role: Role, tenant: str) -> int:
    try:
        require(who, role, tenant)
    except Refusal as refusal:
        return refusal.status
    return 200


def test_a_role_may_do_what_a_lesser_one_may_and_no_more() -> None:
    for (has, one), (needs, other) in itertools.product(enumerate(ORDER), repeat=2):
        assert get_status(make_actor(one), other, "acme") == (200 if has >= needs else 403)
    assert len(Role) == len(ORDER)


def test_another_tenants_is_not_there_whatever_the_role() -> None:
    for one, other in itertools.product(ORDER, repeat=2):
        assert get_status(make_actor(one, "other"), other, "acme") == 404


def test_a_claim_may_nothing_and_no_member_is_a_host() -> None:
    for one in ORDER:
        assert get_status(make_actor(one, is_sure=False), Role.HOST, "acme") == 401
        if one is Role.HOST:
            assert require_host(make_actor(one, is_sure=False)) == NAME
        else:
            with pytest.raises(Refusal) as found:
                require_host(make_actor(one))
            assert found.value.status == 403


def test_a_key_id_has_one_spelling() -> None:
    public = bytes(range(32, 64))
    keyid = actor.make_keyid(NAME, public)
    assert actor.parse_keyid(keyid) == (NAME, public) and len(keyid) <= 128
    for bad in ("", ".", keyid + "=", keyid.upper(), keyid[:-1], keyid + "A", NAME.hex(), "x" * 99):
        with pytest.raises(SpecError):
            actor.parse_keyid(bad)
