"""The user's passwords for registries, where Docker keeps them: ~/.docker/config.json and helpers.

Not here: how they are used (registry_auth). Invariants: a secret is in no error, no repr and no
log; a helper's name is a name and no path; a file that we write is its owner's alone, and what
others wrote in it stays.
Source: docker login; docker/docker-credential-helpers, README.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from typing import NamedTuple

from chainlite.errors import SpecError, StateError
from docklock.document import Cursor, parse_document
from docklock.image.reference import DEFAULT_DOMAIN

HUB_KEY = "https://index.docker.io/v1/"
HELPER_S = 60
HELPER_BYTES_MAX = 1 << 20
TOKEN_USER = "<token>"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


class Login(NamedTuple):
    """Who one is at a registry. `is_token`: the secret is an identity token and no password."""

    user: str
    secret: str
    is_token: bool = False

    def __repr__(self) -> str:
        return f"Login({self.user!r}, ...)"


class HelperMissing(StateError):
    """The program that is to keep the passwords is not there."""


def get_config_path() -> str:
    """Docker's file: DOCKER_CONFIG, else ~/.docker."""
    directory = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return f"{directory}/config.json"


def get_key(domain: str) -> str:
    """What a registry is called in the file."""
    return HUB_KEY if domain == DEFAULT_DOMAIN else domain


def find_login(domain: str) -> Login | None:
    """Who the user is at a registry; None where nobody has logged in.

    SpecError: a bad file. HelperMissing, StateError: the helper is not there, or fails.
    """
    config = _read(get_config_path())
    helper = _get_helper(config, domain)
    if helper:
        return _ask_helper(helper, get_key(domain))
    for key, entry in config.get("auths").as_map().items():
        if _is_key_of(key, domain):
            found = _read_entry(entry)
            if found is not None:
                return found
    return None


def store_login(domain: str, login: Login) -> str:
    """Keeps it: with the helper, else in the file. Gives the file's path if the secret is there."""
    path = get_config_path()
    config = _read(path)
    helper = _get_helper(config, domain)
    if helper:
        user = TOKEN_USER if login.is_token else login.user
        document = {"ServerURL": get_key(domain), "Username": user, "Secret": login.secret}
        _run_helper(helper, "store", json.dumps(document))
    entry: dict[str, str] = {}
    if not helper and login.is_token:
        entry = {"auth": "", "identitytoken": login.secret}
    elif not helper:
        entry = {"auth": b64encode(f"{login.user}:{login.secret}".encode()).decode()}
    _change(path, config, get_key(domain), entry)
    return "" if helper else path


def erase_login(domain: str) -> bool:
    """Forgets it; False where there was none."""
    path = get_config_path()
    config = _read(path)
    keys = [key for key in config.get("auths").as_map() if _is_key_of(key, domain)]
    helper = _get_helper(config, domain)
    if helper and _ask_helper(helper, get_key(domain)) is not None:
        _run_helper(helper, "erase", get_key(domain))
        keys = keys or [get_key(domain)]
    for key in keys:
        _change(path, _read(path), key, None)
    return bool(keys)


def _read(path: str) -> Cursor:
    try:
        with open(path, "rb") as file:
            return parse_document(file.read(), path)
    except FileNotFoundError:
        return Cursor({}, path)
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from None


def _get_helper(config: Cursor, domain: str) -> str:
    """credHelpers for this registry, else credsStore; a name that is a path is refused."""
    place = config.get("credsStore")
    for key, found in config.get("credHelpers").as_map().items():
        if _is_key_of(key, domain):
            place = found
    name = place.as_str("")
    if not _NAME.issuperset(name):
        raise place.error("a credential helper's name is letters, digits, '-', '_' and '.'")
    return name


def _is_key_of(key: str, domain: str) -> bool:
    """Old files have a scheme and a path around the host's name."""
    if domain == DEFAULT_DOMAIN:
        return key in (HUB_KEY, DEFAULT_DOMAIN, "index.docker.io", "https://index.docker.io/v1")
    return key.partition("://")[2].partition("/")[0] == domain if "://" in key else (
        key.partition("/")[0] == domain
    )  # fmt: skip


def _read_entry(entry: Cursor) -> Login | None:
    token = entry.get("identitytoken").as_str("")
    if token:
        return Login("", token, is_token=True)
    text = entry.get("auth").as_str("")
    if not text:
        user = entry.get("username").as_str("")
        return Login(user, entry.get("password").as_str("")) if user else None
    try:
        user, colon, password = b64decode(text, validate=True).decode().partition(":")
    except (NotBase64, UnicodeDecodeError):
        user, colon, password = "", "", ""
    if not colon or not user:
        raise entry.get("auth").error("expected base64 of USER:PASSWORD")
    return Login(user, password.rstrip("\0"))


def _ask_helper(helper: str, key: str) -> Login | None:
    output = _run_helper(helper, "get", key)
    if output is None:
        return None
    document = parse_document(output, f"docker-credential-{helper}")
    user, secret = (document.get(name).as_str("") for name in ("Username", "Secret"))
    if not secret:
        return None
    return Login("", secret, is_token=True) if user == TOKEN_USER else Login(user, secret)


def _run_helper(helper: str, verb: str, text: str) -> bytes | None:
    """What it prints; None for `get` of what it has not. Its words may hold a secret: not shown."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, verb], input=text.encode(), capture_output=True, timeout=HELPER_S
        )
    except FileNotFoundError:
        raise HelperMissing(
            f"{program}: not found, though the Docker configuration names it"
        ) from None
    except OSError as error:
        raise StateError(f"{program}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise StateError(f"{program} {verb}: no answer in {HELPER_S} s") from None
    if done.returncode == 0 and len(done.stdout) <= HELPER_BYTES_MAX:
        return done.stdout
    if verb == "get" and b"credentials not found" in done.stdout:
        return None
    raise StateError(f"{program} {verb}: failed with {done.returncode}")


def _change(path: str, config: Cursor, key: str, entry: dict[str, str] | None) -> None:
    """Sets or drops one entry of `auths`; all else in the file stays."""
    document = dict(config.value) if isinstance(config.value, dict) else {}
    auths = dict(config.get("auths").value or {})  # type: ignore[call-overload]
    auths.pop(key, None)
    if entry is not None:
        auths[key] = entry
    document["auths"] = auths
    # Through a link, as Docker: dotfiles are often links.
    path = os.path.realpath(path)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    new = f"{path}.{secrets.token_hex(4)}"
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w") as text:
        json.dump(document, text, indent="\t")
        text.write("\n")
        text.flush()
        os.fsync(text.fileno())
    os.rename(new, path)
