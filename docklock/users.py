"""Users and groups of an image by its own /etc/passwd and /etc/group, as Docker resolves them.

Not here: becoming them (docklock.become). The files are hostile: they are looked up inside the
root, read up to a limit, and lines that make no sense are skipped as libc skips them.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from docklock.inroot import read_file
from docklock.spec import UID_MAX, User

FILE_MAX_BYTES = 1024 * 1024
GROUPS_MAX = 1024


def resolve_user(root_fd: int, text: str) -> User:
    """The User that `user[:group]`, names or numbers, means in the root; SpecError if nobody."""
    name, _, group = text.partition(":")
    passwd = _read_entries(root_fd, "/etc/passwd", 7)
    entry = _find(passwd, name or "0")
    if entry is None and not _is_id(name):
        raise SpecError(f"user {name}: not in the container's /etc/passwd; use a number")
    uid = int(entry[2]) if entry else int(name)
    groups = _read_entries(root_fd, "/etc/group", 4)
    if group:
        return User(uid, _resolve_group(groups, group))
    gid = int(entry[3]) if entry and _is_id(entry[3]) else 0
    more = [int(g[2]) for g in groups if entry and entry[0] in g[3].split(",") and _is_id(g[2])]
    return User(uid, gid, tuple(sorted({item for item in more if item != gid})[:GROUPS_MAX]))


def get_home(root_fd: int, uid: int) -> str:
    """The home directory of `uid` in the root, or /."""
    entry = _find(_read_entries(root_fd, "/etc/passwd", 7), str(uid))
    return entry[5] if entry and entry[5].startswith("/") else "/"


def resolve_groups(root_fd: int, words: list[str]) -> tuple[int, ...]:
    """The numbers that names or numbers of groups mean in the root; SpecError if none."""
    groups = _read_entries(root_fd, "/etc/group", 4)
    return tuple(_resolve_group(groups, word) for word in words)


def _resolve_group(groups: list[list[str]], group: str) -> int:
    entry = _find(groups, group)
    if entry is not None:
        return int(entry[2])
    if _is_id(group):
        return int(group)
    raise SpecError(f"group {group}: not in the container's /etc/group; use a number")


def _find(entries: list[list[str]], wanted: str) -> list[str] | None:
    """The entry of this name, else of this number."""
    for entry in entries:
        if entry[0] == wanted:
            return entry
    for entry in entries:
        if entry[2] == wanted:
            return entry
    return None


def _read_entries(root_fd: int, path: str, fields_count: int) -> list[list[str]]:
    text = read_file(root_fd, path, FILE_MAX_BYTES).decode("utf-8", "surrogateescape")
    entries = (line.split(":") for line in text.split("\n"))
    return [entry for entry in entries if len(entry) == fields_count and _is_id(entry[2])]


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= UID_MAX
