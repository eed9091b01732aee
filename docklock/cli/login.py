"""`docklock login` and `logout`: a password for a registry, kept where Docker keeps it.

Not here: the file and the helpers (docklock.image.credentials). A password is checked with the
registry before it is kept, is read without echo or from stdin, and is never shown.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from chainlite.errors import SpecError, StateError
from docklock.cli import options
from docklock.cli.options import Command, UsageError, check_count, flag, text

if TYPE_CHECKING:
    from typing import Any

    from docklock.image.credentials import Login
    from docklock.paths import Paths

PASSWORD_BYTES_MAX = 64 << 10
LOGIN = Command(
    "login",
    "[OPTIONS] [SERVER]",
    "Log in to a registry: its password is checked, and kept where Docker keeps it.",
    (
        text("-u", "--username", help="user", metavar="NAME"),
        text("-p", "--password", help="password; others see it in ps", metavar="PASSWORD"),
        flag("--password-stdin", help="read the password from standard input"),
    ),
    examples=(
        "docklock login registry.example.org:5000",
        "docklock login -u me --password-stdin registry.example.org:5000 < password",
    ),
)
LOGOUT = Command(
    "logout",
    "[SERVER]",
    "Forget the password for a registry.",
    examples=("docklock logout registry.example.org:5000",),
)


def run_login(argv: list[str], _paths: Paths) -> int:
    """`docklock login`: Docker's `Login Succeeded`."""
    from docklock.image.credentials import find_login, store_login
    from docklock.image.reference import Reference
    from docklock.image.registry import Repository

    values, words = options.parse(LOGIN, argv)
    check_count(LOGIN, words, 0, 1)
    domain = parse_server("".join(words))
    login = None
    is_given = values["username"] is not None or values["password"] is not None
    if not is_given and not values["password_stdin"]:
        login = find_login(domain)
        if login is not None:
            print("Authenticating with existing credentials...", flush=True)
    is_known = login is not None
    if login is None:
        login = _ask_login(values)
    Repository(Reference(domain, "", ""), login, actions="").check_login()
    if not is_known:
        path = store_login(domain, login)
        if path:
            print(
                f"WARNING! Your credentials are stored unencrypted in {path!r}.\n"
                "Configure a credential helper to remove this warning.",
                file=sys.stderr,
            )
    print("Login Succeeded")
    return 0


def run_logout(argv: list[str], _paths: Paths) -> int:
    """`docklock logout`: 0 also where nobody had logged in, as Docker."""
    from docklock.image.credentials import erase_login, get_key

    _, words = options.parse(LOGOUT, argv)
    check_count(LOGOUT, words, 0, 1)
    domain = parse_server("".join(words))
    if erase_login(domain):
        print(f"Removing login credentials for {get_key(domain)}")
    else:
        print(f"Not logged in to {domain}")
    return 0


def parse_server(word: str) -> str:
    """The domain of a server as people write it; the default one for none. SpecError."""
    from docklock.image.reference import DEFAULT_DOMAIN, parse_reference

    host = word.rpartition("://")[2].partition("/")[0]
    if host in ("", DEFAULT_DOMAIN, "index.docker.io", "registry-1.docker.io"):
        return DEFAULT_DOMAIN
    domain = parse_reference(f"{host}/x").name.partition("/")[0]
    if domain != host:
        raise SpecError(f"{word}: no registry: expected HOST, with a dot or a port, or localhost")
    return domain


def _ask_login(values: dict[str, Any]) -> Login:
    from docklock.image.credentials import Login

    user, password = values["username"], values["password"]
    if values["password_stdin"]:
        if password is not None:
            raise UsageError("--password and --password-stdin are mutually exclusive")
        if not user:
            raise UsageError("Must provide --username with --password-stdin")
        data = sys.stdin.buffer.read(PASSWORD_BYTES_MAX)
        try:
            password = data.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise SpecError("the password is not UTF-8") from None
    elif password is not None:
        print("WARNING! Using --password via the CLI is insecure. Use --password-stdin.",
              file=sys.stderr)  # fmt: skip
    if (user is None or password is None) and not sys.stdin.isatty():
        raise UsageError("Cannot perform an interactive login from a non TTY device")
    try:
        if user is None:
            user = input("Username: ").strip()
        if password is None:
            from getpass import getpass

            password = getpass("Password: ")
    except EOFError:
        print()
        raise StateError("login: nobody typed a user's name and a password") from None
    if not user or not password or ":" in user:
        raise SpecError("a user's name, without a colon, and a password are needed")
    return Login(user, password)
