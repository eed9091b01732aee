"""LogBlocks, PoE bundles and the notary's file: canonical, covered to the last bit, exact."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from chainlite import bundle, hostlog, keys, logblock, notarised, segment
from chainlite.economy import poe_bundle
from chainlite.economy.poe_index import DEFAULT_TERMS, Ratio, compute_phi
from chainlite.errors import SpecError
from chainlite.report import Trust
from chainlite.verify import check_file
from tests.chainlite import notary_samples as samples
from tests.chainlite.notary_samples import HOST, HOUR, NOTARY, NOTARY_KEY, NS, PLAN, START, usage
from tests.chainlite.samples import WITNESS, make_key

FRAMES = samples.make_frames()
FILE = samples.seal(FRAMES)
TRUST = Trust(HOST.hex(), notary=NOTARY.hex())
VECTORS = Path(__file__).parents[1] / "vectors/notary.json"
BLOCKS = [n for n, (kind, _) in enumerate(FRAMES) if kind == notarised.LOGBLOCK]
BUNDLES = [n for n, (kind, _) in enumerate(FRAMES) if kind == notarised.POE_BUNDLE]


def get_blocks() -> list[logblock.LogBlock]:
    payloads = [FRAMES[n][1] for n in BLOCKS]
    return [logblock.decode_block(notarised.decode_block_frame(data)[0]) for data in payloads]


def get_bundles() -> list[poe_bundle.PoeBundle]:
    payloads = [FRAMES[n][1] for n in BUNDLES]
    return [
        poe_bundle.decode_bundle(notarised.decode_signed(data, len(data))[0]) for data in payloads
    ]


def resign(block: logblock.LogBlock, body: bytes) -> bytes:
    """The frame of a block that its notary signs, whatever is in it."""
    data = logblock.encode_block(block)
    return notarised.encode_block_frame(data, logblock.sign_block(data, NOTARY_KEY), body)


def replace_block(number: int, **changes: object) -> list[tuple[int, bytes]]:
    """The frames with one block changed and signed again, and the hash that the next one names."""
    frames, previous = list(FRAMES), b""
    for n in BLOCKS[number:]:
        data, _, body = notarised.decode_block_frame(frames[n][1])
        block = logblock.decode_block(data)
        block = block._replace(previous=previous) if previous else block._replace(**changes)  # type: ignore[arg-type]
        frames[n] = (notarised.LOGBLOCK, resign(block, body))
        previous = logblock.compute_block_hash(logblock.encode_block(block))
    return frames[: BUNDLES[0]]


def test_the_file_says_what_was_notarised() -> None:
    state, why = samples.read(FILE)
    assert why == ""
    [host] = state.hosts
    assert (host.segments, host.events, len(host.blocks)) == (6, 1940, 4)
    assert [made.window.start for made in state.bundles] == list(PLAN.windows)
    text, code = check_file(io.BytesIO(FILE).read, TRUST, as_json=False)
    assert code == 0 and text.startswith("whole: signed by notary ")
    shown = json.loads(check_file(io.BytesIO(FILE).read, TRUST, as_json=True)[0])
    assert shown["trusted"] and shown["hosts"][0]["receipts"] == 1940
    assert [part["phi"]["exact"] for part in shown["bundles"]] == [
        f"{made.phi.numerator}/{made.phi.denominator}" for made in state.bundles
    ]


def test_a_bundle_is_the_usage_between_its_blocks_and_nothing_else() -> None:
    first, second = get_bundles()
    assert first.parts[0].usage == usage(3)
    assert second.parts[0].usage == tuple(
        late - early for late, early in zip(usage(8), usage(3), strict=True)
    )
    assert (second.parts[0].first_height, second.parts[0].last_height) == (2, 2)
    assert second.phi == compute_phi(second.parts[0].usage, DEFAULT_TERMS)
    total = [a + b for a, b in zip(first.parts[0].usage, second.parts[0].usage, strict=True)]
    assert total == list(usage(8)), "windows add up: nothing between them, nothing twice"


def test_a_window_without_blocks_comes_to_nothing() -> None:
    frames = samples.make_frames(PLAN._replace(windows=(START + 2 * HOUR,)))
    state, why = samples.read(samples.seal(frames))
    assert why == "" and state.bundles[0].parts == () and state.bundles[0].phi == Ratio(0, 1)


def test_scales_are_per_active_host_and_the_cap_is_each_hosts() -> None:
    part = get_bundles()[0].parts[0]
    other = part._replace(host=b"\x01" * 32)
    terms = DEFAULT_TERMS._replace(receipts_max=2_000_000)
    made = poe_bundle.make_bundle(NOTARY, "web", poe_bundle.Window(0), terms, (part, other), 9)
    capped = (*[2 * value for value in part.usage[:4]], 4_000_000)
    assert made.phi == compute_phi(capped, terms, 2)
    assert [one.host for one in made.parts] == sorted((HOST, other.host))


def test_every_flipped_bit_of_the_file_is_refused() -> None:
    step = 1 if os.environ.get("DOCKLOCK_TEST_FULL") == "1" else 23
    for bit in range(0, len(FILE) * 8, step):
        spoilt = bytearray(FILE)
        spoilt[bit // 8] ^= 1 << bit % 8
        try:
            assert samples.read(bytes(spoilt))[1], f"bit {bit}"
        except SpecError:
            assert bit < len(bundle.NOTARY_MAGIC) * 8


def test_every_drop_swap_and_insertion_of_a_frame_is_refused() -> None:
    for n in range(len(FRAMES)):
        dropped = FRAMES[:n] + FRAMES[n + 1 :]
        twice = [*FRAMES[: n + 1], FRAMES[n], *FRAMES[n + 1 :]]
        for frames in (dropped, twice):
            # The last blocks and bundles may be missing: then it is an earlier state of the chain,
            # which only the notary itself can seal.
            is_prefix = frames is dropped and n in (BLOCKS[-1], BUNDLES[0], BUNDLES[-1])
            assert bool(samples.read(samples.seal(frames))[1]) != is_prefix
    for n in range(len(FRAMES) - 1):
        swapped = [*FRAMES[:n], FRAMES[n + 1], FRAMES[n], *FRAMES[n + 2 :]]
        assert samples.read(samples.seal(swapped))[1]
    for cut in (len(FILE) - 1, len(FILE) // 2, 30):
        assert samples.read(FILE[:cut])[1]
    assert samples.read(FILE + b"\0")[1]


@pytest.mark.parametrize(
    ("number", "changes", "why"),
    [
        (1, {"time": (START + 60) * NS}, "not later"),
        (1, {"height": 2}, "not block 1"),
        (1, {"previous": b"\x01" * 32}, "not block 1"),
        (1, {"totals": usage(4)}, "add up"),
        (1, {"event_count": 1023}, "counts other"),
        (0, {"segment_count": 1}, "counts other"),
        (1, {"root": b"\x01" * 32}, "root"),
        (1, {"app": "other"}, "another chain"),
        (1, {"host": b"\x01" * 32}, "another chain"),
        (1, {"notary": b"\x01" * 32}, "another chain"),
        (1, {"log_size": 99}, "checkpoint"),
        (1, {"log_root": b"\x01" * 32}, "checkpoint"),
    ],
)
def test_a_notary_that_signs_a_wrong_block_is_found_out(
    number: int, changes: dict[str, object], why: str
) -> None:
    found = samples.read(samples.seal(replace_block(number, **changes)))[1]
    assert why in found and found.startswith("LogBlock")


def test_a_hole_or_a_counter_that_falls_is_refused() -> None:
    def read(*segments: tuple[int, int, tuple[int, ...]]) -> str:
        frames = samples.make_frames(PLAN._replace(blocks=((START + 60, segments),), windows=()))
        return samples.read(samples.seal(frames))[1]

    assert read((0, 500, usage(1)), (0, 12, usage(2))) == ""
    assert "a counter of usage falls" in read((0, 500, usage(2)), (0, 12, usage(1)))
    assert "goes on after 512" in read((0, 511, usage(1)), (0, 1, usage(1)), (0, 9, usage(1)))
    data, _, body = notarised.decode_block_frame(FRAMES[BLOCKS[0]][1])
    [_, second] = logblock.decode_segments(body)
    block = logblock.decode_block(data)._replace(
        root=logblock.compute_segments_root([second]), segment_count=1, event_count=12
    )
    frames = list(FRAMES)
    frames[BLOCKS[0]] = (notarised.LOGBLOCK, resign(block, logblock.encode_segments([second])))
    assert "do not follow those before: 500, not 0" in samples.read(samples.seal(frames))[1]


def test_a_segment_that_its_epoch_did_not_sign_is_refused() -> None:
    """Also one that an epoch's key signs after its epoch: such a key may have been stolen."""
    data, _, body = notarised.decode_block_frame(FRAMES[BLOCKS[0]][1])
    segments = logblock.decode_segments(body)
    forged = [segments[0]._replace(signature=bytes(64)), segments[1]]
    block = logblock.decode_block(data)._replace(root=logblock.compute_segments_root(forged))
    frames = list(FRAMES)
    frames[BLOCKS[0]] = (notarised.LOGBLOCK, resign(block, logblock.encode_segments(forged)))
    assert "not signed by its epoch's key" in samples.read(samples.seal(frames))[1]
    moved = PLAN.blocks[:2] + ((START + HOUR + 5, ((0, 3, usage(5)), (1, 400, usage(8)))),)
    frames = samples.make_frames(PLAN._replace(blocks=moved, windows=()))
    early = samples.make_certificate(1, 1536)
    signature = keys.sign(samples.EPOCH_KEYS[0], samples.domains.SIGN_CERTIFICATE, early)
    place = next(n for n, (kind, _) in enumerate(frames) if kind == bundle.CERTIFICATE)
    frames[place] = (bundle.CERTIFICATE, early + signature)
    assert "another epoch's receipts" in samples.read(samples.seal(frames))[1]


