"""What `docklock chain` shows to people: tables and lines of the same facts that JSON has. Pure.

Not here: the facts (docklock.chain.views, docklock.chain.status).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chainlite.report import escape, format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from docklock.chain.directory import ChainDirectory
    from docklock.chain.setup import Made
    from docklock.submitter import Passed

SHORT = 16
"""Digits of a hash or key in a table; the JSON has them all."""


def render_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as what is in them."""
    lines = [list(head), *[[escape(str(cell)) for cell in row] for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def render_lines(pairs: Iterable[tuple[str, object]]) -> str:
    """NAME: VALUE, a line each; without what is empty."""
    shown = [(name, escape(str(value))) for name, value in pairs if str(value)]
    return "".join(f"{name}: {value}\n" for name, value in shown)


def describe_made(made: Made, directory: ChainDirectory) -> dict[str, Any]:
    """What `init` made, as JSON has it."""
    member, chain = made.member, made.chain
    return {
        "directory": directory.path,
        "node": made.public.hex(),
        "role": made.role,
        "address": member.address if member else "",
        "operator": member.operator if member else "",
        "certificate": member.certificate.hex() if member else "",
        "chain": chain.genesis.name if chain else "",
        "chain_id": chain.id.hex() if chain else "",
        "registration": directory.registration if chain else "",
    }


def render_made(made: Made, directory: ChainDirectory) -> str:
    """What was made, and what comes next."""
    node = f"node {made.public.hex()[:SHORT]} in {directory.path}"
    if made.chain is not None:
        start = f"docklock chain start --dir {directory.path}"
        where = f"chain {made.chain.genesis.name} ({made.chain.short_id})"
        lines = [f"{node}: {made.role} of {where}", f"next: {start}"]
        if made.role == "follower":
            lines.insert(1, f"its validators let it in once they know {directory.registration}: "
                         "docklock chain peers add FILE")  # fmt: skip
    elif made.member is not None:
        lines = [
            f"{node}; its entry for a genesis file, or for a vote:",
            "next: docklock chain genesis --name NAME ENTRY..., then docklock chain init "
            f"--dir {directory.path} --genesis genesis.toml",
        ]
    else:
        lines = [
            f"{node}: it only dials; to be a validator it needs --listen HOST:PORT",
            f"next: docklock chain init --dir {directory.path} --genesis FILE",
        ]
    return "".join(f"docklock: {line}\n" for line in lines)


def render_status(status: dict[str, Any]) -> str:
    """A line for each thing that matters."""
    head = [
        ("chain", f"{status['chain']} ({status['chain_id'][:SHORT]})"),
        ("height", status["height"]),
        ("head", f"{status['head_hash'][:SHORT]} {_format_ms(status['head_time_ms'])}"),
    ]
    if status.get("first_block"):
        head.append(("first block", f"{status['first_block']}: it began with a snapshot"))
    if not status["running"]:
        return render_lines([*head, ("HALTED", status["halted"])])
    validators, finality, pool = status["validators"], status["finality_ms"], status["mempool"]
    votes = "votes" if status["votes"] else f"does not vote: {status['why_no_votes']}"
    role = f"{status['role']}, {votes}" if status["role"] == "validator" else status["role"]
    return render_lines([
        *head,
        ("node", f"{status['node'][:SHORT]} ({status['operator']}), {role}"),
        ("round", f"{status['round']}, proposer {status['proposer'][:SHORT]}"),
        ("validators", f"{validators['n']}, {status['validators_up']} up; "
         f"quorum {validators['quorum']}, {validators['f']} may fail"),
        ("peers", f"{status['peers_up']} up of {len(status['peers'])}"),
        ("mempool", f"{pool['transactions']} transactions, {pool['bytes']} bytes"),
        ("receipts kept", status["receipts_kept"] or ""),
        ("lag", f"{status['lag']} blocks" if status["lag"] else ""),
        ("finality", f"p50 {finality['p50']} ms, p95 {finality['p95']} ms over the last "
         f"{finality['heights']} blocks" if finality["heights"] else ""),
        ("timeout", f"{status['base_timeout_ms']} ms"),
        ("accused", ", ".join(key[:SHORT] for key in status["accused"])),
        ("waits for", status["waits_for"]),
        ("HALTED", status["halted"]),
    ])  # fmt: skip


def render_blocks(blocks: list[dict[str, Any]]) -> str:
    """The newest first, a line each."""
    return render_table(
        ("HEIGHT", "TIME", "TXS", "BYTES", "ROUND", "SEALS", "PROPOSER", "HASH"),
        [
            (
                one["height"],
                _format_ms(one["time_ms"]),
                one["transactions"],
                one["bytes"],
                one["round"],
                one["seals"],
                one["proposer"][:SHORT],
                one["hash"][:SHORT],
            )
            for one in blocks
        ],
    )


def render_block(block: dict[str, Any]) -> str:
    """One block and its transactions."""
    names = ("hash", "previous", "state_root", "receipts_root", "history_root", "poh_root",
             "next_validators", "proposer", "round", "seals", "bytes")  # fmt: skip
    text = render_lines([
        ("height", block["height"]),
        ("time", _format_ms(block["time_ms"])),
        *[(name.replace("_", " "), block[name]) for name in names],
        ("transactions", block["transactions"]),
    ])  # fmt: skip
    rows = [
        (one["hash"], one["sender"][:SHORT], one["nonce"], one["bytes"], _count(one["operations"]))
        for one in block["list"]
    ]
    if not rows:
        return text
    return f"{text}\n{render_table(('HASH', 'SENDER', 'NONCE', 'BYTES', 'OPERATIONS'), rows)}"


def _count(operations: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in operations.items())


def render_tx(tx: dict[str, Any]) -> str:
    """A transaction and its operations."""
    text = render_lines([
        ("hash", tx["hash"]),
        ("in block", f"{tx['height']} ({tx['block'][:SHORT]}), {_format_ms(tx['time_ms'])}"),
        ("sender", tx["sender"]),
        ("key", tx["key"]),
        ("nonce", tx["nonce"]),
        ("bytes", tx["bytes"]),
    ])  # fmt: skip
    for number, operation in enumerate(tx["operations"]):
        fields = ", ".join(
            f"{name} {value}" for name, value in operation.items() if name != "kind" and value != ""
        )
        text += escape(f"operation {number}: {operation['kind']}: {fields}") + "\n"
    return text


def render_validators(shown: dict[str, Any]) -> str:
    """Who decides the next height, what changes, and votes in progress."""
    text = (
        f"{shown['n']} validators of height {shown['height']}: "
        f"quorum {shown['quorum']}, {shown['f']} may fail\n"
    )
    text += _render_members(shown["validators"])
    if shown["archives"]:
        text += "\narchives\n" + _render_members(shown["archives"])
    for change in shown["changes"]:
        what = "joins" if change["joins"] else "leaves"
        text += f"{change['key'][:SHORT]} {what} at height {change['height']}\n"
    for proposal in shown["proposals"]:
        text += f"{_render_proposal(proposal)}\n"
    return text


def _render_members(members: list[dict[str, Any]]) -> str:
    rows = [(one["key"], one["operator"], one["address"], one.get("since", "")) for one in members]
    return render_table(("KEY", "OPERATOR", "ADDRESS", "SINCE"), rows)


def _render_proposal(proposal: dict[str, Any]) -> str:
    operation = proposal["operation"]
    if operation["kind"] == "member-vote":
        verb = "joins" if operation["present"] else "leaves"
        role = ("validator", "archive")[operation["role"]]
        what = f"{operation['public'][:SHORT]} {verb} as {role}"
    else:
        what = f"parameter {operation['name']} becomes {operation['value']}"
    votes = f"{proposal['votes']} of {proposal['needed']} votes"
    return f"vote: {what}: {votes}, until height {proposal['until']}"


def render_parameters(shown: dict[str, Any]) -> str:
    """Each parameter, and votes in progress."""
    rows = [(one["name"], one["value"], one["least"], one["most"]) for one in shown["parameters"]]
    text = render_table(("PARAMETER", "VALUE", "LEAST", "MOST"), rows)
    return text + "".join(f"{_render_proposal(one)}\n" for one in shown["proposals"])


def render_peers(peers: list[dict[str, Any]]) -> str:
    """Every node that is known, and how it is."""
    rows = [
        (
            one["key"],
            one["operator"],
            ", ".join(one["addresses"]),
            "up" if one["up"] else f"down: {one['why_down'] or 'not reached yet'}",
            one["misdeeds"],
        )
        for one in peers
    ]
    return render_table(("KEY", "OPERATOR", "ADDRESS", "STATUS", "MISDEEDS"), rows)


def describe_passed(done: Passed | None) -> dict[str, Any]:
    """What a submitter's pass came to, as JSON has it; all zero where nothing has run here."""
    if done is None:
        return {"height": 0, "size": 0, "anchored": 0, "available": 0, "receipts": 0,
                "due": False, "troubles": []}  # fmt: skip
    return done._asdict() | {"troubles": list(done.troubles)}


def render_passed(shown: dict[str, Any]) -> str:
    """The same for people."""
    text = (
        f"log of {shown['size']} leaves: {shown['anchored']} anchored, {shown['available']} "
        f"available at height {shown['height']}; {shown['receipts']} receipts offered\n"
    )
    return text + "".join(f"docklock: {escape(line)}\n" for line in shown["troubles"])


def _format_ms(time_ms: int) -> str:
    return format_time(time_ms // 1000)
