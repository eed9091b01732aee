"""Whatever is done to an evidence file without the host's key is refused, and its place named."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from chainlite import bundle, domains, hostlog, keys, merkle, receipt, segment, verify
from chainlite.errors import SpecError
from tests.chainlite.samples import (
    decode_frames,
    encode_frames,
    encode_sample,
    encode_segment,
    make_sample,
    read_sample,
)

SEED = b"\x01" * 32
OTHER_SEED = b"\x02" * 32
COUNT = 60
FILE = encode_sample(make_sample(count=COUNT, per_segment=16), SEED)
EACH = encode_sample(make_sample(count=COUNT, per_segment=16, sign_each=True), SEED)
ROOT = Path(__file__).parents[2]


def check(data: bytes) -> verify.Report:
    return verify.verify_file(io.BytesIO(data).read)


def get_bad(data: bytes) -> verify.FirstBad:
    bad = check(data).first_bad
    assert bad is not None
    return bad


def is_refused(data: bytes) -> verify.FirstBad | None:
    """The first bad place; None if it was refused as no evidence at all."""
    try:
        return get_bad(data)
    except SpecError:
        assert data[: len(bundle.MAGIC)] != bundle.MAGIC
        return None


def locate(data: bytes, position: int) -> tuple[int, int, int]:
    """Kind of the frame at a byte of the file, and the receipts it holds."""
    end, first = len(bundle.MAGIC), 0
    for kind, payload in decode_frames(data):
        end += 5 + len(payload) + bundle.CHECK_BYTES
        count = bundle.decode_segment(payload)[0].event_count if kind == bundle.SEGMENT else 0
        if position < end:
            return kind, first, first + count - 1
        first += count
    raise AssertionError


@pytest.mark.parametrize("data", [FILE, EACH], ids=["segment", "each"])
def test_an_untouched_file_is_whole(data: bytes) -> None:
    report = check(data)
    assert report.first_bad is None
    assert (report.receipts, report.segments) == (COUNT, 4)
    assert [(run.run, run.state) for run in report.runs] == [(0, "closed")]


@pytest.mark.parametrize("data", [FILE, EACH], ids=["segment", "each"])
def test_every_flipped_bit_is_refused_and_its_receipt_or_range_named(
    data: bytes, seed: int
) -> None:
    rng = random.Random(seed)
    for _ in range(1000):
        position = rng.randrange(len(data))
        spoilt = bytearray(data)
        spoilt[position] ^= 1 << rng.randrange(8)
        bad = is_refused(bytes(spoilt))
        if bad is None:
            assert position < len(bundle.MAGIC)
            continue
        kind, first, last = locate(data, position)
        if kind == bundle.SEGMENT:
            assert first <= bad.first, (position, bad)
            assert bad.last is None or bad.last <= last, (position, bad)


def test_every_drop_swap_insertion_and_truncation_is_refused(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(1000):
        at, size = rng.randrange(len(FILE)), rng.randrange(1, 200)
        to = rng.randrange(len(FILE))
        spoilt = rng.choice(
            [
                FILE[:at],
                FILE[:at] + FILE[at + size :],
                FILE[:at] + FILE[to : to + size] + FILE[at:],
                FILE[: min(at, to)] + FILE[max(at, to) :] + FILE[min(at, to) : max(at, to)],
            ]
        )
        if spoilt != FILE:
            is_refused(spoilt)


def test_frames_dropped_swapped_or_repeated_are_refused_with_right_checks() -> None:
    frames = decode_frames(FILE)
    for number in range(len(frames)):
        get_bad(encode_frames(frames[:number] + frames[number + 1 :])[0])
        get_bad(encode_frames(frames[: number + 1] + frames[number:])[0])
        for other in range(number):
            swapped = list(frames)
            swapped[number], swapped[other] = swapped[other], swapped[number]
            get_bad(encode_frames(swapped)[0])


def test_a_dropped_segment_is_named_by_its_receipts() -> None:
    frames = decode_frames(FILE)
    places = [n for n, (kind, _) in enumerate(frames) if kind == bundle.SEGMENT]
    bad = get_bad(encode_frames(frames[: places[1]] + frames[places[2] :])[0])
    assert (bad.run, bad.first, bad.last) == (0, 16, 31)


def test_a_tail_cut_together_with_its_exit_is_refused_by_the_seal() -> None:
    frames = [f for f in decode_frames(FILE) if f[0] != bundle.EXIT]
    last = max(n for n, (kind, _) in enumerate(frames) if kind == bundle.SEGMENT)
    bad = get_bad(encode_frames(frames[:last] + frames[last + 1 :])[0])
    assert (bad.first, bad.last) == (48, 59)


def test_a_changed_receipt_is_named_alone() -> None:
    for wanted in (0, 17, COUNT - 1):
        frames = decode_frames(FILE)
        for number, (kind, payload) in enumerate(frames):
            if kind != bundle.SEGMENT:
                continue
            header, stored = bundle.decode_segment(payload)
            if not header.first_index <= wanted < header.first_index + header.event_count:
                continue
            body = bytearray(segment.unpack_body(stored.body))
            position = 0
            for _ in range(wanted - header.first_index):
                position += 8 + sum(receipt.FRAME.unpack_from(body, position))
            body[position + 8 + receipt.FIXED.size - 80] ^= 1
            spoilt = stored._replace(body=segment.pack_body(bytes(body)))
            frames[number] = (kind, bundle.encode_segment(spoilt))
        bad = get_bad(encode_frames(frames)[0])
        assert (bad.run, bad.first, bad.last) == (0, wanted, wanted)


def test_a_changed_value_is_named_by_its_receipt() -> None:
    assert get_bad(_change_segment(0, b"/tmp/3", b"/tmp/4")).first == 3
    assert get_bad(_change_segment(0, b"ls\0-l\0", b"rm\0-l\0")).first == 0


def _change_segment(which: int, old: bytes, new: bytes) -> bytes:
    """The file with its frames' checks right and one string of a body changed."""
    frames = decode_frames(FILE)
    places = [n for n, (kind, _) in enumerate(frames) if kind == bundle.SEGMENT]
    _, stored = bundle.decode_segment(frames[places[which]][1])
    body = segment.unpack_body(stored.body)
    assert old in body
    changed = stored._replace(body=segment.pack_body(body.replace(old, new, 1)))
    frames[places[which]] = (bundle.SEGMENT, bundle.encode_segment(changed))
    return encode_frames(frames)[0]


