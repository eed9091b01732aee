"""A notary: one pass over a host's log, as often as its caller likes.

Not here: verification (intake), the rules of a block (chain), what is durable (store), when a pass
is due (the caller, who is told). A pass takes what is new, closes the blocks that are full or whose
time has come, and makes the bundles of windows that are over. Invariant: each step is one
transaction, so a pass that is killed anywhere goes on where it stood: nothing twice, nothing lost.
"""

from __future__ import annotations

from chainlite import bundle, logblock
from chainlite.economy import poe_bundle
from chainlite.economy.poe_index import DEFAULT_TERMS, Terms
from chainlite.errors import StateError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from enc.notary import chain as chains
from enc.notary import intake
from enc.notary.following import HostError, follow
from enc.notary.source import RunName
from enc.notary.store import AsideRow, BlockRow, WindowRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chainlite.keys import Signer
    from chainlite.verify import Verification
    from enc.notary.source import HostView, Source
    from enc.notary.store import Store

STEPS_OF_COMMIT = 64
"""Segments that are taken in one transaction."""
MS = 1000
NS_PER_MS = 1_000_000
EVER = 1 << 62


class Trouble(NamedTuple):
    """What a pass could not take, and where: a run stands still, or the whole host."""

    container: str
    run: int
    first_index: int
    why: str
    is_new: bool


class Pass(NamedTuple):
    """What one pass did; `due_ms` is when time closes the next block or window (None: none).

    `unread` says what could not be read this time, or nothing.
    """

    segments: int
    receipts: int
    blocks: int
    bundles: int
    waiting: int
    troubles: tuple[Trouble, ...]
    due_ms: int | None
    unread: str


