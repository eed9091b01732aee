"""The Container Device Interface's files: which devices this host's vendors offer, with what edits.

JSON or YAML below /etc/cdi and /var/run/cdi; of one device in both the latter's is meant, as the
specification says. A file can name any path of this host, so one that others than root may write
is refused. A file that cannot be read is an error only where the asked-for device is not found.
Not here: what the edits do to a container (cdi.py). Source: CDI specification 1.0, SPEC.md.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import SpecError
from docklock.document import Cursor, parse_document
from docklock.policy.yaml_nodes import (
    INTEGER,
    SOURCE_BYTES_MAX,
    Node,
    Source,
    get_text,
    parse_nodes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
FILES_MAX = 256
VERSIONS = ("0.", "1.")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class File(NamedTuple):
    """One specification. `rank`: of two files the one with the higher is meant."""

    kind: str  # VENDOR/CLASS
    devices: dict[str, Cursor]  # the edits of each
    edits: Cursor  # of the file, for whichever of its devices
    path: str
    rank: int


class Offers(NamedTuple):
    """What all files offer, and why some of them could not be read."""

    files: tuple[File, ...]
    problems: tuple[str, ...]

    def find(self, name: str) -> tuple[File, Cursor]:
        """The file and the edits of VENDOR/CLASS=DEVICE. SpecError."""
        kind, _, device = name.partition("=")
        found = [one for one in self.files if one.kind == kind and device in one.devices]
        if not found:
            known = sorted(f"{one.kind}={key}" for one in self.files for key in one.devices)
            hint = f"; there are {', '.join(known)}" if known else ""
            broken = f"; could not be read: {'; '.join(self.problems)}" if self.problems else ""
            where = " and ".join(DIRECTORIES)
            raise SpecError(
                f"CDI device injection failed: unresolvable CDI devices {name}: none of the files"
                f" in {where} has it{hint}{broken}"
            )
        best = max(one.rank for one in found)
        chosen = [one for one in found if one.rank == best]
        if len(chosen) > 1:
            raise SpecError(
                f"CDI device {name}: both {chosen[0].path} and {chosen[1].path} have it"
            )
        return chosen[0], chosen[0].devices[device]

    def list_devices(self, kind: str) -> list[str]:
        """The names of a kind's devices, sorted."""
        return sorted({name for one in self.files if one.kind == kind for name in one.devices})


def read_offers(directories: Sequence[str] = DIRECTORIES) -> Offers:
    """All that the files say."""
    files, problems = [], []
    for rank, directory in enumerate(directories):
        for name in list_names(directory):
            path = f"{directory}/{name}"
            try:
                files.append(parse_file(read_bytes(path), path, rank))
            except (OSError, SpecError) as error:
                text = str(error)
                problems.append(text if text.startswith(path) else f"{path}: {text}")
    return Offers(tuple(files), tuple(problems))


def list_names(directory: str) -> list[str]:
    """The specifications of a directory, sorted; none where there is no directory."""
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith((".json", ".yaml")))
    except (FileNotFoundError, NotADirectoryError):
        return []
    if len(names) > FILES_MAX:
        raise SpecError(f"{directory}: {len(names)} files, at most {FILES_MAX} are read")
    return names


def read_bytes(path: str) -> bytes:
    """A file that root alone can change. SpecError."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise SpecError("not a regular file")
        if status.st_uid or status.st_mode & _OTHERS_WRITE:
            raise SpecError("others than root may write it, and it decides what a container gets")
        data = file.read(SOURCE_BYTES_MAX + 1)
    if len(data) > SOURCE_BYTES_MAX:
        raise SpecError(f"larger than {SOURCE_BYTES_MAX} bytes")
    return data


def parse_file(data: bytes, path: str, rank: int) -> File:
    """A specification; its edits are read when they are wanted. SpecError."""
    if path.endswith(".json"):
        root = parse_document(data, path)
    else:
        source = Source(path)
        root = Cursor(read_value(parse_nodes(data, source), source), path)
    version = root.required("cdiVersion")
    if not version.as_str().startswith(VERSIONS):
        raise version.error(f"docklock reads 0.x and 1.x, got {version.as_str()}")
    kind = root.required("kind")
    vendor, _, group = kind.as_str().partition("/")
    if not vendor or not group or "=" in group:
        raise kind.error(f"expected VENDOR/CLASS, got {kind.as_str()!r}")
    devices: dict[str, Cursor] = {}
    for entry in root.required("devices").as_list():
        name = entry.required("name").as_str()
        if name in devices:
            raise entry.error(f"device {name!r} stands twice")
        devices[name] = entry.get("containerEdits")
    return File(kind.as_str(), devices, root.get("containerEdits"), path, rank)


def read_value(node: Node, source: Source) -> object:
    """A YAML node as JSON would have it; words that YAML 1.1 reads otherwise are refused."""
    if node.kind == "sequence":
        return [read_value(one, source) for one in node.value]
    if node.kind == "mapping":
        return {get_text(key, source, "a key"): read_value(one, source) for key, one in node.value}
    if node.plain and node.value in _WORDS:
        return _WORDS[node.value]
    if node.plain and INTEGER.fullmatch(node.value):
        return int(node.value, 0)
    return get_text(node, source, "a value")