def test_a_wrong_bundle_of_the_notary_is_found_out() -> None:
    made = get_bundles()[1]
    part = made.parts[0]
    for changed, why in (
        ((part._replace(usage=usage(8)),), "not that of the LogBlocks"),
        ((part._replace(first_height=1),), "not that of the LogBlocks"),
        ((part._replace(last=bytes(32)),), "not that of the LogBlocks"),
        ((), "not that of the LogBlocks"),
        ((part, part._replace(host=b"\xff" * 32)), "not that of the LogBlocks"),
    ):
        wrong = poe_bundle.make_bundle(NOTARY, "web", made.window, made.terms, changed, made.time)
        assert why in read_with(wrong)
    assert "before its window was over" in read_with(made._replace(time=made.time - 1))
    assert "another notary or app" in read_with(made._replace(app="other"))
    data = poe_bundle.encode_bundle(made._replace(phi=Ratio(1, 2)))
    with pytest.raises(SpecError, match="Phi is not"):
        poe_bundle.decode_bundle(data)


def read_with(made: poe_bundle.PoeBundle) -> str:
    data = poe_bundle.encode_bundle(made)
    signed = notarised.encode_signed(data, poe_bundle.sign_bundle(data, NOTARY_KEY))
    frames = [*FRAMES[: BUNDLES[1]], (notarised.POE_BUNDLE, signed)]
    return samples.read(samples.seal(frames))[1]


