"""PoE bundles at a server: kept if they are what its LogBlocks give, told apart where they lie."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chainlite import domains, keys, logblock
from chainlite.bpci import alerting
from chainlite.bpci.billed import decode_bundles
from chainlite.bpci.handed import Handed, HandedBlock, decode_handed, encode_handed
from chainlite.bpci.intake import (
    BROKEN,
    EXCEEDED,
    KNOWN,
    NOT_YET,
    REFUSED,
    TAKEN,
    Answer,
    HandedIn,
)
from chainlite.bpci.orders import SetQuota, SetRetention
from chainlite.bpci.quota import DAY_MS
from chainlite.bpci.verification import LOGBLOCK, POE
from chainlite.codec import Reader
from chainlite.economy import poe_bundle
from chainlite.economy.poe_bundle import PoeBundle, Window, decode_bundle, make_bundle, read_bundle
from chainlite.economy.poe_index import DEFAULT_TERMS, Ratio
from docklock.paths import Paths
from tests.bpci.callers import Served, make_caller
from tests.bpci.handing import (
    HOUR_MS,
    NOTARY,
    make_bundles,
    make_handed,
    sign_bundle,
)
from tests.bpci.joined import make_office
from tests.bpci.servers import KEY, NOW_MS, Server
from tests.bpci.test_sqlite_store import edit
from tests.enc import notarising
from tests.enc.test_notary import record_usage
from tests.evidence.recording import make_id
from tests.ledger.offered import make_host

TOP = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("killed_handing.py")
BILLED_HOURS = 4


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A host with one LogBlock in the first hour, two in the second, one in the third."""
    paths = make_host(tmp_path)
    notarising.notarise(paths, flush=True)
    for number, hour in ((4, 1), (5, 1), (6, 2)):
        record_usage(paths, make_id(number), 0, (10**9 * number, 5 * 10**8, 10**6, 10**7))
        notarising.notarise(paths, notarising.NOW_MS + hour * HOUR_MS, flush=True)
    return paths


def make_both(paths: Paths) -> tuple[Handed, Handed]:
    """LogBlocks, and the three bundles of them."""
    bundles = make_bundles(paths, hours=BILLED_HOURS)
    blocks = make_handed(paths, is_new=False)
    assert (len(blocks.blocks), len(bundles.blocks)) == (4, 3)
    assert decode_bundle(bundles.blocks[1].block).phi.numerator > 0
    return blocks, bundles


def hand_in(server: Server, host: bytes, handed: Handed, kind: str = POE) -> Answer:
    return server.intake.hand_in(HandedIn(host, encode_handed(handed), kind))


def begin(server: Server, paths: Paths, blocks: Handed) -> bytes:
    """The host, of which the server holds receipts and LogBlocks."""
    host = server.enrol(paths)
    server.sync(paths, host)
    assert hand_in(server, host, blocks, LOGBLOCK).kind == TAKEN
    return host


def count_bundles(server: Server, host: bytes) -> int:
    return len(server.store.read_bundles(host, b"", "", -1, 99))


def pick(handed: Handed, *numbers: int) -> Handed:
    return handed._replace(blocks=tuple([handed.blocks[number] for number in numbers]))


def test_bundles_are_kept_once_however_they_come(paths: Paths, tmp_path: Path) -> None:
    blocks, bundles = make_both(paths)
    assert decode_bundles(encode_handed(bundles)) == bundles
    with Server(tmp_path / "server") as server:
        host = begin(server, paths, blocks)
        assert hand_in(server, host, pick(bundles)).kind == KNOWN
        assert hand_in(server, host, pick(bundles, 1)).kind == NOT_YET
        assert [hand_in(server, host, pick(bundles, 0, 0)).kind for _ in range(2)] == [TAKEN, KNOWN]
        assert hand_in(server, host, pick(bundles, 0, 2)).kind == NOT_YET
        assert count_bundles(server, host) == 1
        assert hand_in(server, host, bundles).kind == TAKEN
        assert hand_in(server, host, pick(bundles, 2, 0, 1)).kind == KNOWN
        assert count_bundles(server, host) == 3 and server.audit() == []
        assert server.store.read_alerts(host, 0, 9) == []
        newest = server.store.find_newest_bundle(host, bundles.public, "web")
        assert newest is not None and newest.bundle == bundles.blocks[-1].block
        held = [
            decode_bundle(row.bundle) for row in server.store.read_bundles(host, b"", "", -1, 9)
        ]
        last = logblock.decode_block(blocks.blocks[-1].block)
        sums = zip(*[one.parts[0].usage for one in held], strict=True)
        assert tuple(map(sum, sums)) == last.totals, "windows add up to the chain"
    with Server(tmp_path / "server") as server:
        assert hand_in(server, host, bundles).kind == KNOWN and server.audit() == []


