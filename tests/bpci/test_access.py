"""Acts come to who may do what; what does not follow from those before is refused."""

from __future__ import annotations

import random

import pytest

from chainlite.bpci.access import Access
from chainlite.bpci.act import FIRST_DIGEST, Act, Kind, compute_digest, decode_act, encode_act
from chainlite.bpci.actor import Role
from chainlite.bpci.grant import ROLES, sign_next_key
from chainlite.bpci.quota import UNLIMITED, Quota
from chainlite.errors import SpecError, TamperError
from chainlite.keys import compute_host_id
from tests.bpci.joined import make_grant, make_pair
from tests.bpci.servers import NOW_MS

HOST = b"\x09" * 32


def make_name(number: int) -> bytes:
    return compute_host_id(make_pair(number).public)


def enrol(number: int, role: Role = Role.READER, tenant: str = "acme", by: bytes = b"") -> Act:
    data = make_grant(number, role, tenant, by=by, now_ms=NOW_MS)
    numbers = (ROLES.index(role),)
    return Act(Kind.ENROL, NOW_MS, tenant, by, make_name(number), numbers, data)


def rotate(number: int, old: int, new: int) -> Act:
    record = sign_next_key(make_name(number), make_pair(old), make_pair(new))
    return Act(Kind.ROTATE, NOW_MS, "acme", b"", make_name(number), record=record)


def revoke(name: bytes, tenant: str = "acme") -> Act:
    return Act(Kind.REVOKE, NOW_MS, tenant, b"", name)


def apply(*acts: Act) -> Access:
    access = Access()
    for act in acts:
        access.check(act)
        access.apply(act)
    return access


EVERY_KIND = (
    enrol(1, Role.ADMIN), enrol(2, Role.AUDITOR, by=make_name(1)), rotate(2, 2, 3),
    revoke(make_name(2)), revoke(HOST),
    Act(Kind.QUOTA, 5, "acme", numbers=(10, UNLIMITED, 3)),
    Act(Kind.QUOTA, 5, "acme", make_name(1), numbers=(20, 30, UNLIMITED)),
    Act(Kind.RETENTION, 6, "acme", numbers=(30,)), Act(Kind.DAY, 7, "acme", numbers=(20_000, 55)),
    Act(Kind.EXCEED, 8, "acme", name=HOST, numbers=(0, 20_000)),
    Act(Kind.ERASE, 9, "acme", numbers=(10**18, 30)),
    Act(Kind.ERASED, 9, "acme", numbers=(10**18, 4, 1)),
)  # fmt: skip


def test_every_kind_of_act_comes_to_what_it_says() -> None:
    assert {act.kind for act in EVERY_KIND} == set(Kind)
    access = apply(*EVERY_KIND)
    member = access.members[make_name(2)]
    assert (member.role, member.by, member.revoked_ms) == (Role.AUDITOR, make_name(1), NOW_MS)
    assert member.publics == (make_pair(2).public, make_pair(3).public)
    assert access.revoked_hosts == {HOST: NOW_MS}
    assert access.get_quota("acme") == Quota(10, 30, 3) and access.get_quota("other") == Quota()
    assert access.get_retention("acme") == 30 and access.get_retention("other") == 0
    day_ms = 20_000 * 24 * 3600 * 1000
    assert access.find_day("acme", day_ms + 1) == 55 and access.find_day("acme", 2 * day_ms) is None
    assert access.find_day("acme", day_ms - 1) == 55, "a clock that is put back begins no day"
    assert access.is_excess_known("acme", 0, 20_000) and not access.is_excess_known("acme", 1, 0)
    erasure = access.erasures["acme"]
    assert erasure.is_done and (erasure.segments, erasure.alerts) == (4, 1)
    assert access.get_cutoff_ns("acme") == 10**18


@pytest.mark.parametrize(
    "acts",
    [
        (enrol(1), enrol(1)),
        (enrol(1), enrol(1, Role.ADMIN)),
        (enrol(1), revoke(make_name(1)), enrol(1)),
        (enrol(1, Role.HOST),),
        (enrol(1)._replace(numbers=(3,)),),
        (enrol(1)._replace(numbers=()),),
        (enrol(1)._replace(tenant="other"),),
        (enrol(1)._replace(name=make_name(2)),),
        (enrol(1)._replace(record=b""),),
        (enrol(1, by=make_name(3))._replace(by=b""),),
        (rotate(1, 1, 2),),
        (enrol(1), rotate(1, 3, 2)),
        (enrol(1), rotate(1, 1, 2), rotate(1, 1, 3)),
        (enrol(1), rotate(1, 1, 2), rotate(1, 2, 1)),
        (enrol(1), enrol(2), rotate(1, 1, 3)._replace(name=make_name(2))),
        (enrol(1), revoke(make_name(1)), rotate(1, 1, 2)),
        (enrol(1), revoke(make_name(1)), revoke(make_name(1))),
        (enrol(1), revoke(make_name(1), "other")),
        (revoke(HOST), revoke(HOST)),
        (revoke(make_name(1)), enrol(1)),
        (Act(Kind.QUOTA, 5, "acme", numbers=(1, 2)),),
        (Act(Kind.RETENTION, 5, "acme"),),
        (Act(Kind.ERASED, 9, "acme", numbers=(10, 4, 1)),),
        (EVERY_KIND[-2], EVERY_KIND[-1]._replace(numbers=(10, 4, 1))),
    ],
)
def test_an_act_that_does_not_follow_is_refused_and_changes_nothing(acts: tuple[Act, ...]) -> None:
    access = apply(*acts[:-1])
    before = (dict(access.members), dict(access.revoked_hosts), dict(access.erasures))
    for refuse in (access.check, access.apply):
        with pytest.raises(TamperError):
            refuse(acts[-1])
    assert before == (access.members, access.revoked_hosts, access.erasures)


def test_an_acts_bytes_are_its_own_and_its_place_is_in_them(seed: int) -> None:
    digest, rng = FIRST_DIGEST, random.Random(seed)
    for act in EVERY_KIND:
        data = encode_act(act, digest)
        assert decode_act(data) == (act, digest)
        for bad in (data[:-1], data + b"\0", b"", data[:2] + b"\x02" + data[3:]):
            with pytest.raises(SpecError):
                decode_act(bad)
        for _ in range(20):
            spoilt = bytearray(data)
            spoilt[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            try:
                assert decode_act(bytes(spoilt)) != (act, digest)
            except SpecError:
                continue
        digest = compute_digest(data)
