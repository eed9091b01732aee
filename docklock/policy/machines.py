"""The machines a policy compiles for, and the other architectures that their kernels also run:
audit number, call numbers, foreign number spaces."""

from __future__ import annotations

from typing import NamedTuple

from chainlite.errors import SpecError
from docklock.policy.syscalls_aarch64 import NUMBERS as NUMBERS_AARCH64
from docklock.policy.syscalls_i386 import NUMBERS as NUMBERS_I386
from docklock.policy.syscalls_x86_64 import NUMBERS as NUMBERS_X86_64


class Machine(NamedTuple):
    """`foreign_from` is the first number of another ABI under the same audit number (x32), or 0."""

    name: str
    audit: int
    numbers: dict[str, int]
    foreign_from: int


MACHINES: tuple[Machine, ...] = (
    Machine("aarch64", 0xC00000B7, NUMBERS_AARCH64, 0),
    Machine("x86_64", 0xC000003E, NUMBERS_X86_64, 0x40000000),
)
# What `architectures:` may add, and the machine whose kernel runs it; elsewhere it adds nothing.
ARCHITECTURES: dict[str, tuple[str, Machine]] = {
    "i386": ("x86_64", Machine("i386", 0x40000003, NUMBERS_I386, 0)),
}


def get_machine(name: str) -> Machine:
    """The machine called `name` as uname -m spells it."""
    for machine in MACHINES:
        if machine.name == name:
            return machine
    known = ", ".join(machine.name for machine in MACHINES)
    raise SpecError(f"no policy can be compiled for machine {name!r}: choose one of {known}")


def is_syscall(name: str) -> bool:
    """Whether any machine knows the call; one that this machine lacks needs no rule on it."""
    return any(name in machine.numbers for machine in MACHINES)


def find_architecture(name: str) -> str:
    """The added architecture that alone knows the call, or nothing."""
    for architecture, (_, machine) in ARCHITECTURES.items():
        if name in machine.numbers and not is_syscall(name):
            return architecture
    return ""
