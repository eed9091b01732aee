"""The C half of sqlite3 alone behaves as the module does, and leaves functools alone."""

from __future__ import annotations

import subprocess
import sys

from tests.evidence.recording import ROOT

SOURCE = """
import sys
assert "functools" not in sys.modules, sorted(sys.modules)
from docklock.evidence.database import sqlite3
assert "functools" not in sys.modules, "it is loaded for nothing"
db = sqlite3.connect(":memory:", cached_statements=2)
db.execute("CREATE TABLE t (a)")
for number in range(9):
    db.execute("INSERT INTO t VALUES (?)", (number,))
    assert db.execute(f"SELECT {number} FROM t").fetchone() == (number,)
assert db.execute("SELECT sum(a) FROM t").fetchone() == (36,)
db.close()
import functools
assert functools.partial(int, "7")() == 7
assert functools.lru_cache(maxsize=3)(abs)(-2) == 2
import sqlite3 as whole
assert whole.connect(":memory:").execute("SELECT 1").fetchone() == (1,)
"""


def test_sqlite_without_functools_caches_statements_and_spoils_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(ROOT)!r})" + SOURCE],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