def test_another_key_is_never_trusted_silently() -> None:
    for trust in (Trust(), Trust(HOST.hex()), Trust(notary=NOTARY.hex()), Trust("00" * 32)):
        text, code = check_file(io.BytesIO(FILE).read, trust, as_json=False)
        assert code == 4 and "UNTRUSTED" in text
    required = TRUST._replace(witnesses=(WITNESS,), is_anchor_required=True)
    text, code = check_file(io.BytesIO(FILE).read, required, as_json=False)
    assert code == 3 and "not anchored" in text
    assert samples.read(samples.seal(FRAMES, make_key(9)))[1] == (
        "the seal: the file is not the one that its notary sealed"
    )


def test_what_a_decoder_takes_is_the_canonical_form() -> None:
    block = logblock.encode_block(get_blocks()[1])
    made = poe_bundle.encode_bundle(get_bundles()[1])
    for decode, data in ((logblock.decode_block, block), (poe_bundle.decode_bundle, made)):
        decode(data)
        for spoilt in (data + b"\0", data[:-1], b"", b"\x3f" + data[1:]):
            with pytest.raises(SpecError):
                decode(spoilt)
    for changes in ({"segment_count": 0}, {"segment_count": 513}, {"event_count": 1536},
                    {"height": 0}, {"previous": bytes(32)}):  # fmt: skip
        wrong = logblock.encode_block(get_blocks()[1]._replace(**changes))  # type: ignore[arg-type]
        with pytest.raises(SpecError):
            logblock.decode_block(wrong)
    for body in (b"", bytes(logblock.SIGNED_HEADER_BYTES * 513), bytes(7)):
        with pytest.raises(SpecError):
            logblock.decode_segments(body)


def test_the_leaves_are_those_of_the_hosts_log() -> None:
    _, _, body = notarised.decode_block_frame(FRAMES[BLOCKS[1]][1])
    [signed] = logblock.decode_segments(body)
    leaf = hostlog.encode_segment(hostlog.Segment(*signed))
    assert get_blocks()[1].root == logblock.merkle.compute_leaf_hash(leaf)
    assert segment.decode_header(signed.header).event_count == 1024


def test_formats_still_have_their_golden_bytes() -> None:
    encoded = {
        "logblock": logblock.encode_block(get_blocks()[1]).hex(),
        "logblock_hash": logblock.compute_block_hash(logblock.encode_block(get_blocks()[1])).hex(),
        "notary_id": NOTARY.hex(),
        "poe_bundle": poe_bundle.encode_bundle(get_bundles()[1]).hex(),
        "notary_file": FILE.hex(),
    }
    if os.environ.get("DOCKLOCK_WRITE_VECTORS") == "1":
        VECTORS.write_text(json.dumps(encoded, indent=1) + "\n")
    assert json.loads(VECTORS.read_text()) == encoded
