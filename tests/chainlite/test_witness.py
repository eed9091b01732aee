"""add-checkpoint, as C2SP tlog-witness says: every status, and nothing cosigned that should not."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlite import checkpoint, cosignature, note, witness
from chainlite.errors import SpecError
from tests.chainlite.samples import make_key
from tests.chainlite.trees import Tree, make_tree

TREE = make_tree()
OTHER = TREE.fork(5)
NOTHING = witness.Seen()
ZEROS_LINE = base64.b64encode(bytes(32)) + b"\n"


def ask(body: bytes, seen: witness.Seen = NOTHING, tree: Tree = TREE) -> witness.Answer | None:
    """The answer to a body, None for one that is to be cosigned."""
    try:
        asked = witness.parse_submission(body, tree.logs)
    except witness.Refused as refused:
        return refused.answer
    return witness.find_refusal(asked, seen)


def make_seen(size: int, tree: Tree = TREE) -> witness.Seen:
    return witness.Seen(size, tree.root(size)) if size else witness.Seen()


def make_body(old: int, new: int, tree: Tree = TREE) -> bytes:
    return witness.encode_request(old, tree.prove(old, new), tree.note(new))


def get_status(body: bytes, seen: witness.Seen = NOTHING) -> int:
    answer = ask(body, seen)
    return answer.status if answer else witness.OK


def test_the_example_of_the_specification_is_read() -> None:
    hashes = [bytes([number]) * 32 for number in range(4)]
    lines = "".join(base64.b64encode(one).decode() + "\n" for one in hashes)
    signed = TREE.note(7)
    body = f"old 20852014\n{lines}\n".encode() + signed
    assert witness.parse_request(body) == (20852014, tuple(hashes), signed)
    assert witness.encode_request(20852014, hashes, signed) == body


def test_every_tree_that_continues_the_last_one_is_granted_and_no_other() -> None:
    for old in range(20):
        for new in range(old, 21):
            assert ask(make_body(old, new), make_seen(old)) is None
            if old > 5:
                answer = ask(make_body(old, new, OTHER), make_seen(old))
                assert answer is not None
                assert answer.status == (409 if old == new else 422)


def test_an_old_size_that_is_not_the_last_is_409_with_the_last() -> None:
    for old, seen in ((0, 8), (7, 8), (9, 8), (3, 0)):
        answer = ask(make_body(old, 12), make_seen(seen))
        assert answer == witness.Answer(409, b"%d\n" % seen, "text/x.tlog.size")


def test_the_same_size_with_another_root_is_409() -> None:
    answer = ask(make_body(12, 12, OTHER), make_seen(12))
    assert answer == witness.Answer(409, b"12\n", "text/x.tlog.size")
    assert ask(make_body(12, 12), make_seen(12)) is None


def test_a_tree_of_no_leaves_has_the_root_of_none() -> None:
    assert ask(make_body(0, 0)) is None
    state = checkpoint.Checkpoint(TREE.origin, 0, b"\x05" * 32)
    signed = checkpoint.sign_checkpoint(state, TREE.key)
    assert get_status(witness.encode_request(0, (), signed)) == 409


def test_an_unknown_log_is_404_and_a_strangers_signature_403() -> None:
    assert get_status(witness.encode_request(0, (), make_tree(number=8).note(3))) == 404
    stranger = checkpoint.sign_checkpoint(
        checkpoint.Checkpoint(TREE.origin, 3, TREE.root(3)), make_key(8)
    )
    assert get_status(witness.encode_request(0, (), stranger)) == 403
    spoilt = TREE.note(3)[:-8] + b"AAAAAA==\n"
    assert get_status(witness.encode_request(0, (), spoilt)) in (400, 403)


def test_signatures_of_others_are_passed_over() -> None:
    line = cosignature.cosign(TREE.note(3), "stranger", make_key(4), 5)
    assert get_status(witness.encode_request(0, (), line)) == 200


def test_a_log_of_two_types_of_key_must_have_signed_with_both() -> None:
    both = {TREE.origin: (TREE.vkey, note.VerifierKey(TREE.origin, bytes(1312), 6))}
    with pytest.raises(witness.Refused) as caught:
        witness.parse_submission(make_body(0, 3), both)
    assert caught.value.answer.status == 403


def test_a_changed_key_of_the_log_counts_beside_the_one_before() -> None:
    later = make_key(5)
    known = {TREE.origin: (note.VerifierKey(TREE.origin, later.public, 1), TREE.vkey)}
    state = checkpoint.Checkpoint(TREE.origin, 3, TREE.root(3))
    for key in (later, TREE.key):
        signed = checkpoint.sign_checkpoint(state, key)
        assert witness.check_note(signed, known) == state


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (lambda body: body.replace(b"old 3", b"old 41"), 400),  # above the checkpoint's size
        (lambda body: body.replace(b"old 3", b"old 03"), 400),
        (lambda body: body.replace(b"old 3", b"old -3"), 400),
        (lambda body: body.replace(b"old 3", b"old \xd9\xa3"), 400),
        (lambda body: body.replace(b"old 3", b"old  3"), 400),
        (lambda body: body.replace(b"old 3", b"old"), 400),
        (lambda body: body.replace(b"old 3", b"new 3"), 400),
        (lambda body: body.replace(b"old 3\n", b""), 400),
        (lambda body: body.replace(b"old 3\n", b"old 3\r\n"), 400),
        (lambda body: body.replace(b"old 3\n", b"old 3\nAAAA\n"), 400),
        (lambda body: body.replace(b"old 3\n", b"old 3\n" + b"A" * 44 + b"\n"), 400),
        (lambda body: body.replace(b"=\n", b"\n", 1), 400),
        (lambda body: body.replace(b"\n\n", b"\n", 1), 400),
        (lambda body: body.replace(b"\n\n", b"\n"), 400),
        (lambda body: body[:-1], 400),
        (lambda body: body[:0], 400),
        (lambda body: body.replace(b"old 3\n", b"old 3\n" + ZEROS_LINE), 422),
        (lambda body: b"old 0\n" + body.partition(b"\n")[2], 422),
        (lambda body: b"old 3\n\n" + body.partition(b"\n\n")[2], 422),
    ],
)  # fmt: skip
def test_every_malformed_request_has_its_status(
    spoil: Callable[[bytes], bytes], status: int
) -> None:
    assert get_status(spoil(make_body(3, 12)), make_seen(3)) == status


def test_63_proof_lines_are_read_and_64_refused() -> None:
    for count, status in ((63, 422), (64, 400)):
        body = witness.encode_request(3, (bytes(32),) * count, TREE.note(12))
        assert get_status(body, make_seen(3)) == status


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_what_is_granted_never_shrinks_or_changes(
    seen: int, old: int, new: int, is_other: bool
) -> None:
    """Whatever is submitted: what is granted begins with what was cosigned before."""
    tree = OTHER if is_other else TREE
    if ask(make_body(old, max(old, new), tree), make_seen(seen)) is None:
        assert old == seen <= max(old, new)
        assert tree.root(seen) == TREE.root(seen)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_refusal(data: bytes) -> None:
    answer = ask(data)
    assert answer is not None
    assert answer.status == 400


def test_lines_are_merged_one_a_key_and_strangers_lines_dropped() -> None:
    first = cosignature.cosign(TREE.note(3), "w1", make_key(1), 5)
    second = cosignature.cosign(TREE.note(3), "w2", make_key(2), 5)
    newer = cosignature.cosign(TREE.note(3), "w1", make_key(1), 9)
    merged = witness.merge_lines(first, (second, newer, TREE.note(4)))
    known = (note.VerifierKey("w1", make_key(1).public), note.VerifierKey("w2", make_key(2).public))
    assert {(one.name, one.time) for one in cosignature.get_cosignatures(merged, known)} == {
        ("w1", 9), ("w2", 5),
    }  # fmt: skip
    kept = witness.keep_lines(merged, (TREE.vkey, known[0]))
    assert [line.name for line in note.parse_note(kept).lines] == [TREE.origin, "w1"]
    with pytest.raises(SpecError):
        note.parse_note(witness.keep_lines(merged, ()))


@pytest.mark.parametrize(("size", "needed"), [(1, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
def test_of_a_chains_keys_more_must_sign_than_may_lie(size: int, needed: int) -> None:
    origin = checkpoint.get_chain_origin(bytes(32))
    pairs = [make_key(number) for number in range(1, size + 1)]
    known = tuple(note.VerifierKey(origin, pair.public, note.ED25519) for pair in pairs)
    state = checkpoint.Checkpoint(origin, 7, TREE.root(7))
    signed = [checkpoint.sign_checkpoint(state, pair) for pair in pairs]
    stranger = checkpoint.sign_checkpoint(state, make_key(99))
    for count in range(1, size + 1):
        body = witness.encode_request(0, (), witness.merge_lines(stranger, signed[-count:]))
        try:
            asked = witness.parse_submission(body, {origin: known})
        except witness.Refused as refused:
            assert (refused.answer.status, count) == (403, min(count, needed - 1))
        else:
            assert count >= needed
            assert asked.state == state
    twice = note.encode_note(
        note.parse_note(signed[0]).text, note.parse_note(signed[0]).lines * needed
    )
    assert witness.is_signed_by_log(note.parse_note(twice), known) == (needed == 1)
