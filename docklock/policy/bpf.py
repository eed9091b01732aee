"""A small assembler for classic BPF as seccomp uses it: instructions, labels, bytes.

Not here: what the program decides (compile.py), loading it (docklock/kernel). Pure.
Invariants: jumps go forward only (the kernel demands it); conditional jumps reach 255 instructions,
longer ones get a trampoline behind them; the same items always give the same bytes.
Source: Linux include/uapi/linux/{filter,seccomp,bpf_common}.h; net/core/filter.c.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

INSTRUCTIONS_MAX = 4096  # BPF_MAXINSNS
JUMP_MAX = 255

LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
JA = 0x05
JEQ = 0x15
JGT = 0x25
JGE = 0x35
JSET = 0x45
AND = 0x54
RET = 0x06

RET_ALLOW = 0x7FFF0000
RET_USER_NOTIF = 0x7FC00000
RET_ERRNO = 0x00050000

OFFSET_NR = 0  # struct seccomp_data
OFFSET_ARCH = 4
OFFSET_ARGS = 16

_INSTRUCTION = struct.Struct("<HBBI")  # struct sock_filter, both our machines are little-endian
_MNEMONICS = {JEQ: "jeq", JGT: "jgt", JGE: "jge", JSET: "jset"}


class Item(NamedTuple):
    """One instruction, or a place (`code` < 0). `jt` and `jf` are labels; None is the next one."""

    code: int
    k: int = 0
    jt: str | None = None
    jf: str | None = None


class Instruction(NamedTuple):
    """struct sock_filter."""

    code: int
    jt: int
    jf: int
    k: int


def place(label: str) -> Item:
    """Mark the next instruction with `label`."""
    return Item(-1, 0, label)


def assemble(items: list[Item]) -> tuple[Instruction, ...]:
    """Resolve labels; conditional jumps beyond 255 instructions are made through a `ja`."""
    far: set[tuple[int, bool]] = set()
    while True:
        places = _compute_places(items, far)
        longer = _find_far(items, places, far)
        if not longer:
            return tuple(_emit(items, places, far))
        far |= longer


def encode_program(program: tuple[Instruction, ...]) -> bytes:
    """The bytes of an array of struct sock_filter."""
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


def parse_program(data: bytes) -> tuple[Instruction, ...]:
    """The inverse of encode_program. ValueError if `data` is no whole number of instructions."""
    if len(data) % _INSTRUCTION.size:
        raise ValueError(f"{len(data)} bytes are no whole number of 8-byte instructions")
    return tuple(Instruction(*fields) for fields in _INSTRUCTION.iter_unpack(data))


def format_program(program: tuple[Instruction, ...]) -> str:
    """Disassembly, one line an instruction, jump targets as absolute line numbers."""
    lines = (f"{i:4}  {_format_instruction(i, one)}" for i, one in enumerate(program))
    return "".join(line + "\n" for line in lines)


def _compute_places(items: list[Item], far: set[tuple[int, bool]]) -> dict[str, int]:
    places: dict[str, int] = {}
    at = 0
    for i, item in enumerate(items):
        if item.code < 0:
            assert item.jt is not None
            assert item.jt not in places, f"label {item.jt} placed twice"
            places[item.jt] = at
        else:
            at += 1 + ((i, True) in far) + ((i, False) in far)
    return places


def _find_far(
    items: list[Item], places: dict[str, int], far: set[tuple[int, bool]]
) -> set[tuple[int, bool]]:
    """Conditional jumps that do not reach, as (item index, is the true side)."""
    longer = set()
    at = 0
    for i, item in enumerate(items):
        if item.code < 0:
            continue
        if item.code in _MNEMONICS:
            for side, label in ((True, item.jt), (False, item.jf)):
                if label is None or (i, side) in far:
                    continue
                if places[label] - at - 1 > JUMP_MAX:
                    longer.add((i, side))
        at += 1 + ((i, True) in far) + ((i, False) in far)
    return longer


def _emit(
    items: list[Item], places: dict[str, int], far: set[tuple[int, bool]]
) -> list[Instruction]:
    out: list[Instruction] = []
    for i, item in enumerate(items):
        if item.code < 0:
            continue
        at = len(out)
        if item.code == JA:
            out.append(Instruction(JA, 0, 0, _compute_jump(places, item.jt, at)))
        elif item.code in _MNEMONICS:
            out.extend(_emit_conditional(i, item, at, places, far))
        else:
            out.append(Instruction(item.code, 0, 0, item.k))
    return out


def _emit_conditional(
    i: int, item: Item, at: int, places: dict[str, int], far: set[tuple[int, bool]]
) -> list[Instruction]:
    """The jump, then a trampoline for each side that needs one: true first, then false."""
    trampolines: list[Instruction] = []
    sides = []
    count = ((i, True) in far) + ((i, False) in far)
    for side, label in ((True, item.jt), (False, item.jf)):
        if label is None:
            sides.append(count)
        elif (i, side) in far:
            sides.append(len(trampolines))
            behind = at + 1 + len(trampolines)
            trampolines.append(Instruction(JA, 0, 0, _compute_jump(places, label, behind)))
        else:
            sides.append(_compute_jump(places, label, at))
    return [Instruction(item.code, sides[0], sides[1], item.k), *trampolines]


def _compute_jump(places: dict[str, int], label: str | None, at: int) -> int:
    assert label is not None
    distance = places[label] - at - 1
    assert distance >= 0, f"jump back to {label}"
    return distance


def _format_instruction(at: int, one: Instruction) -> str:
    if one.code == LOAD:
        return f"ld   [{one.k}]{_name_offset(one.k)}"
    if one.code == AND:
        return f"and  #{one.k:#x}"
    if one.code == JA:
        return f"ja   {at + 1 + one.k}"
    if one.code == RET:
        return f"ret  {_name_return(one.k)}"
    if one.code in _MNEMONICS:
        text = f"{_MNEMONICS[one.code]:4} #{one.k:#x}"
        return f"{text}, {at + 1 + one.jt}, {at + 1 + one.jf}"
    return f".insn {one.code:#x}, {one.jt}, {one.jf}, {one.k:#x}"


def _name_offset(offset: int) -> str:
    if offset < OFFSET_ARGS:
        return {OFFSET_NR: "  ; nr", OFFSET_ARCH: "  ; arch"}.get(offset, "")
    index, rest = divmod(offset - OFFSET_ARGS, 8)
    return f"  ; args[{index}] {'high' if rest else 'low'}"


def _name_return(value: int) -> str:
    names = {RET_ALLOW: "allow", RET_USER_NOTIF: "user_notif"}
    if value & 0xFFFF0000 == RET_ERRNO:
        return f"errno {value & 0xFFFF}"
    return names.get(value, f"{value:#x}")
