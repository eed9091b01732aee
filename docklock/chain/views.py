"""What can be asked of a chain's store, running or not: blocks, transactions, validators, as JSON.

The same questions are answered by a node that runs (process) and, where none does, by whoever opens
the store (reading). Not here: what only a running node knows (status). Numbers that may pass 2^53
are decimal texts, keys and hashes hex.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from chainlite.consensus.validators import compute_faults
from chainlite.errors import SpecError, StateError
from chainlite.ledger import operations as ops
from chainlite.ledger import records
from chainlite.ledger.genesis import PARAMETER_LIMITS, Parameters, decode_genesis
from chainlite.ledger.tx import decode_tx

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainlite.consensus.validators import ValidatorSet
    from chainlite.ledger.block import Block
    from chainlite.ledger.genesis import Member
    from chainlite.ledger.header import Seals
    from chainlite.ledger.records import Proposal
    from chainlite.ledger.state import Ledger
    from chainlite.ledger.store import Store
    from chainlite.ledger.tx import Tx

BLOCKS_MAX = 1_000
"""Blocks in one answer."""
KEY_DIGITS_MIN = 4
"""Of a key that a person types the beginning of."""
BYTES_SHOWN = 64
"""Of a field; longer ones are told by their size."""
KINDS = {
    ops.Anchor: "anchor",
    ops.Register: "register",
    ops.Rotate: "rotate",
    ops.Revoke: "revoke",
    ops.VotesEvidence: "votes-evidence",
    ops.ForkEvidence: "fork-evidence",
    ops.Available: "available",
    ops.NotaryBlock: "logblock",
    ops.NotaryBundle: "poe-bundle",
    ops.MemberVote: "member-vote",
    ops.ParameterVote: "parameter-vote",
    ops.Statement: "statement",
}


class Views:
    """Answers about one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.routes: dict[str, Callable[[str], Any]] = {
            "blocks": self.get_blocks,
            "transactions": self.get_transaction,
            "validators": self.get_validators,
            "parameters": self.get_parameters,
            "finality": self.get_finality,
            "evidence": self.get_evidence,
            "history": self.get_history,
        }

    def answer(self, target: str) -> Any:
        """The answer to a path as `/blocks/17`; SpecError, StateError."""
        first, _, rest = target.removeprefix("/").partition("/")
        return self.routes[first](rest)

    def get_blocks(self, rest: str) -> Any:
        """`HEIGHT`: one block with its transactions; `last/N`: the newest N, newest first."""
        if rest.startswith("last/"):
            count = min(parse_number(rest.removeprefix("last/"), "--last"), BLOCKS_MAX)
            top = self._store.height
            heights = range(top, max(self._store.base - 1, top - count), -1)
            return [self._describe(height, whole=False) for height in heights]
        return self._describe(parse_number(rest, "HEIGHT"), whole=True)

    def _describe(self, height: int, *, whole: bool) -> dict[str, Any]:
        if height > self.height:
            raise StateError(f"block {height} is not here yet: the last one is {self.height}")
        return describe_block(*self._store.get_block(height), whole=whole)

    def get_transaction(self, rest: str) -> dict[str, Any]:
        """A transaction by its hash, and the block that it is in; StateError if none has it."""
        digest = parse_hash(rest, "HASH")
        place = self._store.find_tx(digest)
        if place is None:
            base, tables = self._store.base, self._store.tables
            known = f"height {self.height}" + (f"; {tables.say_base()}" if base else "")
            raise StateError(f"{rest}: no block here has this transaction ({known})")
        block, _ = self._store.get_block(place.height)
        tx = decode_tx(block.transactions[place.position])
        where = {"height": place.height, "position": place.position, "block": block.hash.hex()}
        return describe_tx(tx) | where | {"time_ms": block.header.timestamp_ms}

    def get_validators(self, rest: str) -> dict[str, Any]:
        """Who decides the next height, what is to change, and which votes are in progress.

        `HEIGHT`: who decided that one; nothing else of it.
        """
        shown = describe_validators(self._store.ledger)
        if rest:
            height = parse_number(rest, "HEIGHT")
            if height > self.height + 1:
                raise StateError(f"block {height} is not here yet: the last one is {self.height}")
            keys = find_validators(self._store, height)
            known = find_members(self._store)
            listed = [_describe_member(key, known.get(key)) for key in keys.keys]
            shown = {"height": height, **describe_set(keys), "validators": listed}
            shown |= {"changes": [], "proposals": [], "archives": []}
        for one in shown["validators"]:
            one["since"] = find_since(self._store, bytes.fromhex(one["key"]), shown["height"])
        return shown

    def get_finality(self, rest: str) -> dict[str, Any]:
        """`HOST/LEAF/HEIGHT`: a light proof of the first anchor of a host's log with this leaf.

        For a reader who trusts the header at HEIGHT, 0 for the genesis. LEAF may be `newest`.
        """
        from chainlite.proofs.light_source import prove_anchor

        host_word, _, more = rest.partition("/")
        leaf_word, _, height_word = more.partition("/")
        host = parse_hash(host_word, "HOST")
        if leaf_word == "newest":
            row = self._store.ledger.find(records.HOST + host)
            leaf = max(row.size - 1, 0) if isinstance(row, records.Host) else 0
        else:
            leaf = parse_number(leaf_word, "LEAF")
        height = parse_number(height_word or "0", "HEIGHT")
        if height > self.height:
            raise StateError(f"block {height} is not here yet: the last one is {self.height}")
        return {"proof": prove_anchor(self._store, host, leaf, height).hex()}

    def get_parameters(self, _rest: str) -> dict[str, Any]:
        """The parameters of the next block, what each may be, and votes on them in progress."""
        ledger = self._store.ledger
        limits = zip(ledger.parameters._asdict().items(), PARAMETER_LIMITS, strict=True)
        listed = [
            {"name": name, "value": value, "least": least, "most": most}
            for (name, value), (least, most) in limits
        ]
        votes = [
            one
            for one in describe_validators(ledger)["proposals"]
            if one["operation"]["kind"] == KINDS[ops.ParameterVote]
        ]
        return {"height": ledger.height + 1, "parameters": listed, "proposals": votes}

    def get_evidence(self, rest: str) -> dict[str, Any]:
        """`NAME/HEIGHT`: a light proof of evidence, for a reader as above.

        NAME is the key of the validator that it removed, or the hash of its transaction.
        """
        from chainlite.proofs.light_source import prove_evidence

        key_word, _, height_word = rest.partition("/")
        height = parse_number(height_word or "0", "HEIGHT")
        return {"proof": prove_evidence(self._store, parse_hash(key_word, "NAME"), height).hex()}

    def get_history(self, rest: str) -> dict[str, Any]:
        """`OLD/SIZE`: the root over the first OLD blocks, and the proof that SIZE go on from them.

        Both as tlog-witness has them: the leaves are block hashes, the genesis's first.
        """
        old_word, _, size_word = rest.partition("/")
        old_size, size = parse_number(old_word, "OLD"), parse_number(size_word, "SIZE")
        proof = self._store.prove_growth(old_size, size)
        root = self._store.compute_history_root(old_size)
        return {"root": root.hex(), "proof": [one.hex() for one in proof]}

    @property
    def height(self) -> int:
        """That of the last block."""
        return self._store.height