def test_what_it_cannot_be_computed_from_yet_is_waited_for(paths: Paths, tmp_path: Path) -> None:
    blocks, bundles = make_both(paths)
    with Server(tmp_path / "server") as server:
        host = server.enrol(paths)
        assert hand_in(server, host, bundles).kind == NOT_YET
        server.sync(paths, host)
        assert hand_in(server, host, bundles).kind == NOT_YET
        for count, kinds in ((1, (TAKEN, NOT_YET)), (2, (KNOWN, NOT_YET)), (3, (KNOWN, TAKEN))):
            assert hand_in(server, host, pick(blocks, *range(count)), LOGBLOCK).kind == TAKEN
            assert tuple(hand_in(server, host, pick(bundles, n)).kind for n in (0, 1)) == kinds
        assert hand_in(server, host, pick(bundles, 2)).kind == NOT_YET
        assert server.store.read_alerts(host, 0, 9) == [] == server.audit()


def test_what_is_not_signed_or_not_the_hosts_is_refused_and_accuses_nobody(
    paths: Paths, tmp_path: Path
) -> None:
    blocks, bundles = make_both(paths)
    made = decode_bundle(bundles.blocks[0].block)
    part, usage = made.parts[0], (9,) * 5
    other = part._replace(host=b"\x77" * 32)

    def sign(**changes: object) -> HandedBlock:
        return sign_bundle(paths, made._replace(**changes))  # type: ignore[arg-type]

    lie = bundles.blocks[0]._replace(
        block=poe_bundle.encode_bundle(bill(made, parts=(part._replace(usage=usage),)))
    )
    block = blocks.blocks[0]._replace(body=b"")
    bad = [
        lie,
        bundles.blocks[0]._replace(signature=bytes(64)),
        bundles.blocks[0]._replace(signature=bundles.blocks[1].signature),
        block,
        sign(parts=(other,)),
        sign(parts=(part, other)) if part < other else sign(parts=(other, part)),
        sign_bundle(paths, bill(made, parts=())),
        sign(window=Window(made.window.start, 1800)),
        sign(window=Window(made.window.start + 1)),
        sign(notary=b"\x01" * 32),
        sign(app="other"),
    ]
    with Server(tmp_path / "server") as server:
        host = begin(server, paths, blocks)
        for one in bad:
            for handed in (bundles._replace(blocks=(one,)), bundles._replace(
                blocks=(*bundles.blocks, one)
            )):  # fmt: skip
                answer = hand_in(server, host, handed)
                assert (answer.kind, answer.alert) == (REFUSED, ""), answer
        for handed in (bundles._replace(public=NOTARY.public), bundles._replace(app="other")):
            assert hand_in(server, host, handed).kind == REFUSED
        assert hand_in(server, host, bundles, LOGBLOCK).kind == REFUSED
        stranger = server.enrol(make_host(tmp_path / "other"))
        answer = hand_in(server, stranger, bundles)
        assert (answer.kind, answer.alert) == (REFUSED, ""), "another host's"
        assert count_bundles(server, host) == count_bundles(server, stranger) == 0
        assert server.store.read_alerts(host, 0, 9) == [] == server.audit()


def bill(made: PoeBundle, **changes: object) -> PoeBundle:
    """The bundle with these changes, and the Phi that follows."""
    b = made._replace(**changes)  # type: ignore[arg-type]
    return make_bundle(b.notary, b.app, b.window, b.terms, b.parts, b.time)


