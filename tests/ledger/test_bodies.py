"""What is offered of a host's log holds to its last bit, whole and in any pieces, or is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from chainlite import bundle, checkpoint, hostkeys, hostlog, keys, merkle, segment
from chainlite.errors import SpecError, TamperError
from chainlite.ledger import bodies
from chainlite.ledger.bodies import HostBodies, decode_taken, encode_taken, verify_offer
from chainlite.ledger.offer import (
    Body,
    Item,
    Offer,
    decode_body,
    decode_offer,
    encode_body,
    encode_offer,
)
from docklock.evidence import container_store, rotation
from docklock.evidence.recovery import recover_runs
from docklock.paths import Paths
from tests.evidence.recording import (
    append_durably,
    begin,
    make_id,
    make_paths,
    record,
    record_and_die,
)
from tests.ledger.offered import decode, get_size, make_host, offer_range, take


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


def refuse(known: HostBodies, offer: Offer) -> str:
    with pytest.raises((SpecError, TamperError)) as caught:
        verify_offer(known, decode_offer(encode_offer(offer)))
    return str(caught.value)


def find_segments(offer: Offer) -> list[int]:
    return [n for n, item in enumerate(offer.items) if item.leaf[0] == hostlog.SEGMENT_KIND]


def get_body(offer: Offer, number: int) -> Body:
    return decode_body(offer.items[number].body)


def change(offer: Offer, number: int, **changes: object) -> Offer:
    """The offer with another body of a segment."""
    items = list(offer.items)
    body = get_body(offer, number)._replace(**changes)  # type: ignore[arg-type]
    items[number] = items[number]._replace(body=encode_body(body))
    return offer._replace(items=tuple(items))


def test_a_log_is_the_same_in_any_pieces(paths: Paths, seed: int) -> None:
    size, host = get_size(paths), decode(offer_range(paths)).host
    whole = HostBodies(host)
    assert take(whole, offer_range(paths)) == 16
    chance = random.Random(seed)
    for step in (1, 2, 3, 0):
        known, start = HostBodies(host), 0
        while start < size:
            end = start + (step or chance.randint(1, 5))
            take(known, offer_range(paths, start, end))
            again = HostBodies(host)
            again.apply(decode_taken(encode_taken(known.make_snapshot())))
            known, start = again, again.progress.size
        assert known.progress == whole.progress
        assert known.make_snapshot().runs == whole.make_snapshot().runs


def unpack(offer: Offer) -> Offer:
    """The offer with its bodies unpacked."""
    for number in find_segments(offer):
        offer = change(offer, number, packed=segment.unpack_body(get_body(offer, number).packed))
    return offer


def test_every_flipped_bit_is_refused(paths: Paths, seed: int, full: bool) -> None:
    made = offer_range(paths)
    known = HostBodies(decode(made).host)
    bits = range(len(made.data) * 8)
    meaningless = 0
    for bit in bits if full else random.Random(seed).sample(bits, 1500):
        data = bytearray(made.data)
        data[bit // 8] ^= 1 << bit % 8
        try:
            taken = verify_offer(known, decode_offer(bytes(data)))
        except (SpecError, TamperError):
            continue
        # zstd ignores some bits of a frame's header: the same receipts in other packing
        assert unpack(decode_offer(bytes(data))) == unpack(decode(made))
        assert taken.root == made.root
        meaningless += 1
    assert meaningless <= len(bits) // 200


def test_nothing_can_be_dropped_swapped_doubled_or_cut(paths: Paths) -> None:
    offer = decode(offer_range(paths))
    known, count = HostBodies(offer.host), len(offer.items)
    for number in range(count):
        items = list(offer.items)
        dropped = items[:number] + items[number + 1 :]
        refuse(known, offer._replace(items=tuple(dropped)))
        refuse(known, offer._replace(items=tuple(items[: number + 1] + items[number:])))
        if number + 1 < count:
            items[number : number + 2] = items[number + 1], items[number]
            refuse(known, offer._replace(items=tuple(items)))
            refuse(known, offer._replace(items=offer.items[: number + 1]))


def test_no_body_stands_in_for_another(paths: Paths) -> None:
    offer = decode(offer_range(paths))
    known, numbers = HostBodies(offer.host), find_segments(decode(offer_range(paths)))
    assert len(numbers) > 5
    for number in numbers:
        for other in numbers:
            if number != other:
                said = refuse(known, change(offer, number, packed=get_body(offer, other).packed))
                assert said.startswith(f"leaf {number} of host {offer.host.hex()[:16]}")
        refuse(known, change(offer, number, packed=b""))
        tags = get_body(offer, number).leaf_tags
        for bad in (tags[:-4], tags + tags[:4], b"\0" + tags[1:] + b"\0"):
            refuse(known, change(offer, number, leaf_tags=bad))
        body = segment.unpack_body(get_body(offer, number).packed)
        refuse(known, change(offer, number, packed=segment.pack_body(body + b"\0")))
        items = list(offer.items)
        items[number] = items[number]._replace(body=b"")
        refuse(known, offer._replace(items=tuple(items)))
    with_body = offer.items[0]._replace(body=offer.items[numbers[0]].body)
    said = refuse(known, offer._replace(items=(with_body, *offer.items[1:])))
    assert "no segment's" in said


def test_a_changed_receipt_is_named_with_its_leaf(paths: Paths) -> None:
    offer = decode(offer_range(paths))
    number = find_segments(offer)[-1]
    body = bytearray(segment.unpack_body(get_body(offer, number).packed))
    body[60] ^= 1
    packed = segment.pack_body(bytes(body))
    header = segment.decode_header(hostlog.decode_leaf(offer.items[number].leaf).header)
    said = refuse(HostBodies(offer.host), change(offer, number, packed=packed))
    assert f"leaf {number} of host" in said and f"receipt {header.first_index}" in said
    assert "its bytes are not those that were signed" in said


def test_a_body_with_a_value_is_refused(paths: Paths) -> None:
    offer = decode(offer_range(paths))
    for number in find_segments(offer):
        leaf = hostlog.decode_leaf(offer.items[number].leaf)
        header = segment.decode_header(leaf.header)
        if not header.has_secret:
            continue
        db = container_store.open_store(paths, header.container.hex())
        row = container_store.find_segment(db, header.run, header.first_index)
        db.close()
        assert row is not None
        said = refuse(HostBodies(offer.host), change(offer, number, packed=row.body))
        assert "is not the one committed to" in said


def test_a_range_that_does_not_begin_where_the_host_stands_is_refused(paths: Paths) -> None:
    known = HostBodies(decode(offer_range(paths)).host)
    assert "leaf 0 of" in refuse(known, decode(offer_range(paths, 3)))
    take(known, offer_range(paths, 0, 3))
    assert "leaf 3 of" in refuse(known, decode(offer_range(paths)))
    assert take(known, offer_range(paths, 3)) > 0


def test_only_the_host_can_offer_its_log(paths: Paths, tmp_path: Path) -> None:
    offer = decode(offer_range(paths, 0, 5))
    other = make_paths(tmp_path / "other")
    record(other)
    theirs = decode(offer_range(other))
    known = HostBodies(offer.host)
    assert "not signed by the host's key" in refuse(known, offer._replace(note=theirs.note))
    refuse(known, offer._replace(proof=offer.proof[1:]))
    refuse(known, offer._replace(proof=()))
    refuse(known, theirs._replace(host=offer.host))
    # an operation is signed by nobody but under the note
    leaf = hostlog.Operation(offer.host, bytes(32), "exec", (), 5)
    items = (*offer.items, Item(hostlog.encode_operation(leaf)))
    assert "does not continue" in refuse(known, offer._replace(items=items))


def test_a_host_that_forked_is_refused_from_there_on(paths: Paths, tmp_path: Path) -> None:
    import shutil

    known = HostBodies(decode(offer_range(paths)).host)
    take(known, offer_range(paths))
    size = get_size(paths)
    shutil.copytree(paths.state, tmp_path / "fork")
    forked = paths._replace(state=str(tmp_path / "fork"))
    record(paths, make_id(5), count=1)
    record(forked, make_id(5), count=2)
    for end in (size + 1, size + 2):
        take(known, offer_range(paths, known.progress.size, end))
    said = refuse(known, decode(offer_range(forked, size + 2)))
    assert "does not continue" in said or "leaf" in said


def test_leaves_from_before_a_rotation_are_offered_after_it(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1), count=3)
    before = get_size(paths)
    for _ in range(2):
        rotation.rotate_host_key(paths)
    rotation.revoke_host_key(paths, 0, before)
    record(paths, make_id(2), count=3)
    offer = decode(offer_range(paths, 0, before))
    assert len(offer.later_keys) == 3
    known = HostBodies(offer.host)
    refuse(known, offer._replace(later_keys=offer.later_keys[:1]))
    refuse(known, offer._replace(later_keys=offer.later_keys[1:]))
    take(known, offer_range(paths, 0, before))
    assert len(known.progress.key_leaves) == 1
    take(known, offer_range(paths, before))
    assert len(known.progress.key_leaves) == 4


def test_every_epoch_of_a_run_is_certified_by_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "EPOCH_NS", 0)
    paths = make_paths(tmp_path)
    recorder = begin(paths)
    for number in range(5):
        append_durably(recorder, number)
    recorder.close(0)
    offer = decode(offer_range(paths))
    numbers = [n for n in find_segments(offer) if get_body(offer, n).certificates]
    assert len(numbers) >= 4
    known = HostBodies(offer.host)
    for number in numbers:
        refuse(known, change(offer, number, certificates=()))
        twice = get_body(offer, number).certificates * 2
        refuse(known, change(offer, number, certificates=twice))
    for start in range(get_size(paths)):
        take(known, offer_range(paths, start, start + 1))


def test_a_run_that_was_recovered_is_taken(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    source = (
        "for n in range(40):\n append(recorder, n)\nrecorder.begin_commits()\ntime.sleep(0.3)\n"
    )
    record_and_die(paths, source + "for n in range(40, 60):\n append(recorder, n)\n")
    rotation.rotate_host_key(paths)
    recover_runs(paths, lambda _: False)
    offer = decode(offer_range(paths))
    by = [
        segment.decode_certificate(one[: segment.CERTIFICATE_BYTES]).issuer
        for number in find_segments(offer)
        for one in get_body(offer, number).certificates
    ]
    assert segment.BY_RECOVERY in by
    assert take(HostBodies(offer.host), offer_range(paths)) >= 40


def test_a_run_of_a_forgotten_container_is_taken_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "ENDED_MAX", 2)
    paths = make_paths(tmp_path)
    known = None
    for number in range(1, 5):
        record(paths, make_id(number), count=2)
    for run in (1, 2):
        record(paths, make_id(1), run=run, count=2)
    known = HostBodies(decode(offer_range(paths)).host)
    for start in range(get_size(paths)):
        take(known, offer_range(paths, start, start + 1))
    assert known.progress.forgotten == 3
    assert len(known.make_snapshot().runs) == 2


def forge_boot(offer: Offer) -> Item:
    return Item(hostlog.encode_boot(hostlog.Boot(offer.host, bytes(16), 1, 2, 0)))


def forge_start(offer: Offer) -> Item:
    key = keys.make_key_pair(bytes(32))
    start = next(i for i in offer.items if i.leaf[0] == 0x22)
    leaf = hostlog.decode_leaf(start.leaf)
    genesis = segment.decode_genesis(leaf.genesis)._replace(container=b"\x99" * 32)
    old = segment.decode_certificate(leaf.certificate)
    made = segment.encode_certificate(old._replace(container=genesis.container, public=key.public))
    signature = keys.sign(key, b"\x32", made)
    return Item(
        hostlog.encode_start(hostlog.Start(segment.encode_genesis(genesis), made, signature))
    )


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (forge_boot, "says that it is leaf 0"),
        (forge_start, "not signed by its issuer"),
        (lambda offer: offer.items[0], "out of order"),
        (lambda _: Item(b"\x55"), "not known"),
    ],
)
def test_a_forged_leaf_is_named(paths: Paths, forge: Callable[[Offer], Item], why: str) -> None:
    offer = decode(offer_range(paths, 0, 8))
    items = (*offer.items[:4], forge(offer), *offer.items[4:])
    said = refuse(HostBodies(offer.host), offer._replace(items=items))
    assert said.startswith("leaf 4 of host") and why in said


def forge_log(key: keys.KeyPair, leaves: list[bytes], later: tuple[bytes, ...] = ()) -> Offer:
    """The offer of a host that has signed whatever it liked."""
    host = keys.compute_host_id(key.public)
    root = merkle.compute_root([merkle.compute_leaf_hash(leaf) for leaf in leaves])
    state = checkpoint.Checkpoint(checkpoint.get_origin(host), len(leaves), root)
    note = checkpoint.sign_checkpoint(state, key)
    return Offer(host, 0, note, (), later, tuple([Item(leaf) for leaf in leaves]))


def test_a_key_record_that_names_another_leaf_is_refused() -> None:
    key, new = keys.make_key_pair(b"\1" * 32), keys.make_key_pair(b"\2" * 32)
    host = keys.compute_host_id(key.public)

    def make(number: int, leaf_index: int, public: bytes) -> bytes:
        leaf = hostlog.Key(host, number, leaf_index, public, 5, b"")
        return hostlog.encode_key(hostkeys.sign_key(leaf, key))

    first = make(0, 0, key.public)
    known = HostBodies(host)
    assert verify_offer(known, forge_log(key, [first])).progress.size == 1
    second = make(1, 1, new.public)
    offer = forge_log(key, [first, second])._replace(note=forge_log(new, [first, second]).note)
    assert "another log" in refuse(known, offer)
    for wrong in (2, 7):
        said = refuse(known, forge_log(key, [first, make(1, wrong, new.public)]))
        assert said.startswith("leaf 1 of host") and f"says that it is leaf {wrong}" in said
    # a later key is of a later leaf: else it would be among these
    boot = hostlog.encode_boot(hostlog.Boot(host, bytes(16), 1, 2, 1))
    offer = forge_log(key, [first, boot], (make(1, 1, new.public),))
    assert "not a record of a later leaf" in refuse(known, offer)


def test_the_state_of_a_host_has_one_encoding(paths: Paths, seed: int) -> None:
    known = HostBodies(decode(offer_range(paths)).host)
    take(known, offer_range(paths))
    data = encode_taken(known.make_snapshot())
    chance = random.Random(seed)
    for _ in range(500):
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            found = decode_taken(bytes(changed))
        except SpecError:
            continue
        assert encode_taken(found) == bytes(changed)
    with pytest.raises(SpecError, match="too many"):
        decode_taken(data + b"\0")
    assert bundle.OPEN not in {run.state for run in known.make_snapshot().runs.values()}
