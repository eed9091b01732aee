"""What the screens of one container show in tests: a container under a policy, denied a connect."""

from __future__ import annotations

from docklock.console.facts import (
    Anchor,
    Connection,
    ContainerRow,
    Denial,
    Details,
    Event,
    FeedPart,
    FileChange,
    LogLine,
    Overview,
    Process,
    ProofStep,
    Proposal,
    ReceiptFacts,
    RuleHits,
    Usage,
)
from docklock.console.saved import Answer
from docklock.console.source import Source
from tests.tui.screen import NOW_NS, make_source

NS = 10**9
WEB, DB = "3f2a91c0d1e2a3b4" * 4, "77aa12c0d1e2a3b4" * 4
HASHES = tuple(f"{number:x}" * 64 for number in range(1, 7))
RULE = "deny connect (quiet.yaml:5)"

ROW = ContainerRow(
    WEB, "web", image="busybox:latest", app="shop", status="running", health="healthy", run=0,
    created_ns=NOW_NS - 700 * NS, started_ns=NOW_NS - 600 * NS, policy="quiet", network="bridge",
    usage=Usage(12.5, 4 << 20, 64 << 20, 3), receipts=4031, receipts_per_s=30.0, denials=4,
    anchor=Anchor("block", "height 812", NOW_NS - 4 * NS), measured_ns=NOW_NS,
)  # fmt: skip
OTHER = ROW._replace(id=DB, name="db", policy="strict", denials=1)
PEER = ("sockaddr", "10.0.0.1:80")


def make_event(index: int, op: str, decision: str = "allowed", *values: tuple[str, str]) -> Event:
    errno = "EPERM" if decision == "denied" else ""
    at_ns = NOW_NS - (4031 - index) * NS
    return Event(0, index, at_ns, 77, f"syscall.{op}", decision, errno, values, (), "", WEB)


EVENTS = (
    make_event(4025, "execve", "allowed", ("path", "/bin/curl"), ("argv", "curl 10.0.0.1")),
    make_event(4026, "openat", "allowed", ("path", "/etc/resolv.conf")),
    make_event(4027, "connect", "denied", PEER),
    make_event(4028, "openat", "allowed", ("path", "/etc/hosts")),
    make_event(4029, "connect", "denied", PEER),
    make_event(4030, "execve", "allowed", ("path", "/bin/sleep")),
)
PAST = tuple(
    make_event(index, "openat", "allowed", ("path", f"/p/{index}")) for index in (4023, 4024)
)
DENIED = EVENTS[4]
DETAILS = Details(
    ROW,
    command=("sh", "-c", "while true; do curl 10.0.0.1; sleep 1; done"),
    settings=(("memory", "64 MiB"), ("capabilities", "CHOWN KILL"), ("label app", "shop")),
    processes=(
        Process(70, 1, "root", NOW_NS - 600 * NS, 1.5, 1 << 20, "sh -c while true"),
        Process(77, 70, "root", NOW_NS - 2 * NS, 0.01, 3 << 20, "curl 10.0.0.1"),
    ),
    files=(FileChange("A", "/tmp/new", 12), FileChange("D", "/etc/motd")),
    interfaces=(("eth0", 5000, 2000),),
    connections=(Connection("tcp", "172.17.0.2:33000", "10.0.0.1:80", "SYN_SENT"),),
    policy_path="/etc/docklock/policies/quiet.yaml",
    rules=(RuleHits("connect", "deny EPERM", 4, 5), RuleHits("execve, execveat", "record", 2000)),
    more=(("files", 4029),),
)
LOG = (
    LogLine(NOW_NS - 2 * NS, "stdout", "starting"),
    LogLine(NOW_NS - NS, "stderr", "curl: (7) Couldn't connect to server " + "very long " * 20),
)
STEPS = (
    ProofStep("receipt", "4029 of run 0", (("leaf", HASHES[0]),)),
    ProofStep("segment", "17 of run 0", (("root", HASHES[1]), ("size", "512")), HASHES[2:5]),
    ProofStep("log", "leaf 19 of 20", (("root", HASHES[2]),), HASHES[:2]),
    ProofStep("checkpoint", "of size 20", (("signed by", "host 2dcd7284bae38c2b"),)),
    ProofStep("witness", "witness.example", (("cosigned", "2026-11-29 02:14:00"),)),
    ProofStep("block", "height 812", (("hash", HASHES[5]), ("seals", "3 of 4")), HASHES[4:6]),
)
FACTS = ReceiptFacts(
    DENIED,
    (
        ("op", DENIED.op), ("decision", "denied"), ("errno", "EPERM"), ("pid", "77"),
        ("sockaddr", "10.0.0.1:80"), ("policy", HASHES[3]), ("boot", HASHES[4][:32]),
    ),
    STEPS,
)  # fmt: skip
HELD = FACTS._replace(is_whole=True, steps=tuple(step._replace(is_held=True) for step in STEPS))
DENIAL = Denial(
    WEB, "web", DENIED.op, "EPERM", 4, NOW_NS - 60 * NS, DENIED.time_ns, DENIED, RULE, "quiet"
)
UNPROPOSABLE = Denial(
    DB, "db", "syscall.mount", "EPERM", 1, NOW_NS - 90 * NS, NOW_NS - 90 * NS,
    make_event(7, "mount", "denied", ("path", "/tmp"))._replace(container=DB), "deny mount",
    "strict", "it needs a capability that the container does not have",
)  # fmt: skip
PROPOSAL = Proposal(
    WEB,
    "quiet",
    "/etc/docklock/policies/quiet.yaml",
    (
        "--- quiet.yaml", "+++ quiet.yaml", "@@ -3,3 +3,4 @@", " rules:",
        "+  - {syscalls: [connect], action: record}",
        "   - {syscalls: [connect], action: deny}",
    ),
    ("newly allowed: connect",),
    note="it begins to hold when the container is started again",
)  # fmt: skip


def make_scene(**changes: object) -> Source:
    """A source with all of this; `changes` take an answer's place, by its call."""
    of: dict[str, tuple[str | int, ...]] = {
        "details": (WEB,), "feed": (WEB,), "past": (WEB,), "log": (WEB,), "denials": ("",),
        "receipt": (WEB, 0, 4029), "checked_receipt": (WEB, 0, 4029),
        "verify": (WEB,), "proposal": (WEB, DENIED.op, "EPERM", RULE),
    }  # fmt: skip
    answers: dict[str, object] = {
        "verify": (),
        "details": DETAILS,
        "feed": FeedPart(EVENTS, len(EVENTS), 4031, 0),
        "past": PAST,
        "log": LOG,
        "denials": (UNPROPOSABLE, DENIAL),
        "receipt": FACTS,
        "checked_receipt": HELD,
        "proposal": PROPOSAL,
        "overview": Overview(NOW_NS, "2dcd7284bae38c2b", "up", (ROW, OTHER), 2, 2),
    } | changes
    named = [Answer(call, NOW_NS, answers.pop(call), asked) for call, asked in of.items()]
    others = FACTS._replace(event=EVENTS[5], steps=STEPS[:1])
    named.append(Answer("receipt", NOW_NS, others, (WEB, 0, 4030)))
    return make_source(*named, **answers)
