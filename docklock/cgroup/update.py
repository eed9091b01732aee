"""Change the limits of a cgroup in which processes run. Loaded when it is asked for.

Invariant: after a failure all limits are as they were
(tests/e2e/test_update.py::test_what_the_kernel_refuses_changes_nothing).
Not here: which values (docklock.cgroup.limits), a new cgroup's limits (docklock.cgroup.driver).
"""

from __future__ import annotations

import errno

from chainlite.lean import TYPE_CHECKING
from docklock.cgroup.driver import choose_file, enable_controllers, read_file, write_file
from docklock.cgroup.hierarchy import detect_hierarchies
from docklock.cgroup.limits import compute_settings
from docklock.errors import KernelError

if TYPE_CHECKING:
    from docklock.cgroup.driver import Cgroup
    from docklock.cgroup.limits import Setting
    from docklock.spec import Resources


def update(cgroup: Cgroup, old: Resources, new: Resources) -> None:
    """Change what differs between `old`, which holds now, and `new`. KernelError undoes it."""
    changed: list[tuple[str, str, str]] = []
    try:
        for controller, path, value in _plan(cgroup, old, new):
            was = read_file(path).strip()
            write_file(path, value, controller, "change the container's limits")
            changed.append((controller, path, was))
    except KernelError:
        for controller, path, was in reversed(changed):
            write_file(path, was or "\n", controller, "restore the container's limits")
        raise


def _plan(cgroup: Cgroup, old: Resources, new: Resources) -> list[tuple[str, str, str]]:
    """(controller, file, value) in the order in which the kernel takes them."""
    trees = {tree.name: tree for tree in detect_hierarchies()}
    missing = {one.controller for one in _compare(old, new, 1)}
    writes = []
    for name, path in cgroup.dirs:
        tree = trees[name]
        changes = [one for one in _compare(old, new, tree.version) if one[0] in tree.controllers]
        missing -= set(tree.controllers)
        if changes and tree.version == 2:
            enable_controllers(tree, path, tuple({one.controller for one in changes}))
        for one in changes:
            controller, file, value = choose_file(one, path)
            writes.append((controller, f"{path}/{file}", value))
    if missing:
        name = min(missing)
        hint = f"it was started without {name}: stop it, update it, start it"
        raise KernelError(errno.ENOTSUP, "write", f"change {name} for the container", hint)
    return writes


def _compare(old: Resources, new: Resources, version: int) -> list[Setting]:
    held = compute_settings(old, version)
    changes = [one for one in compute_settings(new, version) if one not in held]
    if (new.memory_max_bytes or 0) > (old.memory_max_bytes or 0):
        changes.sort(key=lambda one: "memsw" not in one.file)  # v1: never below the memory's
    return changes
