"""Hostile bytes to the notary's parsers: a named error, or what was written. Never anything else.

Three targets, 34,000 cases each with ./test --full: the decoders, the notary's file with all checks
and its seal made right, and a host that shows spoilt frames to the notary itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainlite import bundle, logblock, notarised
from chainlite.economy import poe_bundle
from chainlite.errors import SpecError
from docklock.evidence.notarising import LocalSource
from enc.notary import intake
from enc.notary.following import Followed, HostError, SeenLog, follow
from enc.notary.source import HostView, RunName
from tests.chainlite import notary_samples as samples
from tests.chainlite.test_fuzz import edits
from tests.evidence.recording import append_durably, begin, make_id, make_paths

FULL = os.environ.get("DOCKLOCK_TEST_FULL") == "1"
CASES = 34_000 if FULL else 200
fuzz = settings(max_examples=CASES, deadline=None, derandomize=not FULL, database=None)
pytestmark = pytest.mark.fuzz

FRAMES = samples.make_frames()
FILE = samples.seal(FRAMES)
RIGHT = {notarised.NOTARY_KEY, *[kind for kind, _ in FRAMES]}


def _of(kind: int) -> list[bytes]:
    return [payload for found, payload in FRAMES if found == kind]


def _reencode_block_frame(data: bytes) -> bytes:
    return notarised.encode_block_frame(*notarised.decode_block_frame(data))


def _reencode_signed(data: bytes) -> bytes:
    return notarised.encode_signed(*notarised.decode_signed(data, 1 << 20))


PARTS = [notarised.decode_block_frame(data) for data in _of(notarised.LOGBLOCK)]
BUNDLES = [notarised.decode_signed(data, 1 << 20)[0] for data in _of(notarised.POE_BUNDLE)]
DECODERS: tuple[tuple[Callable[[bytes], bytes], list[bytes]], ...] = (
    (lambda data: logblock.encode_block(logblock.decode_block(data)), [p[0] for p in PARTS]),
    (lambda data: logblock.encode_segments(logblock.decode_segments(data)), [p[2] for p in PARTS]),
    (lambda data: poe_bundle.encode_bundle(poe_bundle.decode_bundle(data)), BUNDLES),
    (_reencode_block_frame, _of(notarised.LOGBLOCK)),
    (_reencode_signed, _of(notarised.POE_BUNDLE)),
)


@fuzz
@given(st.data())
def test_a_decoder_refuses_or_has_read_the_canonical_form(data: st.DataObject) -> None:
    check, known = data.draw(st.sampled_from(DECODERS))
    raw = data.draw(st.one_of(edits(data.draw(st.sampled_from(known))), st.binary(max_size=400)))
    try:
        again = check(raw)
    except SpecError:
        return
    assert again == raw


@fuzz
@given(st.data())
def test_a_notarys_file_is_refused_unless_it_is_the_file(data: st.DataObject) -> None:
    """Also with all checks and the notary's own seal made right, so that what is below is reached:
    then only an earlier state of the chain passes, which has fewer frames at its end."""
    if data.draw(st.booleans()):
        raw = data.draw(edits(FILE))
        try:
            assert samples.read(raw)[1] or raw == FILE
        except SpecError:
            pass
        return
    at = data.draw(st.integers(0, len(FRAMES) - 1))
    kind = data.draw(st.sampled_from([FRAMES[at][0]] * 4 + sorted(RIGHT)))
    spoilt = (kind, data.draw(edits(FRAMES[at][1])))
    frames = [*FRAMES[:at], spoilt, *FRAMES[at + 1 :]]
    state, why = samples.read(samples.seal(frames))
    if not why:
        # A note's own signature line may be followed by others', which nobody asked for.
        assert frames == FRAMES or spoilt[0] == bundle.CHECKPOINT
    assert state.where.isprintable() and why.isprintable()


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostView]:
    """A real host with a run of six segments."""
    paths = make_paths(tmp_path_factory.mktemp("host"))
    live = begin(paths)
    for number in range(6):
        append_durably(live, number)
    live.close(0)
    source = LocalSource(paths)
    opened = source.open()
    assert opened is not None
    yield opened
    source.end()


class Spoilt:
    """A host that shows other bytes than it has: what a notary must expect of a host."""

    def __init__(self, view: HostView, spoil: Callable[[int, bytes], tuple[int, bytes]]) -> None:
        self._view, self._spoil = view, spoil
        self._leaves = lambda kind, payload: spoil(kind, payload)[1]

    def read_opening(self) -> Iterator[tuple[int, bytes]]:
        return (self._spoil(*frame) for frame in self._view.read_opening())

    def read_leaves(self, size_before: int) -> Iterator[bytes]:
        return (self._leaves(0, leaf) for leaf in self._view.read_leaves(size_before))

    def read_start(self, name: RunName) -> bytes:
        return self._spoil(bundle.START, self._view.read_start(name))[1]

    def read_certificates(self, name: RunName) -> Iterator[bytes]:
        return self._view.read_certificates(name)

    def read_run(
        self, name: RunName, event_count: int, epoch: int, last_leaf: int
    ) -> Iterator[tuple[int, bytes]]:
        frames = self._view.read_run(name, event_count, epoch, last_leaf)
        return (self._spoil(*frame) for frame in frames)

    def read_exit(self, name: RunName) -> bytes:
        return self._view.read_exit(name)

    def read_anchors(self) -> Iterator[bytes]:
        return self._view.read_anchors()


NAME = RunName(bytes.fromhex(make_id()), 0)


def get_host(view: HostView) -> bytes:
    return notarised.keys.compute_host_id(next(iter(view.read_opening()))[1])


def take(view: HostView, followed: Followed) -> list[intake.Step]:
    return list(intake.take_run(followed.opened, view, NAME, None, None))


@fuzz
@given(data=st.data())
def test_a_host_that_shows_spoilt_frames_moves_no_run_by_them(
    view: HostView, data: st.DataObject
) -> None:
    """What is taken is a beginning of what there is; then comes one Bad, and nothing after it."""
    host = get_host(view)
    whole = take(view, follow(view, host, SeenLog()))
    at, count = data.draw(st.integers(0, 22)), 0

    def spoil(kind: int, payload: bytes) -> tuple[int, bytes]:
        nonlocal count
        count += 1
        if count - 1 != at:
            return kind, payload
        kinds = [kind] * 4 + [bundle.SEGMENT, bundle.PLACE, bundle.EXIT, bundle.CERTIFICATE, 99]
        return data.draw(st.sampled_from(kinds)), data.draw(edits(payload))

    hostile = Spoilt(view, spoil)
    try:
        followed = follow(hostile, host, SeenLog())
    except HostError as error:
        assert str(error).isprintable()
        return
    steps = take(hostile, followed)
    moved = [step for step in steps if isinstance(step, intake.Moved)]
    assert moved == whole[: len(moved)]
    assert steps == whole or [type(step) for step in steps[len(moved) :]] == [intake.Bad]
