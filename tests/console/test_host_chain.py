"""This host's chain: a real devnet of two, whose first validator is this host's node."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from docklock.console.alert_sources import find_chain
from docklock.console.facts import UNKNOWN, ChainFacts
from docklock.console.host_chain import BLOCKS_KEPT, HostChain
from docklock.paths import get_paths
from tests.e2e.chains import DevnetProcess
from tests.e2e.conftest import Docklock


def test_without_a_node_it_says_how_to_get_one(tmp_path: Path) -> None:
    shown = HostChain(get_paths(str(tmp_path))).read_chain()
    assert (shown.is_running, shown.height, shown.blocks) == (False, UNKNOWN, ())
    assert "docklock chain init" in shown.trouble and "chain devnet" in shown.trouble


def test_a_running_chain_grows_and_stops_and_is_still_known(tmp_path: Path) -> None:
    dock = Docklock(tmp_path / "root")
    paths = get_paths(str(tmp_path / "root"))
    os.makedirs(paths.state, exist_ok=True)
    chain = HostChain(paths)
    options = ("--keep", "--validators", "2", "--set", "block_interval_ms=50")
    with DevnetProcess(dock, tmp_path / "net", *options) as devnet:
        os.symlink(devnet.directory("v1"), f"{paths.state}/chain")
        devnet.wait_height("v1", 3)
        first = chain.read_chain()
        assert (first.name, first.is_running, first.trouble) == ("devnet", True, "")
        assert (first.quorum, first.may_fail, first.role) == (2, 0, "validator, votes")
        assert first.blocks[0].height == first.height >= 3
        assert sorted(one.operator for one in first.validators if one.is_up) == ["v1", "v2"]
        assert [one.note for one in first.validators].count("this node") == 1
        assert sum(one.is_proposer for one in first.validators) == 1
        assert [peer.is_up for peer in first.peers] == [True]
        assert first.blocks[0].finality_ms >= 0 and first.finality_p95_ms >= 0
        assert all(block.seals == 2 for block in first.blocks)
        devnet.wait_height("v1", first.height + 6)
        asyncio.run(chain._ask_blocks(first.height + 1))  # as if the others came while it asked
        heights = [block["height"] for block in chain._blocks]
        assert heights == list(range(heights[0], 0, -1)) and heights[0] >= first.height + 6
        assert find_chain(paths) == []
        later = chain.read_chain()
        check_contiguous(later)
        assert len(later.blocks) == later.height
        known = devnet.ask("v2", "blocks", str(later.blocks[-2].height))
        assert later.blocks[-2].hash == known["hash"]
        assert later.blocks[-2].proposer == known["proposer"]
        v2 = find_process(devnet, "v2")
        os.kill(v2, signal.SIGTERM)
        dock.wait_for(lambda: not all(one.is_up for one in chain.read_chain().validators), 20)
        assert [one.operator for one in chain.read_chain().validators if one.is_up] == ["v1"]
        [alert] = find_chain(paths)
        assert (alert.kind, alert.level) == ("chain", "critical")
        assert "1 of 2 validators are connected" in alert.why
    ended = chain.read_chain()
    assert not ended.is_running and "docklock chain start --dir" in ended.trouble
    assert ended.height >= later.height and ended.blocks[0].height == ended.height
    assert chain.read_chain() == ended
    afresh = HostChain(paths).read_chain()
    assert [block.hash for block in afresh.blocks] == [block.hash for block in ended.blocks]
    assert len(afresh.blocks) <= BLOCKS_KEPT
    [alert] = find_chain(paths)
    assert (alert.kind, alert.level, alert.subject) == ("chain", "warning", "devnet")
    assert alert.advice.startswith("docklock chain start --dir")
    Path(f"{paths.state}/chain/halted").write_text("two seals at height 3\n")
    [alert] = find_chain(paths)
    assert (alert.kind, alert.level, alert.why) == ("halted", "critical", "two seals at height 3")
    assert chain.read_chain().halted == alert.why


def check_contiguous(shown: ChainFacts) -> None:
    heights = [block.height for block in shown.blocks]
    assert heights == list(range(shown.height, 0, -1))


def find_process(devnet: DevnetProcess, name: str) -> int:
    [found] = [
        pid
        for pid in devnet.pids()
        if devnet.directory(name).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return found
