"""A classic BPF interpreter as seccomp runs it, for tests. Knows nothing of our assembler.

Source: Linux net/core/filter.c (bpf_check_classic), kernel/seccomp.c (seccomp_check_filter).
"""

from __future__ import annotations

import struct

INSTRUCTION = struct.Struct("<HBBI")
DATA = struct.Struct("<IIQ6Q")  # struct seccomp_data
X86_64 = 0xC000003E
AARCH64 = 0xC00000B7
ALLOW, NOTIFY, ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000


def load(program: bytes) -> list[tuple[int, int, int, int]]:
    """The program, checked as the kernel checks it."""
    lines = list(INSTRUCTION.iter_unpack(program))
    assert 1 <= len(lines) <= 4096
    assert lines[-1][0] in (0x06, 0x16), "the last instruction must return"
    for at, (code, jt, jf, k) in enumerate(lines):
        if code & 7 == 5:
            targets = [k] if code == 0x05 else [jt, jf]
            assert all(at + 1 + target < len(lines) for target in targets), f"jump out at {at}"
        if code == 0x20:
            assert k % 4 == 0
            assert k < DATA.size
    return lines


def run(
    lines: list[tuple[int, int, int, int]], arch: int, nr: int, args: tuple[int, ...] = (0,) * 6
) -> int:
    """What the program returns for this call."""
    data = DATA.pack(nr & 0xFFFFFFFF, arch, 0, *args)
    at = accumulator = index = 0
    memory = [0] * 16
    while True:
        code, jt, jf, k = lines[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif code == 0x54:
            accumulator &= k
        elif code == 0x02:
            memory[k] = accumulator
        elif code == 0x60:
            accumulator = memory[k]
        elif code == 0x07:
            index = accumulator
        elif code == 0x87:
            accumulator = index
        elif code == 0x05:
            at += k
        elif code in (0x15, 0x25, 0x35, 0x45):
            held = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: accumulator & k != 0,
            }[code]
            at += jt if held else jf
        elif code == 0x06:
            return k
        elif code == 0x16:
            return accumulator
        else:
            raise AssertionError(f"instruction {at - 1}: code {code:#x}")
