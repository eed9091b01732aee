"""`docklock policy schema`, `import` and `export`: policies in the formats of others.

Not here: the formats (docklock/policy/schema.py, import_seccomp.py, export_seccomp.py). What an
import leaves out or changes is said on standard error and in the written policy's first lines.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from chainlite.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME_LETTERS_MAX = 64


def run_schema(output: str) -> int:
    """Print the JSON Schema of a policy."""
    from docklock.policy.schema import format_schema

    write_output(output, format_schema().encode())
    return 0


def run_import(path: str, machine: str, name: str, output: str) -> int:
    """A seccomp profile of Docker's or the OCI's, written as a policy."""
    from docklock.document import parse_document
    from docklock.policy.import_seccomp import import_profile
    from docklock.policy.inherit import parse_policy
    from docklock.policy.load import read_source
    from docklock.policy.write import format_policy

    root = parse_document(read_source(path), path)
    name = name or _make_name(path)
    imported = import_profile(root, name, machine, _get_kernel())
    head = (f"Imported from {os.path.basename(path)} for {machine}.", *imported.notes)
    data = format_policy(imported.model, head=head).encode()
    assert parse_policy(data, path) == imported.model
    for note in imported.notes:
        sys.stderr.write(f"{path}: {note}\n")
    write_output(output, data)
    return 0


def run_export(name: str, machine: str, capabilities: Iterable[str], output: str) -> int:
    """A policy, written as the OCI's linux.seccomp."""
    import json

    from docklock.cli.policy_questions import resolve_name
    from docklock.policy.export_seccomp import export_profile
    from docklock.policy.machines import get_machine

    model = resolve_name(name).model
    document = export_profile(model, get_machine(machine), frozenset(capabilities))
    if model.architectures:
        left_out = ", ".join(model.architectures)
        sys.stderr.write(f"{name}: calls of {left_out} are left out, so they stay closed\n")
    write_output(output, (json.dumps(document, indent=1) + "\n").encode())
    return 0


def write_output(path: str, data: bytes) -> None:
    """To a file, or to standard output for `-`. SpecError if the file cannot be written."""
    if path == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SpecError(f"{path}: cannot be written: {reason}; name another file with -o") from None


def _make_name(path: str) -> str:
    """A policy's name from the file's."""
    stem = os.path.basename(path).rpartition(".")[0] or os.path.basename(path)
    letters = [letter if letter.isascii() and letter.isalnum() else "-" for letter in stem.lower()]
    return "".join(letters)[:NAME_LETTERS_MAX]


def _get_kernel() -> tuple[int, int]:
    """Major and minor version of the running kernel."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(letter for letter in minor if letter.isdigit()) or "0")
