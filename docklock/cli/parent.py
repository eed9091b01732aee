"""`--parent PID`: a command that is somebody's child ends with that process."""

from __future__ import annotations

from docklock.cli.options import UsageError


def read_parent(text: str | None, command: str) -> int:
    """The process that this one ends with, by the kernel's hand should it be killed; 0 for none."""
    parent = text or "0"
    if not parent.isdigit():
        raise UsageError(f"docklock {command}: --parent takes a process id")
    if int(parent):
        import signal

        from docklock.kernel.process import set_death_signal

        set_death_signal(signal.SIGTERM)
    return int(parent)
