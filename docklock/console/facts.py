"""What a screen is shown: plain values, as they were at one moment. Pure.

Not here: where they are read (host_*, server_*), how they are drawn (tui/). All text may come from
a container or a network and is as it came: whoever draws it makes it harmless. Times are Unix ns
unless they are named otherwise; a number of -1 is one that nobody knows.
"""

from __future__ import annotations

from typing import NamedTuple

UNKNOWN = -1


class Usage(NamedTuple):
    """What a container uses. CPU is of one core, as Docker counts: two busy cores are 200."""

    cpu_percent: float = UNKNOWN
    memory_bytes: int = UNKNOWN
    memory_limit_bytes: int = UNKNOWN
    pids: int = UNKNOWN
    received_bytes: int = UNKNOWN
    sent_bytes: int = UNKNOWN
    received_bytes_per_s: float = UNKNOWN
    sent_bytes_per_s: float = UNKNOWN


class Anchor(NamedTuple):
    """The furthest that a container's newest evidence is held: `kind` is one of ANCHORS."""

    kind: str = ""
    by: str = ""  # a witness's operator, a server, a block's height
    at_ns: int = 0


ANCHORS = ("", "host log", "witnesses", "block", "server")
"""Nothing yet; only this host's word; cosigned; final on a chain; acknowledged by a server."""


class ContainerRow(NamedTuple):
    """One container. `receipts` and `denials` are of its newest run."""

    id: str
    name: str
    host: str = ""  # its host's id, where the source has many
    image: str = ""
    app: str = ""
    status: str = ""  # created, running, restarting, paused, exited, quarantined
    health: str = ""  # "", starting, healthy, unhealthy
    exit_code: int = 0
    run: int = UNKNOWN
    created_ns: int = 0
    started_ns: int = 0
    finished_ns: int = 0
    policy: str = ""
    network: str = ""
    usage: Usage = Usage()
    receipts: int = UNKNOWN
    receipts_per_s: float = UNKNOWN
    denials: int = UNKNOWN
    anchor: Anchor = Anchor()
    trouble: str = ""  # why its evidence, or it, is not well
    measured_ns: int = 0  # when usage and counts were taken; 0 never


class Verdict(NamedTuple):
    """A check of evidence that failed, or the last one that did not.

    `where` names the place as `docklock verify` does; `since_ns` is when it was first seen.
    """

    is_whole: bool
    where: str = ""
    why: str = ""
    container: str = ""
    since_ns: int = 0
    checked_ns: int = 0


class Overview(NamedTuple):
    """All containers of a source. `measured` of `running` were looked at in this round."""

    at_ns: int
    host: str = ""  # id of the host; empty for a server
    agent: str = ""  # "up", "none", or what is wrong with it
    containers: tuple[ContainerRow, ...] = ()
    running: int = 0
    measured: int = 0
    trouble: str = ""  # what could not be read


class Process(NamedTuple):
    """A process of a container, by the host's numbers."""

    pid: int
    parent: int
    user: str
    started_ns: int
    cpu_s: float
    memory_bytes: int
    command: str


class FileChange(NamedTuple):
    """What a container changed of its image: `kind` is A, C or D, as `docker diff` has it."""

    kind: str
    path: str
    size_bytes: int = UNKNOWN


class Connection(NamedTuple):
    """A socket in the container's network namespace."""

    protocol: str
    local: str
    remote: str
    state: str


class RuleHits(NamedTuple):
    """A rule of the container's policy, and how often its newest run met it. `line` is a file's."""

    text: str
    action: str
    hits: int = UNKNOWN
    line: int = 0


class Details(NamedTuple):
    """All else about one container. `more` names what was cut off: (what, how many)."""

    row: ContainerRow
    command: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()  # limits, mounts, capabilities, labels ...
    processes: tuple[Process, ...] = ()
    files: tuple[FileChange, ...] = ()
    interfaces: tuple[tuple[str, int, int], ...] = ()  # name, bytes received, sent
    connections: tuple[Connection, ...] = ()
    policy_path: str = ""
    rules: tuple[RuleHits, ...] = ()
    more: tuple[tuple[str, int], ...] = ()
    trouble: str = ""


class Event(NamedTuple):
    """One receipt, as a list shows it. `values` are (name, text), `labels` too."""

    run: int
    event_index: int
    time_ns: int
    pid: int
    op: str
    decision: str  # allowed, denied ...
    errno: str = ""  # EPERM ...
    values: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    host: str = ""
    container: str = ""


class FeedPart(NamedTuple):
    """What came since the last look: the newest of `came`, oldest first. It samples, and says so.

    `total` is the run's count now. `is_end`: the run has ended and all of it was told.
    """

    events: tuple[Event, ...] = ()
    came: int = 0
    total: int = 0
    run: int = UNKNOWN
    is_end: bool = False
    trouble: str = ""


