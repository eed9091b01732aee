"""A chain, servers and alerts as a saved source has them: for the tests of their screens."""

from __future__ import annotations

from docklock.console.facts import (
    Acknowledgement,
    Alert,
    Block,
    ChainFacts,
    ContainerRow,
    Overview,
    Peer,
    ServerSync,
    SyncFacts,
    Validator,
)
from tests.tui.screen import NOW_NS

NOW_MS = NOW_NS // 1_000_000
S_NS = 1_000_000_000
NAMES = ("north", "south", "east", "west")
KEYS = tuple(letter * 64 for letter in "abcd")
NOTES = ("this node", "", "connection refused", "accused: it voted twice")

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07[bold]\u202eevil\u2066[/nope]\ud800" + "\u0301" * 40 + "X" * 100_000
)
"""An escape that clears the screen, a title, markup, marks that turn a line round, half a letter,
marks that cover the lines above, and a hundred thousand letters."""


def make_blocks(count: int, *, every_ms: int = 1000) -> tuple[Block, ...]:
    """The newest first; the fourth had a proposer that was silent."""
    return tuple(
        Block(
            height=1200 - i, hash=f"{i % 256:02x}" * 32, time_ms=NOW_MS - i * every_ms,
            round=int(i == 3), proposer=KEYS[i % 4], transactions=i % 7, seals=3 + (i % 5 > 0),
            finality_ms=4.0 + i * i % 9,
        )
        for i in range(count)
    )  # fmt: skip


def make_chain() -> ChainFacts:
    """Four validators: one is down, one is accused; a peer that is none."""
    peers = tuple(
        Peer(f"{name} {key[:16]}", f"127.0.0.1:700{i}", i != 2)
        for i, (name, key) in enumerate(zip(NAMES, KEYS, strict=True))
        if i
    )
    return ChainFacts(
        name="harbour", chain_id="ee" * 32, is_running=True, height=1200, round=0,
        head_ms=NOW_MS, role="validator, votes", quorum=3, may_fail=1, finality_p50_ms=5.2,
        finality_p95_ms=11.0, mempool=2, blocks=make_blocks(120),
        validators=tuple(
            Validator(key, name, i != 2, i == 1, NOTES[i])
            for i, (name, key) in enumerate(zip(NAMES, KEYS, strict=True))
        ),
        peers=(*peers, Peer("looker 1234567890abcdef", "10.0.0.9:7000", True, "3 dropped")),
        forks=(f"validator {KEYS[3]} has voted twice at one height",),
        settings=(("directory", "/srv/chain"), ("round timeout", "500 ms")),
    )  # fmt: skip


def make_sync() -> SyncFacts:
    """One server is well, the other was not reached for five minutes."""
    return SyncFacts(
        (
            ServerSync("one", "https://one.example", "well", 1200, 1204, 4, 8192, 0.7,
                       NOW_MS - 700, NOW_MS + 3000),
            ServerSync("two", "https://two.example", "away", 900, 1204, 304, 812_000, 320.0,
                       NOW_MS - 320_000, NOW_MS + 12_000, 9, 0, "connection refused"),
        ),
        tuple(
            Acknowledgement("one", 1200 - i * 10, NOW_MS - i * 5000, 99_000 - i) for i in range(20)
        ),
    )  # fmt: skip


def make_alerts() -> tuple[Alert, ...]:
    """One of each level, not in order."""
    return (
        Alert("lag", "warning", "two", "nothing was acknowledged for 5 min", NOW_NS - 300 * S_NS,
              "", "Look whether it can be reached: docklock sync status"),
        Alert("tampered", "critical", "web", "receipt 3 of run 0: its bytes are others",
              NOW_NS - 100 * S_NS, "c" * 64, "Keep the state directory as it is."),
        Alert("disk", "info", "state", "81% used", NOW_NS - 1000 * S_NS, "", "docklock prune"),
    )  # fmt: skip


def make_server_overview(count: int) -> Overview:
    """A server's: so many containers, three on each host, none of its own."""
    rows = (
        ContainerRow(f"{i:064x}", f"web-{i}", host=f"host-{i // 3:04}", status="open", receipts=i)
        for i in range(count)
    )
    return Overview(NOW_NS, containers=tuple(rows))


def make_hosts(count: int) -> SyncFacts:
    """A server's: this many hosts, every hundredth of them silent. It knows no size but its own."""
    return SyncFacts(
        tuple(
            ServerSync(
                f"host-{i:04}", state="silent" if i % 100 == 7 else "well",
                acknowledged=5000 + i, log_size=-1, lag_s=600.0 if i % 100 == 7 else 0.2,
                acknowledged_ms=NOW_MS, trouble="2 runs are open" if i % 100 == 7 else "",
            )
            for i in range(count)
        )
    )  # fmt: skip


def make_hostile_chain() -> ChainFacts:
    """All text of it is HOSTILE."""
    return ChainFacts(
        name=HOSTILE, chain_id=HOSTILE, is_running=True, height=1, role=HOSTILE, head_ms=NOW_MS,
        blocks=(Block(1, HOSTILE, NOW_MS, 0, HOSTILE, 0),),
        validators=(Validator(HOSTILE, HOSTILE, True, True, HOSTILE),),
        peers=(Peer(HOSTILE, HOSTILE, True, HOSTILE),), forks=(HOSTILE,) * 3, halted=HOSTILE,
        settings=((HOSTILE, HOSTILE),), trouble=HOSTILE,
    )  # fmt: skip


def make_hostile_sync() -> SyncFacts:
    """The same of a server."""
    server = ServerSync(HOSTILE, HOSTILE, HOSTILE, trouble=HOSTILE, failures=2**62)
    return SyncFacts((server,), (Acknowledgement(HOSTILE, 2**62, 2**40),), HOSTILE)
