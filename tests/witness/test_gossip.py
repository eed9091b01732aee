"""What one witness saw the others learn; a host that shows two histories is caught."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from chainlite import checkpoint, cosignature, quorum, witness
from docklock.witness.witness import parse_notes
from tests.chainlite.trees import Tree, make_tree
from tests.witness.conftest import Make
from tests.witness.served_logs import serve
from tests.witness.test_serve import verify
from tests.witness.witnesses import Running, make_policy

TREE = make_tree(300)
OTHER = TREE.fork(5)
HASH = witness.compute_origin_hash(TREE.origin)


def make_peers(make_running: Make, count: int, url: str = "") -> list[Running]:
    made = [make_running(f"w{number}.example") for number in range(1, count + 1)]
    for one in made:
        one.configure([((TREE.vkey,), url)], made)
    for one in made:
        one.start(wait=False)
    for one in made:
        one.wait_for(lambda one=one: one.read_metric("witness_ready") == 1)
    return made


def submit(one: Running, tree: Tree, old: int, new: int) -> bytes:
    """The note as the witness cosigned it."""
    got = one.submit(old, tree.prove(old, new), tree.note(new))
    assert got.status == 200, got
    return tree.note(new) + got.body


def has_heard(one: Running, size: int, count: int) -> bool:
    notes = parse_notes(one.get(f"/checkpoints/{HASH}").body)
    return [checkpoint.parse_claim(note).size for note in notes].count(size) == count


def check_conviction(one: Running, sizes: tuple[int, int]) -> None:
    """A third person with the file alone is told which sizes do not agree."""
    done = verify(one.list_forks()[0])
    assert done.returncode == 3
    said = [line for line in done.stdout.splitlines() if " leaves, root " in line]
    assert [int(line.split()[0]) for line in said] == list(sizes)


def test_each_witness_learns_at_once_what_the_others_cosigned(make_running: Make) -> None:
    made = make_peers(make_running, 3)
    for one in made:
        submit(one, TREE, 0, 7)
    for one in made:
        one.wait_for(lambda one=one: has_heard(one, 7, 3))
        assert one.read_metric("witness_unsettled") == 0
        assert one.list_forks() == []


@pytest.mark.parametrize("sizes", [(12, 12), (11, 13), (13, 11), (8, 260), (256, 257)])
def test_a_host_that_splits_four_witnesses_two_and_two_is_caught(
    make_running: Make, sizes: tuple[int, int]
) -> None:
    """Neither history gets past the policy; what they do not share convicts, with the log's tiles
    where the sizes differ: the host has to serve one of the two."""
    with serve(OTHER, max(sizes)) as served:
        made = make_peers(make_running, 4, served.url)
        policy = make_policy(made, need=3, bad=1)
        quorum.check_quorum(policy)
        for pair, tree, size in ((made[:2], TREE, sizes[0]), (made[2:], OTHER, sizes[1])):
            notes = [submit(one, tree, 0, size) for one in pair]
            merged = witness.merge_lines(notes[0], notes)
            found = cosignature.get_cosignatures(merged, policy.keys)
            assert len(found) == 2
            assert not quorum.judge_quorum(policy, found).is_met
        for one in made:
            one.wait_for(lambda one=one: one.list_forks() != [])
            one.wait_for(lambda one=one: "FORK: " in one.said())
            assert one.read_metric("forks") >= 1
    seen = {int(checkpoint.parse_claim(TREE.note(sizes[0])).size), max(sizes)}
    check_conviction(made[0], (min(seen), max(seen)))


def test_what_the_log_does_not_show_to_agree_is_told(make_running: Make) -> None:
    """A host that serves nothing is not convicted, but nothing of it passes unnoticed."""
    made = make_peers(make_running, 2, "http://127.0.0.1:9")
    submit(made[0], TREE, 0, 11)
    submit(made[1], OTHER, 0, 13)
    for one, other in (made, made[::-1]):
        one.wait_for(lambda one=one: "and nothing shows" in one.said())
        assert one.read_metric("witness_unsettled") == 1
        assert f"{other.name} has cosigned" in one.said()
        assert one.list_forks() == []


def test_sizes_that_differ_in_one_history_are_settled_by_the_logs_tiles(
    make_running: Make,
) -> None:
    with serve(TREE, 290) as served:
        made = make_peers(make_running, 2, served.url)
        submit(made[0], TREE, 0, 17)
        submit(made[1], TREE, 0, 270)
        for one in made:
            one.wait_for(lambda one=one: has_heard(one, 270, 1) and has_heard(one, 17, 1))
            one.wait_for(lambda one=one: one.read_metric("witness_unsettled") == 0)
            assert one.list_forks() == []
        assert len(served.asked) < 40


def test_a_log_that_serves_another_history_than_it_had_cosigned_is_caught_by_one_witness(
    make_running: Make,
) -> None:
    with serve(OTHER, 40) as served:
        one = make_running("w1.example")
        one.configure([((TREE.vkey,), served.url)])
        one.start()
        submit(one, TREE, 0, 11)
        one.wait_for(lambda: one.list_forks() != [])
        check_conviction(one, (11, 40))


def test_a_strangers_checkpoint_is_not_heard(make_running: Make) -> None:
    made = make_peers(make_running, 2)
    assert made[0].post("/add-cosigned", TREE.note(7)).status == 403
    assert made[0].post("/add-cosigned", make_tree(number=8).note(7)).status == 404
    assert made[0].post("/add-cosigned", b"x").status == 400
    assert has_heard(made[0], 7, 0)


def test_what_a_peer_replays_changes_nothing(make_running: Make) -> None:
    made = make_peers(make_running, 2)
    old = submit(made[0], TREE, 0, 7)
    made[1].wait_for(lambda: has_heard(made[1], 7, 1))
    submit(made[0], TREE, 7, 12)
    made[1].wait_for(lambda: has_heard(made[1], 12, 1))
    for one in made:
        for _ in range(3):
            assert one.post("/add-cosigned", old) == (200, b"", "text/plain; charset=utf-8")
    assert has_heard(made[0], 12, 1)
    assert has_heard(made[1], 12, 1)
    assert made[0].submit(7, TREE.prove(7, 9), TREE.note(9)).body == b"12\n"
    assert [one.list_forks() for one in made] == [[], []]


def save(one: Running, to: Path) -> None:
    """A snapshot of a witness's disk; it does not run."""
    shutil.copytree(one.top, to)


