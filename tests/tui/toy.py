"""A source that is a small host in memory: acts change it, calls can be held and made to fail.

For what a saved file cannot show: something is done, a part does not answer, or it raises.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from docklock.console.facts import (
    Alert,
    ContainerRow,
    Details,
    Done,
    LogLine,
    Overview,
    Progress,
    Verdict,
)
from docklock.console.source import Source
from tests.tui.screen import NOW_NS, PATIENCE_S

AFTER = {
    "start": "running", "stop": "exited", "restart": "running", "kill": "exited",
    "pause": "paused", "unpause": "running", "quarantine": "quarantined", "release": "running",
}  # fmt: skip


class Gate:
    """Holds a call until it is opened; `fault` is raised by calls that come through."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.asked = 0
        self._open = threading.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def go_through(self) -> None:
        self.asked += 1
        assert self._open.wait(PATIENCE_S), "nobody opened the gate"
        if self.fault is not None:
            raise self.fault


class Acted(NamedTuple):
    verb: str
    container: str


class Toy:
    """All parts of the source in one; `rows` is what there is."""

    def __init__(self, *rows: ContainerRow) -> None:
        self.rows = {row.id: row for row in rows}
        self.acted: list[Acted] = []
        self.written: list[str] = []
        self.focus: tuple[str, ...] = ()
        self.verdicts: tuple[Verdict, ...] = ()
        self.agent = "up"
        self.overview_gate, self.act_gate, self.verify_gate = Gate(), Gate(), Gate()
        self.argv: tuple[str, ...] = ("true",)

    def make_source(self) -> Source:
        return Source("toy", self, self, checks=self, acts=self)

    def read_overview(self, focus: tuple[str, ...] = ()) -> Overview:
        self.focus = focus
        self.overview_gate.go_through()
        rows = tuple(self.rows.values())
        running = sum(row.status == "running" for row in rows)
        return Overview(NOW_NS, "2dcd7284bae38c2b", self.agent, rows, running, running)

    def read_details(self, container: str) -> Details:
        return Details(self.rows[container])

    def read_log(self, _container: str, _limit: int) -> tuple[LogLine, ...]:
        return ()

    def read_alerts(self) -> tuple[Alert, ...]:
        return ()

    def read_verdicts(self) -> tuple[Verdict, ...]:
        return self.verdicts

    def verify(self, container: str, tell: Callable[[Progress], bool]) -> tuple[Verdict, ...]:
        found = []
        for number, row in enumerate(self.rows.values()):
            self.verify_gate.go_through()
            if not tell(Progress(number, len(self.rows), row.name)):
                break
            if container in ("", row.id):
                found.append(Verdict(is_whole=True, container=row.id))
        return (*found, *self.verdicts)

    def act(self, verb: str, container: str, _tell: Callable[[Progress], bool]) -> Done:
        self.acted.append(Acted(verb, container))
        self.act_gate.go_through()
        if verb == "rm":
            del self.rows[container]
        else:
            self.rows[container] = self.rows[container]._replace(status=AFTER[verb])
        return Done(True)

    def write_evidence(self, _container: str, path: str) -> Done:
        self.written.append(path)
        return Done(True, f"written: {path}")

    def get_shell(self, _container: str) -> tuple[str, ...]:
        return self.argv


def make_rows(count: int, **fields: object) -> tuple[ContainerRow, ...]:
    return tuple(
        ContainerRow(
            id=f"{number:064x}", name=f"web-{number}", status="running", started_ns=NOW_NS - 10**12
        )._replace(**fields)
        for number in range(count)
    )
