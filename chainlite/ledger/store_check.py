"""A store checked to its last byte, and a damaged one cut back to what is whole.

Not here: peers, from whom what was cut off comes again (consensus.sync). Invariants: `check_store`
executes every block from the beginning, with all signatures and seals, and compares all that
follows from them; `truncate_to` keeps only what a replay from the genesis confirms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainlite import merkle
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.ledger import records, state
from chainlite.ledger.genesis import decode_genesis
from chainlite.ledger.header import is_sealed
from chainlite.ledger.store import find_set_change, list_anchors, open_store
from chainlite.ledger.store_tables import NODE_LEVEL, Tables
from chainlite.ledger.tx import decode_tx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chainlite.ledger.state import Ledger
    from chainlite.ledger.store_tables import AnchorPlace, SetChange
    from chainlite.ledger.tx import Tx


def check_store(path: Path) -> int:
    """Check everything in a store; its height. StoreDamage names the first place that is wrong.

    A store that began with a snapshot is executed from there: what came before, its peers have.
    """
    store = open_store(path)
    tables = store.tables
    try:
        last, rows = store.height, dict(store.ledger.get_items())
        if tables.base:
            for height in range(tables.base + 1, last + 1):
                if tables.get_block(height)[0].header.previous != tables.get_hash(height - 1):
                    raise tables.name_damage("blocks", height, "it does not follow the one before")
        else:
            anchors: list[tuple[bytes, AnchorPlace]] = []
            sets: list[SetChange] = []
            replayed = _replay(tables, last, _know_none, anchors, sets)
            if dict(replayed.get_items()) != rows:
                raise tables.name_damage("state", tables.flushed, "it is not what the blocks make")
            if sorted(anchors) != sorted(store.read_anchors()):
                raise tables.name_damage("anchors", -1, "they are not those of the blocks")
            if sets != store.read_sets():
                raise tables.name_damage("sets", -1, "they are not those of the blocks")
        _check_history(tables)
        return last
    finally:
        tables.db.close()


def truncate_to(path: Path, height: int) -> None:
    """Keep the blocks up to a height and make all else from them; peers then bring the rest.

    StoreDamage if a block up to there is not whole; StateError for a store that began with a
    snapshot after that height, or whose state is damaged: that one is made anew.
    """
    tables = Tables(path)
    try:
        height = min(height, tables.get_last())
        if tables.base:
            raise StateError(f"{path}: it began with a snapshot; make it anew from a peer's")
        anchors: list[tuple[bytes, AnchorPlace]] = []
        sets: list[SetChange] = []
        ledger = _replay(tables, height, decode_tx, anchors, sets)
        rows = {key: records.encode_record(key, row) for key, row in ledger.get_items()}
        with tables.begin():
            tables.drop_after(height)
            for table in ("state", "anchors", "sets", "tx_runs", "history"):
                tables.db.execute(f"DELETE FROM {table}")
            for complete in range((1 << NODE_LEVEL) - 1, height + 1, 1 << NODE_LEVEL):
                tables.insert_nodes(complete)
            for change in sets:
                tables.insert_set(*change)
            tables.write_state(dict(rows), anchors, height)
    finally:
        tables.db.close()


def _know_none(_data: bytes) -> Tx | None:
    """No transaction was checked before."""
    return None


def _replay(
    tables: Tables,
    last: int,
    find_checked: Callable[[bytes], Tx | None],
    anchors: list[tuple[bytes, AnchorPlace]],
    sets: list[SetChange],
) -> Ledger:
    """The ledger of all blocks up to `last`, each executed, sealed and in its place.

    The anchors in them are added to `anchors`, the changes of the validators to `sets`.
    """
    try:
        ledger = state.begin(tables.genesis)
        first = state.make_genesis_block(decode_genesis(tables.genesis))
    except SpecError as error:
        raise tables.name_damage("meta", -1, str(error)) from None
    if tables.get_block(0) != (first, None):
        raise tables.name_damage("blocks", 0, "it is not what the genesis makes")
    for block, seals in tables.iterate_blocks(1, last):
        height = block.header.height
        try:
            executed = ledger.check(block, find_checked)
        except (SpecError, TamperError) as error:
            raise tables.name_damage("blocks", height, str(error)) from None
        validators = ledger.get_validators(height)
        if not seals or not is_sealed(seals, validators, ledger.chain_id, height, block.hash):
            raise tables.name_damage("blocks", height, "no quorum has sealed it")
        change = find_set_change(executed)
        sets += [change] if change is not None else []
        ledger.commit(executed)
        anchors += list_anchors(executed)
    return ledger


def _check_history(tables: Tables) -> None:
    """Every node of the history that is kept is that of its children."""
    with tables.guard("history"):
        rows = tables.db.execute("SELECT level, number, hash FROM history").fetchall()
    for level, number, digest in rows:
        if (number << level) < tables.base or level == 0:
            continue
        children = [tables.read_node(level - 1, 2 * number + side) for side in (0, 1)]
        if merkle.compute_node_hash(*children) != digest:
            last = ((number + 1) << level) - 1
            raise tables.name_damage("history", last, f"the node of level {level} is another")
