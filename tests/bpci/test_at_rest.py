"""What is kept opens with its own key, in its own place, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chainlite.bpci import at_rest
from chainlite.bpci.at_rest import Label, ServerKey, Vault, load_key_file, make_key_file
from chainlite.errors import SpecError, StateError, TamperError

LABEL = Label(at_rest.SEGMENT, "acme", b"\x01" * 32, 5)
KEY = bytes(range(32))


def test_a_box_opens_in_its_place_alone() -> None:
    box = at_rest.seal(b"values", KEY, LABEL)
    assert b"values" not in box and at_rest.unseal(box, KEY, LABEL) == b"values"
    assert at_rest.unseal(at_rest.seal(b"", KEY, LABEL), KEY, LABEL) == b""
    others = (
        LABEL._replace(kind=at_rest.ALERT), LABEL._replace(tenant="acm"),
        LABEL._replace(name=b"\x02" * 32), LABEL._replace(place=6),
        LABEL._replace(tenant="acmeX"),
    )  # fmt: skip
    assert len({at_rest.encode_label(one) for one in (LABEL, *others)}) == 6
    for other in others:
        with pytest.raises(TamperError):
            at_rest.unseal(box, KEY, other)
    with pytest.raises(TamperError):
        at_rest.unseal(box, bytes(32), LABEL)
    for bit in range(len(box) * 8):
        spoilt = bytearray(box)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TamperError):
            at_rest.unseal(bytes(spoilt), KEY, LABEL)
    for end in range(len(box)):
        with pytest.raises(TamperError):
            at_rest.unseal(box[:end], KEY, LABEL)


def test_no_box_is_like_another() -> None:
    boxes = {at_rest.seal(b"the same", KEY, LABEL) for _ in range(100)}
    assert len({box[:24] for box in boxes}) == len({box[24:] for box in boxes}) == 100


def test_a_tenants_key_opens_at_its_own_server_under_its_own_name() -> None:
    server, other = ServerKey(b"\x01" * 32), ServerKey(b"\x02" * 32)
    sealed = Vault(server).make_tenant_key("acme")
    key = Vault(server).open_tenant_key("acme", sealed)
    assert len(key) == 32 and Vault(server).make_tenant_key("acme") != sealed
    for vault, name in ((Vault(other), "acme"), (Vault(server), "acm")):
        with pytest.raises(TamperError):
            vault.open_tenant_key(name, sealed)
    vault = Vault(server)
    assert vault.open_tenant_key("acme", sealed) == vault.open_tenant_key("acme", sealed) == key
    with pytest.raises(TamperError):
        vault.open_tenant_key("acme", sealed[:-1] + b"x")
    for name in ("", "x" * 65):
        with pytest.raises(SpecError):
            vault.make_tenant_key(name)


def test_a_key_file_is_whole_its_owners_and_made_once(tmp_path: Path) -> None:
    path = str(tmp_path / "server.key")
    with pytest.raises(StateError, match="no server key"):
        load_key_file(path)
    made = make_key_file(path)
    assert load_key_file(path).log_keys == made.log_keys
    assert load_key_file(path).rest_key == made.rest_key
    with pytest.raises(StateError, match="already"):
        make_key_file(path)
    assert os.listdir(tmp_path) == ["server.key"]
    os.chmod(path, 0o640)
    with pytest.raises(StateError, match="others can read"):
        load_key_file(path)
    os.chmod(path, 0o600)
    whole = Path(path).read_bytes()
    for bad in (whole[:-1], whole + b"x", b"x" + whole[1:], b""):
        Path(path).write_bytes(bad)
        with pytest.raises(SpecError, match="not a server's key"):
            load_key_file(path)