class Notary:
    """Passes over one source, for the key `signer`."""

    def __init__(
        self, store: Store, host: bytes, source: Source, signer: Signer,
        terms: Terms = DEFAULT_TERMS,
    ) -> None:  # fmt: skip
        self._store, self._host, self._source = store, host, source
        self._signer, self._terms = signer, terms
        self._id = logblock.compute_notary_id(signer.public)
        self._chains: dict[tuple[bytes, str], chains.Chain] = {}
        self._troubles: list[Trouble] = []
        self._segments = self._receipts = self._blocks = self._bundles = 0
        self._now_ms = 0
        self._unread = ""

    def run_pass(self, now_ms: int, *, flush: bool = False) -> Pass:
        """Take what is new, close what is due (all that waits with `flush`), bill what is over.

        Where a run's records cannot be read now, all else is done, and the next pass looks again.
        """
        self._now_ms = chains.compute_time_ms(now_ms, self._store.get_floor_ms())
        self._chains, self._troubles, self._unread = {}, [], ""
        self._segments = self._receipts = self._blocks = self._bundles = 0
        try:
            view = self._source.open()
            if view is not None:
                self._take_host(view)
        finally:
            self._source.close()
        self._close_due(chains.Flush() if flush else chains.TimeCame())
        self._bill()
        open_chains = [self._get_chain(*name) for name in self._store.get_waiting_chains()]
        due = [chain.due_ms for chain in open_chains if chain.due_ms is not None]
        due += [
            (start + poe_bundle.WINDOW_SECONDS) * MS for _, start in self._store.find_over(EVER)
        ]
        return Pass(
            self._segments,
            self._receipts,
            self._blocks,
            self._bundles,
            sum(len(chain.waiting) for chain in open_chains),
            tuple(self._troubles),
            min(due, default=None),
            self._unread,
        )

    def _take_host(self, view: HostView) -> None:
        store, host = self._store, self._host
        seen = store.get_seen(host)
        try:
            followed = follow(view, host, seen)
        except HostError as error:
            with store.write():
                both = seen.note + b"\n" + error.note
                self._set_aside(RunName(b"", 0), 0, str(error), both)
            return
        held = [run.name for run in store.get_runs(host, "held != ''")]
        again = (*held, *store.get_refused_starts(host))
        unread = set[bytes]()
        for name in dict.fromkeys((*again, *followed.changed)):
            if name.container in unread:
                continue  # its next run is judged by the end of this one
            try:
                self._take_run(followed.opened, view, name)
            except StateError as error:
                unread.add(name.container)
                self._unread = str(error)
        if followed.seen != seen and not self._unread:
            with store.write():
                store.put_seen(host, followed.seen)

    def _take_run(self, opened: Verification, view: HostView, name: RunName) -> None:
        store = self._store
        saved = store.get_run(self._host, name)
        try:
            before = self._find_before(opened, view, name) if saved is None else None
        except TamperError as error:
            with store.write():
                self._set_aside(name, 0, str(error), b"")
            return
        steps = intake.take_run(opened, view, name, saved, before)
        is_more = True
        while is_more:
            counts = self._segments, self._receipts, self._blocks
            try:
                is_more = self._take_steps(opened, steps, name)
            except StateError:
                self._segments, self._receipts, self._blocks = counts  # they are undone
                self._chains.clear()
                raise

    def _find_before(
        self, opened: Verification, view: HostView, name: RunName
    ) -> intake.RunState | None:
        """The run before a new one, at its end; as its exit says where the notary is not there."""
        if name.run == 0:
            return None
        before = self._store.get_run(self._host, RunName(name.container, name.run - 1))
        if before is None:
            raise TamperError("the run before it is not there")
        if before.state != bundle.OPEN:
            return before
        return intake.end_run(opened, before, view.read_exit(before.name))

    def _take_steps(
        self, opened: Verification, steps: Iterator[intake.Step], name: RunName
    ) -> bool:
        """Some steps of a run in one transaction; whether there may be more."""
        with self._store.write():
            for number, step in enumerate(steps, 1):
                if isinstance(step, intake.Bad):
                    self._store.set_held(self._host, name, step.why)
                    self._set_aside(name, step.first_index, step.why, step.evidence)
                    return False
                self._store.put_run(self._host, step.run)
                if step.taken is not None:
                    self._take(opened, step.run.app, step.taken)
                if number == STEPS_OF_COMMIT:
                    return True
        return False

    def _take(self, opened: Verification, app: str, taken: chains.Taken) -> None:
        log = opened.checkpoint
        assert log is not None, "the host is opened"
        chain = self._get_chain(self._host, app)
        chain = chain._replace(log=chains.LogState(log.size, log.root))
        number = self._store.put_log(chain)
        chain, effects = chains.step(chain, taken, self._now_ms)
        self._segments += 1
        self._receipts += taken.event_count
        self._do(number, chain, effects)

    def _close_due(self, event: chains.Event) -> None:
        for host, app in self._store.get_waiting_chains():
            chain, effects = chains.step(self._get_chain(host, app), event, self._now_ms)
            if effects:
                with self._store.write():
                    self._do(self._store.find_chain(host, app), chain, effects)

    def _do(self, number: int, chain: chains.Chain, effects: tuple[chains.Effect, ...]) -> None:
        """Within a transaction: make durable what a chain's step asked for."""
        for effect in effects:
            if isinstance(effect, chains.Keep):
                self._store.insert_segment(number, effect.taken, self._now_ms)
                continue
            block = logblock.encode_block(effect.block)
            signature = logblock.sign_block(block, self._signer)
            row = BlockRow(effect.block.height, effect.block.time, block, signature)
            placed = self._store.insert_block(number, row)
            if placed != effect.block.segment_count:
                raise TamperError("the notary's database has other segments than it was given")
            self._store.add_window(chain.app, poe_bundle.find_window(effect.block.time).start)
            self._blocks += 1
        self._chains[chain.host, chain.app] = chain

    def _get_chain(self, host: bytes, app: str) -> chains.Chain:
        chain = self._chains.get((host, app))
        if chain is None:
            chain = self._chains[host, app] = self._store.get_chain(self._id, host, app)
        return chain

    def _bill(self) -> None:
        """Make the bundles of windows that are over."""
        now_s = self._now_ms // MS
        for app, start in self._store.find_over(now_s - poe_bundle.WINDOW_SECONDS + 1):
            made = compute_bundle(self._store, self._id, app, start, self._terms, self._now_ms)
            data = poe_bundle.encode_bundle(made)
            signature = poe_bundle.sign_bundle(data, self._signer)
            end_ms = (start + poe_bundle.WINDOW_SECONDS) * MS
            with self._store.write():
                self._store.put_bundle(WindowRow(app, start, data, signature), end_ms)
            self._bundles += 1

    def _set_aside(self, name: RunName, first_index: int, why: str, evidence: bytes) -> None:
        """Within a transaction: keep what is bad, and report it."""
        row = AsideRow(0, self._host, *name, first_index, why, evidence, self._now_ms)
        is_new = self._store.set_aside(row)
        trouble = Trouble(name.container.hex(), name.run, first_index, why, is_new)
        self._troubles.append(trouble)


def compute_bundle(
    store: Store, notary: bytes, app: str, start: int, terms: Terms, now_ms: int
) -> poe_bundle.PoeBundle:
    """What a window comes to by the LogBlocks that are there: two are read of each host."""
    window = poe_bundle.Window(start)
    begin, end = start * poe_bundle.NS, (start + window.seconds) * poe_bundle.NS
    parts = []
    for number, host, name in store.get_chain_names():
        last = store.get_last_block(number, end) if name == app else None
        if last is None or last.time < begin:
            continue
        before = store.get_last_block(number, begin)
        old = poe_bundle.make_point(before.block) if before else poe_bundle.BEFORE_ALL
        parts.append(poe_bundle.make_part(host, old, poe_bundle.make_point(last.block)))
    if not parts:
        raise StateError(f"{app}: no LogBlock in the window at {start}")
    return poe_bundle.make_bundle(notary, app, window, terms, tuple(parts), now_ms * NS_PER_MS)
