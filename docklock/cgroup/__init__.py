"""Limits, accounting, freezing and killing of containers on cgroup v1, v2 and hybrid hosts.

Doors: hierarchy (what this host has), driver (the cgroup of one container).
Not here: what the limits are (docklock.spec.Resources).
"""

from __future__ import annotations