def test_another_encoding_of_the_same_body_is_refused() -> None:
    frames = decode_frames(FILE)
    place = next(n for n, (kind, _) in enumerate(frames) if kind == bundle.SEGMENT)
    _, stored = bundle.decode_segment(frames[place][1])
    again = segment.get_zstd().compress(segment.unpack_body(stored.body), 19)
    assert again != stored.body
    frames[place] = (bundle.SEGMENT, bundle.encode_segment(stored._replace(body=again)))
    assert "sealed" in get_bad(encode_frames(frames)[0]).why


def test_a_stripped_signature_of_one_receipt_is_refused() -> None:
    frames = decode_frames(EACH)
    place = next(n for n, (kind, _) in enumerate(frames) if kind == bundle.SEGMENT)
    _, stored = bundle.decode_segment(frames[place][1])
    body = bytearray(segment.unpack_body(stored.body))
    body[-64 * 16 + 64 * 5 + 3] ^= 4
    spoilt = stored._replace(body=segment.pack_body(bytes(body)))
    frames[place] = (bundle.SEGMENT, bundle.encode_segment(spoilt))
    assert get_bad(encode_frames(frames)[0])[:3] == (0, 5, 5)
    short = stored._replace(body=segment.pack_body(bytes(body[: -64 * 16])))
    frames[place] = (bundle.SEGMENT, bundle.encode_segment(short))
    assert get_bad(encode_frames(frames)[0]).first == 0


