"""The simulator over a changed protocol: a second copy of the modules, one of them transformed.

Not here: which changes (mutants). The copy is made of sources in memory; no file is written, and
the modules that everyone else has stay as they are. Invariant: what is shared with the copy (codec,
keys, errors, hashes) is nothing that a mutant changes, nor holds a class of one that it does.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

TOP = Path(__file__).resolve().parent.parent.parent
COPIED = ("chainlite.consensus", "chainlite.ledger", "chainlite.proofs", "tests.sim")
KEPT = ("tests.sim.universe", "tests.sim.mutants")


class Universe(NamedTuple):
    """A copy of the simulator, and the protocol that it runs."""

    simulate: Callable[..., Any]
    make_plan: Callable[..., Any]
    violation: type[AssertionError]
    protocol: ModuleType


def get_path(module: str) -> Path:
    """Where the module's source is."""
    return TOP / (module.replace(".", "/") + ".py")


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the one changed module, and runs the other source in its place."""

    def __init__(self, module: str, source: str) -> None:
        self._module = module
        self._code = compile(source, f"<{module}, changed>", "exec", dont_inherit=True)

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._module:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


def load(module: str, source: str) -> Universe:
    """A copy of the simulator in which `module` has another source."""
    changed = _Changed(module, source)
    before = {name: found for name, found in sys.modules.items() if _is_copied(name)}
    for name in before:
        del sys.modules[name]
    sys.meta_path.insert(0, changed)
    try:
        world = importlib.import_module("tests.sim.world")
        plan = importlib.import_module("tests.sim.plan")
        protocol = importlib.import_module("chainlite.consensus.qbft")
        return Universe(world.simulate, plan.make_plan, world.Violation, protocol)
    finally:
        sys.meta_path.remove(changed)
        for name in [name for name in sys.modules if _is_copied(name)]:
            del sys.modules[name]
        sys.modules.update(before)
        for name, found in before.items():  # a package's attributes name its modules again
            parent, _, child = name.rpartition(".")
            if parent in sys.modules:
                setattr(sys.modules[parent], child, found)


def _is_copied(name: str) -> bool:
    return name not in KEPT and any(
        name == package or name.startswith(package + ".") for package in COPIED
    )
