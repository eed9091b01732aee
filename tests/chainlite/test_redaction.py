"""Values go, proofs stay: what a redacted segment shows, and what it no longer holds."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from chainlite import bundle, receipt, redaction, segment, verify
from chainlite.errors import SpecError
from chainlite.report import FirstBad
from tests.chainlite.samples import (
    Sample,
    decode_frames,
    encode_frames,
    encode_sample,
    make_receipt,
    make_sample,
)

NAMES = ("path", "argv", "sockaddr1", "string2")
SEED = b"\x01" * 32


def make_named(*, sign_each: bool = False) -> Sample:
    """A sample whose events have a value of every class, of which the bytes tell the class."""
    sample = make_sample(count=12, per_segment=5, sign_each=sign_each)
    commitments = tuple((name, bytes(32)) for name in NAMES)
    events = tuple(
        event._replace(
            receipt=make_receipt(number, commitments=commitments),
            values=tuple(b"secret %s %d" % (name.encode(), number) for name in NAMES),
        )
        for number, event in enumerate(sample.events)
    )
    return sample._replace(events=events)


FILE = encode_sample(make_named(), SEED)


def redact(data: bytes, classes: str) -> list[tuple[int, bytes]]:
    """The frames of a file with its segments redacted, but for the seal."""
    wanted, frames = redaction.parse_classes(classes, "--redact"), []
    for kind, payload in decode_frames(data):
        if kind == bundle.SEGMENT:
            stored = redaction.redact_segment(bundle.decode_segment(payload)[1], wanted)
            kind, payload = stored.kind, bundle.encode_segment(stored)
        if kind != bundle.SEAL:
            frames.append((kind, payload))
    return frames


def check(frames: list[tuple[int, bytes]]) -> verify.Verification:
    state = verify.Verification()
    for frame in bundle.iterate_frames(io.BytesIO(encode_frames(frames)[0] + b"\0").read):
        state.upon_frame(frame)
        if frame.kind == bundle.EXIT:
            break
    return state


def get_values(frames: list[tuple[int, bytes]]) -> Iterator[tuple[str, bytes | None]]:
    for kind, payload in frames:
        if kind in (bundle.SEGMENT, bundle.REDACTED):
            _, stored = bundle.decode_segment(payload, kind)
            for event in redaction.iterate_events(stored, segment.unpack_body(stored.body)):
                names = [name for name, _ in event.receipt.commitments]
                yield from zip(names, event.values, strict=True)


@pytest.mark.parametrize("sign_each", [False, True])
def test_a_redacted_segment_verifies_and_shows_what_is_gone(sign_each: bool) -> None:
    frames = redact(encode_sample(make_named(sign_each=sign_each), SEED), "argv,addresses")
    [run] = check(frames).runs
    assert (run.event_count, run.redacted) == (12, 24)
    for name, value in get_values(frames):
        assert (value is None) == (name in ("argv", "sockaddr1"))


def test_neither_a_redacted_value_nor_the_secret_of_its_salt_is_left() -> None:
    secrets = [
        bundle.decode_segment(payload)[1].secret
        for kind, payload in decode_frames(FILE)
        if kind == bundle.SEGMENT
    ]
    frames = redact(FILE, "argv")
    assert not any(kind == bundle.SEGMENT for kind, _ in frames)
    for kind, payload in frames:
        assert not any(secret in payload for secret in secrets)
        if kind == bundle.REDACTED:
            body = segment.unpack_body(bundle.decode_segment(payload, kind)[1].body)
            assert b"secret argv" not in body
            assert b"secret path" in body


def test_what_was_redacted_can_be_redacted_further_and_again() -> None:
    once = redact(FILE, "argv")
    twice = []
    for kind, payload in once:
        if kind == bundle.REDACTED:
            stored = bundle.decode_segment(payload, kind)[1]
            assert redaction.redact_segment(stored, frozenset({"argv"})) is stored
            stored = redaction.redact_segment(stored, frozenset({"paths"}))
            payload = bundle.encode_segment(stored)
        twice.append((kind, payload))
    assert check(twice).runs[0].redacted == 24
    assert check(redact(FILE, "all")).runs[0].redacted == 48
    assert not [value for _, value in get_values(redact(FILE, "all")) if value is not None]


def test_a_segment_without_such_values_stays_as_it_is() -> None:
    assert redact(FILE, "env") == [frame for frame in decode_frames(FILE) if frame[0] != 7]


@pytest.mark.parametrize("sign_each", [False, True])
def test_to_remove_values_is_to_redact_all_of_them(sign_each: bool) -> None:
    made = encode_sample(make_named(sign_each=sign_each), SEED)
    everything, count = redaction.parse_classes("all", "--redact"), 0
    for kind, payload in decode_frames(made):
        if kind == bundle.SEGMENT:
            stored = bundle.decode_segment(payload)[1]
            bare = redaction.remove_values(stored)
            assert bare == redaction.redact_segment(stored, everything)
            assert redaction.remove_values(bare) == bare
            count += 1
    assert count == 3


def test_a_kept_value_or_a_salt_cannot_be_changed_dropped_or_added() -> None:
    frames = redact(FILE, "argv")
    at = next(n for n, (kind, _) in enumerate(frames) if kind == bundle.REDACTED)
    _, stored = bundle.decode_segment(frames[at][1], bundle.REDACTED)
    salts = stored.secret[1:]
    changed_body = segment.unpack_body(stored.body).replace(b"secret path 1", b"secret path 2")
    for spoilt in (
        stored._replace(secret=bundle.SALTED + salts[32:]),
        stored._replace(secret=bundle.SALTED + salts[32:64] + salts[:32] + salts[64:]),
        stored._replace(secret=stored.secret + bytes(32)),
        stored._replace(secret=bundle.SALTED),
        stored._replace(body=segment.pack_body(changed_body)),
    ):
        other = [*frames[:at], (bundle.REDACTED, bundle.encode_segment(spoilt)), *frames[at + 1 :]]
        assert get_bad(other).first in (0, 1)


def get_bad(frames: list[tuple[int, bytes]]) -> FirstBad:
    bad = verify.verify_file(io.BytesIO(encode_frames(frames)[0]).read).first_bad
    assert bad is not None
    assert "salt" in bad.why or "committed" in bad.why
    return bad


def test_a_guess_of_a_redacted_value_cannot_be_tested() -> None:
    """Without its salt a commitment says nothing: equal values differ in it."""
    sample = make_named()
    same = tuple(event._replace(values=(b"same",) * 4) for event in sample.events)
    frames = redact(encode_sample(sample._replace(events=same), SEED), "all")
    digests = []
    for kind, payload in frames:
        if kind == bundle.REDACTED:
            _, stored = bundle.decode_segment(payload, kind)
            for event in redaction.iterate_events(stored, segment.unpack_body(stored.body)):
                digests += [digest for _, digest in event.receipt.commitments]
    assert len(set(digests)) == len(digests) == 48


def test_classes_are_named_or_refused() -> None:
    assert redaction.parse_classes("argv, paths", "x") == {"argv", "paths"}
    assert redaction.is_of_class("path1", frozenset({"paths"}))
    assert not redaction.is_of_class("pathname", frozenset({"paths"}))
    assert redaction.is_of_class("anything", redaction.parse_classes("all", "x"))
    for text in ("", "argv,", "argv,pahts"):
        with pytest.raises(SpecError, match="--redact"):
            redaction.parse_classes(text, "--redact")


def test_the_layout_of_a_redacted_segment_is_the_documented_one() -> None:
    """header, signature, u32 number of salts, the salts, leaf tags, body."""
    [payload, *_] = [payload for kind, payload in redact(FILE, "argv") if kind == bundle.REDACTED]
    at = segment.HEADER_BYTES + 64
    count = int.from_bytes(payload[at : at + 4], "big")
    assert count == 5 * 3
    header, stored = bundle.decode_segment(payload, bundle.REDACTED)
    assert payload[at + 4 : at + 4 + 32 * count] == b"".join(stored.get_salts())
    rest = payload[at + 4 + 32 * count :]
    assert rest[: 4 * header.event_count] == stored.leaf_tags
    assert receipt.SALT_BYTES == 32
