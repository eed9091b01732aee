"""Collect the frames of a notary's file of one app: LogBlocks, bundles, and what shows whose.

Not here: the frames' bytes and checks (chainlite.notarised). Blocks and bundles come from the
notary's own database; keys, starts and certificates from the host, under one checkpoint of its log.
"""

from __future__ import annotations

from chainlite import bundle, notarised
from chainlite.errors import StateError
from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enc.notary.source import HostView
    from enc.notary.store import Store


def collect_frames(
    store: Store, views: dict[bytes, HostView], app: str
) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of each frame but the seal; StateError where the app has no LogBlock.

    `views` are the hosts by id: one that is missing cannot show its keys.
    """
    chains = [(number, host) for number, host, name in store.get_chain_names() if name == app]
    chains = [(number, host) for number, host in chains if store.get_last_block(number)]
    if not chains:
        raise StateError(f"{app}: no LogBlock of it; `docklock notary status` lists what there is")
    yield notarised.NOTARY_KEY, store.get_public()
    for number, host in chains:
        if host not in views:
            raise StateError(f"{app}: host {host.hex()[:16]} is not here to show its keys")
        yield from _collect_host(store, views[host], number, host, app)
    for window in store.get_windows(app):
        if window.bundle:
            yield notarised.POE_BUNDLE, notarised.encode_signed(window.bundle, window.signature)


def _collect_host(
    store: Store, view: HostView, chain: int, host: bytes, app: str
) -> Iterator[tuple[int, bytes]]:
    yield from view.read_opening()
    for payload in view.read_anchors():
        yield bundle.ANCHOR, payload
    for run in store.get_runs(host, "event_count > 0"):
        if run.app == app:
            yield bundle.START, view.read_start(run.name)
            for payload in view.read_certificates(run.name):
                yield bundle.CERTIFICATE, payload
    for row, body in store.iterate_blocks(chain):
        frame = notarised.encode_block_frame(row.block, row.signature, body)
        yield notarised.LOGBLOCK, frame
