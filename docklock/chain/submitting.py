"""Hand transactions and votes to this host's node, and wait until a block has them.

Not here: what the node does with them (desk, chainlite.consensus.intake). Invariant: what was taken
is not yet in a block, and nobody is told that it is before one has it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from chainlite.errors import SpecError, StateError
from chainlite.ledger.genesis import Member, Parameters, check_parameter, parse_members
from chainlite.ledger.operations import (
    ARCHIVE,
    VALIDATOR,
    MemberVote,
    ParameterVote,
    encode_operation,
)
from docklock.chain.client import ask
from docklock.chain.directory import read_bounded
from docklock.chain.reading import query
from docklock.chain.settings import FILE_BYTES_MAX
from docklock.chain.setup import parse_parameters
from docklock.chain.views import find_key

if TYPE_CHECKING:
    from docklock.chain.directory import ChainDirectory

WAIT_S = 20.0
LOOK_S = 0.05
TAKEN = ("taken", "known")


def check_taken(told: dict[str, Any]) -> None:
    """StateError unless the node took it, or had it."""
    if told["verdict"] not in TAKEN:
        raise StateError(f"{told['hash']}: {told['verdict']}: {told['reason']}")


def wait_until_in_block(directory: ChainDirectory, digest: str) -> dict[str, Any]:
    """Height and hash of the block that has it; StateError if none has it in WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            found = ask(directory, "GET", f"/transactions/{digest}")
            return {key: found[key] for key in ("height", "block", "position")}
        except StateError:
            if time.monotonic() > deadline:
                raise StateError(
                    f"{digest}: taken, but no block has it after {WAIT_S:g} s: "
                    "`docklock chain status` says whether blocks are made"
                ) from None
        time.sleep(LOOK_S)


def make_vote(directory: ChainDirectory, verb: str, word: str, *, archive: bool) -> bytes:
    """The claim of a vote that a node joins (`add`, by its entry's file) or leaves (by its key)."""
    role = ARCHIVE if archive else VALIDATOR
    if verb == "add":
        members = parse_members(read_bounded(word, FILE_BYTES_MAX), word)
        if len(members) != 1:
            raise SpecError(f"{word}: {len(members)} entries; a vote is on one")
        vote = MemberVote(role, 1, *members[0])
    else:
        public = _find_member(directory, word, role)
        vote = MemberVote(role, 0, *Member(public, "", "", bytes(32)))
    return encode_operation(vote)[0]


def make_parameter_vote(text: str) -> bytes:
    """The claim of a vote that a parameter be so much, of KEY=NUMBER."""
    name = text.partition("=")[0]
    value = getattr(parse_parameters([text]), name)
    number = Parameters._fields.index(name)
    check_parameter(number, value)
    return encode_operation(ParameterVote(number, value))[0]


def _find_member(directory: ChainDirectory, word: str, role: int) -> bytes:
    """The validator or archive whose key begins so."""
    shown = query(directory, "/validators")
    keys = [one["key"] for one in shown["archives" if role == ARCHIVE else "validators"]]
    what = "archive" if role == ARCHIVE else "validator"
    return find_key(word, keys, f"{what}s; `docklock chain validators` lists them")
