"""LogBlocks at a server: kept if they are of what is held, told apart where they contradict it."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from chainlite import logblock, segment
from chainlite.bpci import at_rest
from chainlite.bpci.alert import decode_evidence
from chainlite.bpci.handed import Handed, HandedBlock, decode_handed, encode_handed
from chainlite.bpci.intake import EXCEEDED, KNOWN, NOT_YET, REFUSED, TAKEN, Answer, HandedIn
from chainlite.bpci.orders import SetQuota
from chainlite.errors import SpecError
from docklock.evidence.host_log import HostLog
from docklock.paths import Paths
from tests.bpci.callers import Served, make_caller
from tests.bpci.handing import NOTARY, make_handed, resign
from tests.bpci.joined import make_office
from tests.bpci.servers import KEY, NOW_MS, Server
from tests.evidence.recording import make_id, record
from tests.ledger.offered import make_host


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A host with three LogBlocks of one app."""
    paths = make_host(tmp_path)
    make_handed(paths)
    for number in (4, 5):
        record(paths, make_id(number), count=6)
        make_handed(paths)
    return paths


def hand_in(server: Server, host: bytes, handed: Handed) -> Answer:
    return server.intake.hand_in(HandedIn(host, encode_handed(handed)))


def count_blocks(server: Server, host: bytes) -> int:
    return len(server.store.read_blocks(host, b"", "", -1, 99))


def test_what_is_handed_in_reads_back_and_nothing_else_reads(paths: Paths, seed: int) -> None:
    handed = make_handed(paths, is_new=False)
    data = encode_handed(handed)
    assert decode_handed(data) == handed and len(handed.blocks) == 3
    rng = random.Random(seed)
    for _ in range(200):
        cut = data[: rng.randrange(len(data))]
        with pytest.raises(SpecError):
            decode_handed(cut)
    with pytest.raises(SpecError):
        decode_handed(data + b"\0")


def test_blocks_are_kept_once_however_they_come(paths: Paths, tmp_path: Path) -> None:
    handed = make_handed(paths, is_new=False)
    with Server(tmp_path / "server") as server:
        host = server.enrol(paths)
        server.sync(paths, host)
        none = handed._replace(blocks=())
        assert hand_in(server, host, none).kind == KNOWN
        first, rest = handed._replace(blocks=handed.blocks[:1]), handed.blocks[1:]
        assert [hand_in(server, host, first).kind for _ in range(2)] == [TAKEN, KNOWN]
        assert hand_in(server, host, handed._replace(blocks=rest[1:])).kind == NOT_YET
        assert hand_in(server, host, handed).kind == TAKEN
        assert hand_in(server, host, handed._replace(blocks=rest)).kind == KNOWN
        assert count_blocks(server, host) == 3 and server.audit() == []
        newest = server.store.find_newest_block(host, handed.public, "web")
        assert newest is not None and newest.block == handed.blocks[-1].block
    with Server(tmp_path / "server") as server:
        record(paths, make_id(6), count=2)
        more = make_handed(paths)
        server.sync(paths, host)
        assert hand_in(server, host, more).kind == TAKEN
        assert server.audit() == []


def test_what_has_not_come_yet_is_waited_for(paths: Paths, tmp_path: Path) -> None:
    handed = make_handed(paths, is_new=False)
    size = logblock.decode_block(handed.blocks[0].block).log_size
    with Server(tmp_path / "server") as server:
        host = server.enrol(paths)
        for end, kind in ((size - 1, NOT_YET), (size, NOT_YET), (None, TAKEN)):
            server.sync(paths, host, end)
            assert hand_in(server, host, handed).kind == kind
        assert server.store.read_alerts(host, 0, 9) == []


def spoil_signature(one: HandedBlock) -> HandedBlock:
    return one._replace(signature=bytes(64))


def test_what_no_notary_signed_is_refused_and_accuses_nobody(paths: Paths, tmp_path: Path) -> None:
    handed = make_handed(paths, is_new=False)
    first, second, _ = handed.blocks
    bad = [
        handed._replace(blocks=(spoil_signature(first),)),
        handed._replace(blocks=(first._replace(body=second.body),)),
        handed._replace(public=NOTARY.public),
        handed._replace(app="other"),
        handed._replace(blocks=(first, spoil_signature(second))),
    ]
    with Server(tmp_path / "server") as server:
        host = server.enrol(paths)
        server.sync(paths, host)
        for one in bad:
            answer = hand_in(server, host, one)
            assert (answer.kind, answer.alert) == (REFUSED, ""), answer
        assert count_blocks(server, host) == 0
        assert server.store.read_alerts(host, 0, 9) == []
        other = make_host(tmp_path / "other")
        stranger = server.enrol(other)
        server.sync(other, stranger)
        assert hand_in(server, stranger, handed).kind == REFUSED


