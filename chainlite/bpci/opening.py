"""Open what came with a segment, as its row and its leaf say. What is opened is not yet verified.

Not here: what the boxes are (at_rest), verification (exporting, audit).
Invariant: a row that says not what its leaf says, or a box that is another row's, opens nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite import hostlog, segment
from chainlite.bpci.at_rest import Vault, label_segment, unseal
from chainlite.bpci.batch import decode_body, decode_segment_body
from chainlite.bpci.rows import make_segment_row
from chainlite.bpci.store import StoreDamage
from chainlite.errors import SpecError, StateError, TamperError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.store import Host, Segment, Store
    from chainlite.ledger.offer import Body

STEP = 256


class Opened(NamedTuple):
    """A segment's leaf with its header, and what came with it."""

    leaf: hostlog.Segment
    header: segment.Header
    body: Body


def open_tenant(store: Store, key: ServerKey, name: str) -> bytes:
    """A tenant's key. StateError: there is none of this name; TamperError: it does not open."""
    tenant = store.find_tenant(name)
    if tenant is None:
        raise StateError("there is no tenant of this name")
    return Vault(key).open_tenant_key(name, tenant.sealed_key)


def iterate_hosts(store: Store, tenant: str, first: bytes = b"") -> Iterator[Host]:
    """A tenant's hosts in order of their ids, from this one on."""
    row = store.find_host(first) if first else None
    if row is not None and row.tenant == tenant:
        yield row
    while rows := store.read_hosts(first, STEP):
        yield from [row for row in rows if row.tenant == tenant]
        first = rows[-1].host


def open_segment(store: Store, tenant: str, tenant_key: bytes, row: Segment) -> Opened:
    """What a segment's row holds; StoreDamage names its leaf."""
    try:
        found = store.read_leaves(row.host, row.leaf_index, 1)
        if not found or make_segment_row(found[0], row.box, int(row.erased == 1)) != row:
            raise TamperError("it is not as its leaf says")
        leaf = hostlog.decode_leaf(found[0].data)
        if not isinstance(leaf, hostlog.Segment):
            raise TamperError("the leaf is no segment's")
        header = segment.decode_header(leaf.header)
        data = unseal(row.box, tenant_key, label_segment(tenant, *row[:2], row.erased))
        if row.erased:
            body = decode_body(data)._replace(is_erased=True)
        else:
            body = decode_segment_body(data, header)
    except (SpecError, TamperError) as error:
        where = f"host {row.host.hex()[:16]}, segment at leaf {row.leaf_index}"
        raise StoreDamage(f"{where}: {error}") from None
    return Opened(leaf, header, body)
