"""A fork's file convicts by itself, whatever the sizes; who signed one history is never accused."""

from __future__ import annotations

import pytest

from chainlite import checkpoint, cosignature, fork, witness
from chainlite.errors import SpecError
from tests.chainlite.samples import make_key
from tests.chainlite.trees import Tree, make_tree

TREE = make_tree()
OTHER = TREE.fork(5)
PUBLICS = (TREE.key.public,)


def serve(seen: bytes, tree: Tree, size: int) -> fork.Fork | None:
    hashes = Tree(tree.key, tree.leaves[:size])
    return fork.find_served_fork(PUBLICS, seen, tree.note(size), hashes.read)


def test_every_pair_of_sizes_convicts_and_one_history_never_does() -> None:
    for seen in range(1, 20):
        for size in range(1, 20):
            found = serve(TREE.note(seen), OTHER, size)
            assert (found is not None) == (5 < seen <= size)
            if found is not None:
                data = fork.encode_fork(found)
                assert fork.decode_fork(data) == found
                forked = fork.check_fork(data)
                assert (forked.first.size, forked.second.size) == (seen, size)
                assert forked.host == TREE.origin.rpartition("/")[2]
            assert serve(TREE.note(seen), TREE, size) is None


def test_a_refused_submission_convicts_by_its_own_proof_where_it_can() -> None:
    """Where the old size is a power of two the proof leaves its tree out: then it convicts not."""
    for old in range(6, 20):
        for new in range(old, 20):
            proof = OTHER.prove(old, new)
            found = fork.find_submitted_fork(PUBLICS, TREE.note(old), OTHER.note(new), proof)
            assert (found is None) == (old != new and old & (old - 1) == 0)
            if found is not None:
                fork.check_fork(fork.encode_fork(found))


def test_a_bad_proof_of_a_true_checkpoint_accuses_nobody() -> None:
    good = TREE.prove(7, 12)
    for proof in ((), good[1:], good[:-1], good[::-1], OTHER.prove(7, 12), TREE.prove(6, 12)):
        assert fork.find_submitted_fork(PUBLICS, TREE.note(7), TREE.note(12), proof) is None


def test_hashes_that_are_not_the_served_checkpoints_are_refused() -> None:
    with pytest.raises(SpecError, match="other hashes"):
        fork.find_served_fork(PUBLICS, TREE.note(7), TREE.note(12), OTHER.read)
    with pytest.raises(SpecError, match="other hashes"):
        fork.find_served_fork(PUBLICS, TREE.note(12), TREE.note(12), OTHER.read)


def make(first: int = 7, second: int = 12) -> fork.Fork:
    found = serve(TREE.note(first), OTHER, second)
    assert found is not None
    return found


def test_a_spoilt_file_is_refused_or_says_the_same() -> None:
    """The log's signatures cover the texts; what is in no signature changes nothing."""
    data = fork.encode_fork(make())
    said = fork.check_fork(data)
    for position in range(len(data)):
        spoilt = bytearray(data)
        spoilt[position] ^= 1 << position % 8
        try:
            assert fork.check_fork(bytes(spoilt)) == said
        except SpecError:
            continue
        raise AssertionError(f"byte {position} is covered by nothing")


def test_nobody_else_can_accuse_a_log() -> None:
    stranger = make_key(8)
    state = checkpoint.Checkpoint(TREE.origin, 7, b"\x07" * 32)
    forged = checkpoint.sign_checkpoint(state, stranger)
    for publics in (PUBLICS, (stranger.public, *PUBLICS), (stranger.public,)):
        made = fork.make_fork(publics, (TREE.note(7), forged))
        assert made is not None
        with pytest.raises(SpecError):
            fork.check_fork(fork.encode_fork(made))


def test_two_logs_are_no_fork() -> None:
    assert fork.make_fork(PUBLICS, (TREE.note(7), make_tree(number=8).note(7))) is None
    assert fork.make_fork(PUBLICS, (TREE.note(7), TREE.note(7))) is None
    cosigned = cosignature.cosign(TREE.note(7), "w", make_key(1), 5)
    assert fork.make_fork(PUBLICS, (TREE.note(7), cosigned)) is None


def test_a_key_that_does_not_follow_from_the_hosts_must_be_named() -> None:
    later = make_key(5)
    states = [checkpoint.Checkpoint(TREE.origin, 7, bytes([n]) * 32) for n in (1, 2)]
    notes = [checkpoint.sign_checkpoint(state, later) for state in states]
    made = fork.make_fork((TREE.key.public, later.public), (notes[0], notes[1]))
    assert made is not None
    data = fork.encode_fork(made)
    with pytest.raises(SpecError, match="not signed"):
        fork.check_fork(data)
    assert fork.check_fork(data, (later.public,)).first.size == 7
    assert fork.render_fork(fork.check_fork(data, (later.public,))).startswith("FORKED: docklock/")


def test_a_log_of_several_owners_is_convicted_by_enough_of_them_alone() -> None:
    """Of a chain's log: one validator that lies accuses nobody."""
    origin = checkpoint.get_chain_origin(bytes(32))
    publics = tuple(make_key(number).public for number in range(1, 5))
    states = [checkpoint.Checkpoint(origin, 7, bytes([n]) * 32) for n in (1, 2)]

    def sign(state: checkpoint.Checkpoint, *numbers: int) -> bytes:
        signed = [checkpoint.sign_checkpoint(state, make_key(number)) for number in numbers]
        return witness.merge_lines(signed[0], signed[1:])

    for signers, is_proof in ((((1, 2), (3, 4)), True), (((1, 2), (1, 2)), True),
                              (((1, 2, 3), (4,)), False), (((1, 2), (1, 9)), False)):  # fmt: skip
        notes = [sign(state, *some) for state, some in zip(states, signers, strict=True)]
        made = fork.make_fork(publics, (notes[0], notes[1]))
        assert made is not None
        data = fork.encode_fork(made)
        if is_proof:
            assert fork.check_fork(data, publics, 2).first.origin == origin
        else:
            with pytest.raises(SpecError, match="fewer than 2"):
                fork.check_fork(data, publics, 2)
    with pytest.raises(SpecError, match="name the chain's genesis with --genesis"):
        fork.check_fork(data)
