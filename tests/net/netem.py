"""What `tc netem` makes of the wires between network namespaces: a veth pair for each two hosts.

Each end is one way between two hosts, so netem is its only queue and no classifier chooses between
rules; nothing is made in this process's namespace. Each packet is one of the wire (no segmentation
offload), and both ends have one link address and ask for none (NOARP): what is lost are IP packets.
netem of Linux 6.1 takes no seed: what is lost is another each time.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Sequence

from tests.net.spaces import MTU, PACKETS_MAX, enter, make_address, run

TRIAL = "ip link add name one type veth peer name two && tc qdisc add dev one root netem delay 1ms"
LINK = f"address 02:00:00:00:00:01 mtu {MTU} gso_max_segs 1"


def has_netem() -> bool:
    """Whether this kernel takes it, with the programs here; tried where nothing stays."""
    done = subprocess.run(["unshare", "--net", "sh", "-c", TRIAL], capture_output=True)
    return done.returncode == 0


class Netem:
    """Between the hosts of these namespaces, each with one address and a device for each other."""

    def __init__(self, namespaces: Sequence[str]) -> None:
        self.namespaces = namespaces
        links = [
            f"link add name to{other} netns {namespaces[one]} {LINK}"
            f" type veth peer name to{one} netns {namespaces[other]} {LINK}"
            for one, other in itertools.combinations(range(len(namespaces)), 2)
        ]
        run("ip", "-batch", "-", text="\n".join(links))
        for one, namespace in enumerate(namespaces):
            lines = [f"address add {make_address(one)}/32 dev lo", "link set lo up"]
            for other in set(range(len(namespaces))) - {one}:
                lines += [
                    f"link set to{other} arp off up",
                    f"route add {make_address(other)} dev to{other} src {make_address(one)}",
                ]
            run(*enter(namespace), "ip", "-batch", "-", text="\n".join(lines))
        for one, other in itertools.permutations(range(len(namespaces)), 2):
            self.set(one, other, 0, 0, 0)

    def set(self, source: int, target: int, delay_ms: float, jitter_ms: float, loss: float) -> None:
        """netem's own jitter is to both sides of its delay."""
        half = jitter_ms / 2
        run(
            *enter(self.namespaces[source]), "tc", "qdisc", "replace", "dev", f"to{target}", "root",
            "netem", "limit", str(PACKETS_MAX), "delay", f"{delay_ms + half:g}ms", f"{half:g}ms",
            "loss", f"{100 * loss:g}%",
        )  # fmt: skip

    def close(self) -> None:
        """The devices end with their namespaces."""
