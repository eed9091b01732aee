"""The list of devices a cgroup may use: lines for v1, a BPF program for v2. Pure.

On v1 the kernel applies rules as they are written; the v2 program tries the same rules from the
last to the first, so that on both the last rule that matches decides. Not here: bpf(2)
(docklock.kernel.bpf). Source: cgroup-v1/devices.rst, linux/bpf.h struct bpf_cgroup_dev_ctx.
"""

from __future__ import annotations

import struct

from docklock.cgroup.limits import Setting
from docklock.spec import DeviceRule

_INSTRUCTION = struct.Struct("<BBhi")
# access_type is access << 16 | type: BPF_DEVCG_ACC_MKNOD 1, READ 2, WRITE 4; BLOCK 1, CHAR 2.
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ALL_ACCESS = 7
_KINDS = {"b": 1, "c": 2}
_LDX_W, _MOV_K, _MOV_X, _AND_K, _RSH_K = 0x61, 0xB4, 0xBC, 0x54, 0x74
_JNE_K, _JEQ_K, _EXIT = 0x56, 0x16, 0x95


def compute_v1_settings(rules: tuple[DeviceRule, ...]) -> tuple[Setting, ...]:
    """The writes to devices.allow and devices.deny, in order."""
    settings = []
    for allow, kind, major, minor, access in rules:
        numbers = f"{_encode_number(major)}:{_encode_number(minor)}"
        value = "a" if kind == "a" else f"{kind} {numbers} {access}"
        settings.append(Setting("devices", f"devices.{'allow' if allow else 'deny'}", value))
    return tuple(settings)


def assemble_v2_program(rules: tuple[DeviceRule, ...]) -> bytes:
    """The BPF_PROG_TYPE_CGROUP_DEVICE program: returns 1 to allow, 0 to deny."""
    code = [
        _encode(_LDX_W, dst=2, src=1),  # r2 = ctx->access_type
        _encode(_MOV_X, dst=3, src=2),
        _encode(_RSH_K, dst=3, value=16),  # r3 = wanted access
        _encode(_AND_K, dst=2, value=0xFFFF),  # r2 = type
        _encode(_LDX_W, dst=4, src=1, offset=4),  # r4 = major
        _encode(_LDX_W, dst=5, src=1, offset=8),  # r5 = minor
    ]
    for rule in reversed(rules):
        code += _assemble_rule(rule)
        if rule.kind == "a":
            break
    else:
        code += [_encode(_MOV_K, value=0), _encode(_EXIT)]
    return b"".join(code)


def _assemble_rule(rule: DeviceRule) -> list[bytes]:
    """Conditions, each of which jumps behind the verdict when it fails, then the verdict."""
    allow, kind, major, minor, access = rule
    code = [_encode(_MOV_K, value=int(allow)), _encode(_EXIT)]
    if kind == "a":
        return code
    for register, number in ((5, minor), (4, major), (2, _KINDS[kind])):
        if number >= 0:
            code.insert(0, _encode(_JNE_K, dst=register, value=number, offset=len(code)))
    mask = sum(_ACCESS[letter] for letter in access)
    if mask != _ALL_ACCESS:
        # An allowed access asks for nothing outside the mask; a denied one for something in it.
        bits, jump = (_ALL_ACCESS & ~mask, _JNE_K) if allow else (mask, _JEQ_K)
        code.insert(0, _encode(jump, dst=1, offset=len(code)))
        code.insert(0, _encode(_AND_K, dst=1, value=bits))
        code.insert(0, _encode(_MOV_X, dst=1, src=3))
    return code


def _encode(opcode: int, *, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return _INSTRUCTION.pack(opcode, dst | src << 4, offset, value)


def _encode_number(number: int) -> str:
    return "*" if number < 0 else str(number)
