"""An order is its JSON and no other; and it is carried out whoever has the store."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from chainlite.bpci import order_socket, orders, retention
from chainlite.bpci.ordering import carry_out, order_directory
from chainlite.bpci.orders import (
    Erase,
    Order,
    Revoke,
    SetQuota,
    SetRetention,
    decode_order,
    encode_order,
)
from chainlite.bpci.quota import UNLIMITED
from chainlite.errors import DocklockError, SpecError, StateError
from tests.bpci.callers import Served
from tests.bpci.servers import KEY, NOW_MS
from tests.ledger.offered import make_host

ORDERS: tuple[Order, ...] = (
    Revoke(bytes(range(32))), SetQuota("acme", {}),
    SetQuota("ä\n", {"hosts": 0, "bytes": UNLIMITED, "receipts_per_day": 2**62}),
    SetRetention("acme", 0), SetRetention("acme", 5, is_forced=True), Erase(""), Erase("acme"),
)  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_written_is_what_is_read(order: Order) -> None:
    line = encode_order(order)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert decode_order(line) == order


@pytest.mark.parametrize(
    "line",
    [
        b"", b"x", b"[]", b"null", b"{}", b'{"order":"revoke"}', b'{"order":"other"}',
        b'{"order":"revoke","name":"ab"}', b'{"order":"revoke","name":7}',
        b'{"order":"revoke","name":"%s","more":1}' % (b"ab" * 32),
        b'{"order":"revoke","name":" %s"}' % (b"ab" * 32),
        b'{"order":"revoke","order":"revoke","name":"%s"}' % (b"ab" * 32),
        b'{"order":"quota","tenant":""}', b'{"order":"quota","hosts":1}',
        b'{"order":"quota","tenant":"%s"}' % (b"a" * 65),
        b'{"order":"quota","tenant":"a","hosts":1e3}', b'{"order":"quota","tenant":"a","x":1}',
        b'{"order":"quota","tenant":"a","hosts":-1}', b'{"order":"quota","tenant":"a","hosts":NaN}',
        b'{"order":"retention","tenant":"a"}', b'{"order":"retention","tenant":"a","days":36501}',
        b'{"order":"erase","tenant":7}', b'{"order":"erase","tenant":"a","days":1}',
        b'{"order":"erase","tenant":"a"' + b" " * 5000 + b"}", b"[" * 5000,
    ],
)  # fmt: skip
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(SpecError):
        decode_order(line)


def test_an_order_reaches_the_process_that_serves(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / "server"  # more than a socket's address may have
    deep.parent.mkdir()

    async def run() -> None:
        async with Served(deep) as served:

            async def do(order: Order) -> dict[str, object]:
                return await carry_out(served.desk, served.app.office, order, NOW_MS)

            async def ask(order: Order) -> object:
                try:
                    return await asyncio.to_thread(
                        order_directory, str(deep), KEY, order, lambda: NOW_MS
                    )
                except DocklockError as error:
                    return type(error)

            # before it takes orders nobody can do anything: it has the store
            assert await ask(SetRetention("acme", 30)) is StateError
            (deep / order_socket.FILE).write_bytes(b"")  # of a process that was killed
            async with order_socket.take_orders(str(deep), do):
                mode = (deep / order_socket.FILE).stat().st_mode
                assert stat.S_ISSOCK(mode) and mode & 0o077 == 0
                done = await ask(SetRetention("acme", 30))
                assert isinstance(done, dict) and done["days"] == 30
                assert await ask(SetRetention("acme", 3)) is SpecError
                assert await ask(Revoke(bytes(32))) is StateError
                assert await ask(Erase("")) == {"erased": []}
                (tmp_path / "short").symlink_to(deep / order_socket.FILE)
                reader, writer = await asyncio.open_unix_connection(tmp_path / "short")
                writer.write(b"x" * 9000)
                writer.write_eof()
                assert b"no order came" in await reader.readline()
                writer.close()
            assert not (deep / order_socket.FILE).exists()
            assert served.server.intake.access.get_retention("acme") == 30

    asyncio.run(run())
    done = order_directory(str(deep), KEY, SetQuota("acme", {"hosts": 3}), lambda: NOW_MS)
    assert done["tenant"] == "acme", "no process serves: the command writes the store itself"
    assert order_socket.ask(str(deep), ORDERS[0]) is None
    with pytest.raises(SpecError):
        order_directory(str(deep), KEY, SetRetention("acme", 3), lambda: NOW_MS)
    erased = order_directory(str(deep), KEY, Erase("acme"), lambda: NOW_MS)
    assert erased["erased"] == [{"tenant": "acme", "segments": 0, "alerts": 0, "damaged": 0}]


def test_two_who_erase_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEP", 1)
    paths = make_host(tmp_path)

    async def run() -> None:
        async with Served(tmp_path / "server") as served:
            server, office = served.server, served.app.office
            server.sync(paths, server.enrol(paths))
            await carry_out(served.desk, office, SetRetention("acme", 30), NOW_MS)
            done = await asyncio.gather(
                *[carry_out(served.desk, office, Erase(""), NOW_MS + n) for n in range(3)]
            )
            counts = [one["erased"][0]["segments"] for one in done]  # type: ignore[index]
            assert sorted(counts)[:2] == [0, 0] and max(counts) > 1
            assert server.audit() == []

    asyncio.run(run())


def test_a_quota_that_is_not_named_stays() -> None:
    assert orders.read_quota({}, "acme") == SetQuota("acme", {})
    assert orders.read_quota({"hosts": None}, "acme").values == {"hosts": UNLIMITED}
