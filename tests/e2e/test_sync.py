"""What a host runs is at its server, by the agent's own hand; values wait for it to be erased."""

from __future__ import annotations

from pathlib import Path

from docklock.paths import get_paths
from tests.agent.openmetrics import parse_page
from tests.e2e.agents import Agent
from tests.e2e.conftest import Docklock
from tests.ledger.offered import get_size
from tests.outbox.sends import check_alike, get_host, write_config
from tests.outbox.servers import Books, BooksServer


def test_the_agent_sends_what_runs_and_tells_of_it(dock: Docklock, tmp_path: Path) -> None:
    paths = get_paths(str(dock.root))
    server = BooksServer(Books())
    config = write_config(tmp_path / "agent.toml", server)
    with Agent(dock, "--config", config) as agent:
        dock("run", "--name", "one", "busybox", "true")
        dock.wait_for(lambda: "office: " in agent.said(), 20)  # nobody listens there yet
        dock("sync", "now", "--config", config, code=1)
        dock("evidence", "erase", "one", "--values", "all", code=1)
        with server:
            dock("sync", "now", "--config", config)
            dock("run", "--rm", "busybox", "true")
            dock.wait_for(lambda: server.books.get_size(get_host(paths)) == get_size(paths), 20)
            check_alike(paths, server)

            def tell(name: str) -> float:
                return parse_page(agent.ask("/metrics"))[name].get(server="office")

            # What the server has, the sender has yet to read the acknowledgement of.
            dock.wait_for(lambda: tell("docklock_outbox_lag_leaves") == 0)
            assert tell("docklock_outbox_well") == 1
            assert f"office: {get_size(paths)} of" in dock("info").stdout
            held = server.books.get_stored(get_host(paths))
            dock("evidence", "erase", "one", "--values", "all")
            dock("rm", "one")
            dock("system", "prune", "-f")
            dock("sync", "now", "--config", config)
            assert held and held.items() <= server.books.get_stored(get_host(paths)).items()