def describe_block(block: Block, seals: Seals | None, *, whole: bool) -> dict[str, Any]:
    """A block's header, who sealed it, and with `whole` the transactions that it has."""
    header = block.header
    shown: dict[str, Any] = {
        "height": header.height,
        "hash": block.hash.hex(),
        "time_ms": header.timestamp_ms,
        "proposer": header.proposer.hex(),
        "round": seals.round if seals else 0,
        "seals": len(seals.signatures) if seals else 0,
        "transactions": len(block.transactions),
        "bytes": len(block.encoded),
    }
    if whole:
        shown |= {
            "previous": header.previous.hex(),
            "state_root": header.state_root.hex(),
            "receipts_root": header.receipts_root.hex(),
            "history_root": header.history_root.hex(),
            "poh_root": header.poh_root.hex(),
            "next_validators": header.next_validators.hex(),
            "list": [summarise_tx(decode_tx(data)) for data in block.transactions],
        }
    return shown


def summarise_tx(tx: Tx) -> dict[str, Any]:
    """A transaction in a line."""
    kinds = [KINDS[type(operation)] for operation in tx.operations]
    return {
        "hash": tx.hash.hex(),
        "sender": tx.sender.hex(),
        "nonce": tx.nonce,
        "operations": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "bytes": len(tx.encoded),
    }


def describe_tx(tx: Tx) -> dict[str, Any]:
    """A transaction with all its operations."""
    listed = [describe_operation(operation) for operation in tx.operations]
    return summarise_tx(tx) | {"key": tx.key.hex(), "operations": listed}


