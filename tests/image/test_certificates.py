"""A registry's own certificates, where administrators lay them for Docker: HOST:PORT/*.crt."""

from __future__ import annotations

import gzip
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import PeerError, StateError
from docklock.image.certificates import load_certificates
from docklock.image.progress import Progress
from docklock.image.pull import pull_image
from docklock.image.reference import parse_reference
from docklock.image.registry import Repository
from docklock.image.registry_http import RegistryError, Wire
from docklock.paths import Paths
from tests.image.authority import Authority, make_server_context
from tests.image.scripted import Scripted, serve_layout
from tests.image.test_pull import FAST, LOGIN


@pytest.fixture
def files(archives: Any) -> dict[str, bytes]:
    layer = archives.tar((archives.member("a"), b"low"))
    return archives.layout([layer], gzip.compress)  # type: ignore[no-any-return]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def pull(paths: Paths, server: Scripted, folder: Path) -> bool:
    reference = parse_reference(f"{server.domain}/a/b:1")
    repository = Repository(reference, LOGIN, Wire(FAST, (str(folder),)))
    return pull_image(paths, reference, repository, Progress(None), "").is_new


def place(folder: Path, server: Scripted, *files: Path) -> None:
    here = folder / server.domain
    here.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, here)


def test_who_certified_the_registry_is_read_from_its_folder(
    paths: Paths, files: dict[str, bytes], authority: Authority, tmp_path: Path
) -> None:
    certs = tmp_path / "certs.d"
    with Scripted(serve_layout(files), make_server_context(authority.sign("server"))) as server:
        place(certs, server)
        with pytest.raises(PeerError, match="its certificate: .*local issuer"):
            pull(paths, server, certs)
        assert server.asked == []  # not by plain HTTP either
        place(certs, server, authority.certificate)
        assert pull(paths, server, certs)


def test_a_certificate_of_another_name_is_refused(
    paths: Paths, files: dict[str, bytes], authority: Authority, tmp_path: Path
) -> None:
    context = make_server_context(authority.sign("server", "192.0.2.1"))
    with Scripted(serve_layout(files), context) as server:
        place(tmp_path / "certs.d", server, authority.certificate)
        with pytest.raises(PeerError, match="IP address mismatch"):
            pull(paths, server, tmp_path / "certs.d")
        assert server.asked == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_s_certificate_is_shown_to_who_asks(
    paths: Paths,
    files: dict[str, bytes],
    authority: Authority,
    tmp_path: Path,
    version: ssl.TLSVersion,
) -> None:
    certs = tmp_path / "certs.d"
    context = make_server_context(authority.sign("server"), authority.certificate)
    context.minimum_version = context.maximum_version = version
    with Scripted(serve_layout(files), context) as server:
        place(certs, server, authority.certificate)
        with pytest.raises(RegistryError, match="(?i)alert|closed|reset|eof"):
            pull(paths, server, certs)
        assert server.asked == []
        place(certs, server, *authority.sign("client"))
        assert pull(paths, server, certs)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("client.cert",), r"client\.cert: its key .*client\.key is missing .*ends in \.crt"),
        (("client.key",), r"client\.key: its certificate .*client\.cert is missing"),
        (("client.cert", "client.key"), r"client\.cert: "),
        (("ca.crt",), r"ca\.crt: "),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, names: tuple[str, ...], text: str) -> None:
    for name in names:
        (tmp_path / name).write_text("no certificate\n")
    with pytest.raises(StateError, match=text):
        load_certificates(ssl.create_default_context(), str(tmp_path))


def test_what_lies_beside_them_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("no certificate\n")
    load_certificates(ssl.create_default_context(), str(tmp_path))
    load_certificates(ssl.create_default_context(), str(tmp_path / "none"))
