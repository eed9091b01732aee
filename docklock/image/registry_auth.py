"""How a registry wants to be asked: its challenge, and the token that answers it.

Not here: where the user's password is kept (credentials), requests (registry).
Invariants: a password goes over TLS, or to this machine; nothing of it is in an error.
Source: RFC 9110, section 11; RFC 6750, section 3; distribution, spec/auth/token.md, oauth.md.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode, urlsplit

from chainlite.errors import PeerError
from docklock.document import parse_document
from docklock.image.registry_http import RegistryError, check_url, show_url

if TYPE_CHECKING:
    from docklock.image.credentials import Login
    from docklock.image.registry_http import Wire

CLIENT = "docklock"
CHALLENGES_MAX = 8
TOKEN_BYTES_MAX = 1 << 20


class Challenge(NamedTuple):
    """What a 401 asks for: `scheme` is `basic` or `bearer`."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenges(fields: tuple[str, ...]) -> tuple[Challenge, ...]:
    """The WWW-Authenticate fields; schemes that nobody here speaks are left out. Pure."""
    found = []
    for field in fields[:CHALLENGES_MAX]:
        scheme, _, rest = field.strip().partition(" ")
        if scheme.lower() not in ("basic", "bearer"):
            continue
        values = _parse_parameters(rest)
        found.append(
            Challenge(
                scheme.lower(),
                values.get("realm", ""),
                values.get("service", ""),
                values.get("scope", ""),
            )
        )
    return tuple(found)


def authorise(
    wire: Wire, challenge: Challenge, login: Login | None, scope: str, *, is_plain: bool
) -> str:
    """The Authorization header for a challenge; empty where nothing can be said.

    RegistryError: the token server refuses. PeerError: it breaks a rule.
    """
    if challenge.scheme == "basic":
        return _encode_basic(login) if login is not None and not login.is_token else ""
    realm = check_url(challenge.realm, is_plain_allowed=is_plain)
    words = {"service": challenge.service, "scope": scope or challenge.scope}
    words = {name: value for name, value in words.items() if value}
    if login is not None and login.is_token:
        words |= {"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": login.secret}
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = wire.exchange("POST", realm, kind, urlencode(words).encode())
    else:
        if login is not None:
            words["account"] = login.user
        joint = "&" if urlsplit(realm).query else "?"
        fields = {"Authorization": _encode_basic(login)} if login is not None else {}
        answer = wire.exchange("GET", f"{realm}{joint}{urlencode(words)}", fields, is_led=False)
    try:
        if answer.status != 200:
            raise _refuse(realm, answer.status, answer.get("Retry-After"))
        return f"Bearer {_read_token(answer.read_all(TOKEN_BYTES_MAX), show_url(realm))}"
    finally:
        answer.close()


def parse_retry_after(text: str) -> float:
    """Seconds; below 0 where there is none, or a date."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else -1.0


def _refuse(realm: str, status: int, retry_after: str) -> RegistryError:
    if status in (401, 403):
        return RegistryError(
            f"{show_url(realm)}: unauthorized: incorrect username or password", 401
        )
    return RegistryError(
        f"{show_url(realm)}: the token server answers {status}",
        status,
        is_passing=status == 429 or status >= 500,
        retry_after_s=parse_retry_after(retry_after),
    )


def _read_token(data: bytes, where: str) -> str:
    document = parse_document(data, where)
    token = document.get("token").as_str("") or document.get("access_token").as_str("")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise PeerError(f"{where}: an answer without a token")
    return token


def _encode_basic(login: Login) -> str:
    return f"Basic {b64encode(f'{login.user}:{login.secret}'.encode()).decode()}"


def _parse_parameters(text: str) -> dict[str, str]:
    """`a="b, c",d=e`: quoted strings may hold commas and escapes."""
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        name, equals, _ = text[position:].partition("=")
        if not equals:
            break
        position += len(name) + 1
        value, position = _parse_value(text, position)
        found.setdefault(name.strip(" ,\t").lower(), value)
    return found


def _parse_value(text: str, position: int) -> tuple[str, int]:
    if text[position : position + 1] != '"':
        value = text[position:].partition(",")[0]
        return value.strip(), position + len(value) + 1
    letters = []
    position += 1
    while position < len(text) and text[position] != '"':
        if text[position] == "\\":
            position += 1
        letters.append(text[position : position + 1])
        position += 1
    return "".join(letters), position + 1
