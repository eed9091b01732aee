"""How far a container's evidence is held: the furthest of those who hold its newest leaf."""

from __future__ import annotations

from pathlib import Path

import pytest

from docklock.console import host_anchors
from docklock.console.facts import Anchor
from docklock.console.host_anchors import Anchors
from docklock.evidence.cosigned import store_cosigned
from docklock.evidence.host_log import HostLog
from docklock.evidence.submitted import Submitted
from docklock.outbox.sent import Sent, Standing
from tests.chainlite.samples import WITNESS
from tests.evidence.recording import begin, cosign_log, make_id, make_paths, record


def test_who_holds_the_newest_leaf_of_a_run_is_told_the_furthest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_anchors, "APART_NS", 0)
    paths = make_paths(tmp_path)
    anchors = Anchors(paths)
    anchors.refresh()
    assert (anchors.host, anchors.find_place(make_id(), 0)) == ("", None)
    assert anchors.find(None) == Anchor()
    assert not (tmp_path / "root").exists(), "a look makes nothing"

    first = record(paths, make_id(1), count=10)
    store_cosigned(paths, Path(cosign_log(paths, tmp_path / "note")).read_bytes())
    second = record(paths, make_id(2), count=3)
    anchors.refresh()
    places = {one: anchors.find_place(one, 0) for one in (first, second)}
    assert [place.event_count for place in places.values() if place] == [10, 3]
    old, new = (place.leaf for place in places.values() if place)
    assert old is not None and new is not None
    with HostLog(paths, None) as log:
        assert anchors.host == log.read_host().hex()
        assert new == log.get_size() - 1, "an exit is the newest leaf of its run"
    assert anchors.find(old) == Anchor("witnesses", WITNESS.name)
    assert anchors.find(new) == Anchor("host log")
    assert anchors.find_place(first, 1) is None, "it has no such run"

    chain = b"\1" * 32
    with Submitted(paths) as submitted:
        submitted.put_sender(chain, 1)
        for size in (new, new + 1):
            submitted.put_anchor(chain, size, b"\2" * 32, b"tx", 5)
    anchors.refresh()
    assert anchors.find(old).kind == "witnesses", "no block has ordered it"
    with Submitted(paths) as submitted:
        submitted.set_ordered(chain, new, 42, 7)
    anchors.refresh()
    assert anchors.find(old) == Anchor("block", "42", 7_000_000)
    assert anchors.find(new) == Anchor("host log"), "the first leaves are held, and not this one"

    with Sent(paths) as sent:
        sent.put_standing("far.example", Standing(size=new + 1, acknowledged_ms=9))
        sent.put_standing("near.example", Standing(size=1))
    anchors.refresh()
    assert anchors.find(new) == anchors.find(old) == Anchor("server", "far.example", 9_000_000)
    assert anchors.trouble == ""

    (tmp_path / "root/outbox/sent.db").unlink()
    (tmp_path / "root/outbox/sent.db").write_bytes(b"no database" * 400)
    anchors.refresh()
    assert "sent.db" in anchors.trouble
    assert anchors.find(old).kind == "block", "the others are told all the same"


def test_a_live_run_is_where_its_last_segment_is(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    anchors = Anchors(paths)
    live = begin(paths)
    try:
        place = anchors.find_place(make_id(), 0)
        assert place is not None
        assert place.leaf is None, "nothing but its start is logged"
    finally:
        live.close(0)
    assert (anchors.find_place(make_id(), 0) or place).leaf is not None