class LogLine(NamedTuple):
    """A line of output; `stream` is stdout or stderr."""

    time_ns: int
    stream: str
    text: str


class ProofStep(NamedTuple):
    """One step from a receipt to what anchors it; `is_held` None where nobody has checked.

    `kind` is receipt, segment, log, checkpoint, witness, block or server.
    """

    kind: str
    title: str
    fields: tuple[tuple[str, str], ...] = ()
    path: tuple[str, ...] = ()  # hashes in hex, from below
    is_held: bool | None = None
    why: str = ""


class ReceiptFacts(NamedTuple):
    """A receipt with all fields, and its way up."""

    event: Event
    fields: tuple[tuple[str, str], ...] = ()
    steps: tuple[ProofStep, ...] = ()
    is_whole: bool | None = None  # None: not checked
    why: str = ""


class Denial(NamedTuple):
    """Calls of one kind that a policy refused; `unproposable` says why no rule is proposed."""

    container: str
    container_name: str
    op: str
    errno: str
    times: int
    first_ns: int
    last_ns: int
    example: Event
    rule: str = ""  # what refused it
    policy: str = ""
    unproposable: str = ""
    note: str = ""  # of how much it was counted, where that is not all


class Proposal(NamedTuple):
    """A policy as it would be. `diff` is a unified diff; `effects` what `policy diff` says.

    `token` names what was shown: `apply` refuses if the file is another by now.
    """

    container: str
    policy: str
    path: str
    diff: tuple[str, ...]
    effects: tuple[str, ...] = ()
    is_looser: bool = True
    token: str = ""
    note: str = ""  # when it begins to hold


class Block(NamedTuple):
    """A block of the chain. `finality_ms` is from its own time to its seal here."""

    height: int
    hash: str
    time_ms: int
    round: int
    proposer: str
    transactions: int
    seals: int = UNKNOWN
    finality_ms: float = UNKNOWN


class Validator(NamedTuple):
    """A validator of the height that is decided."""

    key: str
    operator: str
    is_up: bool | None = None
    is_proposer: bool = False
    note: str = ""  # accused, removed, this node ...


class Peer(NamedTuple):
    """A node that this one knows."""

    name: str
    address: str
    is_up: bool
    note: str = ""


class ChainFacts(NamedTuple):
    """The chain as its node here sees it; without one `trouble` says so."""

    name: str = ""
    chain_id: str = ""
    is_running: bool = False
    height: int = UNKNOWN
    round: int = UNKNOWN
    head_ms: int = 0
    lag_blocks: int = 0
    role: str = ""
    quorum: int = 0
    may_fail: int = 0
    finality_p50_ms: float = UNKNOWN
    finality_p95_ms: float = UNKNOWN
    mempool: int = 0
    blocks: tuple[Block, ...] = ()  # the newest first
    validators: tuple[Validator, ...] = ()
    peers: tuple[Peer, ...] = ()
    forks: tuple[str, ...] = ()  # what convicts whom, and where the file is
    halted: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    trouble: str = ""


class ServerSync(NamedTuple):
    """A server that this host's evidence goes to, or on a server a host that it comes from."""

    name: str
    url: str = ""
    state: str = ""
    acknowledged: int = 0
    log_size: int = 0
    lag_leaves: int = UNKNOWN
    lag_bytes: int = UNKNOWN
    lag_s: float = UNKNOWN
    acknowledged_ms: int = 0
    next_try_ms: int = 0
    failures: int = 0
    contradictions: int = 0
    trouble: str = ""


class Acknowledgement(NamedTuple):
    """What a server has signed that it holds."""

    server: str
    size: int
    time_ms: int
    server_size: int = UNKNOWN


class SyncFacts(NamedTuple):
    """All servers of a host, or all hosts of a server."""

    servers: tuple[ServerSync, ...] = ()
    acknowledgements: tuple[Acknowledgement, ...] = ()  # the newest first
    trouble: str = ""


class Alert(NamedTuple):
    """What somebody should look at. `level` is critical, warning or info."""

    kind: str  # tampered, fork, gap, lag, rollback, halted, unhealthy, disk ...
    level: str
    subject: str  # a container's name, a host, a server
    why: str
    since_ns: int
    container: str = ""
    advice: str = ""  # what to do


class Progress(NamedTuple):
    """How far a long action is; `total` 0 where nobody knows."""

    done: int
    total: int
    now: str = ""


class Done(NamedTuple):
    """What an action has come to. `text` is what the command printed."""

    is_done: bool
    text: str = ""
