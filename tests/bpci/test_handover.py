"""What hosts hand over: one spelling, bounded; leaves that nobody names are looked for."""

from __future__ import annotations

import random

import pytest

from chainlite import checkpoint, merkle
from chainlite.bpci.acknowledgement import Held, encode_held
from chainlite.bpci.handover import (
    EVERYTHING,
    Place,
    Places,
    Shown,
    decode_places,
    decode_shown,
    encode_places,
    encode_shown,
)
from chainlite.bpci.refilling import WINDOW, Claims, search_leaves
from chainlite.errors import SpecError

SHOWN = Shown(b"acknowledgement", b"note", b"grant")
PLACES = Places((Place(0, 0), Place(5, 7), Place(9, 8)), (9, 12), (b"note", b""), EVERYTHING)
HOSTS = [bytes([number]) * 32 for number in range(3)]


def test_what_is_handed_over_has_one_spelling() -> None:
    for data, decode, encode, value in (
        (encode_shown(SHOWN), decode_shown, encode_shown, SHOWN),
        (encode_places(PLACES), decode_places, encode_places, PLACES),
    ):
        assert decode(data) == value  # type: ignore[operator]
        for at in range(len(data) * 8):
            spoilt = bytearray(data)
            spoilt[at // 8] ^= 1 << at % 8
            try:
                found = decode(bytes(spoilt))  # type: ignore[operator]
            except SpecError:
                continue
            assert found != value and encode(found) == bytes(spoilt)  # type: ignore[operator]
        for bad in (b"", data[:-1], data + b"\0"):
            with pytest.raises(SpecError):
                decode(bad)  # type: ignore[operator]
    for message in (decode_shown(encode_shown(SHOWN)), SHOWN):
        with pytest.raises(SpecError, match="another kind"):
            decode_places(encode_shown(message))
    assert encode_shown(SHOWN)[:4].hex() == "ff000100"
    assert encode_places(PLACES)[:4].hex() == "ff000101"


def test_places_are_in_order() -> None:
    for places, unsure in (
        ((Place(5, 7), Place(5, 8)), ()),
        ((Place(5, 7), Place(6, 7)), ()),
        ((Place(5, 7), Place(4, 8)), ()),
        ((), (3, 3)),
    ):
        with pytest.raises(SpecError, match="not in order"):
            decode_places(encode_places(Places(places, unsure, (), 0)))


def make_held(host: bytes, size: int) -> Held:
    return Held(host, size, bytes([size % 256]) * 32)


def make_log(rng: random.Random, count: int) -> list[Held]:
    """Leaves of three hosts, each in the order of its sizes."""
    sizes, leaves = dict.fromkeys(HOSTS, -1), list[Held]()
    for _ in range(count):
        host = rng.choice(HOSTS)
        sizes[host] += 1 if sizes[host] < 0 else rng.randint(1, 3)
        leaves.append(make_held(host, sizes[host]))
    return leaves


def get_state(leaves: list[Held]) -> checkpoint.Checkpoint:
    hashes = [merkle.compute_leaf_hash(encode_held(one)) for one in leaves]
    return checkpoint.Checkpoint("log", len(leaves), merkle.compute_root(hashes))


def test_leaves_that_nobody_names_are_found_and_no_others(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(30):
        leaves = make_log(rng, 12)
        lost = set(rng.sample(range(12), rng.randint(0, 2)))
        claims = Claims()
        for host in HOSTS:
            places = [Place(number, one.size) for number, one in enumerate(leaves)
                      if one.host == host and number not in lost]  # fmt: skip
            claims.add(0, host, places, EVERYTHING)
            claims.put_unsure(host, tuple(sorted({rng.randint(1, 30) for _ in range(2)})))
        held = [(host, -1, max([one.size for one in leaves if one.host == host], default=0) + 4)
                for host in HOSTS]  # fmt: skip

        def choose(leaf_index, chosen, claims=claims, held=held):  # type: ignore[no-untyped-def]
            said = list(claims.choose(leaf_index, make_held))
            yield from said or claims.guess(leaf_index, chosen, held, make_held)

        assert claims.get_reach(0) == min(lost, default=12)
        assert search_leaves(0, [], get_state(leaves), choose) == tuple(leaves)
        other = get_state(leaves)._replace(root=bytes(32))
        if len(lost) < 2:
            assert search_leaves(0, [], other, choose) is None


def test_a_search_is_bounded() -> None:
    tried = 0

    def choose(leaf_index: int, chosen: object):  # type: ignore[no-untyped-def]
        nonlocal tried
        for size in range(1000):
            tried += 1
            yield make_held(HOSTS[0], size)

    goal = checkpoint.Checkpoint("log", 3, bytes(32))
    assert search_leaves(0, [], goal, choose) is None
    assert tried < 70_000


def test_no_more_places_are_kept_than_are_near() -> None:
    claims = Claims()
    claims.add(10, HOSTS[0], [Place(9, 1), Place(10, 2), Place(10 + WINDOW, 3)], EVERYTHING)
    assert claims.get_reach(10) == 11 and claims.get_until(HOSTS[0]) == 10 + WINDOW
    assert list(claims.choose(9, make_held)) == []
    claims.drop_host(HOSTS[0])
    assert claims.get_reach(10) == 10
