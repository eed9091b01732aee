"""Passwords where Docker keeps them: found as Docker finds them, changed alone, shown by nobody."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest

from chainlite.errors import DocklockError, SpecError, StateError
from docklock.image import credentials
from docklock.image.credentials import HUB_KEY, Login, erase_login, find_login, store_login
from docklock.image.reference import DEFAULT_DOMAIN

SECRET = "open sesame"
DOMAIN = "registry.example:5000"
LOGIN = Login("alice", SECRET)
AUTH = b64encode(f"alice:{SECRET}".encode()).decode()

# A store of one file a server, whose name is the server's without its slashes; it logs its words.
HELPER = """#!/bin/sh
echo "$0 $1" >>"$STORE/log"
case $1 in
get)
    read -r server
    cat "$STORE/$(echo "$server" | tr / _)" 2>/dev/null && exit
    echo credentials not found in native keychain
    exit 1 ;;
store)
    text=$(cat)
    server=$(echo "$text" | sed 's/.*"ServerURL": "\\([^"]*\\)".*/\\1/')
    echo "$text" >"$STORE/$(echo "$server" | tr / _)" ;;
erase)
    read -r server
    rm "$STORE/$(echo "$server" | tr / _)" ;;
esac
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, which is not there yet."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker/config.json"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the helpers `one` and `two` keep what they are given."""
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.setenv("STORE", str(folder))
    add_helper(tmp_path, monkeypatch, "one", HELPER)
    add_helper(tmp_path, monkeypatch, "two", HELPER)
    return folder


def add_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    program = tmp_path / f"bin/docker-credential-{name}"
    program.parent.mkdir(exist_ok=True)
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def write(config: Path, document: object) -> None:
    config.parent.mkdir(exist_ok=True)
    config.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("key", "domain"),
    [
        (DOMAIN, DOMAIN),
        (f"https://{DOMAIN}", DOMAIN),
        (f"http://{DOMAIN}/v2/", DOMAIN),
        (f"{DOMAIN}/v1/", DOMAIN),
        (HUB_KEY, DEFAULT_DOMAIN),
        ("docker.io", DEFAULT_DOMAIN),
        ("index.docker.io", DEFAULT_DOMAIN),
    ],
)
def test_a_password_is_found_under_every_name_of_its_server(
    config: Path, key: str, domain: str
) -> None:
    write(config, {"auths": {"other.example": {"auth": "eDp5"}, key: {"auth": AUTH}}})
    assert find_login(domain) == LOGIN
    assert find_login(f"{domain}0") is None
    assert find_login(f"x{domain}") is None
    assert erase_login(domain)
    assert json.loads(config.read_text())["auths"] == {"other.example": {"auth": "eDp5"}}
    assert not erase_login(domain)


@pytest.mark.parametrize(
    ("entry", "login"),
    [
        ({"auth": AUTH}, LOGIN),
        ({"auth": b64encode(b"a:b:c\0").decode()}, Login("a", "b:c")),
        ({"username": "alice", "password": SECRET}, LOGIN),
        ({"auth": AUTH, "identitytoken": "t0ken"}, Login("", "t0ken", is_token=True)),
        ({}, None),
        ({"auth": ""}, None),
    ],
)
def test_an_entry_means_what_docker_means(
    config: Path, entry: dict[str, str], login: Login | None
) -> None:
    write(config, {"auths": {DOMAIN: entry}})
    assert find_login(DOMAIN) == login


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"auths": []},
        {"auths": {DOMAIN: "x"}},
        {"auths": {DOMAIN: {"auth": SECRET}}},
        {"auths": {DOMAIN: {"auth": b64encode(SECRET.encode()).decode()}}},
        {"auths": {DOMAIN: {"auth": 7}}},
        {"credHelpers": [DOMAIN]},
        {"credsStore": "../../bin/sh"},
        {"credsStore": "a b"},
        {"credHelpers": {DOMAIN: "/bin/sh"}},
    ],
)
def test_a_bad_file_is_refused_with_its_place_and_without_the_secret(
    config: Path, document: object
) -> None:
    write(config, document)
    with pytest.raises(SpecError, match="config.json") as caught:
        find_login(DOMAIN)
    assert SECRET not in str(caught.value)
    assert b64encode(SECRET.encode()).decode() not in str(caught.value)


def test_a_login_is_kept_and_all_else_stays(config: Path) -> None:
    write(config, {"psFormat": "x", "auths": {"other.example": {"auth": "eDp5"}}})
    assert store_login(DOMAIN, LOGIN) == str(config)
    assert store_login(DEFAULT_DOMAIN, Login("", "t0ken", is_token=True)) == str(config)
    assert json.loads(config.read_text()) == {
        "psFormat": "x",
        "auths": {
            "other.example": {"auth": "eDp5"},
            DOMAIN: {"auth": AUTH},
            HUB_KEY: {"auth": "", "identitytoken": "t0ken"},
        },
    }
    assert find_login(DOMAIN) == LOGIN
    assert config.stat().st_mode & 0o777 == 0o600
    assert list(config.parent.iterdir()) == [config]


def test_a_file_that_is_a_link_stays_one(config: Path, tmp_path: Path) -> None:
    """Dotfiles often are."""
    config.parent.mkdir()
    (tmp_path / "kept.json").write_text("{}")
    config.symlink_to(tmp_path / "kept.json")
    store_login(DOMAIN, LOGIN)
    assert config.is_symlink()
    assert DOMAIN in (tmp_path / "kept.json").read_text()


def test_a_registry_s_own_helper_comes_before_the_one_for_all(config: Path, store: Path) -> None:
    write(config, {"credsStore": "one", "credHelpers": {DOMAIN: "two"}, "auths": {}})
    for domain, helper in ((DOMAIN, "two"), ("other.example", "one")):
        assert find_login(domain) is None
        assert store_login(domain, LOGIN) == ""
        assert find_login(domain) == LOGIN
        assert SECRET not in config.read_text() and AUTH not in config.read_text()
        assert json.loads(config.read_text())["auths"] == {domain: {}}
        assert erase_login(domain)
        assert find_login(domain) is None
        assert not erase_login(domain)
        lines = (store / "log").read_text().splitlines()
        (store / "log").unlink()
        assert {line.rpartition("-")[2].split()[0] for line in lines} == {helper}
        assert {line.split()[-1] for line in lines} == {"get", "store", "erase"}


def test_a_helper_s_token_is_no_password(config: Path, store: Path) -> None:
    write(config, {"credsStore": "one"})
    token = Login("", "t0ken", is_token=True)
    store_login(DOMAIN, token)
    assert json.loads((store / DOMAIN).read_text())["Username"] == "<token>"
    assert find_login(DOMAIN) == token


def test_a_helper_for_this_registry_may_be_none(config: Path, store: Path) -> None:
    """An empty name means the file, as for Docker."""
    write(
        config,
        {"credsStore": "one", "credHelpers": {DOMAIN: ""}, "auths": {DOMAIN: {"auth": AUTH}}},
    )
    assert find_login(DOMAIN) == LOGIN
    assert not (store / "log").exists()


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("#!/bin/sh\necho open sesame; exit 3\n", StateError, "get: failed with 3"),
        ("#!/bin/sh\necho open sesame >&2; exit 1\n", StateError, "get: failed with 1"),
        ("#!/bin/sh\necho open sesame\n", SpecError, "docker-credential-bad"),
        ('#!/bin/sh\necho \'{"Username": "a", "Secret": 7}\'\n', SpecError, "Secret"),
        ("#!/bin/sh\nhead -c 2000000 /dev/zero\n", StateError, "get: failed"),
        ("#!/bin/sh\nexec sleep 60\n", StateError, "get: no answer"),
        ("no program\n", StateError, "docker-credential-bad"),
        ("#!/nowhere\n", StateError, "docker-credential-bad"),
    ],
)
def test_a_helper_that_fails_is_told_without_its_words(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    error: type[DocklockError],
    match: str,
) -> None:
    write(config, {"credsStore": "bad"})
    add_helper(tmp_path, monkeypatch, "bad", text)
    monkeypatch.setattr(credentials, "HELPER_S", 0.3 if "sleep" in text else 60)
    with pytest.raises(error, match=match) as caught:
        find_login(DOMAIN)
    assert SECRET not in str(caught.value)
    assert not isinstance(caught.value.__cause__, Exception)


def test_a_helper_that_is_not_there_is_named(config: Path) -> None:
    write(config, {"credsStore": "nowhere"})
    with pytest.raises(StateError, match="docker-credential-nowhere: not found"):
        find_login(DOMAIN)
    with pytest.raises(StateError, match="docker-credential-nowhere: not found"):
        store_login(DOMAIN, LOGIN)
    assert json.loads(config.read_text()) == {"credsStore": "nowhere"}
