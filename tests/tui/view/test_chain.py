"""tui.view.chain: halted before all, who is up in words, a peer that is a validator once."""

from __future__ import annotations

from docklock.console.facts import ChainFacts, Peer, Validator
from tests.tui.network import KEYS, NOW_MS, S_NS, make_chain, make_hostile_chain
from tests.tui.screen import NOW_NS
from tui.view.chain import (
    BLOCK_COLUMNS,
    MEMBER_COLUMNS,
    describe_block,
    describe_chain,
    describe_member,
    get_block_cell,
    get_member_cell,
    has_chain,
    list_members,
    list_names,
    make_alarm,
    make_curve,
    make_head,
)
from tui.view.describing import Description


def read(facts: ChainFacts) -> str:
    return " · ".join(cell.text for cell in make_head(facts, NOW_NS) if cell.text)


def list_texts(description: Description) -> list[str]:
    pairs = (*description.pairs, *description.paragraphs)
    return [description.title, *(text for pair in pairs for text in pair[:2])]


def test_the_head_tells_what_a_glance_should_find() -> None:
    head = read(make_chain())
    for words in (
        "harbour", "running", "height 1,200", "round 0", "last block 0 s ago",
        "validators 3 of 4 up", "quorum 3, 1 may fail", "decided in 5.2 ms, 95% in 11 ms",
        "this node: validator, votes", "2 waiting", "3 of 4 peers up", "1 convicted",
    ):  # fmt: skip
        assert words in head
    assert "behind" not in head
    late = make_chain()._replace(lag_blocks=12, head_ms=NOW_MS - 70_000, round=2)
    cells = make_head(late, NOW_NS)
    warned = {cell.text for cell in cells if cell.tone == "warn"}
    assert {"behind by 12", "last block 1 min ago", "round 2"} <= warned


def test_fewer_validators_than_the_quorum_is_said() -> None:
    facts = make_chain()
    down = tuple(one._replace(is_up=i < 2) for i, one in enumerate(facts.validators))
    [bad] = [cell for cell in make_head(facts._replace(validators=down), NOW_NS)
             if cell.tone == "bad" and "validators" in cell.text]  # fmt: skip
    assert bad.text == "validators 2 of 4 up, fewer than the quorum"


def test_halted_is_an_alarm_and_nothing_else_is() -> None:
    assert make_alarm(make_chain()) == ()
    alarm = make_alarm(make_chain()._replace(halted="two quorums for height 7\x1b[2J"))
    assert alarm[0].replace(" ", "") == "HALTED"
    assert "two quorums for height 7" in alarm[1] and "\x1b" not in alarm[1]


def test_without_a_node_it_says_how_to_get_one() -> None:
    facts = ChainFacts(trouble="no chain in DIR")
    assert not has_chain(facts) and has_chain(make_chain())
    told = "\n".join(list_texts(describe_chain(facts)))
    for words in ("No node", "docklock chain devnet", "docklock chain init", "no chain in DIR"):
        assert words in told
    assert "docklock chain devnet" not in "\n".join(list_texts(describe_chain(make_chain())))


def test_a_peer_that_is_a_validator_is_one_row_with_its_address() -> None:
    members = list_members(make_chain())
    assert [(one.kind, one.name) for one in members] == [
        ("validator", "north"), ("validator", "south"), ("validator", "east"),
        ("validator", "west"), ("peer", "looker 1234567890abcdef"),
    ]  # fmt: skip
    assert members[1].address == "127.0.0.1:7001"
    assert len({one.id for one in members}) == len(members)


def test_two_members_of_one_name_have_two_rows() -> None:
    twins = ChainFacts(
        chain_id="e", validators=(Validator("", "twin"),) * 2, peers=(Peer("twin", "", True),) * 2
    )
    members = list_members(twins)
    assert len(members) == len({one.id for one in members}) == 4


def test_each_state_is_a_word_of_its_own() -> None:
    members = list_members(make_chain())
    unknown = list_members(ChainFacts(validators=(Validator("k", "o"),)))
    words = [get_member_cell(one, "state").text for one in (*members, *unknown)]
    assert words == ["+ up", "+ up", "✗ down", "✗ accused", "+ up", "? unknown"]
    assert [get_member_cell(one, "turn").text for one in members][:2] == ["", "proposes"]


def test_the_curve_leaves_a_gap_where_no_block_came() -> None:
    facts = make_chain()
    curve = make_curve(facts, NOW_NS + 5 * S_NS)
    assert [point.at_ns for point in curve.points] == sorted(p.at_ns for p in curve.points)
    assert curve.until_ns == NOW_NS + 5 * S_NS and len(curve.points) == 120
    stopped = make_curve(facts._replace(is_running=False), NOW_NS + 3600 * S_NS)
    assert stopped.until_ns == NOW_NS
    assert make_curve(ChainFacts(), NOW_NS).points == ()
    untold = facts._replace(blocks=(facts.blocks[0]._replace(finality_ms=-1),))
    assert make_curve(untold, NOW_NS).points[0].value == -1


def test_a_block_and_a_validator_are_described_in_full() -> None:
    facts = make_chain()
    block = facts.blocks[3]
    told = "\n".join(list_texts(describe_block(block, facts, NOW_NS)))
    for words in (block.hash, "west", KEYS[3], "brought no block in time", "3 are needed", "4 ms"):
        assert words in told
    west = list_members(facts)[3]
    told = "\n".join(list_texts(describe_member(west, facts)))
    assert "two different votes" in told and "30 of the 120 newest" in told
    assert "two different votes" not in "\n".join(
        list_texts(describe_member(list_members(facts)[0], facts))
    )


def test_what_the_network_says_is_harmless_in_every_cell() -> None:
    evil = make_hostile_chain()
    names = list_names(evil)
    texts = [cell.text for cell in make_head(evil, NOW_NS)] + list(make_alarm(evil))
    texts += [
        get_block_cell(evil.blocks[0], column.key, NOW_NS, names).text for column in BLOCK_COLUMNS
    ]
    for member in list_members(evil):
        texts += [get_member_cell(member, column.key).text for column in MEMBER_COLUMNS]
        texts += list_texts(describe_member(member, evil))
    texts += list_texts(describe_block(evil.blocks[0], evil, NOW_NS))
    texts += list_texts(describe_chain(evil))
    for text in texts:
        assert text.isprintable() and len(text) <= 4100, text[:100]
        assert not any(mark in text for mark in "\u202e\u2066\ud800\x1b\x07")
