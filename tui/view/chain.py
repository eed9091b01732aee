"""The chain as a screen shows it: its head, its blocks, who decides, and what finality took. Pure.

Not here: where it is asked (docklock.console), how it is drawn. Invariants: what a node has said
halts it stands before all else; who is up is a word and a sign, never a colour alone; a peer that
is a validator is one row, its address beside its key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tui.view.cells import Cell, Column
from tui.view.describing import Description, describe, make_pair
from tui.view.history import Point
from tui.view.moments import format_age, format_clock, format_day
from tui.view.plot import Curve
from tui.view.text import make_harmless
from tui.view.units import write_amount, write_count

if TYPE_CHECKING:
    from docklock.console.facts import Block, ChainFacts, Peer

NS_PER_MS = 1_000_000
NAME_MAX = 64
NOTE_MAX = 200
HASH_SHOWN = 16
LATE_AFTER_NS = 60_000_000_000
"""A running chain without a block for so long is told in warning."""
PLOT_NS_MIN = 10_000_000_000
GAP_NS = 5_000_000_000
"""Blocks come in milliseconds while there is something to do, and every second or so when not."""
FORKS_MAX = 64

FIELDS = ("height", "round", "proposer", "hash", "transactions")
BLOCK_COLUMNS = (
    Column("height", "HEIGHT", 10, is_right=True),
    Column("time", "TIME (UTC)", 12),
    Column("age", "AGE", 7, priority=3, is_right=True),
    Column("round", "ROUND", 5, is_right=True),
    Column("transactions", "TX", 6, is_right=True),
    Column("seals", "SEALS", 6, is_right=True),
    Column("finality", "FINAL IN", 8, priority=1, is_right=True),
    Column("proposer", "PROPOSER", 14, grow=1, widest=40),
    Column("hash", "HASH", 16, priority=4, grow=1, widest=64),
)
MEMBER_COLUMNS = (
    Column("kind", "WHO", 9),
    Column("name", "NAME", 14, grow=1, widest=32),
    Column("state", "STATE", 9),
    Column("turn", "TURN", 8, priority=1),
    Column("key", "KEY", 12, priority=2, grow=1, widest=64),
    Column("address", "ADDRESS", 16, priority=3, grow=1, widest=40),
    Column("note", "NOTE", 16, grow=3),
)
UNTOLD = "This source tells of no chain: one is seen from a host whose node follows it."
NO_NODE = "No node of a chain is on this host."
HOW_TO = (
    ("To try one", "docklock chain devnet --dir DIR (four validators on this host, one command)"),
    (
        "To join one",
        "docklock chain init --genesis FILE, then docklock chain start; its operators give FILE",
    ),
    ("To make one", "docklock chain init on each host, then docklock chain genesis ENTRY..."),
    ("Without one", "evidence is still signed, in the host log, and whatever witnesses cosign it"),
)


class Member(NamedTuple):
    """A validator, or a peer that is none. `is_up` None where nobody knows."""

    kind: str
    name: str
    key: str = ""
    address: str = ""
    is_up: bool | None = None
    is_proposer: bool = False
    note: str = ""
    number: int = 0

    @property
    def id(self) -> str:
        return f"{self.kind} {self.key or self.name} {self.address} {self.number}"

    @property
    def is_accused(self) -> bool:
        return "accused" in self.note


def has_chain(facts: ChainFacts) -> bool:
    """Whether there is anything to show but how to get one."""
    return bool(facts.chain_id or facts.is_running or facts.blocks or facts.height > 0)


def make_head(facts: ChainFacts, now_ns: int) -> tuple[Cell, ...]:
    """What a glance should find first, in the order that a narrow screen keeps it."""
    if not has_chain(facts):
        return (Cell(NO_NODE, "warn"), _cell(facts.trouble, "warn"))
    up = sum(one.is_up is True for one in facts.validators)
    is_known = any(one.is_up is not None for one in facts.validators)
    held = f"{up} of {len(facts.validators)} up" if is_known else f"{len(facts.validators)} known"
    is_short = is_known and up < facts.quorum
    return (
        _cell(facts.name or "chain", "accent", NAME_MAX),
        Cell("running" if facts.is_running else "not running", "" if facts.is_running else "warn"),
        Cell(f"height {write_count(facts.height)}"),
        Cell(f"round {write_count(facts.round)}", "warn" if facts.round > 0 else ""),
        _make_last(facts, now_ns),
        Cell(f"behind by {write_count(facts.lag_blocks)}", "warn") if facts.lag_blocks
        else Cell(""),
        Cell(f"validators {held}{', fewer than the quorum' if is_short else ''}",
             "bad" if is_short else ""),
        Cell(f"quorum {facts.quorum}, {facts.may_fail} may fail" if facts.quorum else ""),
        Cell(_tell_finality(facts)),
        _cell(f"this node: {facts.role}" if facts.role else ""),
        Cell(f"{write_count(facts.mempool)} waiting" if facts.is_running else ""),
        Cell(f"{_count_up(facts.peers)} of {len(facts.peers)} peers up" if facts.peers else ""),
        Cell(f"✗ {len(facts.forks)} convicted (i)" if facts.forks else "", "bad"),
        _cell(facts.trouble, "warn"),
    )  # fmt: skip


def describe_untold(note: str) -> Description:
    """Where a source tells of no chain at all."""
    return describe("Chain", (), (("", UNTOLD), ("This source", note)))


def make_alarm(facts: ChainFacts) -> tuple[str, ...]:
    """Why it halted, to be shown big; nothing while it has not."""
    if not facts.halted:
        return ()
    return ("H A L T E D", make_harmless(facts.halted, NOTE_MAX))


def make_curve(facts: ChainFacts, now_ns: int) -> Curve:
    """What finality took, of the blocks that are known; a stretch without blocks is a gap."""
    blocks = facts.blocks[::-1]
    points = tuple(Point(one.time_ms * NS_PER_MS, one.finality_ms) for one in blocks)
    if not points:
        return Curve(unit="ms")
    until_ns = max(now_ns if facts.is_running else points[-1].at_ns, points[-1].at_ns)
    since_ns = min(points[0].at_ns, until_ns - PLOT_NS_MIN)
    return Curve(tuple(sorted(points)), since_ns, until_ns, "ms", GAP_NS)


def list_members(facts: ChainFacts) -> tuple[Member, ...]:
    """Validators in the chain's order, then the peers that are none."""
    addresses: dict[str, Peer] = {}
    others = []
    keys = {one.key[:HASH_SHOWN]: one.key for one in facts.validators}
    for peer in facts.peers:
        key = keys.get(peer.name.rpartition(" ")[2][:HASH_SHOWN])
        if key and key not in addresses:
            addresses[key] = peer
        else:
            others.append(peer)
    members: list[Member] = []
    for one in facts.validators:
        found = addresses.get(one.key)
        notes = [one.note] if one.note else []
        if found is not None and found.note and found.note not in one.note:
            notes.append(found.note)
        address = found.address if found is not None else ""
        members.append(
            Member("validator", one.operator, one.key, address, one.is_up, one.is_proposer,
                   "; ".join(notes), len(members))
        )  # fmt: skip
    for peer in others:
        members.append(
            Member("peer", peer.name, "", peer.address, peer.is_up, note=peer.note,
                   number=len(members))
        )  # fmt: skip
    return tuple(members)


