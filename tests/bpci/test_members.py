"""Over HTTP: members come in by the server's word, see their tenant, change their keys, and go."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from chainlite import keys
from chainlite.bpci import ingest, members, office
from chainlite.bpci.actor import Actor, Role, make_keyid
from chainlite.bpci.grant import check_grant, sign_next_key
from chainlite.cage.client import Answer, Caller
from chainlite.cage.refusal import Refusal
from chainlite.keys import compute_host_id, encode_verifier
from docklock.paths import Paths, get_paths
from tests.bpci.batches import make_data
from tests.bpci.callers import Served, make_caller
from tests.bpci.joined import join, make_grant, make_member_caller, make_pair, post_open
from tests.bpci.servers import KEY
from tests.cage.callers import call, make_scope
from tests.evidence.recording import make_id, record
from tests.ledger.offered import get_size, make_host

JSON = {"content-type": "application/json"}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


def serve(tmp_path: Path, do: Callable[[Served], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with Served(tmp_path / "server") as served:
            await do(served)

    asyncio.run(run())


async def ask(
    served: Served, caller: Caller, method: str, target: str, fields: object = None
) -> Answer:
    body = b"" if fields is None else json.dumps(fields).encode()
    return await served.call(caller, method, target, body, JSON if body else None)


def get_name(number: int) -> str:
    return compute_host_id(make_pair(number).public).hex()


@pytest.mark.parametrize("role", [Role.READER, Role.AUDITOR, Role.ADMIN])
def test_a_member_enrols_with_the_servers_grant_as_what_it_says(tmp_path: Path, role: Role) -> None:
    async def do(served: Served) -> None:
        data = make_grant(1, role)
        for _ in range(2):
            reply = await post_open(served, "/v1/enrol", data)
            assert reply.status == 200
            said = json.loads(reply.body)
            assert (said["name"], said["role"], said["tenant"]) == (get_name(1), role.value, "acme")
        found = served.server.intake.access.members
        assert [(one.role, one.tenant) for one in found.values()] == [(role, "acme")]
        for other in (make_grant(1, Role.HOST), make_grant(1, role, "other")):
            assert (await post_open(served, "/v1/enrol", other)).status in (403, 409)
        assert served.server.intake.acts.state.size == 1 and served.server.audit() == []

    serve(tmp_path, do)


def test_a_stolen_grant_is_worth_nothing_without_its_key(tmp_path: Path) -> None:
    """Whoever brings it lets in the key that it names; it signs nothing that another key signs."""

    async def do(served: Served) -> None:
        stolen = make_grant(1, Role.ADMIN)
        assert (await post_open(served, "/v1/enrol", stolen)).status == 200
        thief = make_pair(66)
        as_itself = Caller(
            thief, make_keyid(compute_host_id(thief.public), thief.public), KEY.pair.public,
            KEY.origin,
        )  # fmt: skip
        for caller in (
            as_itself,
            make_member_caller(1, thief),
            Caller(thief, make_member_caller(1).keyid, KEY.pair.public, KEY.origin),
        ):
            with pytest.raises(Refusal) as found:
                await ask(served, caller, "GET", "/v1/members")
            assert found.value.status == 401
        spoilt = bytearray(stolen)
        at = spoilt.index(make_pair(1).public)
        spoilt[at : at + 32] = thief.public
        assert (await post_open(served, "/v1/enrol", bytes(spoilt))).status == 403
        assert (await ask(served, make_member_caller(1), "GET", "/v1/members")).status == 200

    serve(tmp_path, do)


def test_only_an_admin_lists_and_only_its_own_tenant(paths: Paths, tmp_path: Path) -> None:
    other = get_paths(str(tmp_path / "other"))
    record(other, make_id(1), count=2)

    async def do(served: Served) -> None:
        host, foreign = served.server.enrol(paths), served.server.enrol(other, "other")
        served.server.sync(paths, host)  # it knows the host's newest key
        admin = await join(served, 1, Role.ADMIN)
        stranger = await join(served, 2, Role.ADMIN, "other")
        lesser = [await join(served, 3, Role.READER), await join(served, 4, Role.AUDITOR)]
        shown = json.loads((await ask(served, admin, "GET", "/v1/members")).body)
        assert [one["role"] for one in shown["members"]] == ["admin", "auditor", "reader"]
        assert [one["name"] for one in shown["hosts"]] == [host.hex()] and shown["next"] is None
        shown = json.loads((await ask(served, stranger, "GET", "/v1/members")).body)
        assert [one["name"] for one in shown["members"]] == [get_name(2)]
        assert [one["name"] for one in shown["hosts"]] == [foreign.hex()]
        calls = [
            ("GET", "/v1/members", None), ("GET", "/v1/quota", None),
            ("GET", "/v1/retention", None), ("PUT", "/v1/quota", {"hosts": 5}),
            ("PUT", "/v1/retention", {"days": 30}),
            ("POST", "/v1/members/revocations", {"name": host.hex()}),
            ("POST", "/v1/members/grants", {"role": "admin", "key": "x"}),
        ]  # fmt: skip
        caged = {(one.method, one.pattern) for one in members.ROUTES} - {("POST", "/v1/enrol")}
        assert caged - {one[:2] for one in calls} == {("POST", "/v1/members/key")}
        before = served.server.intake.acts.state
        for caller in (*lesser, make_caller(paths)):
            for one in calls:
                assert (await ask(served, caller, *one)).status == 403, one
        for name in (foreign.hex(), get_name(2), "ab" * 32):
            answer = await ask(served, admin, "POST", "/v1/members/revocations", {"name": name})
            assert answer.status == 404
        assert served.server.intake.acts.state == before

    serve(tmp_path, do)


def test_a_list_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "HOSTS_SHOWN_MAX", 3)
    monkeypatch.setattr(members, "HOSTS_STEP", 2)

    async def do(served: Served) -> None:
        admin, wanted = await join(served, 1, Role.ADMIN), set()
        for number in range(100, 110):
            tenant = "acme" if number % 2 else "other"
            served.server.intake.ensure_tenant(tenant)
            served.server.intake.enrol(tenant, make_pair(number).public)
            wanted |= {get_name(number)} if number % 2 else set()
        found, after = list[str](), ""
        while after is not None:
            target = f"/v1/members?after={after}" if after else "/v1/members"
            shown = json.loads((await ask(served, admin, "GET", target)).body)
            found += [one["name"] for one in shown["hosts"]]
            after = shown["next"]
        assert sorted(found) == sorted(wanted) and len(found) == 5
        assert (await ask(served, admin, "GET", "/v1/members?after=x")).status == 400

    serve(tmp_path, do)


def test_an_admins_grant_is_for_its_tenant_and_ends_with_the_admin(tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        admin = await join(served, 1, Role.ADMIN)
        grants = []
        for number, role in ((2, "auditor"), (3, "host"), (4, "admin")):
            key = encode_verifier("k", make_pair(number).public)
            wanted = {"role": role, "key": key, "hours": 2}
            answer = await ask(served, admin, "POST", "/v1/members/grants", wanted)
            assert answer.status == 200
            grants.append(answer.body)
            given = check_grant(answer.body, KEY.pair.public, time.time_ns() // 10**6)
            assert (given.tenant, given.role.value, given.by.hex()) == ("acme", role, get_name(1))
            assert 0 < given.expires_ms - time.time_ns() // 10**6 <= 2 * 3_600_000
        for data in grants[:2]:
            assert (await post_open(served, "/v1/enrol", data)).status == 200
        assert served.server.intake.access.members[bytes.fromhex(get_name(2))].by.hex() == (
            get_name(1)
        )
        gone = {"name": get_name(1)}
        assert (await ask(served, admin, "POST", "/v1/members/revocations", gone)).status == 200
        reply = await post_open(served, "/v1/enrol", grants[2])
        assert reply.status == 403 and b"no admin any more" in reply.body
        key = encode_verifier("k", make_pair(5).public)
        for bad in (
            {}, {"role": "owner", "key": key}, {"role": "host", "key": "x"},
            {"role": "host", "key": key, "hours": 0}, {"role": "host", "key": key, "hours": True},
            {"role": "host", "key": key, "tenant": "other"}, [], "x",
        ):  # fmt: skip
            second = make_member_caller(9)
            if get_name(9) not in [one.hex() for one in served.server.intake.access.members]:
                second = await join(served, 9, Role.ADMIN)
            answer = await ask(served, second, "POST", "/v1/members/grants", bad)
            assert answer.status == 400, bad

    serve(tmp_path, do)


def test_who_was_revoked_is_told_so_and_comes_in_no_more(paths: Paths, tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        host, size = served.server.enrol(paths), get_size(paths)
        admin = await join(served, 1, Role.ADMIN)
        auditor = await join(served, 2, Role.AUDITOR)
        assert (await served.post(make_caller(paths), make_data(paths, 0, size - 2))).status == 200
        for name in (host.hex(), get_name(2)):
            for _ in range(2):
                answer = await ask(served, admin, "POST", "/v1/members/revocations", {"name": name})
                assert answer.status == 200 and json.loads(answer.body)["revoked_ms"]
        assert served.server.intake.acts.state.size == 4
        for answer in (
            await served.post(make_caller(paths), make_data(paths, size - 2)),
            await served.call(make_caller(paths), "GET", f"/v1/hosts/{host.hex()}"),
            await ask(served, auditor, "GET", "/v1/members"),
        ):
            problem = json.loads(answer.body)
            assert (answer.status, problem["title"]) == (403, "revoked"), problem
        again = make_grant(2, Role.AUDITOR)
        assert (await post_open(served, "/v1/enrol", again)).status == 403
        # what it had delivered stays, verifies, and is shown
        row = served.reader.find_host(host)
        assert row is not None and row.size == size - 2
        assert served.server.audit() == []
        shown = json.loads((await ask(served, admin, "GET", "/v1/members")).body)
        assert shown["hosts"][0]["revoked_ms"] is not None

    serve(tmp_path, do)


def test_a_batch_that_waited_while_its_host_was_revoked_is_refused(
    paths: Paths, tmp_path: Path
) -> None:
    """Whoever let it in before did not know yet."""

    async def do(served: Served) -> None:
        host = served.server.enrol(paths)
        work = office.Office(served.server.intake, served.server.store, KEY)
        await served.desk.run(lambda: work.revoke(office.Revoke(host), 1))
        let_in = Actor(Role.HOST, "acme", host, is_sure=True)
        app = ingest.Ingest(served.desk, lambda _: let_in)
        reply = await call(app, make_scope("POST", ingest.PATH, []), make_data(paths))
        assert (reply.status, json.loads(reply.body)["title"]) == (403, "revoked")
        assert served.server.get_size(host) == 0

    serve(tmp_path, do)


def test_a_members_next_key_is_signed_by_the_one_before(tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        reader = await join(served, 1, Role.READER)
        await join(served, 2, Role.READER)
        name, target = bytes.fromhex(get_name(1)), "/v1/members/key"
        assert (await served.call(reader, "POST", target, b"x")).status == 400
        for other, old, new in ((bytes.fromhex(get_name(2)), 1, 3), (name, 2, 3)):
            data = sign_next_key(other, make_pair(old), make_pair(new))
            assert (await served.call(reader, "POST", target, data)).status in (409, 422)
        data = sign_next_key(name, make_pair(1), make_pair(3))
        answer = await served.call(reader, "POST", target, data)
        assert answer.status == 200 and json.loads(answer.body)["keys"] == 2
        later = make_member_caller(1, make_pair(3))
        answer = await served.call(reader, "POST", target, data)
        assert (answer.status, json.loads(answer.body)["title"]) == (403, "revoked")
        assert (await served.call(later, "POST", target, data)).status == 200
        answer = await ask(served, later, "GET", "/v1/members")
        assert answer.status == 403 and json.loads(answer.body)["title"] == "not yours"
        assert served.server.audit() == []

    serve(tmp_path, do)


def test_a_host_rotates_by_its_log_and_by_nothing_else(paths: Paths, tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        host, caller = served.server.enrol(paths), make_caller(paths)
        key = caller.key
        assert isinstance(key, keys.KeyPair)
        data = sign_next_key(host, key, make_pair(3))
        assert (await served.call(caller, "POST", "/v1/members/key", data)).status == 403

    serve(tmp_path, do)


def test_an_admin_lowers_its_quota_and_raises_it_to_the_operators(tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        admin = await join(served, 1, Role.ADMIN)
        work = office.Office(served.server.intake, served.server.store, KEY)
        await served.desk.run(
            lambda: work.set_quota(office.SetQuota("acme", {"hosts": 10, "bytes": 100}), 1)
        )
        for value, limit in ((5, 5), (99, 10), (None, 10), (0, 0)):
            answer = await ask(served, admin, "PUT", "/v1/quota", {"hosts": value})
            shown = json.loads(answer.body)
            assert (answer.status, shown["hosts"]["limit"]) == (200, limit)
            assert shown["bytes"]["limit"] == 100 and shown["hosts"]["by_operator"] == 10
        assert json.loads((await ask(served, admin, "GET", "/v1/quota")).body) == shown
        for bad in (
            {"hosts": -1}, {"hosts": "5"}, {"hosts": 1.5}, {"hosts": True}, {"hosts": 2**63},
            {"other": 1}, {"tenant": "other"}, [], {"hosts": 1, "order": "x"},
        ):  # fmt: skip
            assert (await ask(served, admin, "PUT", "/v1/quota", bad)).status == 400, bad
        twice = b'{"hosts": 1, "hosts": 2}'
        assert (await served.call(admin, "PUT", "/v1/quota", twice, JSON)).status == 400
        large = b'{"hosts": %s1}' % (b" " * 5000)
        with pytest.raises(Refusal):  # before its signature is looked at
            await served.call(admin, "PUT", "/v1/quota", large, JSON)

    serve(tmp_path, do)


def test_an_admin_sets_for_how_long_bodies_are_kept(tmp_path: Path) -> None:
    async def do(served: Served) -> None:
        admin = await join(served, 1, Role.ADMIN)
        for days in (14, 30, None):
            answer = await ask(served, admin, "PUT", "/v1/retention", {"days": days})
            assert (answer.status, json.loads(answer.body)["days"]) == (200, days)
        for bad in (
            {"days": 13}, {"days": 1}, {"days": -1}, {"days": 10**9}, {},
            {"days": 1, "force": True}, {"days": 30, "tenant": "other"},
        ):  # fmt: skip
            assert (await ask(served, admin, "PUT", "/v1/retention", bad)).status == 400, bad
        assert json.loads((await ask(served, admin, "GET", "/v1/retention")).body)["days"] is None

    serve(tmp_path, do)
