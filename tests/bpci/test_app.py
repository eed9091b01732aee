"""Over HTTP: hosts send, hear what is held, and see their own; everyone sees the server's log."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from chainlite import checkpoint, cosignature, hostlog, keys, merkle, tile
from chainlite.bpci import actor, app, desk, ingest, members, reading
from chainlite.bpci.acknowledgement import decode_held
from chainlite.bpci.batch import encode_batch
from chainlite.bpci.grant import Grant, sign_grant
from chainlite.bpci.intake import Request
from chainlite.cage.client import Caller
from chainlite.cage.refusal import Refusal
from chainlite.cage.routes import Access
from chainlite.errors import SpecError, StateError
from docklock.evidence import keyring, rotation
from docklock.paths import Paths, get_paths
from tests.agent.openmetrics import parse_page
from tests.bpci.batches import make_batch, make_data
from tests.bpci.callers import NAME, Served, make_caller
from tests.bpci.servers import KEY, check
from tests.bpci.test_sqlite_store import edit
from tests.bpci.test_verification import find_kind, spoil_body
from tests.cage.callers import call, make_scope
from tests.evidence.recording import make_id, record
from tests.ledger.offered import get_size, make_host


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


def serve(tmp_path: Path, do: Callable[[Served], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with Served(tmp_path / "server") as served:
            await do(served)

    asyncio.run(run())


def test_a_host_sends_over_http_and_keeps_the_acknowledgement(paths: Paths, tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        host, caller = served.server.enrol(paths), make_caller(paths)
        for kind in ("taken", "known"):
            answer = await served.post(caller, make_data(paths))
            assert answer.status == 200, kind
            held = check(answer.body, host).held
            assert (held.host, held.size) == (host, get_size(paths))
        shown = await served.call(caller, "GET", f"/v1/hosts/{host.hex()}")
        state = json.loads(shown.body)
        assert (state["size"], state["receipts"]) == (str(get_size(paths)), "16")
        assert state["root"] == held.root.hex() and state["alerts"] == []
        assert served.server.audit() == []

    serve(tmp_path, do)


def test_a_key_that_the_server_has_not_heard_of_is_shown_by_the_batch(
    paths: Paths, tmp_path: Path
) -> None:
    async def do(served: Served) -> None:
        host, old = served.server.enrol(paths), make_caller(paths)
        # enrolled under the first key, rotated twice since: the server knows neither
        rotation.rotate_host_key(paths)
        new = make_caller(paths)
        stranger = Caller(
            keys.make_key_pair(b"\x05" * 32),
            actor.make_keyid(host, keys.make_key_pair(b"\x05" * 32).public),
            KEY.pair.public, KEY.origin,
        )  # fmt: skip
        assert (await served.post(stranger, make_data(paths, 0, 3))).status == 401
        assert (await served.call(new, "GET", f"/v1/hosts/{host.hex()}")).status == 401
        assert (await served.post(new, make_data(paths, 0, 3))).status == 200
        assert (await served.post(new, make_data(paths, 3))).status == 200
        assert (await served.call(new, "GET", f"/v1/hosts/{host.hex()}")).status == 200
        # the one before is not the host's any more
        rotation.rotate_host_key(paths)
        assert (await served.post(new, make_data(paths, get_size(paths) - 1))).status == 401
        assert (
            await served.post(make_caller(paths), make_data(paths, get_size(paths) - 1))
        ).status == 200
        assert old.keyid != new.keyid

    serve(tmp_path, do)


def test_who_is_not_enrolled_gets_nothing_and_a_host_sees_only_itself(
    paths: Paths, tmp_path: Path
) -> None:
    other = get_paths(str(tmp_path / "other"))
    record(other, make_id(1), count=2)

    async def do(served: Served) -> None:
        caller = make_caller(other)
        with pytest.raises(Refusal):  # the refusal is not signed: there is no one to answer
            await served.post(caller, make_data(other))
        host = served.server.enrol(paths)
        served.server.enrol(other, "other")
        assert (await served.call(caller, "GET", f"/v1/hosts/{host.hex()}")).status == 403
        assert (await served.post(caller, make_data(paths))).status == 400
        assert served.server.get_size(host) == 0

    serve(tmp_path, do)


def test_without_a_cage_nobody_is_anybody(paths: Paths, tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        host = served.server.enrol(paths)
        for method, target in (("POST", "/v1/receipts"), ("GET", f"/v1/hosts/{host.hex()}")):
            headers = [(b"host", b"x"), (b"x-actor", host.hex().encode())]
            scope = make_scope(method, target, headers)
            assert (await call(served.app, scope, make_data(paths))).status == 401

    serve(tmp_path, do)


def test_what_does_not_hold_is_said_with_its_alert(paths: Paths, tmp_path: Path) -> None:
    whole = make_batch(paths)
    number = find_kind(whole, hostlog.Segment)[-1]
    items = list(whole.items)
    items[number] = spoil_body(items[number])

    async def do(served: Served) -> None:
        host, caller = served.server.enrol(paths), make_caller(paths)
        answer = await served.post(caller, encode_batch(whole._replace(items=tuple(items))))
        assert answer.status == 422
        why, alert, held = ingest.decode_refused(answer.body)
        assert alert == "receipt" and why.startswith(f"leaf {number}:")
        assert check(held, host).held.size == number
        shown = await served.call(caller, "GET", f"/v1/hosts/{host.hex()}")
        assert [one["kind"] for one in json.loads(shown.body)["alerts"]] == ["receipt"]
        for bad in (b"", b"x", make_data(paths)[:-1]):
            assert (await served.post(caller, bad)).status == 400
        fields = {"content-encoding": "gzip"}
        answer = await served.call(caller, "POST", "/v1/receipts", b"x", fields)
        assert answer.status == 415
        for bad in (b"", b"[]", b"{}", b'{"detail":1,"alert":"","acknowledgement":""}'):
            with pytest.raises(SpecError):
                ingest.decode_refused(bad)

    serve(tmp_path, do)


def test_too_much_is_told_to_come_again(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "WAITING_MAX", 1)

    async def do(served: Served) -> None:
        served.server.enrol(paths)
        caller, data = make_caller(paths), make_data(paths)
        answers = await asyncio.gather(*[served.post(caller, data) for _ in range(6)])
        busy = [one for one in answers if one.status == 429]
        assert busy and all(one.fields["retry-after"] == "1" for one in busy)
        assert sorted({one.status for one in answers}) == [200, 429]
        assert served.desk.waiting == served.desk.waiting_bytes == 0
        served.server.store._db.execute("PRAGMA max_page_count = 1")
        size = get_size(paths)
        record(paths, make_id(8), count=500)
        answer = await served.post(caller, make_data(paths, size))
        assert (answer.status, answer.fields["retry-after"]) == (503, "10")

    serve(tmp_path, do)


def test_everyone_can_check_the_servers_log(paths: Paths, tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        assert (await served.get("/checkpoint")).status == 404
        served.server.enrol(paths)
        caller = make_caller(paths)
        for number in range(get_size(paths)):
            await served.post(caller, make_data(paths, number, number + 1))
        note = (await served.get("/checkpoint")).body
        state = cosignature.check_checkpoint(note, KEY.log_keys)
        assert state.size == get_size(paths) + 1

        pieces: dict[str, bytes] = {}
        for wanted in tile.get_new_tiles(0, state.size):
            reply = await served.get(f"/{tile.encode_path(wanted)}")
            assert reply.status == 200
            pieces[tile.encode_path(wanted)] = reply.body
        tree = tile.TileTree(state.size, lambda one: pieces[tile.encode_path(one)])
        assert tree.compute_root() == state.root
        entries = tile.parse_bundle(pieces[f"tile/entries/000.p/{state.size}"], state.size)
        assert [decode_held(one).size for one in entries] == list(range(state.size))
        assert merkle.compute_root(list(map(merkle.compute_leaf_hash, entries))) == state.root
        for bad in ("tile/0/001", "tile/9/000.p/1", "tile/0/000", "tile/x", "tile/0/0"):
            assert (await served.get(f"/{bad}")).status == 404
        assert (await served.get("/healthz")).body == b"ok\n"
        assert (await served.get("/readyz")).status == 200
        assert checkpoint.parse_claim(note).origin == KEY.origin

    serve(tmp_path, do)


def test_metrics_are_openmetrics(paths: Paths, tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        served.server.enrol(paths)
        await served.post(make_caller(paths), make_data(paths))
        page = (await served.get("/metrics")).body.decode()
        assert "bpci_receipts_kept" in parse_page(page)
        assert "\nbpci_receipts_kept_total 16\n" in page

    serve(tmp_path, do)


def test_a_server_whose_store_is_damaged_is_not_ready(paths: Paths, tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        served.server.enrol(paths)
        edit(tmp_path / "server", "UPDATE log SET note = x'00'")
        reply = await served.get("/readyz")
        assert reply.status == 503 and reply.get("retry-after") == "10"
        assert (await served.get("/healthz")).status == 200

    serve(tmp_path, do)


def test_a_host_enrols_with_the_servers_grant_and_no_other(paths: Paths, tmp_path: Path) -> None:
    now_ms = time.time_ns() // 10**6
    own = Grant("acme", keyring.ensure_host_key(paths).enrolled, now_ms + 60_000)

    async def do(served: Served) -> None:
        host = keys.compute_host_id(own.public)
        stranger = keys.make_key_pair(b"\x05" * 32)
        for data, status in (
            (b"", 400), (b"x" * 99, 400), (b"x" * 999, 413),
            (sign_grant(own, stranger), 403),
            (sign_grant(own._replace(expires_ms=now_ms - 1), KEY.pair), 403),
            (sign_grant(own, KEY.pair), 200), (sign_grant(own, KEY.pair), 200),
            (sign_grant(own._replace(tenant="other"), KEY.pair), 409),
        ):  # fmt: skip
            scope = make_scope("POST", "/v1/enrol", [(b"host", NAME.encode())])
            scope["headers"].append((b"content-length", b"%d" % len(data)))
            reply = await call(served.cage, scope, data)
            assert reply.status == status, data
            if status == 200:
                assert check(reply.body, host).held.size == 0
        assert [one.tenant for one in served.reader.read_hosts(b"", 9)] == ["acme"]
        assert served.server.audit() == []
        assert (await served.post(make_caller(paths), make_data(paths))).status == 200

    serve(tmp_path, do)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_ended_keeps_nobody_waiting(paths: Paths, tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        host = served.server.enrol(paths)
        broken = Request(host, ["no bytes"])  # type: ignore[arg-type]
        with pytest.raises(StateError, match="has ended"):
            await served.desk.take(broken)
        assert not served.desk.is_running  # at once, or the next one would wait for ever
        answer = await served.post(make_caller(paths), make_data(paths))
        assert answer.status == 503
        assert (await served.get("/readyz")).status == 503

    serve(tmp_path, do)


def test_the_table_of_routes_is_what_is_answered(tmp_path: Path) -> None:
    caged = {(one.method, one.pattern) for one in app.ROUTES if one.access is Access.CAGED}
    own = {(one.method, one.pattern) for one in members.ROUTES if one.access is Access.CAGED}
    own |= {(one.method, one.pattern) for one in reading.ROUTES}
    own |= {("POST", f"/v1/restore/{one}") for one in ("bodies", "places")}
    posts = {("POST", path) for path in ("/v1/receipts", "/v1/logblocks", "/v1/poe/submit")}
    assert caged == own | posts | {("GET", "/v1/hosts/{host}")}
    assert {one.access for one in app.ROUTES} == {Access.CAGED, Access.PUBLIC}

    async def do(served: Served) -> None:
        shown = {one.path for one in served.app._rest.routes}  # type: ignore[attr-defined]
        assert shown | {ingest.PATH} == {one.pattern for one in app.ROUTES}
        assert (await served.get("/v1/hosts/x")).status == 401
        assert (await served.get("/nothing")).status == 404

    serve(tmp_path, do)
