"""The compiled shipped policies as text: python -m tests.policy.golden [--write].

Needs yaml and the standard library only, so that any interpreter can print it.
"""

from __future__ import annotations

import os
import sys

from docklock.capability import CAPABILITIES, DEFAULT_CAPABILITIES
from docklock.policy.bpf import format_program, parse_program
from docklock.policy.load import COMPILER_VERSION, compile_source, read_source
from docklock.policy.shipped import find_policy

DIRECTORY = os.path.join(os.path.dirname(os.path.dirname(__file__)), "vectors", "policy")
CASES = tuple(
    (policy, held, machine)
    for policy, held in (
        ("default", "docker"),
        ("default", "all"),
        ("observe", "all"),
        ("strict", "docker"),
        ("network-service", "docker"),
        ("batch", "docker"),
    )
    for machine in ("aarch64", "x86_64")
) + (("i386", "docker", "x86_64"),)


def get_path(case: tuple[str, str, str]) -> str:
    return os.path.join(DIRECTORY, f"{case[0]}-{case[1]}.{case[2]}.txt")


def format_case(case: tuple[str, str, str]) -> str:
    """Header, then one line an instruction: its bytes in hexadecimal and what they mean."""
    policy, held, machine = case
    capabilities = CAPABILITIES if held == "all" else DEFAULT_CAPABILITIES
    own = os.path.join(DIRECTORY, f"{policy}.yaml")
    path = own if os.path.exists(own) else find_policy(policy)
    compiled = compile_source(read_source(path), path, machine, capabilities)
    meanings = format_program(parse_program(compiled.program)).splitlines()
    lines = [
        f"# policy {policy}, capabilities {held}, {machine}, compiler {COMPILER_VERSION}",
        f"# digest {compiled.digest.hex()}",
        f"# closed {' '.join(compiled.closed)}",
    ]
    for i, meaning in enumerate(meanings):
        lines.append(f"{compiled.program[8 * i : 8 * i + 8].hex()} {meaning}")
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    for case in CASES:
        if "--write" in sys.argv:
            with open(get_path(case), "w", encoding="ascii") as file:
                file.write(format_case(case))
        else:
            sys.stdout.write(format_case(case))


if __name__ == "__main__":
    main()