def test_a_quota_counts_them(paths: Paths, tmp_path: Path) -> None:
    handed = make_handed(paths, is_new=False)
    with Server(tmp_path / "server") as server:
        host = server.enrol(paths)
        server.sync(paths, host)
        used = server.store.read_totals()[0].stored_bytes
        first = handed._replace(blocks=handed.blocks[:1])
        segments = len(logblock.decode_segments(handed.blocks[0].body))
        size = len(handed.blocks[0].block) + 64 + 8 * segments
        make_office(server).set_quota(SetQuota("acme", {"bytes": used + size}), NOW_MS)
        assert hand_in(server, host, handed).kind == EXCEEDED
        assert count_blocks(server, host) == 0 and server.audit() == []
        assert hand_in(server, host, first).kind == TAKEN
        assert server.store.read_totals()[0].stored_bytes == used + size
        assert server.audit() == []


def replace_segment(paths: Paths, one: HandedBlock) -> tuple[dict[str, object], bytes]:
    """A block's changes, and its body, with a receipt more in its last segment."""
    block, signed = logblock.decode_block(one.block), list(logblock.decode_segments(one.body))
    header = segment.decode_header(signed[-1].header)
    other = header._replace(time_last=header.time_last + 1)
    signed[-1] = signed[-1]._replace(header=segment.encode_header(other))
    assert block.segment_count == len(signed)
    return {"root": logblock.compute_segments_root(signed)}, logblock.encode_segments(signed)


@pytest.mark.parametrize("lie", ["segment", "log", "totals", "time", "two"])
def test_what_a_notary_signed_and_cannot_be_true_is_kept_as_an_alert(
    paths: Paths, tmp_path: Path, lie: str
) -> None:
    whole = make_handed(paths, is_new=False)
    block = logblock.decode_block(whole.blocks[1].block)
    with HostLog(paths, None) as log:
        root = log.compute_root(1)
    changes: dict[str, dict[str, object]] = {
        "log": {"log_root": root}, "totals": {"totals": (9,) * 5}, "time": {"time": 1}, "two": {},
        "segment": {},
    }  # fmt: skip
    changed, body = changes[lie], whole.blocks[1].body
    if lie == "segment":
        changed, body = replace_segment(paths, whole.blocks[1])
    bad = resign(whole, 1, **changed)
    bad = bad._replace(blocks=(bad.blocks[0], bad.blocks[1]._replace(body=body)))
    with Server(tmp_path / "server") as server:
        host = server.enrol(paths)
        server.sync(paths, host)
        if lie == "two":
            assert hand_in(server, host, resign(whole, 1)).kind == TAKEN
            bad = resign(whole, 1, time=block.time + 1)
        before = count_blocks(server, host)
        for _ in range(2):
            answer = hand_in(server, host, bad)
            assert (answer.kind, answer.alert) == (REFUSED, "logblock"), answer
        assert count_blocks(server, host) == before
        [alert] = server.store.read_alerts(host, 0, 9)
        assert (alert.kind, alert.leaf_index) == ("logblock", block.log_size - 1)
        tenant = server.store.find_tenant("acme")
        assert tenant is not None
        key = at_rest.Vault(KEY).open_tenant_key("acme", tenant.sealed_key)
        label = at_rest.label_alert("acme", *alert[:4])
        evidence = decode_evidence(at_rest.unseal(alert.box, key, label))
        assert decode_handed(evidence.batch) == bad and evidence.trouble.why == answer.why
        assert server.audit() == []
        good = whole if lie != "two" else resign(whole, 2)
        assert hand_in(server, host, good).kind == TAKEN


def test_over_http_a_host_hands_in_its_own_and_hears_how_far(paths: Paths, tmp_path: Path) -> None:
    handed = make_handed(paths, is_new=False)
    other = make_host(tmp_path / "other")

    async def run() -> None:
        async with Served(tmp_path / "server") as served:
            host = served.server.enrol(paths)
            served.server.sync(other, served.server.enrol(other, "others"))
            caller = make_caller(paths)

            async def post(one: Handed) -> tuple[int, dict[str, str]]:
                answer = await served.call(caller, "POST", "/v1/logblocks", encode_handed(one))
                return answer.status, json.loads(answer.body)

            served.server.sync(paths, host, logblock.decode_block(handed.blocks[0].block).log_size)
            assert (await post(handed))[0] == 409
            served.server.sync(paths, host)
            status, shown = await post(handed._replace(blocks=()))
            assert (status, shown["height"], shown["hash"]) == (200, "0", "")
            for _ in range(2):
                status, shown = await post(handed)
                assert (status, shown["height"]) == (200, "3")
            newest = handed.blocks[-1].block
            assert shown["hash"] == logblock.compute_block_hash(newest).hex()
            assert shown["notary"] == logblock.compute_notary_id(handed.public).hex()
            assert (await post(resign(handed, 0, totals=(1,) * 5)))[0] == 422
            assert (await post(handed._replace(app="else")))[0] == 400
            bad = await served.call(caller, "POST", "/v1/logblocks", b"nothing")
            assert bad.status == 400
            stranger = make_caller(other)
            data = encode_handed(handed)
            assert (await served.call(stranger, "POST", "/v1/logblocks", data)).status == 400
            assert served.server.audit() == []

    asyncio.run(run())
