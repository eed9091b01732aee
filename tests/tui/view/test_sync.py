"""tui.view.sync: the worst first, a word for every state, curves bounded."""

from __future__ import annotations

import pytest

from docklock.console.facts import ServerSync, SyncFacts
from docklock.outbox.sent import STATES
from tests.tui.network import HOSTILE, NOW_MS, S_NS, make_hostile_sync, make_hosts, make_sync
from tests.tui.screen import NOW_NS
from tui.view.sync import (
    ACKNOWLEDGED_COLUMNS,
    HISTORIES_MAX,
    SERVER_COLUMNS,
    SIGNS,
    LagHistory,
    describe_acknowledgement,
    describe_nothing,
    describe_server,
    get_acknowledged_cell,
    get_columns,
    get_server_cell,
    is_well,
    make_head,
    make_state,
    sort_servers,
    tell_next,
)


def read(facts: SyncFacts, *, is_server: bool = False) -> str:
    cells = make_head(facts, is_server=is_server)
    return " · ".join(cell.text for cell in cells if cell.text)


def test_the_head_counts_who_is_not_well_and_how_far_behind() -> None:
    assert read(make_sync()) == (
        "2 servers · ✗ 1 not well · most leaves behind 304 · longest behind 5.3 min"
    )
    assert "1,000 hosts · ✗ 10 not well" in read(make_hosts(1000), is_server=True)
    assert "goes to no server" in read(SyncFacts()) and "no hosts" in read(
        SyncFacts(), is_server=True
    )
    one = SyncFacts(make_sync().servers[:1])
    assert read(one).startswith("1 server · + all well")


def test_every_state_of_the_outbox_has_a_sign_and_a_meaning() -> None:
    assert set(SIGNS) == {*STATES, "silent", "revoked", "never heard"}
    assert len({make_state(state).text for state in STATES}) == len(STATES)
    assert make_state("dancing").text == "? dancing" and make_state("").tone == "warn"
    for state in STATES[1:]:
        described = describe_server(ServerSync("s", state=state), NOW_NS, is_server=False)
        assert described.paragraphs[0].name == "What it means"


@pytest.mark.parametrize("change", [
    {"state": "away"}, {"failures": 1}, {"contradictions": 1}, {"trouble": "x"}, {"lag_s": 61.0},
])  # fmt: skip
def test_a_server_with_anything_wrong_is_not_well(change: dict[str, object]) -> None:
    server = make_sync().servers[0]
    assert is_well(server)
    assert not is_well(server._replace(**change))
    assert is_well(server._replace(log_size=-1, lag_s=61.0)), "a host of a server, which is silent"


def test_the_worst_comes_first_and_orders_turn_round() -> None:
    a, b = make_sync().servers
    liar = b._replace(name="liar", contradictions=1, failures=0)
    assert [s.name for s in sort_servers((a, b, liar), "worst")] == ["liar", "two", "one"]
    assert [s.name for s in sort_servers((b, a), "name")] == ["one", "two"]
    assert [s.name for s in sort_servers((b, a), "name", is_reversed=True)] == ["two", "one"]
    assert [s.name for s in sort_servers((a, b), "lag")] == ["two", "one"]
    assert [s.name for s in sort_servers((a, b), "failures")] == ["two", "one"]


def test_on_a_server_silence_is_told_and_is_no_lag() -> None:
    quiet = ServerSync("h", state="well", acknowledged=9, log_size=-1, lag_s=7200.0)
    assert is_well(quiet), "it has nothing to say"
    assert not is_well(quiet._replace(state="silent"))
    assert get_server_cell(quiet, "acknowledged", NOW_NS).text == "9"
    head = read(SyncFacts((quiet,)), is_server=True)
    assert head == "1 host · + all well · longest silent 2 h"
    titles = [column.title for column in get_columns(is_server=True)]
    assert "SILENT" in titles and not {"BEHIND", "NEXT TRY", "LEAVES"} & set(titles)
    assert "BEHIND" in [column.title for column in get_columns(is_server=False)]
    told = {pair.name: pair.text for pair in describe_server(quiet, NOW_NS, is_server=True).pairs}
    assert told["silent for"] == "2 h" and "next try" not in told
    liar = quiet._replace(contradictions=2)
    assert "2 alerts" in read(SyncFacts((liar,)), is_server=True)


