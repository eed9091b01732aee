"""The Policy screen's words: what was denied, why, and what a proposal would change."""

from __future__ import annotations

from docklock.console.facts import Denial, Event, Proposal
from tests.tui.hostile import find_raw, make_hostile
from tests.tui.hostile import get_text as get_hostile
from tui.view.denials import (
    DENIAL_COLUMNS,
    DENIAL_FIELDS,
    DENIALS_MAX,
    describe_list,
    explain_denial,
    find_program,
    get_field,
    get_key,
    sort_denials,
    write_denial,
    write_proposal,
)  # fmt: skip
from tui.view.lines import get_text
from tui.view.wrapping import get_width

NS = 10**9
NOW = 1_000 * NS
EVENT = Event(
    0, 3, 988 * NS, 77, "syscall.connect", "denied", "EPERM", (("sockaddr", "10.0.0.1:80"),)
)
DENIAL = Denial(
    "c" * 64, "web", "syscall.connect", "EPERM", 4, 900 * NS, 988 * NS, EVENT,
    "deny connect (quiet.yaml:5)", "strict",
)  # fmt: skip
PROPOSAL = Proposal(
    DENIAL.container, "strict", "/etc/docklock/strict.yaml",
    ("--- a", "+++ b", "@@ -1 +1,2 @@", " rules:", "-old", "+  - {syscalls: [connect]}"),
    ("newly allowed: connect",), note="it begins to hold with the next start",
)  # fmt: skip


def join(lines: tuple[tuple[object, ...], ...]) -> str:
    return "\n".join(get_text(line) for line in lines)  # type: ignore[arg-type]


def test_a_denial_is_explained_in_plain_words() -> None:
    text = join(explain_denial(DENIAL, NOW, 400, "curl http://10.0.0.1"))
    assert text.startswith(
        "connect was refused with EPERM by rule deny connect (quiet.yaml:5) of policy strict: "
        "4 times, last 12 s ago by pid 77 (curl http://10.0.0.1)."
    )
    assert "A program in web asked the kernel to reach a peer; it was not done." in text
    assert "EPERM: operation not permitted" in text
    assert "receipt 0:3" in text and "sockaddr=10.0.0.1:80" in text
    assert "a proposes the rule" in text


def test_the_program_is_the_last_that_the_process_ran_before_its_call() -> None:
    def run(pid: int, *values: tuple[str, str]) -> Event:
        return EVENT._replace(pid=pid, op="syscall.execve", decision="allowed", values=values)

    events = (run(77, ("argv", "sh -c x")), run(77, ("path", "/bin/curl")), run(78, ("argv", "no")))
    assert find_program((*events, EVENT), 77) == "/bin/curl"
    assert find_program(events[:1], 77) == "sh -c x"
    assert find_program((EVENT,), 77) == ""


def test_one_time_is_one_time_and_a_process_that_is_gone_has_no_name() -> None:
    text = join(explain_denial(DENIAL._replace(times=1, rule="", policy=""), NOW, 400))
    assert text.startswith("connect was refused with EPERM: 1 time, last 12 s ago by pid 77.")


def test_what_cannot_be_proposed_says_why_and_offers_nothing() -> None:
    text = join(explain_denial(DENIAL._replace(unproposable="it is a capability"), NOW, 80))
    assert "No rule is proposed: it is a capability" in text and "a proposes" not in text


def test_the_newest_is_first_and_the_list_is_bounded() -> None:
    many = [DENIAL._replace(last_ns=at * NS, op=f"op{at}") for at in range(DENIALS_MAX + 5)]
    ordered = sort_denials(many)
    assert len(ordered) == DENIALS_MAX and ordered[0].op == f"op{DENIALS_MAX + 4}"
    assert "2,000 of 2,005 kinds" in describe_list(many, len(ordered), "")


def test_a_row_has_a_cell_for_each_column_and_a_field_for_each_word_of_the_filter() -> None:
    cells = write_denial(DENIAL, NOW)
    assert set(cells) == {column.key for column in DENIAL_COLUMNS}
    assert cells["times"].text == "4" and cells["last"].text == "12 s"
    assert get_field(DENIAL, "container").startswith("web ")  # type: ignore[union-attr]
    assert all(get_field(DENIAL, field) not in ("", None) for field in DENIAL_FIELDS)
    assert get_key(DENIAL) == get_key(DENIAL._replace(times=9, last_ns=NOW))
    assert get_key(DENIAL) != get_key(DENIAL._replace(op="syscall.bind"))


def test_a_proposal_says_that_it_is_looser_what_it_allows_and_when_it_holds() -> None:
    text = join(write_proposal(PROPOSAL, 80))
    assert "LOOSER" in text and "newly allowed: connect" in text
    assert "+  - {syscalls: [connect]}" in text and "next start" in text
    tight = join(write_proposal(PROPOSAL._replace(is_looser=False), 80))
    assert "LOOSER" not in tight and "not looser" in tight


def test_hostile_denials_and_proposals_are_harmless() -> None:
    for number in range(12):
        denial = make_hostile(Denial, number)
        lines = [
            *explain_denial(denial, NOW, 80, get_hostile(number)),
            *write_proposal(make_hostile(Proposal, number), 80),
        ]
        cells = "".join(cell.text for cell in write_denial(denial, NOW).values())
        assert not find_raw(join(tuple(lines)).replace("\n", "") + cells)
        wrapped = explain_denial(denial, NOW, 80)
        assert all(get_width(get_text(line)) <= 80 for line in wrapped)
