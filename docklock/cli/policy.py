"""`docklock policy ls|show|check|compile|...`: look at policies and compile them, changing nothing.

Not here: the language (docklock/policy); explain and diff (policy_questions.py); schema, import
and export (policy_formats.py). Exit 0, or SpecError (2) with the place of the mistake; `diff` has
1 for a looser policy.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from docklock.capability import DEFAULT_CAPABILITIES
from docklock.paths import Paths
from docklock.policy.load import compile_source, read_source
from docklock.policy.shipped import find_policy, list_profiles
from docklock.screen import wrap

if TYPE_CHECKING:
    import argparse

    from docklock.cli.arguments import Parser
    from docklock.policy.decision import Arm, Check
    from docklock.policy.model import Model

OPERATOR_TEXT = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "any": "has"}

# verb -> what it does, an example
VERBS = {
    "ls": ("list the policies that come with docklock", "docklock policy ls"),
    "show": ("show what a policy does with each call", "docklock policy show --resolved strict"),
    "check": ("read a policy and name its first mistake", "docklock policy check web.yaml"),
    "compile": ("write the seccomp program", "docklock policy compile -o default.bpf default"),
    "explain": (
        "which rule decides a call, and why",
        "docklock policy explain --policy strict mount",
    ),
    "diff": (
        "what a policy changes; exit 1 if it is looser",
        "docklock policy diff default web.yaml",
    ),
    "schema": ("print the JSON Schema of a policy", "docklock policy schema -o policy.schema.json"),
    "import": (
        "make a policy of a seccomp profile in JSON",
        "docklock policy import -o web.yaml profile.json",
    ),
    "export": (
        "write a policy as the OCI's linux.seccomp",
        "docklock policy export -o seccomp.json strict",
    ),
}


def run_policy(argv: list[str], _paths: Paths) -> int:
    """The exit status of `docklock policy ARGV`."""
    options = _make_parser().parse_args(argv)
    verbs = {
        "ls": _run_ls,
        "show": _run_show,
        "check": _run_check,
        "compile": _run_compile,
        "explain": _run_explain,
        "diff": _run_diff,
        "schema": _run_schema,
        "import": _run_import,
        "export": _run_export,
    }
    return verbs[options.verb](options)


def _make_parser() -> Parser:
    from docklock.cli.arguments import Parser
    from docklock.policy.machines import ARCHITECTURES, MACHINES

    parser = Parser("docklock policy", description="Look at and compile policies.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    made = [
        verbs.add_parser(name, help=about, examples=(example,))
        for name, (about, example) in VERBS.items()
    ]
    listing, show, check, compiling, explain, diff, schema, importing, exporting = made
    machines = [machine.name for machine in MACHINES]
    of_machine = "for this machine (the one it runs on)"
    for one in (show, compiling, exporting):
        one.add_argument("name", metavar="NAME|FILE")
    for one in (show, compiling, diff, exporting, importing):
        one.add_argument("--arch", choices=machines, default=os.uname().machine, help=of_machine)
    capabilities: dict[str, Any] = {"action": "append", "default": [], "metavar": "CAP|ALL"}
    for one in (show, compiling, explain, diff, exporting):
        one.add_argument("--cap-add", help="as with run", **capabilities)
        one.add_argument("--cap-drop", help="as with run", **capabilities)
    show.add_argument("--resolved", action="store_true", help="as one document, nothing inherited")
    check.add_argument("name", metavar="FILE|NAME")
    explain.add_argument(
        "--policy", default="default", metavar="NAME|FILE", help="of this policy (default)"
    )
    explain.add_argument(
        "--arch",
        choices=[*machines, *ARCHITECTURES],
        default=os.uname().machine,
        help="of a call of this machine (the one it runs on)",
    )
    explain.add_argument("words", nargs="+", metavar="SYSCALL [ARG...]")
    diff.add_argument("names", nargs=2, metavar="NAME|FILE")
    importing.add_argument("name", metavar="FILE.json")
    importing.add_argument("--name", dest="policy", default="", help="the new policy's name")
    for one in (listing, show, check, explain, diff):
        one.add_argument(
            "--format", choices=("text", "json"), default="text", help="json: one object"
        )
    compiling.add_argument("-o", "--output", required=True, metavar="FILE", help="- is stdout")
    for one in (schema, importing, exporting):
        one.add_argument("-o", "--output", default="-", metavar="FILE", help="- is stdout")
    compiling.add_argument(
        "--format", choices=("raw", "text"), default="raw", help="sock_filter bytes or disassembly"
    )
    return parser


def _run_explain(options: argparse.Namespace) -> int:
    from docklock.cli.policy_questions import run_explain

    return run_explain(
        options.policy,
        options.arch,
        options.words,
        get_capabilities(options.cap_add, options.cap_drop),
        is_json=options.format == "json",
    )


def _run_diff(options: argparse.Namespace) -> int:
    from docklock.cli.policy_questions import run_diff

    held = get_capabilities(options.cap_add, options.cap_drop)
    return run_diff(options.names, options.arch, held, is_json=options.format == "json")


def _run_schema(options: argparse.Namespace) -> int:
    from docklock.cli.policy_formats import run_schema

    return run_schema(options.output)


def _run_import(options: argparse.Namespace) -> int:
    from docklock.cli.policy_formats import run_import

    return run_import(options.name, options.arch, options.policy, options.output)


def _run_export(options: argparse.Namespace) -> int:
    from docklock.cli.policy_formats import run_export

    held = get_capabilities(options.cap_add, options.cap_drop)
    return run_export(options.name, options.arch, held, options.output)


def _run_ls(options: argparse.Namespace) -> int:
    rows = [(name, find_policy(name)) for name in list_profiles()]
    models = [_read_model(name) for name, _ in rows]
    if options.format == "json":
        import json

        for (name, path), model in zip(rows, models, strict=True):
            row = {"name": name, "description": model.description, "file": path}
            sys.stdout.write(json.dumps(row) + "\n")
        return 0
    sys.stdout.write(f"{'NAME':16} DESCRIPTION\n")
    for (name, _), model in zip(rows, models, strict=True):
        sys.stdout.write(wrap(f"{name:16} {model.description}", 17) + "\n")
    return 0


def _run_check(options: argparse.Namespace) -> int:
    path = find_policy(options.name)
    model = _read_model(options.name)
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
    from docklock.cli.policy_formats import write_output

    write_output(options.output, data)
    return 0


def _run_show(options: argparse.Namespace) -> int:
    from docklock.policy.compile import compute_arms
    from docklock.policy.machines import get_machine

    if options.resolved:
        return _run_resolved(options)
    path = find_policy(options.name)
    capabilities = get_capabilities(options.cap_add, options.cap_drop)
    model = _read_model(options.name)
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


def _run_resolved(options: argparse.Namespace) -> int:
    """The policy with what it inherits, as one document; each rule says where it is from."""
    from docklock.cli.policy_questions import resolve_name
    from docklock.policy.model import encode_model
    from docklock.policy.write import format_policy

    resolved = resolve_name(options.name)
    if options.format == "json":
        sys.stdout.write(encode_model(resolved.model).decode())
        return 0
    chain = ", ".join(one.name for one in resolved.documents)
    notes = tuple(f"{one.policy}, line {one.line}" for one in resolved.origins)
    head = (f"Made of {chain}.",)
    sys.stdout.write(format_policy(resolved.model, head=head, notes=notes))
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


def _read_model(name: str) -> Model:
    from docklock.cli.policy_questions import resolve_name

    return resolve_name(name).model


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
