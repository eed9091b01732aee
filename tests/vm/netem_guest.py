"""The job of the machine with bad networks: validators in namespaces, `tc netem` between them.

Says what guest.py says, and `measured` what tests print so. Each test of SUITES must have said that
netem was between its hosts; there is no TUN device here that could have been. Processors are
emulated, so tests wait SLOWER times as long; what they hold true is the same.
Not here: the machine and the expectations (test_netem.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.e2e import test_chain_network
from tests.e2e.conftest import Docklock
from tests.net import test_wires
from tests.net.wires import find_way
from tests.vm.guest import run_checks, run_suite

MODULES = {
    "tests/net/test_wires.py": test_wires,
    "tests/e2e/test_chain_network.py": test_chain_network,
}


def check_netem_is_all_that_could_be_between_hosts(_dock: Docklock) -> None:
    assert find_way() == "netem"
    assert not Path("/dev/net/tun").exists()


def make_check(test: str) -> Callable[[Docklock], None]:
    def check(_dock: Docklock) -> None:
        lines = run_suite(test, "-rP").splitlines()
        ways = {line.split()[1] for line in lines if line.startswith("wires: ")}
        assert ways == {"netem"}, ways
        for line in lines:
            if line.startswith("measured "):
                print(line, flush=True)

    return check


def get_checks() -> dict[str, Callable[[Docklock], None]]:
    """Every check by its name, in the order they run: each test of MODULES is one."""
    tests = [
        f"{path}::{name}"
        for path, module in MODULES.items()
        for name in vars(module)
        if name.startswith("test_")
    ]
    first = check_netem_is_all_that_could_be_between_hosts
    return {first.__name__.removeprefix("check_"): first} | {
        test: make_check(test) for test in tests
    }


def main() -> None:
    run_checks(get_checks(), Docklock(Path("/var/lib/docklock-tests/state")))
    print("done", flush=True)


if __name__ == "__main__":
    main()
