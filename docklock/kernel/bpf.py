"""bpf(2): load a device program and attach it to a cgroup v2 directory.

Not here: tracing programs; the device list itself (docklock.cgroup.devices).
Source: bpf(2), include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import os
import struct

from docklock.kernel.call import Buffer, get_address, make_buffer, make_error, syscall, try_syscall

PROG_LOAD = 5
PROG_ATTACH = 8
PROG_TYPE_CGROUP_DEVICE = 15
ATTACH_CGROUP_DEVICE = 6
FLAG_ALLOW_MULTI = 2
# struct bpf_insn: opcode, dst | src << 4, offset, immediate.
INSTRUCTION = struct.Struct("<BBhi")
_LOG_BYTES = 65536


def load_device_program(program: bytes) -> int:
    """Load a BPF_PROG_TYPE_CGROUP_DEVICE program; returns its descriptor."""
    fd = _try_load(program, b"")
    if fd >= 0:
        return fd
    # Once more, for the verifier's words: a log that is too short would fail a good program.
    log = make_buffer(bytes(_LOG_BYTES))
    _try_load(program, log)
    error = make_error(-fd, "bpf", "load the device program")
    said = log.raw.split(b"\0", 1)[0].decode(errors="replace").strip()
    error.hint = f"{error.hint}; the verifier says: {said}" if said else error.hint
    raise error


def _try_load(program: bytes, log: Buffer | bytes) -> int:
    body, license_name = make_buffer(program), make_buffer(b"GPL\0")
    attributes = struct.pack(
        "=IIQQIIQII",
        PROG_TYPE_CGROUP_DEVICE,
        len(program) // INSTRUCTION.size,
        get_address(body),
        get_address(license_name),
        1 if log else 0,
        len(log),
        0 if isinstance(log, bytes) else get_address(log),
        0,
        0,
    )
    return try_syscall("bpf", PROG_LOAD, make_buffer(attributes), len(attributes))


def attach_device_program(cgroup: str, program_fd: int) -> None:
    """Attach the program to the cgroup directory `cgroup`."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        data = struct.pack("=IIII", fd, program_fd, ATTACH_CGROUP_DEVICE, FLAG_ALLOW_MULTI)
        step = f"attach the device program to {cgroup}"
        syscall("bpf", step, PROG_ATTACH, make_buffer(data), len(data))
    finally:
        os.close(fd)
