"""Receipts of calls on both sides, by the commands that people type, against the real server."""

from __future__ import annotations

import json
import signal
import sqlite3
from pathlib import Path

import pytest

from chainlite.cage.call_record import decode_call_record
from docklock.paths import Paths
from tests.evidence.recording import make_id, make_paths, record
from tests.ledger.offered import make_host
from tests.outbox.sends import run_sync, write_config
from tests.outbox.servers import BooksServer
from tests.outbox.test_with_server import Serving, run


def stop(serving: Serving) -> None:
    """As an operator does: all is written."""
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(30) == 0
    assert serving.process.stdout is not None
    serving.process.stdout.close()


@pytest.fixture
def called(tmp_path: Path) -> tuple[Paths, Serving]:
    """A host that has sent, and its server, which has stopped."""
    serving = Serving(tmp_path / "server").start()
    paths = make_paths(tmp_path)
    config = serving.write_config(tmp_path / "agent.toml")
    try:
        record(paths, make_id(1))
        serving.enrol(paths, config, tmp_path / "grant")
        for number in (2, 3, 4):
            assert run_sync(paths, "now", "--config", config)[0] == 0
            record(paths, make_id(number))
    finally:
        stop(serving)
    return paths, serving


def list_calls(text: str) -> list[dict[str, object]]:
    return list(json.loads(text)["calls"])


def write_both(paths: Paths, serving: Serving, directory: Path) -> tuple[Path, Path]:
    """The newest call, as the host and as the server have it."""
    _, out, _ = run_sync(paths, "receipts", "--format", "json", "--limit", "1")
    [newest] = list_calls(out)
    audit_id = str(newest["audit_id"])
    mine, theirs = directory / "mine.call", directory / "theirs.call"
    assert run_sync(paths, "receipts", audit_id, "-o", str(mine)) == (0, "", "")
    run("bpci", "receipts", serving.directory, audit_id, "-o", str(theirs))
    return mine, theirs


def test_both_sides_list_the_same_calls(called: tuple[Paths, Serving]) -> None:
    paths, serving = called
    code, out, err = run_sync(paths, "receipts", "--format", "json")
    mine = list_calls(out)
    theirs = list_calls(run("bpci", "receipts", serving.directory, "--format", "json"))
    assert (code, err) == (0, "") and len(mine) == 4
    assert [one | {"side": "server"} for one in mine] == theirs
    assert {one["side"] for one in mine} == {"caller"}
    code, out, _ = run_sync(paths, "receipts", "--server", "office", "--limit", "2")
    assert code == 0 and len(out.splitlines()) == 3 and str(mine[0]["audit_id"]) in out
    assert run("bpci", "receipts", serving.directory).count("POST ") == len(theirs)


def test_each_file_stands_by_itself_with_the_other_sides_key(
    tmp_path: Path, called: tuple[Paths, Serving]
) -> None:
    paths, serving = called
    mine, theirs = write_both(paths, serving, tmp_path)
    keys = tmp_path / "keys"
    keys.write_text("\n".join(serving.keys))
    shown = run("verify", str(mine), "--log-key", str(keys))
    assert "the server docklock/bpci/" in shown and "has signed it: it answered so" in shown
    assert "whose key you have not named" in run("verify", str(mine), code=4)
    host = f"{paths.keys}/host.pub"
    shown = run("verify", str(theirs), "--host-key", host)
    assert "asked so" in shown and "whose key you named" in shown
    assert run("verify", str(theirs), "--log-key", str(keys), code=4)
    said = json.loads(run("verify", str(mine), "--log-key", str(keys), "--json"))
    assert (said["ok"], said["trusted"], said["status"]) == (True, True, 200)
    for path in (mine, theirs):
        data = bytearray(path.read_bytes())
        # Not any byte: one of the key's id may leave nothing that is a record of a call.
        data[data.index(decode_call_record(bytes(data)).request.signature)] ^= 1
        path.write_bytes(data)
        assert "TAMPERED" in run("verify", str(path), "--log-key", str(keys), code=3)


def test_who_denies_a_call_is_shown_wrong(tmp_path: Path, called: tuple[Paths, Serving]) -> None:
    paths, serving = called
    mine, theirs = write_both(paths, serving, tmp_path)
    same = "both sides have the same receipt\n"
    compare = ("receipts", "--compare", str(theirs))
    assert run_sync(paths, *compare) == (0, same, "")
    command = ("bpci", "receipts", serving.directory, "--compare", str(mine))
    assert run(*command) == same
    other = make_paths(tmp_path / "other")
    record(other)
    code, _, err = run_sync(other, *compare)
    assert code == 1 and "no server has answered" in err
    db = sqlite3.connect(f"{serving.directory}/cage.db", isolation_level=None)
    [last] = db.execute("SELECT max(place) FROM receipts").fetchone()
    db.execute("DELETE FROM receipts WHERE place = ?", (last,))
    assert "the answer that it signed stands" in run(*command, code=1)
    db.execute("DELETE FROM receipts WHERE place = ?", (last - 2,))
    db.close()
    assert run("bpci", "receipts", serving.directory, code=3).count("POST ")
    db = sqlite3.connect(f"{paths.state}/outbox/calls.db", isolation_level=None)
    db.execute("DELETE FROM calls")  # it cannot deny what it has signed
    db.execute("INSERT INTO calls VALUES (NULL, 'x', 1, x'00', 200, ?)", (mine.read_bytes(),))
    assert run_sync(paths, *compare) == (0, same, "")
    db.execute("DELETE FROM calls")
    db.close()
    code, out, _ = run_sync(paths, *compare)
    assert code == 1 and "has signed the request, and has kept no answer" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("receipts", "00"), 2, "go together"),
        (("receipts", "zz", "-o", "x"), 2, "not an audit id"),
        (("receipts", "00" * 16, "-o", "x"), 1, "no such call is kept"),
        (("receipts", "--limit", "0"), 2, "--limit takes"),
        (("receipts", "--format", "xml"), 2, "--format takes"),
        (("receipts", "--server", "ofice"), 1, "did you mean office?"),
        (("receipts", "--compare", "/nowhere"), 2, "cannot read it"),
    ],
)
def test_what_does_not_parse_is_said(
    tmp_path: Path, server: BooksServer, words: tuple[str, ...], code: int, said: str
) -> None:
    paths = make_host(tmp_path)
    run_sync(paths, "now", "--config", write_config(tmp_path / "agent.toml", server))
    found, _, err = run_sync(paths, *words)
    assert found == code and said in err