def get_block_cell(block: Block, column: str, now_ns: int, names: dict[str, str]) -> Cell:
    """One cell of a block's row; `names` are the operators by key."""
    at_ns = block.time_ms * NS_PER_MS
    if column == "height":
        return Cell(write_count(block.height), "accent")
    if column == "time":
        return Cell(format_clock(at_ns, is_exact=True))
    if column == "age":
        return Cell(format_age(at_ns, now_ns), "dim")
    if column == "round":
        return Cell(write_count(block.round), "warn" if block.round else "dim")
    if column == "transactions":
        return Cell(write_count(block.transactions), "" if block.transactions else "dim")
    if column == "seals":
        return Cell(write_count(block.seals))
    if column == "finality":
        return Cell(write_amount(block.finality_ms, "ms"))
    if column == "proposer":
        return Cell(name_key(block.proposer, names))
    return Cell(make_harmless(block.hash, NAME_MAX), "dim")


def get_block_field(block: Block, field: str, names: dict[str, str]) -> str | float:
    """What a filter looks at."""
    if field == "proposer":
        return f"{names.get(block.proposer, '')} {block.proposer}"
    if field == "hash":
        return block.hash
    return float({"height": block.height, "round": block.round}.get(field, block.transactions))


def get_member_cell(member: Member, column: str) -> Cell:
    """One cell of a validator's or a peer's row."""
    if column == "kind":
        return Cell(member.kind, "" if member.kind == "validator" else "dim")
    if column == "state":
        return make_state(member)
    if column == "turn":
        return Cell("proposes" if member.is_proposer else "", "accent")
    if column == "note":
        return _cell(member.note, "bad" if member.is_accused else "", NOTE_MAX)
    text = {"name": member.name, "key": member.key}.get(column, member.address)
    return _cell(text, "dim" if column != "name" else "", NAME_MAX)


