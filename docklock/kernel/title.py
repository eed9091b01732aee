"""A process's own words in `ps`: a fork of a command would show the command's.

Source: proc(5), /proc/pid/stat fields 48 and 49 (arg_start, arg_end), /proc/pid/cmdline.
"""

from __future__ import annotations

import os

_ARG_START = 48 - 3  # fields counted from 1; those after the command's name begin at 3


def set_title(text: str) -> None:
    """Write `text` over the process's arguments, cut to their room."""
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    start, end = (int(field) for field in fields[_ARG_START : _ARG_START + 2])
    room = end - start
    memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(memory, text.encode()[: room - 1].ljust(room, b"\0"), start)
    finally:
        os.close(memory)
