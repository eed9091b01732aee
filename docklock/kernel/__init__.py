"""System calls from Python, one small function each; the only room that imports ctypes.

Not here: what they are used for (docklock.plan, docklock.enter, docklock.cgroup, docklock.capture).
"""

from __future__ import annotations
