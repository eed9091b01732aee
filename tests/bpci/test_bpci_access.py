"""`docklock bpci grant|members|revoke|quota|retention` as an operator runs it, served or not."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from chainlite import keys, note
from chainlite.bpci.actor import make_keyid
from chainlite.cage.client import Answer, Caller
from docklock.evidence import keyring
from docklock.paths import Paths
from tests.bpci.batches import make_data
from tests.bpci.joined import make_pair
from tests.bpci.test_served import NAME, NONCES, Process, run
from tests.evidence.test_key_changes import load_key
from tests.ledger.offered import get_size, make_host


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return make_host(tmp_path)


def ask(process: Process, caller: Caller, method: str, target: str, body: bytes = b"") -> Answer:
    fields = {"content-type": "application/json"} if body else {}
    prepared = caller.prepare(
        method, f"http://{NAME}{target}", body, fields, created_s=int(time.time()),
        nonce=next(NONCES),
    )  # fmt: skip
    reply = process.ask(method, prepared.target, prepared.body, dict(prepared.fields))
    return caller.check(prepared, *reply)


def run_json(*words: str) -> dict[str, object]:
    done = run("bpci", *words, "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_an_operator_lets_in_rules_revokes_and_erases_while_it_is_served(
    paths: Paths, tmp_path: Path
) -> None:
    top = tmp_path / "bpci"
    made = run("bpci", "init", str(top))
    server = note.parse_vkey(made.stdout.splitlines()[0], "key")
    host_key, admin = keyring.ensure_host_key(paths).enrolled, make_pair(1)
    host, name = keys.compute_host_id(host_key), keys.compute_host_id(admin.public)
    for role, public in (("host", host_key), ("admin", admin.public)):
        words = (str(top), keys.encode_verifier("k", public), str(tmp_path / role))
        done = run("bpci", "grant", "--tenant", "acme", "--role", role, *words)
        assert done.returncode == 0, done.stderr
    newest = load_key(paths)
    caller = Caller(newest, make_keyid(host, newest.public), server.public, server.name)
    member = Caller(admin, make_keyid(name, admin.public), server.public, server.name)
    with Process(top) as process:
        for role in ("host", "admin"):
            status, *_ = process.ask("POST", "/v1/enrol", (tmp_path / role).read_bytes())
            assert status == 200
        assert ask(process, member, "GET", "/v1/members").status == 200
        done = run("bpci", "quota", str(top), "acme", "--receipts-per-day", "3")
        assert done.returncode == 0 and "receipts per day  0 of 3" in done.stdout
        assert process.post(caller, make_data(paths)).status == 429
        done = run("bpci", "quota", str(top), "acme")
        assert f"alert: receipts per day were used up, host {host.hex()[:16]}" in done.stdout
        lifted = run_json("quota", str(top), "acme", "--receipts-per-day", "none")
        assert lifted["receipts_per_day"] == {
            "limit": None, "used": 0, "by_operator": None, "by_admin": None,
        }  # fmt: skip
        size = get_size(paths)
        assert process.post(caller, make_data(paths, 0, size - 2)).status == 200
        assert run("bpci", "revoke", str(top), keys.encode_verifier("h", host_key)).returncode == 0
        assert process.post(caller, make_data(paths, size - 2)).status == 403
        assert run("bpci", "retention", str(top), "acme", "--days", "1").returncode == 2
        words = ("--days", "1", "--force", "--run")
        done = run("bpci", "retention", str(top), "acme", *words)
        assert done.returncode == 0 and "kept for 1 days" in done.stdout
        shown = run_json("members", str(top))
        roles = [(one["role"], bool(one["revoked_ms"])) for one in shown["members"]]  # type: ignore[attr-defined]
        assert roles == [("admin", False), ("host", True)]
        assert process.end() == 0
    done = run("bpci", "members", str(top), "--tenant", "acme")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"admin    {name.hex()} acme  since ")
    assert lines[1].startswith(f"host     {host.hex()} acme  revoked ")
    assert run_json("members", str(top), "--tenant", "other") == {"members": []}
    assert run("bpci", "revoke", str(top), name.hex()).returncode == 0, "nobody serves it now"
    with Process(top) as process:
        assert ask(process, member, "GET", "/v1/members").status == 403
        assert process.post(caller, make_data(paths, 0, 1)).status == 403
        assert process.end() == 0
    assert run("bpci", "audit", str(top)).returncode == 0
    (top / "acts").write_bytes(b"x")
    done = run("bpci", "audit", str(top))
    assert done.returncode == 3 and done.stdout.startswith("acts: server: ")


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    top = str(tmp_path / "bpci")
    assert run("bpci", "init", top).returncode == 0
    key, path = keys.encode_verifier("k", make_pair(1).public), str(tmp_path / "g")
    for words, code, said in (
        (("grant", top, key, path, "--tenant", "a", "--role", "owner"), 2, "--role takes host"),
        (("grant", top, key, path, "--tenant", "a" * 65), 2, "1 to 64 bytes"),
        (("revoke", top, "ab" * 32), 1, "there is no such thing"),
        (("revoke", top, "x"), 2, "KEY|HOST"),
        (("quota", top, "acme", "--hosts", "-1"), 2, "--hosts takes a number, or none"),
        (("quota", top, "acme", "--bytes", "1x"), 2, "--bytes takes a number, or none"),
        (("quota", top, "a" * 65, "--bytes", "1"), 2, "1 to 64 bytes"),
        (("quota", top), 2, "bpci quota"),
        (("retention", top, "acme", "--days", "0"), 2, "1 or more, or none"),
        (("retention", top, "acme", "--days", "13"), 2, "14 or more"),
        (("members", top, "--format", "xml"), 2, "json or text"),
        (("members", str(tmp_path / "nowhere")), 1, "there is no server's store"),
    ):
        done = run("bpci", *words)
        assert (done.returncode, said in done.stderr) == (code, True), (words, done.stderr)
    assert not (tmp_path / "g").exists() and not (tmp_path / "nowhere").exists()
