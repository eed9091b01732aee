"""Print the entries of requirements-core.lock that running docklock needs: no build tools.

Usage: python core_lock.py, in an environment that holds the core lock and docklock itself.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

LOCK = Path(__file__).resolve().parent.parent / "requirements-core.lock"


def get_names(root: str) -> set[str]:
    """The distributions that `root` requires, no extras, and what they require."""
    names: set[str] = set()
    todo = list(metadata.requires(root) or ())
    while todo:
        wanted = Requirement(todo.pop())
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in names or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        names.add(name)
        todo += metadata.requires(name) or ()
    return names


def main() -> None:
    """Print them, or end with what is missing."""
    names = get_names("docklock")
    entries = re.split(r"^(?=[a-z0-9])", LOCK.read_text(), flags=re.MULTILINE)[1:]
    kept = [entry for entry in entries if entry.split("==")[0] in names]
    if len(kept) != len(names):
        sys.exit(f"{LOCK.name} lacks one of {sorted(names)}")
    sys.stdout.write("".join(kept))


if __name__ == "__main__":
    main()