def make_state(member: Member) -> Cell:
    """Up, down, accused or not known, in a sign and a word."""
    if member.is_accused:
        return Cell("✗ accused", "bad")
    if member.is_up is None:
        return Cell("? unknown", "dim")
    return Cell("+ up", "good") if member.is_up else Cell("✗ down", "bad")


def name_key(key: str, names: dict[str, str]) -> str:
    """An operator's name where it is known, else the key's beginning."""
    name = names.get(key, "")
    return make_harmless(f"{name} {key[:8]}".strip() if name else key[:HASH_SHOWN], NAME_MAX)


def list_names(facts: ChainFacts) -> dict[str, str]:
    """Operators by key."""
    return {one.key: one.operator for one in facts.validators if one.operator}


def describe_block(block: Block, facts: ChainFacts, now_ns: int) -> Description:
    """All that is known of a block."""
    at_ns = block.time_ms * NS_PER_MS
    seals = f"{write_count(block.seals)} of {len(facts.validators)}, {facts.quorum} are needed"
    return describe(
        f"Block {write_count(block.height)}",
        (
            make_pair("height", write_count(block.height), "accent"),
            make_pair("hash", block.hash),
            make_pair("time", f"{format_day(at_ns)} UTC, {format_age(at_ns, now_ns)} ago"),
            make_pair("round", _tell_round(block.round), "warn" if block.round else ""),
            make_pair("proposer", f"{list_names(facts).get(block.proposer, '')} {block.proposer}"),
            make_pair("transactions", write_count(block.transactions)),
            make_pair("seals", seals if block.seals >= 0 else "not asked"),
            make_pair("final in", write_amount(block.finality_ms, "ms")),
        ),
        (
            ("Look closer", f"docklock chain blocks {block.height}"),
            ("Prove what is in it", "docklock prove --final makes one file that anyone can check"),
        ),
    )


def describe_member(member: Member, facts: ChainFacts) -> Description:
    """All that is known of a validator or a peer, with the blocks it proposed."""
    mine = [one for one in facts.blocks if member.key and one.proposer == member.key]
    state = make_state(member)
    told = f"{len(mine)} of the {len(facts.blocks)} newest" if member.key and facts.blocks else ""
    return describe(
        f"{member.kind.capitalize()} {member.name}",
        (
            make_pair("operator" if member.key else "name", member.name),
            make_pair("state", state.text, state.tone),
            make_pair("key", member.key),
            make_pair("address", member.address),
            make_pair("turn", "it proposes the block that is decided" * member.is_proposer),
            make_pair("blocks", told),
            make_pair("note", member.note, "bad" if member.is_accused else ""),
        ),
        (
            (
                "What accused means",
                "It signed two different votes of one height. The two votes are evidence that "
                "anyone can check, and remove it from the validators of the next block."
                * member.is_accused,
            ),
        ),
    )


def describe_chain(facts: ChainFacts) -> Description:
    """The chain itself: its settings, whom something convicts, or how to get one."""
    if not has_chain(facts):
        return describe("Chain", (make_pair("", facts.trouble, "warn"),), (("", NO_NODE), *HOW_TO))
    return describe(
        facts.name or "Chain",
        (
            make_pair("chain id", facts.chain_id),
            make_pair("trouble", facts.trouble, "warn"),
            make_pair("halted", facts.halted, "bad"),
            *(make_pair("convicted", fork, "bad") for fork in facts.forks[:FORKS_MAX]),
            *(make_pair(name, text) for name, text in facts.settings),
        ),
    )


def _make_last(facts: ChainFacts, now_ns: int) -> Cell:
    if facts.head_ms <= 0:
        return Cell("no block yet", "warn")
    at_ns = facts.head_ms * NS_PER_MS
    is_late = facts.is_running and now_ns - at_ns > LATE_AFTER_NS
    return Cell(f"last block {format_age(at_ns, now_ns)} ago", "warn" if is_late else "")


def _tell_finality(facts: ChainFacts) -> str:
    half, most = (write_amount(ms, "ms") for ms in (facts.finality_p50_ms, facts.finality_p95_ms))
    return f"decided in {half}, 95% in {most}" if facts.finality_p50_ms >= 0 else ""


def _tell_round(number: int) -> str:
    if number <= 0:
        return write_count(number)
    return f"{number}: the proposers of {number} rounds before it brought no block in time"


def _count_up(peers: tuple[Peer, ...]) -> int:
    return sum(peer.is_up for peer in peers)


def _cell(text: str, tone: str = "", limit: int = NOTE_MAX) -> Cell:
    return Cell(make_harmless(text, limit), tone)
