"""`docklock policy ls|show|check|compile`: look at policies and compile them, changing nothing.

Not here: the language (docklock/policy). Exit 0, or SpecError (2) with the place of the mistake.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from docklock.capability import DEFAULT_CAPABILITIES
from docklock.paths import Paths
from docklock.policy.load import compile_source, read_source
from docklock.policy.shipped import find_policy, list_profiles

if TYPE_CHECKING:
    import argparse

    from docklock.policy.decision import Arm, Check
    from docklock.policy.model import Model

OPERATOR_TEXT = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "any": "has"}


def run_policy(argv: list[str], _paths: Paths) -> int:
    """The exit status of `docklock policy ARGV`."""
    options = _make_parser().parse_args(argv)
    verbs = {"ls": _run_ls, "show": _run_show, "check": _run_check, "compile": _run_compile}
    return verbs[options.verb](options)


def _make_parser() -> argparse.ArgumentParser:
    import argparse

    from docklock.policy.machines import MACHINES

    parser = argparse.ArgumentParser("docklock policy", description="Look at and compile policies.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|show|check|compile")
    listing = verbs.add_parser("ls", help="list the policies that come with docklock")
    show = verbs.add_parser("show", help="show what a policy does with each call")
    check = verbs.add_parser("check", help="read a policy and name its first mistake")
    compiling = verbs.add_parser("compile", help="write the seccomp program")
    for one in (show, compiling):
        one.add_argument("name", metavar="NAME|FILE")
        machines = [machine.name for machine in MACHINES]
        one.add_argument("--arch", choices=machines, default=os.uname().machine)
        one.add_argument("--cap-add", action="append", default=[], metavar="CAP|ALL")
        one.add_argument("--cap-drop", action="append", default=[], metavar="CAP|ALL")
    check.add_argument("name", metavar="FILE|NAME")
    for one in (listing, show, check):
        one.add_argument("--format", choices=("text", "json"), default="text")
    compiling.add_argument("-o", "--output", required=True, metavar="FILE", help="- is stdout")
    compiling.add_argument(
        "--format", choices=("raw", "text"), default="raw", help="sock_filter bytes or disassembly"
    )
    return parser


def _run_ls(options: argparse.Namespace) -> int:
    rows = [(name, find_policy(name)) for name in list_profiles()]
    models = [_read_model(path) for _, path in rows]
    if options.format == "json":
        import json

        for (name, path), model in zip(rows, models, strict=True):
            row = {"name": name, "description": model.description, "file": path}
            sys.stdout.write(json.dumps(row) + "\n")
        return 0
    sys.stdout.write(f"{'NAME':12} DESCRIPTION\n")
    for (name, _), model in zip(rows, models, strict=True):
        sys.stdout.write(f"{name:12} {model.description}\n")
    return 0


def _run_check(options: argparse.Namespace) -> int:
    path = find_policy(options.name)
    model = _read_model(path)
    for machine in ("aarch64", "x86_64"):
        compile_source(read_source(path), path, machine, DEFAULT_CAPABILITIES)
    if options.format == "json":
        import json

        sys.stdout.write(json.dumps({"ok": True, "name": model.name, "file": path}) + "\n")
    else:
        sys.stdout.write(f"{path}: policy {model.name}, {len(model.rules)} rules, no mistake\n")
    return 0


def _run_compile(options: argparse.Namespace) -> int:
    path = find_policy(options.name)
    capabilities = get_capabilities(options.cap_add, options.cap_drop)
    compiled = compile_source(read_source(path), path, options.arch, capabilities)
    data = compiled.program
    if options.format == "text":
        from docklock.policy.bpf import format_program, parse_program

        data = format_program(parse_program(data)).encode()
    if options.output == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return 0
    _write_file(options.output, data)
    return 0


def _run_show(options: argparse.Namespace) -> int:
    from docklock.policy.compile import compute_arms
    from docklock.policy.machines import get_machine

    path = find_policy(options.name)
    capabilities = get_capabilities(options.cap_add, options.cap_drop)
    model = _read_model(path)
    compiled = compile_source(read_source(path), path, options.arch, capabilities)
    arms = compute_arms(model, get_machine(options.arch), frozenset(capabilities))
    calls = {one[-1].rule.name: one for one in arms.values()}
    if options.format == "json":
        import json

        row = {
            "name": model.name,
            "description": model.description,
            "digest": compiled.digest.hex(),
            "arch": options.arch,
            "instructions": len(compiled.program) // 8,
            "closed": compiled.closed,
            "calls": {name: [_format_arm(arm) for arm in calls[name]] for name in sorted(calls)},
        }
        sys.stdout.write(json.dumps(row) + "\n")
        return 0
    sys.stdout.write(f"policy       {model.name}: {model.description}\n")
    sys.stdout.write(f"digest       {compiled.digest.hex()}\n")
    sys.stdout.write(f"program      {len(compiled.program) // 8} instructions, {options.arch}\n")
    sys.stdout.write("otherwise    numbers that no table knows and foreign ABIs: closed ENOSYS\n\n")
    _write_calls(calls)
    return 0


def get_capabilities(added: list[str], dropped: list[str]) -> tuple[str, ...]:
    """Docker's default set, less `dropped`, plus `added`; names with or without CAP_, or ALL."""
    held = set(DEFAULT_CAPABILITIES)
    for name in dropped:
        held -= _read_capability(name)
    for name in added:
        held |= _read_capability(name)
    return tuple(sorted(held))


def _read_capability(word: str) -> set[str]:
    from chainlite.errors import SpecError
    from docklock.capability import CAPABILITIES
    from docklock.policy.parse_words import suggest

    name = word.upper()
    if name == "ALL":
        return set(CAPABILITIES)
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in CAPABILITIES:
        raise SpecError(f"no capability is called {word!r}{suggest(name, CAPABILITIES)}")
    return {name}


def _read_model(path: str) -> Model:
    from docklock.policy.inherit import resolve_policy
    from docklock.policy.load import read_base

    return resolve_policy(read_source(path), path, read_base).model


def _write_file(path: str, data: bytes) -> None:
    from chainlite.errors import SpecError

    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SpecError(f"{path}: cannot be written: {reason}; name another file with -o") from None


def _write_calls(calls: dict[str, tuple[Arm, ...]]) -> None:
    """Calls in groups of the same treatment, the largest last."""
    import textwrap

    groups: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(calls):
        groups.setdefault(tuple(_format_arm(arm) for arm in calls[name]), []).append(name)
    for treatment, names in sorted(groups.items(), key=lambda group: (len(group[1]), group[0])):
        sys.stdout.write("; ".join(treatment) + "\n")
        text = textwrap.wrap(" ".join(names), 94, break_on_hyphens=False)
        sys.stdout.write("".join(f"    {line}\n" for line in text))


def _format_arm(arm: Arm) -> str:
    from docklock.policy.names import ERRNOS

    rule = arm.rule
    words = rule.action
    if rule.errno:
        names = sorted(name for name, number in ERRNOS.items() if number == rule.errno)
        words += f" {names[0]}"
    if arm.when:
        words += " if " + " and ".join(_format_check(check) for check in arm.when)
    if arm.unless:
        words += " unless " + " and ".join(_format_check(check) for check in arm.unless)
    return words


def _format_check(check: Check) -> str:
    whole = check.mask in (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
    argument = f"arg{check.argument}" + ("" if whole else f" & {check.mask:#x}")
    return f"{argument} {OPERATOR_TEXT[check.op]} {check.value:#x}"
