"""The least that answers a trapped call from Python: receive, unpack, let it go on.

Run as `python trap.py VICTIM CALL COUNT`: runs VICTIM under a filter that traps CALL alone, and
answers. What it takes is the limit for a gate in Python on this machine: nothing is read of the
caller, decided or written.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import sys
import traceback
from fcntl import ioctl

from docklock.kernel import process, seccomp
from docklock.policy.machines import get_machine

LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000
POLL_ERRORS_MAX = 1000


def make_program(call: str) -> bytes:
    """Trap one number; the caller is of this machine's own architecture."""
    lines = (
        (LOAD, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1, get_machine(os.uname().machine).numbers[call]),
        (RETURN, 0, 0, NOTIFY),
        (RETURN, 0, 0, ALLOW),
    )
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


def run_victim(channel: socket.socket, argv: list[str]) -> None:
    """In the child: the listener goes to the parent before the program begins."""
    process.set_no_new_privs()
    prepared = seccomp.prepare_filter(make_program(argv[1]))
    listener = seccomp.try_install(prepared, seccomp.FLAG_NEW_LISTENER)
    if listener < 0:
        raise seccomp.make_install_error(-listener)
    socket.send_fds(channel, [b"l"], [listener])
    os.close(listener)
    os.execv(argv[0], argv)


def answer(listener: int) -> None:
    """Until the filter has no task left, which RECV reports as an error that lasts."""
    try:
        ioctl(listener, seccomp.NOTIF_SET_FLAGS, seccomp.USER_NOTIF_FD_SYNC_WAKE_UP)
    except OSError:
        pass  # Linux before 6.6
    buffer = mmap.mmap(-1, mmap.PAGESIZE)
    receive, zero = seccomp.make_receiver(listener, buffer, 0), bytes(seccomp.NOTIF_SIZE_BYTES)
    unpack, pack, errors = seccomp.NOTIF.unpack_from, seccomp.NOTIF_RESP.pack, 0
    while errors < POLL_ERRORS_MAX:
        buffer[: seccomp.NOTIF_SIZE_BYTES] = zero
        if receive():
            errors += 1
            continue
        errors, fields = 0, unpack(buffer)
        response = pack(fields[0], 0, 0, seccomp.USER_NOTIF_FLAG_CONTINUE)
        ioctl(listener, seccomp.NOTIF_SEND, response)


def main() -> int:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            run_victim(theirs, sys.argv[1:])
        except Exception:  # noqa: BLE001 - the child says why, and goes
            traceback.print_exc()
        finally:
            os._exit(127)
    theirs.close()
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    answer(fds[0])
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
