"""Light proofs and header checkpoints out of a chain's store.

Not here: who asks (docklock, node), the event's part, which its host adds (light_make.add_event).
Invariant: what is returned has passed the check that a stranger makes, who trusts the genesis or
the header that was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite.consensus.validators import ValidatorSet
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.ledger import records
from chainlite.ledger.genesis import decode_genesis
from chainlite.ledger.operations import ForkEvidence, VotesEvidence
from chainlite.ledger.store_tables import AnchorPlace
from chainlite.ledger.tx import decode_tx
from chainlite.proofs.light import check_light
from chainlite.proofs.light_format import LINKS_MAX, Link, encode_light
from chainlite.proofs.light_make import Finality, make_light_proof, make_link, trim_seals
from chainlite.proofs.trusted import HeaderCheckpoint, Trusted, trust_genesis, trust_header

if TYPE_CHECKING:
    from chainlite.ledger.store import Store


def prove_anchor(store: Store, host: bytes, leaf_index: int, trusted_height: int = 0) -> bytes:
    """The proof of the first final anchor that holds a leaf of a host's log.

    To a reader who trusts the header at `trusted_height`, the genesis if 0. StateError: no anchor
    holds the leaf yet, or the store does not go back to what the reader trusts.
    """
    place = store.find_anchor(host, leaf_index)
    row = store.ledger.find(records.HOST + host)
    if place is None and isinstance(row, records.Host) and row.size > leaf_index:
        raise StateError(
            f"the anchor of host {host.hex()[:16]} that holds leaf {leaf_index}, in block "
            f"{row.anchored}, is not known here: {store.tables.say_base()}"
        )
    if place is None:
        raise StateError(
            f"no final block has an anchor of host {host.hex()[:16]} that holds leaf {leaf_index}: "
            "it may come with the next one"
        )
    return _prove(store, place, trusted_height)


def prove_evidence(store: Store, name: bytes, trusted_height: int = 0) -> bytes:
    """The proof that evidence is final, to such a reader.

    `name` is the key of the validator that it removed, or its transaction's hash. StateError: there
    is none, or the store does not go back so far.
    """
    place = _find_conviction(store, name) or _find_evidence(store, name)
    if place is None:
        raise StateError(f"no final block has evidence that {name.hex()} names")
    return _prove(store, place, trusted_height)


def _find_conviction(store: Store, accused: bytes) -> AnchorPlace | None:
    """Where the evidence is that removed a validator."""
    for change in store.read_sets():
        if accused in change.before and accused not in change.after:
            block, _ = store.get_block(change.height)
            for position, data in enumerate(block.transactions):
                for place, operation in enumerate(decode_tx(data).operations):
                    if isinstance(operation, VotesEvidence) and operation.accused == accused:
                        return AnchorPlace(0, change.height, position, place)
    return None


def _find_evidence(store: Store, digest: bytes) -> AnchorPlace | None:
    """Where the first evidence in the transaction with this hash is."""
    where = store.find_tx(digest)
    if where is None:
        return None
    tx = decode_tx(store.get_block(where.height)[0].transactions[where.position])
    for place, operation in enumerate(tx.operations):
        if isinstance(operation, VotesEvidence | ForkEvidence):
            return AnchorPlace(0, where.height, where.position, place)
    return None


def _prove(store: Store, place: AnchorPlace, trusted_height: int) -> bytes:
    trusted = get_trusted(store, trusted_height)
    block, seals = store.get_block(place.height)
    txs = [decode_tx(data) for data in block.transactions]
    if place.height <= trusted_height:
        below = place.height < trusted_height
        path = store.prove_history(place.height, trusted_height) if below else ()
        finality = Finality(history_path=path)
    else:
        assert seals is not None, "only the genesis has no seals, and no anchor"
        validators = get_validators(store, place.height)
        links = get_links(store, trusted_height, place.height)
        finality = Finality(links, seals=trim_seals(seals, validators))
    made = make_light_proof(
        trusted.chain_id, txs, (place.position, place.place), block.header, finality
    )
    data = encode_light(made)
    try:
        check_light(data, trusted, trusted.timestamp_ms)
    except TamperError:
        if trusted_height < store.base:
            raise StateError(
                f"the changes of the validators since block {trusted_height} are not all here: "
                f"{store.tables.say_base()}"
            ) from None
        raise
    return data


def get_trusted(store: Store, height: int) -> Trusted:
    """What a reader knows who trusts the header at this height: the genesis at 0."""
    start = trust_genesis(decode_genesis(store.genesis))
    if height == 0:
        return start
    return trust_header(start, store.get_block(height)[0].header, get_validators(store, height + 1))


def get_validators(store: Store, height: int) -> ValidatorSet:
    """The validators of a height up to the next one; StateError where the store begins later."""
    sets = store.read_sets()
    later = next((change for change in sets if change.height >= height), None)
    if later is not None:
        found = later.before
    else:
        found = store.ledger.get_validators(store.height + 1)
    named = store.get_block(height - 1)[0].header.next_validators
    if found.digest != named:
        raise StateError(f"the validators of height {height} are not known here")
    return found


def get_links(store: Store, after: int, before: int, most: int = LINKS_MAX) -> tuple[Link, ...]:
    """The first changes of the validators between two heights, of those that the store has."""
    links = []
    changes = [one for one in store.read_sets() if after < one.height < before]
    for change in changes[:most]:
        block, seals = store.get_block(change.height)
        assert seals is not None, "only the genesis has no seals"
        links.append(make_link(block.header, seals, change.before, change.after))
    return tuple(links)


def make_header_checkpoint(store: Store, note: bytes, height: int) -> HeaderCheckpoint:
    """The header at a height, under a note over the blocks up to it that witnesses cosigned.

    SpecError where that is above the store's height.
    """
    if height > store.height:
        raise SpecError(f"block {height} is not final here")
    header = store.get_block(height)[0].header
    path = store.prove_history(height, height + 1)
    return HeaderCheckpoint(note, header, path, get_validators(store, height + 1))
