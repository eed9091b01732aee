"""[[server]] in agent.toml: what it may say, and errors that name file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainlite import note
from chainlite.errors import SpecError
from docklock.agent.config import parse_config
from docklock.agent.config_file import read_config
from docklock.outbox.settings import SERVERS_MAX
from tests.bpci.acknowledged import BOTH
from tests.outbox.servers import Books

KEY = note.encode_vkey(BOTH[0])
MLDSA = note.encode_vkey(BOTH[1])
OTHER = note.encode_vkey(note.VerifierKey("x/y", Books(78).key.public, note.ED25519))
COSIGNER = note.encode_vkey(note.VerifierKey("x/y", Books(78).key.public))


def make(url: str = "https://a.example:7443", keys: str = f'"{KEY}"', more: str = "") -> str:
    return f'[[server]]\nurl = "{url}"\nkeys = {keys}\n{more}\n'


def test_no_table_no_server() -> None:
    assert parse_config(b'socket = "/x"\n', "f").servers == ()


def test_every_key_is_read() -> None:
    more = 'name = "office"\ntoken-file = "/etc/t"\nca-file = "/etc/ca.pem"'
    text = make(keys=f'["{KEY}", "{MLDSA}"]', more=more) + make(
        "http://127.0.0.1:7/x/", f'"{OTHER}"'
    )
    first, second = parse_config(text.encode(), "f").servers
    assert first == ("office", "https://a.example:7443", BOTH, "/etc/t", "/etc/ca.pem")
    assert first.origin == BOTH[0].name
    assert (second.name, second.url, second.token_file) == (
        "127.0.0.1:7/x",
        "http://127.0.0.1:7/x",
        "",
    )


@pytest.mark.parametrize(
    "url", ["https://[::1]:1", "http://localhost", "http://[::1]:80/a", "https://a.b/c"]
)
def test_urls_that_keep_evidence_to_the_server(url: str) -> None:
    assert parse_config(make(url).encode(), "f").servers[0].url == url


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server = 1", "line 1: server: want at most 16 tables [[server]]"),
        ("server = [1]", "line 1: server: want a table [[server]]"),
        (make("http://a.example:7443"), "line 2: url: want https: plain http is for a server on"),
        (make("http://127.0.0.1.a.example"), "line 2: url: want https: plain"),
        (make("ftp://a.example"), "line 2: url: want https://HOST:PORT"),
        (make("https://"), "line 2: url: want https://HOST:PORT"),
        (make("https://a.example:0"), "line 2: url: '0' is not a port"),
        (make("https://a.example:65536"), "line 2: url: '65536' is not a port"),
        (make("https://me:word@a.example"), "line 2: url: want https://HOST:PORT"),
        (make("https://a.example?x=1"), "line 2: url: want https://HOST:PORT"),
        ('[[server]]\nkeys = "x"', "line 1: url: want https://HOST:PORT"),
        ('\n[[server]]\nurl = "https://a"', "line 2: keys: want the server's key"),
        (make(keys='"x"'), "line 3: keys: not a key of a type that is known"),
        (make(keys="[]"), "line 3: keys: want the server's key"),
        (make(keys=f'["{MLDSA}"]'), "line 3: keys: want a log's key: of type 1 first"),
        (make(keys=f'"{COSIGNER}"'), "line 3: keys: want a log's key: of type 1 first"),
        (make(keys=f'["{OTHER}", "{MLDSA}"]'), "line 3: keys: keys of two servers"),
        (make(more='token-file = "t"'), "line 4: token-file: want an absolute path"),
        (make(more='ca-file = ""'), "line 4: ca-file: want an absolute path"),
        (make(more='name = ""'), "line 4: name: want 1 to 64 printable characters"),
        (make(more='token = "secret"'), "line 4: token: unknown key; known are name, url, keys"),
        (make() + make("https://b"), "line 7: keys: docklock/bpci/"),
        (
            make(more='name = "a"') + make("https://b", f'"{OTHER}"', 'name = "a"'),
            "line 8: name: two servers called a",
        ),
    ],
)
def test_errors_name_file_line_and_key(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_config(text.encode(), "f")
    assert str(caught.value).startswith("f: ") and said in str(caught.value)


def test_more_servers_than_are_allowed_are_refused() -> None:
    with pytest.raises(SpecError, match="at most 16 tables"):
        parse_config((make() * (SERVERS_MAX + 1)).encode(), "f")


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    with pytest.raises(SpecError, match="no such file"):
        read_config(str(path))
    path.write_text(make())
    assert read_config(str(path)).file == str(path)