def test_next_try_is_a_time_to_come() -> None:
    assert tell_next(NOW_MS + 12_000, NOW_NS) == "in 12 s"
    assert tell_next(NOW_MS - 5, NOW_NS) == "now"
    assert tell_next(0, NOW_NS) == "-"


def test_each_server_has_its_curve_and_a_crowd_has_the_worst_alone() -> None:
    history = LagHistory()
    for second in range(5):
        history.add(make_sync(), NOW_NS + second * S_NS)
    words, curve = history.make_curve("one", NOW_NS + 5 * S_NS)
    assert words == "lag of one" and [p.value for p in curve.points] == [0.7] * 5
    crowd = LagHistory()
    for second in range(5):
        crowd.add(make_hosts(1000), NOW_NS + second * S_NS)
    words, curve = crowd.make_curve("host-0003", NOW_NS + 5 * S_NS)
    assert words == "longest lag of all" and curve.points[-1].value == 600
    changing = LagHistory()
    for number in range(500):
        server = make_sync().servers[0]._replace(name=f"server-{number}")
        changing.add(SyncFacts((server,)), NOW_NS + number * S_NS)
    assert len(changing._histories) <= 2 * HISTORIES_MAX
    assert len(changing.make_curve("", NOW_NS + 500 * S_NS)[1].points) == 500


def test_what_was_not_measured_is_a_gap_in_the_curve() -> None:
    history = LagHistory()
    history.add(SyncFacts((ServerSync("s"),)), NOW_NS)
    history.add(SyncFacts(), NOW_NS + S_NS)
    assert [p.value for p in history.make_curve("", NOW_NS + S_NS)[1].points] == [-1, -1]


def test_a_server_and_an_acknowledgement_are_described_in_full() -> None:
    two = make_sync().servers[1]
    told = " ".join(pair.text for pair in describe_server(two, NOW_NS, is_server=False).pairs)
    for words in ("https://two.example", "900 of 1,204 leaves", "304 leaves", "9 in a row",
                  "in 12 s", "connection refused"):  # fmt: skip
        assert words in told
    one = describe_acknowledgement(make_sync().acknowledgements[0], NOW_NS)
    assert "the first 1,200 leaves" in [pair.text for pair in one.pairs]
    nothing = describe_nothing(SyncFacts(trouble="agent.toml: line 3"), "a replay")
    assert "agent.toml: line 3" in [pair.text for pair in nothing.pairs]
    assert any("docklock sync enrol" in text for _, text, _ in nothing.paragraphs)


def test_what_servers_say_is_harmless_in_every_cell() -> None:
    facts = make_hostile_sync()
    [evil], [said] = facts.servers, facts.acknowledgements
    texts = [get_server_cell(evil, column.key, NOW_NS).text for column in SERVER_COLUMNS]
    texts += [get_acknowledged_cell(said, c.key, NOW_NS).text for c in ACKNOWLEDGED_COLUMNS]
    texts += [cell.text for cell in make_head(facts, is_server=True)]
    for told in (
        describe_server(evil, NOW_NS, is_server=True), describe_acknowledgement(said, NOW_NS),
        describe_nothing(SyncFacts(trouble=HOSTILE), HOSTILE),
    ):  # fmt: skip
        texts += [told.title, *(t for pair in (*told.pairs, *told.paragraphs) for t in pair[:2])]
    for text in texts:
        assert text.isprintable() and len(text) <= 4100, text[:100]
        assert not any(mark in text for mark in "\u202e\u2066\ud800\x1b\x07")
