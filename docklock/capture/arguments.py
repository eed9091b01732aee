"""Read what pointer arguments of a notified call point to: paths, argument vectors, addresses.

Everything here is claimed: the container can change it while we read.
"""

from __future__ import annotations

import struct

from chainlite.lean import TYPE_CHECKING
from docklock.evidence.attempts import encode_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from docklock.kernel.memory import CallerMemory

PATH_BYTES_MAX = 4096
STRING_BYTES_MAX = 256
ARGV_COUNT_MAX = 256
ARGV_BYTES_MAX = 16_384
SOCKADDR_BYTES_MAX = 128
POINTERS_PER_READ = 16
_POINTERS = {"argv": struct.Struct("=Q"), "argv32": struct.Struct("=I")}
UNREADABLE = b"\0unreadable"  # no path, string or address begins with two such bytes

Values = tuple[tuple[str, bytes], ...]


def read_values(
    memory: CallerMemory,
    strings: tuple[tuple[int, str], ...],
    tid: int,
    args: tuple[int, ...],
    masks: tuple[str, ...] = (),
) -> Values:
    """(name, bytes) for each (argument number, kind) of a rule; UNREADABLE where memory is not.

    The name is the kind; a second one of its kind has its argument's number, as in path, path1,
    also when the first is masked. `argv32` is the argv of a 32-bit caller.
    """
    found: list[tuple[str, bytes]] = []
    for number, kind in strings:
        address = args[number]
        if kind in ("argv", "argv32"):
            value = read_argv(memory, tid, address, _POINTERS[kind])
            kind = "argv"
        elif kind == "sockaddr":
            size = min(args[number + 1] & 0xFFFFFFFF, SOCKADDR_BYTES_MAX)
            value = memory.read_memory(tid, address, size) if address and size else b""
        else:
            size_max = PATH_BYTES_MAX if kind == "path" else STRING_BYTES_MAX
            value = memory.read_string(tid, address, size_max) if address else b""
        is_second = kind in masks or any(kind == known for known, _ in found)
        name = f"{kind}{number}" if is_second else kind
        found.append((name, UNREADABLE if value is None else value))
    return tuple(found)


def make_reader(
    memory: CallerMemory, strings: tuple[tuple[int, str], ...], masks: tuple[str, ...] = ()
) -> Callable[[int, tuple[int, ...]], bytes]:
    """A function of tid and arguments: what read_values finds, encoded for an attempt."""
    if len(strings) != 1 or strings[0][1] not in ("path", "string") or masks:
        return lambda tid, args: encode_values(read_values(memory, strings, tid, args, masks))
    ((number, kind),) = strings
    size_max = PATH_BYTES_MAX if kind == "path" else STRING_BYTES_MAX
    head, read_string = encode_values(((kind, b""),))[:-4], memory.read_string

    def read_one(tid: int, args: tuple[int, ...]) -> bytes:
        """The most frequent case, without the loop."""
        address = args[number]
        value = read_string(tid, address, size_max) if address else b""
        if value is None:
            value = UNREADABLE
        return head + len(value).to_bytes(4, "big") + value

    return read_one


def read_argv(memory: CallerMemory, tid: int, address: int, pointer: struct.Struct) -> bytes | None:
    """The vector's strings, each ended by NUL; cut at ARGV_BYTES_MAX and ARGV_COUNT_MAX."""
    strings: list[bytes] = []
    size = 0
    while address and len(strings) < ARGV_COUNT_MAX:
        block = memory.read_memory(tid, address, POINTERS_PER_READ * pointer.size)
        count = len(block) // pointer.size
        if not count:
            return None
        for (place,) in pointer.iter_unpack(block[: count * pointer.size]):
            if not place or size >= ARGV_BYTES_MAX or len(strings) >= ARGV_COUNT_MAX:
                return b"".join(strings)
            string = memory.read_string(tid, place, ARGV_BYTES_MAX - size)
            if string is None:
                return None
            strings.append(string + b"\0")
            size += len(string) + 1
        address += count * pointer.size
    return b"".join(strings)
