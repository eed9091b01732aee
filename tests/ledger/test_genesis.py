"""Genesis: people's file and canonical bytes say the same; errors name line and key."""

from __future__ import annotations

import pytest

from chainlite.errors import SpecError
from chainlite.ledger import state
from chainlite.ledger.genesis import (
    PARAMETER_LIMITS,
    Parameters,
    compute_chain_id,
    decode_genesis,
    encode_genesis,
    format_genesis,
    parse_genesis,
)
from tests.ledger.samples import make_genesis

GENESIS = decode_genesis(make_genesis())
TEXT = format_genesis(GENESIS)


def test_file_and_bytes_say_the_same() -> None:
    assert parse_genesis(TEXT.encode(), "g") == GENESIS
    assert encode_genesis(GENESIS) == make_genesis()
    assert len(PARAMETER_LIMITS) == len(Parameters._fields)
    short = TEXT[: TEXT.index("[parameters]")] + TEXT[TEXT.index("[[validator]]") :]
    assert parse_genesis(short.encode(), "g").parameters == Parameters()
    blocks = TEXT.split("\n[[validator]]")
    shuffled = "\n[[validator]]".join([blocks[0], *reversed(blocks[1:])])
    assert parse_genesis(shuffled.encode(), "g") == GENESIS


def test_every_choice_makes_another_chain() -> None:
    ids = {compute_chain_id(encode_genesis(one)) for one in (
        GENESIS,
        GENESIS._replace(name="other"),
        GENESIS._replace(time_ms=GENESIS.time_ms + 1),
        GENESIS._replace(parameters=GENESIS.parameters._replace(vote_blocks=77)),
        GENESIS._replace(members=GENESIS.members[:3]),
    )}  # fmt: skip
    assert len(ids) == 5
    assert state.make_genesis_block(GENESIS).hash != state.make_genesis_block(
        GENESIS._replace(members=GENESIS.members[:3])
    ).hash  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('name = "test"', 'name = "te st"', "line 1: name: "),
        ('name = "test"', "", "name: "),
        ('name = "test"', 'nome = "test"', "line 1: nome: unknown key"),
        ("vote_blocks = 1000000", "vote_blocks = 0", "vote_blocks: 0 is not"),
        ("vote_blocks = 1000000", "votes = 1", "votes is not known"),
        ("vote_blocks = 1000000", "vote_blocks = 1.5", "line 4: parameters: want a whole"),
        ('address = "127.0.0.1:9001"', 'address = "nowhere"', "line 21: address: want HOST:PORT"),
        ('operator = "operator-1"', 'operator = "a b"', "line 20: operator: "),
        ('operator = "operator-1"', 'operatr = "a"', "line 20: operatr: unknown key"),
        ('certificate = "01', 'certificate = "0', "line 22: certificate: want 64 hex"),
        ("[[validator]]", "[[validators]]", "validators: unknown key"),
    ],
)
def test_errors_name_file_line_and_key(old: str, new: str, why: str) -> None:
    assert old in TEXT
    with pytest.raises(SpecError, match=r"^chain\.toml: ") as caught:
        parse_genesis(TEXT.replace(old, new).encode(), "chain.toml")
    assert why in str(caught.value)


def test_two_validators_with_one_key_are_refused() -> None:
    member = GENESIS.members[0]
    with pytest.raises(SpecError, match="do not ascend"):
        encode_genesis(GENESIS._replace(members=(member, member)))
    with pytest.raises(SpecError, match="not 1 to"):
        encode_genesis(GENESIS._replace(members=()))