def tell_lies(made: PoeBundle, blocks: Handed) -> dict[str, PoeBundle]:
    """Of the second window, which has LogBlocks 1 and 2."""
    part, points = made.parts[0], [poe_bundle.make_point(one.block) for one in blocks.blocks]
    usage = part.usage

    def span(before: int, last: int) -> PoeBundle:
        return bill(made, parts=(poe_bundle.make_part(part.host, points[before], points[last]),))

    start, seconds = made.window
    far = (start + 10 * seconds) * poe_bundle.NS
    return {
        "phi": made._replace(phi=Ratio(made.phi.numerator + 1, made.phi.denominator)),
        "terms": made._replace(terms=DEFAULT_TERMS._replace(receipts_max=1)),
        "usage": bill(made, parts=(part._replace(usage=(usage[0] + 1, *usage[1:])),)),
        "before": bill(made, parts=(part._replace(before=bytes(32)),)),
        "last": bill(made, parts=(part._replace(last=bytes(32)),)),
        "early": made._replace(time=(start + seconds) * poe_bundle.NS - 1),
        "less": span(0, 1),
        "more": span(0, 3),
        "twice": bill(span(0, 2), parts=(part._replace(first_height=0),)),
        "window": made._replace(window=Window(start + 5 * seconds), time=far),
        "last window": made._replace(window=Window((2**64 - 1) // seconds * seconds)),
        "earlier window": made._replace(window=Window(start - 5 * seconds)),
    }


LIES = (
    "phi", "terms", "usage", "before", "last", "early", "less", "more", "twice", "window",
    "last window", "earlier window",
)  # fmt: skip


def open_alert(server: Server, host: bytes) -> tuple[int, str, bytes, bytes]:
    """Of the only one: leaf, why, the file that convicts, what was handed in."""
    [alert] = server.store.read_alerts(host, 0, 9)
    evidence = alerting.find_evidence(server.store, KEY, "acme", host, POE, alert.leaf_index)
    assert evidence is not None, "an auditor is shown it"
    [shown], _ = alerting.list_alerts(server.store, KEY, "acme", host, b"", 10**9, NOW_MS)
    assert shown["proof"] == f"/v1/alerts/{host.hex()}/poe/{alert.leaf_index}/proof"
    return alert.leaf_index, evidence.trouble.why, evidence.trouble.proof, evidence.batch


def read_proof(data: bytes, public: bytes) -> tuple[list[PoeBundle], list[logblock.LogBlock]]:
    """Bundles and LogBlocks, each signed by the notary with this key."""
    r = Reader(data, "proof")
    bundles = decode_bundles(r.read_bytes(len(data)))
    blocks = decode_handed(r.read_bytes(len(data)))
    r.finish()
    for one, tag in (
        *((one, domains.SIGN_POE_BUNDLE) for one in bundles.blocks),
        *((one, domains.SIGN_LOGBLOCK) for one in blocks.blocks),
    ):
        assert keys.is_signed(public, tag, one.block, one.signature)
    assert bundles.public == blocks.public == public
    return (
        [read_bundle(one.block) for one in bundles.blocks],
        [logblock.decode_block(one.block) for one in blocks.blocks],
    )


@pytest.mark.parametrize("lie", LIES)
def test_a_bundle_that_is_signed_and_false_is_kept_as_an_alert_with_its_proof(
    paths: Paths, tmp_path: Path, lie: str
) -> None:
    blocks, bundles = make_both(paths)
    made = decode_bundle(bundles.blocks[1].block)
    lies = tell_lies(made, blocks)
    assert tuple(lies) == LIES and lies[lie] != made
    bad = bundles._replace(blocks=(bundles.blocks[0], sign_bundle(paths, lies[lie])))
    with Server(tmp_path / "server") as server:
        host = begin(server, paths, blocks)
        for _ in range(2):
            answer = hand_in(server, host, bad)
            assert (answer.kind, answer.alert) == (REFUSED, POE), answer
        assert count_bundles(server, host) == 0, "all of them or none"
        leaf, why, proof, batch = open_alert(server, host)
        billed = logblock.decode_block(blocks.blocks[lies[lie].parts[0].last_height].block)
        assert (leaf, why) == (billed.log_size - 1, answer.why)
        assert decode_bundles(batch) == bad
        shown, ground = read_proof(proof, bundles.public)
        assert shown == [lies[lie]]
        heights = [one.height for one in ground]
        part = shown[0].parts[0]
        wanted = {part.first_height - 1, part.first_height, part.last_height, part.last_height + 1}
        assert heights == sorted(wanted & set(range(4))), "what shows that it is false"
        assert server.audit() == []
        assert hand_in(server, host, bundles).kind == TAKEN
        assert server.audit() == []


def test_two_bundles_of_one_window_convict_their_notary(paths: Paths, tmp_path: Path) -> None:
    blocks, bundles = make_both(paths)
    made = decode_bundle(bundles.blocks[1].block)
    other = sign_bundle(paths, made._replace(time=made.time + 1))
    with Server(tmp_path / "server") as server:
        host = begin(server, paths, blocks)
        both = bundles._replace(blocks=(*bundles.blocks[:2], other))
        assert hand_in(server, host, both).alert == POE, "in one call"
        assert count_bundles(server, host) == 0
        assert hand_in(server, host, bundles).kind == TAKEN
        answer = hand_in(server, host, bundles._replace(blocks=(other,)))
        assert (answer.kind, answer.alert) == (REFUSED, POE), answer
        shown, _ = read_proof(open_alert(server, host)[2], bundles.public)
        assert [one.window for one in shown] == [made.window] * 2 and shown[0] != shown[1]
        assert count_bundles(server, host) == 3 and server.audit() == []


def test_a_logblock_in_a_window_that_is_billed_convicts_its_notary(
    paths: Paths, tmp_path: Path
) -> None:
    """The last block of the second window comes after that window was billed without it."""
    blocks, bundles = make_both(paths)
    made, points = decode_bundle(bundles.blocks[1].block), blocks.blocks
    short = poe_bundle.make_part(made.parts[0].host, *[
        poe_bundle.make_point(points[at].block) for at in (0, 1)
    ])  # fmt: skip
    lie = sign_bundle(paths, bill(made, parts=(short,)))
    with Server(tmp_path / "server") as server:
        host = begin(server, paths, pick(blocks, 0, 1))
        billed = bundles._replace(blocks=(bundles.blocks[0], lie))
        assert hand_in(server, host, billed).kind == TAKEN, "nothing here says otherwise yet"
        answer = hand_in(server, host, blocks, LOGBLOCK)
        assert (answer.kind, answer.alert) == (REFUSED, POE), answer
        shown, ground = read_proof(open_alert(server, host)[2], bundles.public)
        assert shown == [decode_bundle(lie.block)] and [one.height for one in ground] == [2]
        assert shown[0].window.has(ground[0].time)
        assert len(server.store.read_blocks(host, b"", "", -1, 9)) == 2
        assert server.audit() == []


def test_no_notary_is_accused_of_what_the_store_has_lost(paths: Paths, tmp_path: Path) -> None:
    blocks, bundles = make_both(paths)
    later, signature, _ = blocks.blocks[2]
    spoilt = bytearray(later)
    spoilt[-1] ^= 1
    for number, (change, values) in enumerate((
        ("DELETE FROM logblocks WHERE height = ?", (1,)),
        ("UPDATE logblocks SET block = ? WHERE height = ?", (bytes(spoilt), 2)),
        ("UPDATE logblocks SET block = ?, signature = ? WHERE height = 1", (later, signature)),
        ("UPDATE bundles SET bundle = ?", (bundles.blocks[1].block,)),
    )):  # fmt: skip
        directory = tmp_path / f"server-{number}"
        with Server(directory) as server:
            host = begin(server, paths, blocks)
            assert hand_in(server, host, pick(bundles, 0)).kind == TAKEN
        edit(directory, change, *values)
        with Server(directory) as server:
            answer = hand_in(server, host, bundles)
            assert (answer.kind, answer.alert) == (BROKEN, ""), (change, answer)
            assert server.store.read_alerts(host, 0, 9) == []
            assert server.audit(), change


def test_a_window_that_is_gone_between_two_others_is_named(paths: Paths, tmp_path: Path) -> None:
    blocks, bundles = make_both(paths)
    with Server(tmp_path / "server") as server:
        host = begin(server, paths, blocks)
        assert hand_in(server, host, bundles).kind == TAKEN
        starts = [row.start for row in server.store.read_bundles(host, b"", "", -1, 9)]
    edit(tmp_path / "server", "DELETE FROM bundles WHERE start = ?", starts[1])
    with Server(tmp_path / "server") as server:
        found = [(one.table, one.place) for one in server.audit()]
        assert ("bundles", starts[2]) in found and ("hosts", -1) in found, found


def test_bundles_need_no_body_that_was_erased(paths: Paths, tmp_path: Path) -> None:
    blocks, bundles = make_both(paths)
    with Server(tmp_path / "server") as server:
        host = begin(server, paths, blocks)
        office = make_office(server)
        office.set_retention(SetRetention("acme", 30), NOW_MS)
        times = [one.time_last for one in server.store.read_segments(host, 0, 99)]
        *_, done = office.erase("acme", max(times) // 10**6 + 1 + 30 * DAY_MS)
        assert done.segments == len(times)
        assert hand_in(server, host, bundles).kind == TAKEN and server.audit() == []


def test_a_quota_counts_them(paths: Paths, tmp_path: Path) -> None:
    blocks, bundles = make_both(paths)
    with Server(tmp_path / "server") as server:
        host = begin(server, paths, blocks)
        used = server.store.read_totals()[0].stored_bytes
        size = len(bundles.blocks[0].block) + 64
        make_office(server).set_quota(SetQuota("acme", {"bytes": used + size}), NOW_MS)
        assert hand_in(server, host, bundles).kind == EXCEEDED
        assert count_bundles(server, host) == 0 and server.audit() == []
        assert hand_in(server, host, pick(bundles, 0)).kind == TAKEN
        assert server.store.read_totals()[0].stored_bytes == used + size
        assert server.audit() == []


def test_killed_anywhere_no_bundle_that_was_answered_is_lost(
    paths: Paths, tmp_path: Path, seed: int, full: bool
) -> None:
    blocks, bundles = make_both(paths)
    directory, rng = tmp_path / "server", random.Random(seed)
    with Server(directory) as server:
        host = begin(server, paths, pick(blocks, 0))
    file, kills, answered = tmp_path / "handed", 0, 0
    file.write_bytes(encode_handed(blocks) + encode_handed(bundles))
    argv = [sys.executable, str(PROGRAM), str(directory), host.hex(), str(file)]
    points = range(1, 60) if full else sorted(rng.sample(range(1, 26), 8))
    for point in points:
        done = subprocess.run(
            [*argv, str(len(encode_handed(blocks))), str(point)], capture_output=True, text=True,
            cwd=TOP, env=os.environ | {"PYTHONPATH": str(TOP)},
        )  # fmt: skip
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        kills += done.returncode != 0
        answered = max([answered, *map(int, done.stdout.split())])
        with Server(directory) as server:
            assert count_bundles(server, host) >= answered
            assert server.audit() == [] == server.store.read_alerts(host, 0, 9)
    assert kills
    with Server(directory) as server:
        assert hand_in(server, host, blocks, LOGBLOCK).kind in (TAKEN, KNOWN)
        assert hand_in(server, host, bundles).kind in (TAKEN, KNOWN)
        assert count_bundles(server, host) == 3 and server.audit() == []


def test_over_http_a_host_hands_in_its_own_and_hears_how_far(paths: Paths, tmp_path: Path) -> None:
    blocks, bundles = make_both(paths)
    made = decode_bundle(bundles.blocks[1].block)
    lie = sign_bundle(paths, tell_lies(made, blocks)["usage"])
    other = make_host(tmp_path / "other")

    async def run() -> None:
        async with Served(tmp_path / "server") as served:
            host = served.server.enrol(paths)
            served.server.sync(paths, host)
            served.server.sync(other, served.server.enrol(other, "others"))
            caller = make_caller(paths)

            async def post(one: Handed, path: str = "/v1/poe/submit") -> tuple[int, dict[str, str]]:
                answer = await served.call(caller, "POST", path, encode_handed(one))
                return answer.status, json.loads(answer.body)

            assert (await post(bundles))[0] == 409
            status, shown = await post(pick(bundles))
            assert (status, shown["height"], shown["window"]) == (200, "0", "")
            assert (await post(blocks, "/v1/logblocks"))[0] == 200
            for _ in range(2):
                status, shown = await post(pick(bundles, 0))
                assert (status, shown["height"]) == (200, "1")
            status, shown = await post(bundles._replace(blocks=(lie,)))
            assert status == 422 and "usage" in shown["detail"]
            status, shown = await post(bundles)
            newest = decode_bundle(bundles.blocks[-1].block)
            assert (status, shown["height"], shown["window"]) == (
                200, "4", str(newest.window.start),
            )  # fmt: skip
            assert shown["notary"] == logblock.compute_notary_id(bundles.public).hex()
            assert (await post(blocks))[0] == 400, "LogBlocks are no bundles"
            stranger = make_caller(other)
            data = encode_handed(bundles)
            assert (await served.call(stranger, "POST", "/v1/poe/submit", data)).status == 400
            assert served.server.audit() == []

    asyncio.run(run())