def describe_operation(operation: ops.Operation) -> dict[str, Any]:
    """An operation's kind and fields."""
    shown: dict[str, Any] = {"kind": KINDS[type(operation)]}
    if isinstance(operation, ops.ParameterVote):
        shown["name"] = Parameters._fields[operation.parameter]
    for name, value in operation._asdict().items():
        if isinstance(value, bytes):
            short = len(value) <= BYTES_SHOWN
            shown[name] = value.hex() if short else f"{len(value)} bytes"
        else:
            shown[name] = value
    return shown


def describe_validators(ledger: Ledger) -> dict[str, Any]:
    """The validators of the next height and what the state says of them."""
    row = ledger.find(records.VALIDATORS_KEY)
    assert isinstance(row, records.Validators)
    proposals = cast("tuple[Proposal, ...]", ledger.find(records.PROPOSALS_KEY))
    archives = cast("tuple[Member, ...]", ledger.find(records.ARCHIVES_KEY))
    members = {member.public: member for member in row.members}
    height = ledger.height + 1
    return {
        "height": height,
        **describe_set(row.next),
        "validators": [_describe_member(key, members.get(key)) for key in row.next.keys],
        "changes": [
            {"height": due, "joins": bool(joins), "key": key.hex()}
            for due, joins, key in row.changes
        ],
        "proposals": [_describe_proposal(one, ledger) for one in proposals],
        "archives": [_describe_member(one.public, one) for one in archives],
    }


def find_validators(store: Store, height: int) -> ValidatorSet:
    """Those of a height up to the next one; StateError where the store begins later."""
    from chainlite.proofs.light_source import get_validators

    return get_validators(store, max(height, 1))


def find_members(store: Store) -> dict[bytes, Member]:
    """Who is known by name: the present members, and those of the genesis."""
    row = store.ledger.find(records.VALIDATORS_KEY)
    assert isinstance(row, records.Validators)
    first = decode_genesis(store.genesis).members
    return {member.public: member for member in (*first, *row.members)}


def find_since(store: Store, key: bytes, height: int) -> int:
    """The first height, up to this one, from which on the key has always been a validator's.

    As far as the store goes back: who was one when it begins is so since then.
    """
    changes = [change for change in store.read_sets() if change.height < height]
    for change in reversed(changes):
        if key not in change.before:
            return change.height + 1
    return store.base


def describe_set(validators: ValidatorSet) -> dict[str, int]:
    """How many there are, how many may lie, how many must agree."""
    size = validators.size
    return {"n": size, "f": compute_faults(size), "quorum": validators.quorum}


def _describe_member(key: bytes, member: Member | None) -> dict[str, Any]:
    if member is None:
        return {"key": key.hex(), "operator": "", "address": "", "certificate": ""}
    return {
        "key": key.hex(),
        "operator": member.operator,
        "address": member.address,
        "certificate": member.certificate.hex(),
    }


def _describe_proposal(proposal: Proposal, ledger: Ledger) -> dict[str, Any]:
    validators = ledger.get_validators(ledger.height + 1)
    return {
        "operation": describe_operation(ops.decode_operation(proposal.claim, b"")),
        "since": proposal.height,
        "until": proposal.height + ledger.parameters.vote_blocks,
        "votes": sum(key in validators for key in proposal.voters),
        "needed": validators.quorum,
        "voters": [key.hex() for key in proposal.voters],
    }


def parse_number(text: str, where: str) -> int:
    """A height or a count; SpecError if it is none."""
    if not text.isdigit() or not text.isascii() or len(text) > 18:
        raise SpecError(f"{where}: want a whole number, not {text!r}")
    return int(text)


def find_key(word: str, keys: list[str], what: str) -> bytes:
    """The one of these keys, in hex, that begins so; SpecError if none does, or several."""
    found = [key for key in keys if key.startswith(word.lower())]
    if len(word) < KEY_DIGITS_MIN or len(found) != 1:
        raise SpecError(
            f"{word}: want a key, or {KEY_DIGITS_MIN} or more digits that one alone begins with; "
            f"{len(found)} do, of {len(keys)} {what}"
        )
    return bytes.fromhex(found[0])


def parse_hash(text: str, where: str) -> bytes:
    """32 bytes in hex; SpecError if it is not that."""
    try:
        found = bytes.fromhex(text) if len(text) == 64 else b""
    except ValueError:
        found = b""
    if len(found) != 32:
        raise SpecError(f"{where}: want 64 hex digits, not {text!r}")
    return found
