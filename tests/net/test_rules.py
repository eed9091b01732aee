"""The pure parts: what waits to be sent, how peers behave, waiting longer, registrations."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chainlite.errors import SpecError
from chainlite.net import conduct
from chainlite.net.conduct import Conduct
from chainlite.net.outbox import Outbox
from chainlite.net.registration import (
    Address,
    Registration,
    decode_registration,
    encode_registration,
    is_newer,
    sign_registration,
)
from chainlite.net.transport import BACKOFF_MAX_S, BACKOFF_MIN_S, QUEUE_BYTES_MAX, Backoff
from tests.net.nodes import NETWORK, Identity


def test_what_is_urgent_goes_first_and_each_priority_keeps_its_order() -> None:
    box = Outbox()
    for frame in (b"bulk1", b"bulk2"):
        assert box.put(2, frame)
    for frame in (b"vote1", b"vote2"):
        assert box.put(0, frame)
    assert box.put(1, b"tx")
    assert box.take(10) == [b"vote1", b"vote2"]
    assert box.put(0, b"vote3")
    assert box.take(100) == [b"vote3", b"tx", b"bulk1", b"bulk2"]
    assert box.is_empty()
    assert box.take(100) == []


def test_one_frame_is_taken_however_long() -> None:
    box = Outbox()
    box.put(1, bytes(1000))
    box.put(1, b"x")
    assert box.take(10) == [bytes(1000)]
    assert not box.is_empty()


def test_a_queue_is_bounded_in_bytes_and_has_room_again() -> None:
    box, part = Outbox(), QUEUE_BYTES_MAX[2] // 2
    assert box.put(2, bytes(part))
    assert box.put(2, bytes(part))
    assert not box.put(2, b"x")
    assert box.put(0, b"x")  # of another priority
    box.take(1)
    box.take(part)
    assert box.put(2, bytes(part))
    assert not box.put(2, b"x")


def test_misdeeds_in_a_window_ban_longer_each_time() -> None:
    one, now = Conduct(), 1_000_000
    banned = []
    for _ in range(9):
        results = [one.upon_misdeed(now) for _ in range(conduct.MISDEEDS_MAX)]
        assert results == [False] * (conduct.MISDEEDS_MAX - 1) + [True]
        banned.append(one.get_ban_ms(now))
        assert one.get_ban_ms(now + banned[-1]) == 0
        now += banned[-1]
    assert banned[:3] == [10_000, 20_000, 40_000]
    assert banned[-1] == conduct.BAN_MAX_MS
    now += conduct.FORGIVEN_MS + 1
    for _ in range(conduct.MISDEEDS_MAX):
        one.upon_misdeed(now)
    assert one.get_ban_ms(now) == conduct.BAN_MIN_MS


def test_rare_misdeeds_ban_nobody() -> None:
    one = Conduct()
    for number in range(100):
        assert not one.upon_misdeed(number * conduct.WINDOW_MS // (conduct.MISDEEDS_MAX - 2))


def test_waiting_doubles_up_to_a_bound() -> None:
    for tries in range(100):
        low, high = Backoff(tries).compute_s(0.0), Backoff(tries).compute_s(1.0)
        assert BACKOFF_MIN_S / 2 <= low == high / 2
        assert high <= BACKOFF_MAX_S
    assert Backoff(1).compute_s(1.0) == 2 * BACKOFF_MIN_S


def test_a_registration_has_one_form_and_one_network(tmp_path: Path, seed: int) -> None:
    made = Identity(tmp_path, 1).register(80, 443)
    data = encode_registration(made)
    assert decode_registration(data, NETWORK) == made
    with pytest.raises(SpecError, match="network"):
        decode_registration(data, bytes(32))
    rng = random.Random(seed)
    for _ in range(400):
        wrong = bytearray(data)
        wrong[rng.randrange(len(wrong))] ^= 1 << rng.randrange(8)
        with pytest.raises(SpecError):
            decode_registration(bytes(wrong), NETWORK)
    for size in range(len(data)):
        with pytest.raises(SpecError):
            decode_registration(data[:size], NETWORK)
    with pytest.raises(SpecError):
        decode_registration(data + b"x", NETWORK)


def test_what_may_not_be_registered_is_not_signed(tmp_path: Path) -> None:
    one = Identity(tmp_path, 1)
    good = one.register(80)
    wrong: tuple[Registration, ...] = (
        good._replace(network=b"short"),
        good._replace(certificate=b""),
        good._replace(certificate=bytes(3000)),
        good._replace(addresses=(Address("host", 80),) * 9),
        good._replace(addresses=(Address("ho st", 80),)),
        good._replace(addresses=(Address("", 80),)),
        good._replace(addresses=(Address("host", 0),)),
        good._replace(operator="two words"),
        good._replace(operator=""),
    )
    for registration in wrong:
        with pytest.raises(SpecError):
            sign_registration(registration, one.key)


def test_the_larger_serial_stands(tmp_path: Path) -> None:
    one = Identity(tmp_path, 1)
    first, second = one.register(80), one.register(81)
    assert is_newer(first, None)
    assert is_newer(second, first)
    assert not is_newer(first, second)
    assert not is_newer(first._replace(operator="other"), first)
