"""`docklock admin` and `docklock audit rotate`: a tenant's admin rules it from another machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from chainlite.keys import compute_host_id, encode_verifier, parse_verifier
from docklock.auditor.key import read_enrolled
from tests.bpci.joined import make_pair
from tests.bpci.test_served import TOP, WAIT_S, run


class Admin(NamedTuple):
    """Commands of a member, and the server's directory for the operator's."""

    top: Path
    call: tuple[str, ...]
    key: Path

    def __call__(self, verb: str, *words: str, code: int = 0, key: Path | None = None) -> str:
        done = run("admin", verb, *self.call, "--key", str(key or self.key), *words)
        assert done.returncode == code, done.stderr
        return done.stdout if not code else done.stderr

    def ask(self, verb: str, *words: str) -> dict[str, object]:
        found = json.loads(self(verb, "--format", "json", *words))
        assert isinstance(found, dict)
        return found


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    top, keys, key = tmp_path / "bpci", tmp_path / "keys", tmp_path / "admin.key"
    keys.write_text(run("bpci", "init", str(top)).stdout)
    public = run("audit", "key", str(key)).stdout.strip()
    grant = str(tmp_path / "admin.grant")
    words = ("--tenant", "acme", "--role", "admin", str(top), public, grant)
    assert run("bpci", "grant", *words).returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as found:
        place = f"127.0.0.1:{found.getsockname()[1]}"
    argv = [sys.executable, "-m", "docklock.cli.main", "bpci", "serve", str(top), "--listen", place]
    process = subprocess.Popen(argv, cwd=TOP, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"serving on http://{place}\n"
        call = ("--server", f"http://{place}", "--server-key", str(keys))
        assert run("audit", "enrol", *call, grant).returncode == 0
        yield Admin(top, call, key)
        process.terminate()
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.wait(WAIT_S)
        process.stdout.close()
    assert run("bpci", "audit", str(top)).returncode == 0


def test_an_admin_lets_in_lists_revokes_and_rules(admin: Admin, tmp_path: Path) -> None:
    public = encode_verifier("k", make_pair(1).public)
    name = compute_host_id(make_pair(1).public).hex()
    grant = str(tmp_path / "reader.grant")
    assert admin("grant", "--role", "reader", "--hours", "1", public, grant) == ""
    assert "cannot write it" in admin("grant", "--role", "reader", public, grant, code=2)
    assert run("audit", "enrol", *admin.call, grant).returncode == 0
    lines = admin("members").splitlines()
    assert lines[0].startswith("admin ") and lines[1].startswith(f"reader   {name} acme  since ")
    own = compute_host_id(read_enrolled(str(admin.key))).hex()
    assert lines[1].endswith(f" by {own[:16]}") and len(lines) == 2
    assert admin("revoke", public) == f"reader {name} is revoked\n"
    assert admin("revoke", name) == f"reader {name} is revoked\n"
    assert "404" in admin("revoke", "ab" * 32, code=1)
    assert "receipts per day  0 no limit" in admin("quota")
    assert "hosts             0 of 3 (the admin's: 3)" in admin("quota", "--hosts", "3")
    run("bpci", "quota", str(admin.top), "acme", "--hosts", "2")
    assert "hosts             0 of 2 (the admin's: 3)" in admin("quota")
    assert admin("quota", "--hosts", "none").count("of 2") == 1
    assert admin("retention", "--days", "30") == "kept for 30 days\n"
    assert admin.ask("retention") == {"tenant": "acme", "days": 30, "erased": None}
    assert "400" in admin("retention", "--days", "3", code=2)
    assert admin("retention", "--days", "none") == "kept for ever\n"
    for words in (("quota", "--hosts", "x"), ("retention", "--days", "0"), ("revoke", "x")):
        admin(*words, code=2)
    for words in (("admin",), ("admin", "x"), ("admin", "quota"), ("admin", "quota", *admin.call)):
        assert run(*words).returncode == 2
    assert "verbs are" not in run("admin", "--help").stdout


def test_a_member_changes_its_key_and_is_the_same_member(admin: Admin, tmp_path: Path) -> None:
    old, keys = admin.key, [tmp_path / f"next-{number}" for number in range(2)]
    before = admin.ask("members")["members"]
    for new in keys:
        done = run("audit", "rotate", *admin.call, "--key", str(old), str(new))
        assert done.returncode == 0, done.stderr
        assert parse_verifier(done.stdout.strip(), "key")[1] != read_enrolled(str(new))
        assert read_enrolled(str(new)) == read_enrolled(str(admin.key))
        assert "403" in admin("members", code=1, key=old)
        after = json.loads(admin("members", "--format", "json", key=new))["members"]
        assert [one["name"] for one in after] == [one["name"] for one in before]  # type: ignore[attr-defined]
        old = new
    assert after[0]["keys"] == 3
    stranger = tmp_path / "stranger"
    run("audit", "key", str(stranger))
    done = run("audit", "rotate", *admin.call, "--key", str(old), str(stranger))
    assert done.returncode == 2 and "another member" in done.stderr
    # which was its first key names it still
    first = run("audit", "key", str(admin.key)).stdout.strip()
    assert run("bpci", "revoke", str(admin.top), first).returncode == 0
    assert "403" in admin("members", code=1, key=old)