def test_a_segment_of_another_epochs_key_is_refused() -> None:
    key = keys.make_key_pair(OTHER_SEED)
    frames = decode_frames(FILE)
    place = next(n for n, (kind, _) in enumerate(frames) if kind == bundle.SEGMENT)
    _, stored = bundle.decode_segment(frames[place][1])
    forged = stored._replace(signature=keys.sign(key, domains.SIGN_SEGMENT, stored.header))
    frames[place] = (bundle.SEGMENT, bundle.encode_segment(forged))
    assert get_bad(encode_frames(frames)[0])[:3] == (0, 0, 15)


def test_an_open_run_is_whole_and_said_to_be_open() -> None:
    report = check(encode_sample(make_sample()._replace(is_closed=False), SEED))
    assert report.first_bad is None
    assert report.runs[0].state == "open"


def test_a_copy_signed_with_another_key_is_whole_but_not_trusted(tmp_path: Path) -> None:
    copy = encode_sample(read_sample(FILE), OTHER_SEED)
    report, original = check(copy), check(FILE)
    assert report.first_bad is None
    assert report.receipts == original.receipts
    assert report.host != original.host
    assert run_alone(tmp_path, copy, "--host-key", original.host)[0] == 4
    assert run_alone(tmp_path, copy, "--host-key", report.host)[0] == 0


def run_alone(tmp_path: Path, data: bytes, *options: str) -> tuple[int, str]:
    path = tmp_path / "evidence"
    path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "chainlite.verify", str(path), *options],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_program_alone_has_an_exit_code_for_each_verdict(tmp_path: Path) -> None:
    host = check(FILE).host
    assert run_alone(tmp_path, FILE)[0] == 4
    assert run_alone(tmp_path, FILE, "--host-key", host)[0] == 0
    code, text = run_alone(tmp_path, FILE[:-1], "--host-key", host)
    assert code == 3
    assert "TAMPERED" in text
    assert run_alone(tmp_path, b"not evidence", "--host-key", host)[0] == 2
    assert run_alone(tmp_path, b"", "--host-key", host)[0] == 2
    assert run_alone(tmp_path, FILE, "--host-key", "nonsense")[0] == 2
    key = tmp_path / "host.pub"
    key.write_text(keys.encode_verifier("any", keys.make_key_pair(SEED).public))
    code, text = run_alone(tmp_path, FILE, "--json", "--host-key", str(key))
    shown = json.loads(text)
    assert code == 0
    assert shown["ok"]
    assert shown["trusted"]
    assert (shown["anchored_to"], shown["first_bad"]) == (None, None)
    assert (shown["receipts"], shown["segments"]) == (COUNT, 4)


def test_the_program_alone_loads_formats_only() -> None:
    code = (
        "import sys, chainlite.verify; "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('docklock', 'enc', 'tui', 'sqlite3', 'socket', 'subprocess')])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def _spoil_body(data: bytes, which: int, change: Callable[[bytearray], None]) -> bytes:
    """The file with one segment's body changed, its leaf tags and all frame checks made right."""
    frames = decode_frames(data)
    place = [n for n, (kind, _) in enumerate(frames) if kind == bundle.SEGMENT][which]
    header, stored = bundle.decode_segment(frames[place][1])
    body = bytearray(segment.unpack_body(stored.body))
    change(body)
    tags, position = b"", 0
    for _ in range(header.event_count):
        size, values_size = receipt.FRAME.unpack_from(body, position)
        position += 8
        tags += merkle.compute_leaf_hash(bytes(body[position : position + size]))[:4]
        position += size + values_size
    spoilt = stored._replace(body=segment.pack_body(bytes(body)), leaf_tags=tags)
    frames[place] = (bundle.SEGMENT, bundle.encode_segment(spoilt))
    return encode_frames(frames)[0]


def test_a_receipt_changed_with_its_leaf_tag_is_refused_by_the_root() -> None:
    def change(body: bytearray) -> None:
        body[8 + receipt.CONSTANT.size + 24] ^= 1

    bad = get_bad(_spoil_body(FILE, 1, change))
    assert bad[:3] == (0, 16, 31)
    assert "signed root" in bad.why


