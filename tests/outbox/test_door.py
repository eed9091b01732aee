"""The way to a server: TLS that is verified, tokens, what statuses mean, how long it may take."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from chainlite.errors import PeerError, StateError
from docklock.evidence import keyring, rotation
from docklock.evidence.host_log import HostLog
from docklock.outbox import signing
from docklock.outbox.door import (
    ANSWER_BYTES_MAX,
    TOKEN_BYTES_MAX,
    Busy,
    Elsewhere,
    HttpDoor,
    Unknown,
    parse_retry_after,
)
from docklock.outbox.settings import Server
from docklock.outbox.signing import HostCalls
from docklock.paths import Paths
from tests.bpci.batches import make_data
from tests.ledger.offered import make_host
from tests.outbox.sends import get_host, run_pass
from tests.outbox.servers import CUT, Books, BooksServer, Request

NOW_S = 1_795_000_000.0


def make_date(time_s: float) -> str:
    return format_datetime(datetime.datetime.fromtimestamp(time_s, datetime.UTC), usegmt=True)


def send(server: Server, data: bytes, send_max_s: float = 20.0) -> bytes:
    door = HttpDoor(server, send_max_s=send_max_s)

    async def run() -> bytes:
        try:
            return await door.send(data)
        finally:
            door.close()

    return asyncio.run(run())


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    return make_data(make_host(tmp_path))


def make_certificate(directory: Path, name: str, address: str) -> tuple[str, str]:
    """Files of a self-signed certificate for an address, and of its key."""
    key = ed25519.Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, None)
    )
    certificate, private = directory / f"{name}.pem", directory / f"{name}.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(certificate), str(private)


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[tuple[BooksServer, str]]:
    """A server over TLS, and the file of its certificate."""
    certificate, private = make_certificate(tmp_path, "here", "127.0.0.1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, private)
    with BooksServer(Books(), tls=tls) as made:
        yield made, certificate


def test_a_named_certificate_is_believed(
    tmp_path: Path, secret: tuple[BooksServer, str], data: bytes
) -> None:
    server, certificate = secret
    assert send(server.settings._replace(ca_file=certificate), data)
    assert server.requests[0].path == "/v1/receipts"
    assert server.requests[0].headers["content-encoding"] == "zstd"


def test_a_certificate_that_nobody_vouches_for_is_refused(
    secret: tuple[BooksServer, str], data: bytes
) -> None:
    server, _ = secret
    with pytest.raises(StateError, match="certificate verify failed"):
        send(server.settings, data)
    assert not server.requests


def test_a_certificate_of_another_address_is_refused(tmp_path: Path, data: bytes) -> None:
    certificate, private = make_certificate(tmp_path, "there", "127.0.0.2")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, private)
    with BooksServer(Books(), tls=tls) as server:
        with pytest.raises(StateError, match="not valid for"):
            send(server.settings._replace(ca_file=certificate), data)
        assert not server.requests


def test_a_file_of_certificates_that_is_not_there_is_said(server: BooksServer, data: bytes) -> None:
    settings = server.settings._replace(url="https://127.0.0.1:1", ca_file="/nowhere/ca.pem")
    with pytest.raises(StateError, match=r"/nowhere/ca\.pem: No such file"):
        send(settings, data)


def test_the_token_is_read_anew_each_time(tmp_path: Path, server: BooksServer, data: bytes) -> None:
    token = tmp_path / "token"
    settings = server.settings._replace(token_file=str(token))
    for text in ("first\n", "second"):
        token.write_text(text)
        send(settings, data)
    said = [one.headers["authorization"] for one in server.requests]
    assert said == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    "text", [b"", b"two words", b"a\r\nX: y", b"\xff", b"x" * (TOKEN_BYTES_MAX + 1)]
)
def test_a_file_that_is_no_token_sends_nothing(
    tmp_path: Path, server: BooksServer, data: bytes, text: bytes
) -> None:
    token = tmp_path / "token"
    token.write_bytes(text)
    with pytest.raises(StateError, match="not a token"):
        send(server.settings._replace(token_file=str(token)), data)
    assert not server.requests


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, PeerError), (302, PeerError), (307, PeerError), (400, PeerError), (401, Unknown),
        (403, PeerError), (404, PeerError), (408, StateError), (409, Elsewhere), (413, PeerError),
        (422, PeerError), (425, StateError), (429, Busy), (500, StateError), (502, StateError),
        (503, Busy), (504, StateError), (507, Busy), (204, PeerError),
    ],
)  # fmt: skip
def test_what_a_status_means(
    server: BooksServer, other: BooksServer, data: bytes, status: int, kind: type[Exception]
) -> None:
    """No redirect is followed: the other server is asked nothing."""
    server.act = lambda _: (status, b"because\n", {"Location": other.url, "Retry-After": "7"})
    with pytest.raises(kind, match=f"office: status {status}: because") as caught:
        send(server.settings, data)
    assert type(caught.value) is kind
    if isinstance(caught.value, Busy):
        assert caught.value.retry_after_s == 7
    assert len(server.requests) == 1 and not other.requests


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("120", 120), ("", 0), ("-5", 0), ("soon", 0), ("1.5", 0), ("9" * 40, 0),
        (make_date(NOW_S + 90), 90), (make_date(NOW_S - 90), 0), ("\xb9", 0),
        ("Wed, 99 Foo 2026 25:61:61 GMT", 0),
    ],
)  # fmt: skip
def test_retry_after_in_both_forms(text: str, seconds: float) -> None:
    assert parse_retry_after(text, NOW_S) == seconds


def test_a_server_that_does_not_answer_is_given_up(server: BooksServer, data: bytes) -> None:
    over = threading.Event()

    def hang(_: Request) -> str:
        over.wait(30)
        return CUT

    server.act = hang
    with pytest.raises(StateError, match="no answer in 0.2 s"):
        send(server.settings, data, send_max_s=0.2)
    over.set()


def test_an_answer_without_end_is_not_read(server: BooksServer, data: bytes) -> None:
    server.act = lambda _: (200, bytes(ANSWER_BYTES_MAX + 1), {})
    with pytest.raises(StateError, match="above the limit"):
        send(server.settings, data)


def test_a_long_reason_is_cut(server: BooksServer, data: bytes) -> None:
    server.act = lambda _: (400, b"x" * 10_000, {})
    with pytest.raises(PeerError) as caught:
        send(server.settings, data)
    assert len(str(caught.value)) < 400


def test_a_server_that_was_started_again_is_reached_again(
    tmp_path: Path, server: BooksServer, data: bytes
) -> None:
    door = HttpDoor(server.settings)

    async def run() -> None:
        await door.send(data)
        server.stop()
        with pytest.raises(StateError):
            await door.send(data)
        server.start()
        await door.send(data)
        door.close()

    asyncio.run(run())


def send_signed(paths: Paths, server: BooksServer, data: bytes) -> bytes:
    async def run() -> bytes:
        door = HttpDoor(server.settings, HostCalls(paths))
        try:
            return await door.send(data)
        finally:
            door.close()

    return asyncio.run(run())


def test_a_signed_call_is_taken_by_a_cage_and_so_is_its_answer(
    tmp_path: Path, server: BooksServer
) -> None:
    """Also after a rotation: by the key that the host has then."""
    paths = make_host(tmp_path)
    assert send_signed(paths, server, make_data(paths))
    rotation.rotate_host_key(paths)
    assert send_signed(paths, server, make_data(paths))
    with HostLog(paths, None) as log:
        publics = log.read_keys(keyring.get_public_key(paths)).publics
    assert [one.public for one in server.requests] == list(publics[-2:])


def test_a_rotation_in_the_middle_leaves_key_id_and_signature_of_one_key(
    tmp_path: Path, server: BooksServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_host(tmp_path)
    read_before = keyring.ensure_host_key(paths)
    rotation.rotate_host_key(paths)
    monkeypatch.setattr(signing, "ensure_host_key", lambda _: read_before)
    assert send_signed(paths, server, make_data(paths))


def test_an_answer_that_another_key_has_signed_is_none(tmp_path: Path, server: BooksServer) -> None:
    """The acknowledgement in it is the server's: somebody in between has had it before."""
    paths = make_host(tmp_path)
    acknowledged = server.books.take(make_data(paths))
    with BooksServer(Books(79)) as between:
        between.act = lambda _: (200, acknowledged, {})
        lying = server.settings._replace(url=between.url)
        door = HttpDoor(lying, HostCalls(paths))

        async def run() -> None:
            with pytest.raises(PeerError, match="its answer: "):
                await door.send(make_data(paths))
            door.close()

        asyncio.run(run())


def test_an_answer_that_nobody_has_signed_is_none(tmp_path: Path, server: BooksServer) -> None:
    paths = make_host(tmp_path)
    server.is_bare = True
    with pytest.raises(PeerError, match="its answer: "):
        send_signed(paths, server, make_data(paths))


def test_the_detail_of_a_problem_is_the_reason(server: BooksServer, data: bytes) -> None:
    server.act = lambda _: (422, b'{"title": "gap", "detail": "leaf 7: missing"}', {})
    with pytest.raises(PeerError, match="office: status 422: leaf 7: missing$"):
        send(server.settings, data)
    server.act = lambda _: (422, b'{"title": ', {})
    with pytest.raises(PeerError, match='status 422: {"title":$'):
        send(server.settings, data)


def test_a_whole_host_goes_over_tls(tmp_path: Path, secret: tuple[BooksServer, str]) -> None:
    server, certificate = secret
    paths = make_host(tmp_path)
    server.ca_file = certificate
    assert run_pass(paths, server).error is None
    assert server.books.get_size(get_host(paths))