def restore(one: Running, kept: Path) -> None:
    shutil.rmtree(one.top)
    shutil.copytree(kept, one.top)


def test_a_witness_from_an_old_disk_goes_on_from_what_its_peers_kept(
    make_running: Make, tmp_path: Path
) -> None:
    late = TREE.fork(15)
    made = make_peers(make_running, 3)
    one = made[0]
    submit(one, TREE, 0, 10)
    one.stop()
    save(one, tmp_path / "kept")
    one.start()
    submit(one, TREE, 10, 20)
    made[1].wait_for(lambda: has_heard(made[1], 20, 1))
    one.stop(signal.SIGKILL)
    restore(one, tmp_path / "kept")
    one.start()
    assert "remembers only 10: its disk is an old one" in one.said()
    assert one.submit(10, late.prove(10, 18), late.note(18)).body == b"20\n"
    assert one.submit(20, late.prove(20, 30), late.note(30)).status == 422
    submit(one, TREE, 20, 30)


def test_a_witness_that_hears_no_peer_cosigns_nothing(make_running: Make, tmp_path: Path) -> None:
    made = make_peers(make_running, 3)
    for one in made:
        submit(one, TREE, 0, 10)
    for one in made:
        one.stop()
    made[0].start(wait=False)
    assert made[0].submit(10, TREE.prove(10, 12), TREE.note(12)).status == 503
    assert made[0].read_metric("witness_ready") == 0
    made[1].start(wait=False)  # each answers the other, though neither cosigns yet
    made[0].wait_for(lambda: made[0].read_metric("witness_ready") == 1)
    submit(made[0], TREE, 10, 12)


def test_a_lone_witness_from_an_old_disk_cosigns_a_fork_which_gossip_catches(
    make_running: Make, tmp_path: Path
) -> None:
    """What is not caught by itself: without peers nobody tells it what it forgot."""
    late = TREE.fork(15)
    lone, other = make_running("w1.example"), make_running("w2.example")
    lone.configure([((TREE.vkey,), "")])
    other.configure([((TREE.vkey,), "")], [lone])
    lone.start()
    submit(lone, TREE, 0, 10)
    lone.stop()
    save(lone, tmp_path / "kept")
    lone.start()
    submit(lone, TREE, 10, 20)
    other.start()
    other.wait_for(lambda: has_heard(other, 20, 1))
    lone.stop()
    restore(lone, tmp_path / "kept")
    lone.start()
    forked = submit(lone, late, 10, 20)
    assert cosignature.get_cosignatures(forked, lone.keys) != ()
    other.wait_for(lambda: other.list_forks() != [])
    check_conviction(other, (20, 20))


def test_peers_that_come_and_go_miss_nothing(make_running: Make) -> None:
    made = make_peers(make_running, 2)
    made[1].stop(signal.SIGKILL)
    submit(made[0], TREE, 0, 7)
    submit(made[0], TREE, 7, 9)
    made[1].start()
    made[1].wait_for(lambda: has_heard(made[1], 9, 1))


def test_the_settings_are_checked_without_serving(make_running: Make) -> None:
    one = make_running("w1.example")
    one.configure([((TREE.vkey,), "")])
    assert one.config.exists()
    text = one.config.read_text()
    for bad, said in (
        (text.replace("[[log]]", "[[logs]]"), "unknown key"),
        (
            text.replace("gossip-seconds = 1", "gossip-seconds = 0"),
            "line 2: gossip-seconds: want 1",
        ),
        (text.replace("keys = ['docklock", "keys = ['locklock"), "line 4: keys: not a key"),
        (text + text.partition("\n[[log]]")[2].join(("[[log]]", "")), "is named twice"),
    ):
        one.config.write_text(bad)
        words = ["--root", str(one.top), "witness", "serve", "--config", str(one.config)]
        done = _run([*words, "--check-config"])
        assert done.returncode == 2, bad
        assert said in done.stderr, done.stderr
    one.config.write_text(text)
    assert _run([*words, "--check-config"]).stdout == "OK\n"


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    from tests.witness.witnesses import ROOT, RUN

    return subprocess.run([*RUN, *words], cwd=ROOT, capture_output=True, text=True)