def test_bytes_after_the_last_receipt_are_refused() -> None:
    assert "follow the last" in get_bad(_spoil_body(FILE, 0, lambda b: b.extend(b"x"))).why


def test_a_next_epoch_that_the_last_one_did_not_certify_is_refused() -> None:
    frames = decode_frames(FILE)
    start = hostlog.decode_leaf(bundle.decode_logged_leaf(frames[2][1]).leaf)
    assert isinstance(start, hostlog.Start)
    stranger = keys.make_key_pair(OTHER_SEED)
    for issuer in (segment.BY_EPOCH, segment.BY_RECOVERY):
        forged = segment.encode_certificate(
            segment.decode_certificate(start.certificate)._replace(
                epoch=1, issuer=issuer, public=stranger.public
            )
        )
        signature = keys.sign(stranger, domains.SIGN_CERTIFICATE, forged)
        frame = (bundle.CERTIFICATE, forged + signature)
        bad = get_bad(encode_frames([*frames[:3], frame, *frames[3:]])[0])
        assert "not signed by its issuer" in bad.why


def test_an_epoch_has_one_certificate_which_its_segments_name() -> None:
    """Who holds the key before could sign two for one key: other times, a later checkpoint."""
    frames, sample = decode_frames(FILE)[:3], make_sample(count=4)
    start = hostlog.decode_leaf(bundle.decode_logged_leaf(frames[2][1]).leaf)
    assert isinstance(start, hostlog.Start)
    old, new = keys.make_key_pair(sha256(SEED).digest()), keys.make_key_pair(OTHER_SEED)
    certificate = segment.decode_certificate(start.certificate)._replace(
        epoch=1, issuer=segment.BY_EPOCH, public=new.public
    )
    data = segment.encode_certificate(certificate)
    chain = segment.compute_genesis_hash(start.genesis)
    stored, _ = encode_segment(sample, 0, 4, chain, new, data)
    for time, why in ((certificate.time, ""), (certificate.time - 1, "another certificate")):
        shown = segment.encode_certificate(certificate._replace(time=time))
        signed = shown + keys.sign(old, domains.SIGN_CERTIFICATE, shown)
        added = [(bundle.CERTIFICATE, signed), (bundle.SEGMENT, bundle.encode_segment(stored))]
        unsealed = [bundle.Frame(*frame, b"", is_intact=True) for frame in frames + added]
        bad = verify.verify_frames(unsealed).first_bad
        assert (bad is None) == (not why)
        assert bad is None or (bad[:3] == (0, 0, 3) and why in bad.why)


def test_a_logged_exit_that_disagrees_with_the_receipts_is_refused() -> None:
    sample = make_sample()
    for changes, why in (
        ({"event_count": 25}, "missing"),
        ({"event_count": 15}, "repeated"),
        ({"head": bytes(32)}, "another head"),
        ({"run": 1}, "another run"),
    ):
        bad = get_bad(encode_sample(sample, SEED, **changes))
        assert why in bad.why
    assert get_bad(encode_sample(sample, SEED, event_count=25))[:3] == (0, 20, 24)


def test_a_frame_that_claims_much_takes_no_memory() -> None:
    wanted = []

    def read(size: int) -> bytes:
        wanted.append(size)
        return file.read(size)

    file = io.BytesIO(bundle.MAGIC + bytes([bundle.HOST_KEY]) + b"\xff\xff\xff\xff")
    assert verify.verify_file(read).first_bad is not None
    assert max(wanted) < 100


def test_the_exit_leaf_must_agree_with_the_receipts() -> None:
    frames = decode_frames(FILE)
    number = next(n for n, (kind, _) in enumerate(frames) if kind == bundle.EXIT)
    logged = bundle.decode_logged_leaf(frames[number][1])
    leaf = hostlog.decode_leaf(logged.leaf)
    assert isinstance(leaf, hostlog.Exit)
    forged = logged._replace(leaf=hostlog.encode_exit(leaf._replace(event_count=48)))
    frames[number] = (bundle.EXIT, bundle.encode_logged_leaf(forged))
    assert "not in the host's log" in get_bad(encode_frames(frames)[0]).why
