"""Take batches: verify, keep, put what is held into the server's log, answer. The one writer.

What came together shares one commit: rows, the server's log with a leaf for each new state, and its
checkpoint are durable together, and only then is anything answered. Not here: who may send
(the door's), queues (desk), what a batch is worth (verification).
Invariants: nothing is acknowledged that is not verified and durable; after a commit that failed
nothing of it is believed; a batch that does not begin where its host stands changes nothing of it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chainlite import hostlog, keys, merkle
from chainlite.bpci import act_log, at_rest, verification
from chainlite.bpci.acknowledgement import (
    Held,
    encode_acknowledgement,
    encode_held,
    sign_acknowledgement,
)
from chainlite.bpci.act_log import ActLog
from chainlite.bpci.alert import Evidence, encode_evidence
from chainlite.bpci.answer import BEHIND as BEHIND
from chainlite.bpci.answer import BROKEN as BROKEN
from chainlite.bpci.answer import EXCEEDED as EXCEEDED
from chainlite.bpci.answer import KNOWN as KNOWN
from chainlite.bpci.answer import NOT_YET as NOT_YET
from chainlite.bpci.answer import REFUSED as REFUSED
from chainlite.bpci.answer import REVOKED as REVOKED
from chainlite.bpci.answer import STRANGER as STRANGER
from chainlite.bpci.answer import TAKEN as TAKEN
from chainlite.bpci.answer import Answer as Answer
from chainlite.bpci.answer import HandedIn as HandedIn
from chainlite.bpci.answer import Request as Request
from chainlite.bpci.at_rest import Vault
from chainlite.bpci.batch import decode_batch, decompress
from chainlite.bpci.billed import decode_bundles, judge_blocks, judge_bundles
from chainlite.bpci.group import Group
from chainlite.bpci.handed import Contradiction, NotYet, decode_handed
from chainlite.bpci.known_host import KnownHost, encode_run_row, load_host, open_tenant
from chainlite.bpci.own_log import OwnLog
from chainlite.bpci.quota import Quota
from chainlite.bpci.restoring import NOT_LOGGED, Restore
from chainlite.bpci.rows import make_leaf_row, make_reader, make_segment_row
from chainlite.bpci.store import (
    Alert,
    Changes,
    Host,
    StoreDamage,
    Tenant,
)
from chainlite.bpci.tally import Tally, measure
from chainlite.bpci.verification import (
    Trouble,
    Verdict,
    find_contradiction,
    find_future,
    get_newest_key,
    judge_batch,
)
from chainlite.cage.refusal import Refusal
from chainlite.errors import SpecError, StateError, TamperError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chainlite.bpci.act import Act
    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.own_log import Staged
    from chainlite.bpci.store import Store
    from chainlite.bpci.tally import Exceeded
    from chainlite.ledger.offer import Offer

HOSTS_OPEN_MAX = 4096
ALERTS_MAX = 16
"""Of one host: each keeps a batch, and what comes after is only counted."""
FUTURE_MAX_NS = 600 * 10**9
"""How far ahead of the server's clock a receipt may be without an alert."""


_HANDED = {
    verification.LOGBLOCK: (decode_handed, judge_blocks),
    verification.POE: (decode_bundles, judge_bundles),
}


class Intake:
    """A store, its writer, and what is known of the hosts that send."""

    def __init__(
        self, store: Store, key: ServerKey, published: str, clock_ms: Callable[[], int]
    ) -> None:
        """TamperError where the store is not what this server has signed."""
        self._store, self._key, self._clock_ms = store, key, clock_ms
        self._vault = Vault(key)
        self.log = OwnLog(store, key, published)
        acts = os.path.join(os.path.dirname(published), act_log.FILE)
        self.acts = ActLog(store, key, acts)
        if self.acts.state.size:
            self.acts.publish()
        self.access = self.acts.access
        self.tally = Tally(store, self.access)
        self._hosts: dict[bytes, KnownHost] = {}
        self.restore = Restore(self, key, os.path.dirname(published) or ".")
        self.restore.go_on()

    @property
    def store(self) -> Store:
        """The one that this writes."""
        return self._store

    def get_now_ms(self) -> int:
        """Unix time, by this server's clock."""
        return self._clock_ms()

    def add_tenant(self, name: str) -> None:
        """A tenant with a key of its own; StateError if there is one of this name."""
        sealed = self._vault.make_tenant_key(name)
        if self._store.find_tenant(name) is not None:
            raise StateError("there is a tenant of this name already")
        self._store.commit(Changes(tenants=[Tenant(name, sealed)]))

    def ensure_tenant(self, name: str) -> None:
        """As add_tenant, unless it is there."""
        if self._store.find_tenant(name) is None:
            self.add_tenant(name)

    def enrol(self, tenant: str, public: bytes) -> bytes:
        """A host of a tenant, by its first public key; the acknowledgement that it holds nothing.

        Again for the same tenant it changes nothing. StateError: another tenant's, or no tenant.
        """
        if self._store.find_tenant(tenant) is None:
            raise StateError("there is no tenant of this name")
        if self.restore.is_on:
            raise StateError("the server's log is being restored")
        host = keys.compute_host_id(public)
        known = self.find(host)
        self.check_enrolment(tenant, host, known)
        if known is not None:
            return self._acknowledge(known.row)
        group = Group()
        known = group.hosts[host] = self.make_host(tenant, host, public)
        group.held.append(Held(host, 0, merkle.EMPTY_ROOT))
        self.tally.add(tenant, hosts=1)
        made = self.commit(group)
        self._remember(known)
        return made[0]

    def make_host(self, tenant: str, host: bytes, public: bytes) -> KnownHost:
        """A host that holds nothing, and of which the log says nothing."""
        label = at_rest.label_enrolment(tenant, host)
        enrolment = at_rest.seal(public, self.open_tenant(tenant), label)
        empty = (0, 0, 0, 0, b"", b"", NOT_LOGGED, merkle.EMPTY_ROOT)
        return KnownHost(Host(host, tenant, enrolment, *empty), self._store)

    def forget(self, hosts: Iterable[bytes]) -> None:
        """Their rows were written by another hand."""
        for host in hosts:
            self._hosts.pop(host, None)

    def check_enrolment(self, tenant: str, host: bytes, known: KnownHost | None) -> None:
        """Refusal where the host was revoked, or its tenant has as many as it may."""
        if host in self.access.revoked_hosts or host in self.access.members:
            raise Refusal(403, "revoked", "the key was revoked, or is a member's")
        if known is not None:
            if known.row.tenant != tenant:
                raise StateError("the host is enrolled already")
            return
        self.tally.check_host(tenant)

    def take(self, requests: Sequence[Request]) -> list[Answer]:
        """Verify and keep what holds; all of it durable when this returns, under one commit.

        StateError: it could not be written, and nothing of it is answered.
        """
        if self.restore.is_on:
            self.restore.go_on()  # an operator may have said whom not to wait for
        group = Group()
        drafts = list[tuple[Answer, KnownHost | None, int]]()
        for request in requests:
            place = len(group.held)
            if self.restore.is_on or request.seen > self.log.state.size:
                answer, known = Answer(BEHIND), None
            else:
                answer, known = self.judge(group, request)
            drafts.append((answer, known, place if len(group.held) > place else -1))
        made, answers = self.commit(group), list[Answer]()
        for answer, known, place in drafts:
            held = b""
            if place >= 0:
                held = made[place]
            elif known is not None and answer.kind != BROKEN:
                held = self._acknowledge(known.row)
            answers.append(answer._replace(acknowledgement=held))
        return answers

    def judge(self, group: Group, request: Request) -> tuple[Answer, KnownHost | None]:
        """What becomes of a batch, with the group; and its host, if it has shown that it is."""
        known: KnownHost | None = None
        try:
            batch = _read(request)
            known = self.find(batch.host)
            if known is None:
                raise SpecError("batch: the host is not enrolled here")
            if batch.host in self.access.revoked_hosts:
                return Answer(REVOKED, why="the host was revoked"), None
            if request.public and request.public != get_newest_key(known, batch):
                return Answer(STRANGER, why="the key is not the host's newest"), None
            return self._take(group, known, batch, request), known
        except StoreDamage as error:
            return Answer(BROKEN, why=str(error)), known
        except (SpecError, TamperError) as error:
            return Answer(REFUSED, why=str(error)), known

    def hand_in(self, handed: HandedIn) -> Answer:
        """Keep LogBlocks or bundles that hold, all of them or none; durable when this returns.

        NOT_YET: they do not begin where their chain stands, or speak of what has not come yet.
        EXCEEDED: a quota does not allow it.
        StateError: they could not be written.
        """
        group, known = Group(), self.find(handed.host)
        if known is None:
            return Answer(REFUSED, why="the host is not enrolled here")
        try:
            decode, judge = _HANDED[handed.kind]
            judged = judge(self._store, known.row, decode(handed.data))
        except Contradiction as error:
            none = verification.NO_RECEIPT
            trouble = Trouble(error.kind, error.leaf_index, none, none, str(error), error.proof)
            self._raise_alert(group, known, trouble, Request(handed.host, handed.data))
            self.commit(group)
            return Answer(REFUSED, why=trouble.why, alert=trouble.kind)
        except StoreDamage as error:
            return Answer(BROKEN, why=str(error))
        except NotYet as error:
            return Answer(NOT_YET, why=str(error))
        except (SpecError, TamperError) as error:
            return Answer(REFUSED, why=str(error))
        if not judged.blocks and not judged.bundles:
            return Answer(KNOWN)
        row, size = known.row, judged.measure()
        more = Quota(0, size, 0)
        exceeded = self.tally.judge(row.tenant, row.host, more, self._clock_ms(), group.acts)
        if exceeded is not None:
            self.commit(group)
            return Answer(EXCEEDED, why=exceeded.why, which=exceeded.which)
        group.blocks, group.notarised = list(judged.blocks), list(judged.runs)
        group.bundles = list(judged.bundles)
        group.hosts[handed.host] = known
        known.row = row._replace(stored_bytes=row.stored_bytes + size)
        self.tally.add(row.tenant, stored_bytes=size)
        self.commit(group)
        return Answer(TAKEN)

    def _take(self, group: Group, known: KnownHost, batch: Offer, request: Request) -> Answer:
        if batch.start != known.progress.size:
            read = make_reader(self._store, batch.host, known.hashes)
            trouble = find_contradiction(known, known.row.note, read, batch)
            if trouble is None:
                return Answer(KNOWN)
            self._raise_alert(group, known, trouble, request)
            return Answer(REFUSED, why=trouble.why, alert=trouble.kind)
        before = known.progress.receipts
        verdict = judge_batch(known, batch)
        trouble, exceeded = verdict.trouble, self._judge_quota(group, known, batch, verdict)
        if exceeded is not None and trouble is None:
            return Answer(EXCEEDED, why=exceeded.why, which=exceeded.which)
        if verdict.taken is not None and exceeded is None:
            self._keep(group, known, batch, verdict)
        if trouble is not None:
            self._raise_alert(group, known, trouble, request)
            why = f"leaf {trouble.leaf_index}: {trouble.why}"
            return Answer(REFUSED, why=why, alert=trouble.kind)
        limit_ns = self._clock_ms() * 10**6 + FUTURE_MAX_NS
        future = find_future(batch, verdict, limit_ns)
        if future is not None:
            self._raise_alert(group, known, future, request)
        receipts = known.progress.receipts - before
        return Answer(TAKEN, receipts=receipts, alert=future.kind if future else "")

    def _keep(self, group: Group, known: KnownHost, batch: Offer, verdict: Verdict) -> None:
        """The rows of what was verified."""
        taken, row = verdict.taken, known.row
        assert taken is not None
        tenant = self.open_tenant(row.tenant)
        known.apply(taken)
        nodes, at, size = taken.nodes, 0, 0
        for index, item in enumerate(batch.items[: verdict.leaves], batch.start):
            count = 1 + merkle.get_new_nodes(index)
            leaf = make_leaf_row(row.host, index, item.leaf, nodes[at : at + count])
            at += count
            group.leaves.append(leaf)
            known.hashes[index] = leaf.hashes
            size += len(leaf.data)
            if leaf.kind == hostlog.SEGMENT_KIND:
                label = at_rest.label_segment(row.tenant, row.host, index)
                segment = make_segment_row(leaf, at_rest.seal(item.body, tenant, label))
                assert segment is not None, "its kind says so"
                group.segments.append(segment)
                size += len(segment.box)
        for container, run in taken.runs.items():
            group.runs[row.host, container] = encode_run_row(row.host, container, run)
        known.row = known.row._replace(stored_bytes=row.stored_bytes + size)
        if verdict.note:
            known.row = known.row._replace(note=verdict.note)
        self.tally.add(row.tenant, receipts=taken.receipts, stored_bytes=size)
        group.hosts[row.host] = known
        if not self.restore.is_on:
            group.held.append(Held(row.host, taken.progress.size, taken.root))

    def _judge_quota(
        self, group: Group, known: KnownHost, batch: Offer, verdict: Verdict
    ) -> Exceeded | None:
        if self.restore.is_on:
            return None  # it was held before
        if verdict.taken is None or self.access.get_quota(known.row.tenant) == Quota():
            return None
        more = measure(batch, verdict)
        row = known.row
        return self.tally.judge(row.tenant, row.host, more, self._clock_ms(), group.acts)

    def _raise_alert(
        self, group: Group, known: KnownHost, trouble: Trouble, request: Request
    ) -> None:
        """Keep what was wrong with its proof, unless it is known, or there are too many."""
        row = known.row
        name = (row.host, trouble.kind, trouble.leaf_index)
        if row.alerts >= ALERTS_MAX or name in group.alerts:
            return
        if self._store.find_alert(*name) is not None:
            return
        data = b""  # of what is kept all is kept
        if trouble.kind != verification.FUTURE:
            data = decompress(request.data) if request.is_packed else request.data
        now_ms = self._clock_ms()
        label = at_rest.label_alert(row.tenant, *name, now_ms)
        evidence = encode_evidence(Evidence(trouble, data))
        box = at_rest.seal(evidence, self.open_tenant(row.tenant), label)
        group.alerts[name] = Alert(*name, now_ms, box)
        size = row.stored_bytes + len(box)
        known.row = row._replace(alerts=row.alerts + 1, stored_bytes=size)
        self.tally.add(row.tenant, stored_bytes=len(box))
        group.hosts[row.host] = known

    def commit(self, group: Group) -> list[bytes]:
        """Write it all; the acknowledgements of what is newly held, in order."""
        if not group.hosts and not group.acts:
            return []
        now_ms = self._clock_ms()
        try:
            staged, made = None, list[bytes]()
            acts = self.acts.stage(group.acts)
            if group.held:
                leaves = [encode_held(held) for held in group.held]
                staged = self.log.stage(leaves, now_ms // 1000)
                made = self._acknowledge_all(group, staged, now_ms)
            self._store.commit(
                Changes(
                    hosts=[known.row for known in group.hosts.values()],
                    leaves=[*group.leaves, *(staged.rows if staged else ())],
                    segments=group.segments,
                    runs=list(group.runs.values()),
                    alerts=list(group.alerts.values()),
                    acts=acts.rows,
                    note=staged.note if staged else b"",
                    blocks=group.blocks,
                    notarised=group.notarised,
                    bundles=group.bundles,
                )
            )
        except BaseException:
            for host in group.hosts:
                self._hosts.pop(host, None)
            self.tally.recount()
            raise
        for known in group.hosts.values():
            known.upon_commit()
        self.acts.upon_commit(acts)
        if staged is not None:
            self.log.upon_commit(staged)
        if group.acts:
            self.acts.publish()
        return made

    def _acknowledge(self, row: Host) -> bytes:
        """What is held of a host now, as the server's log says already."""
        assert not self.restore.is_on, "nothing is signed"
        held = Held(row.host, row.size, row.root)
        proof = self.log.prove(row.log_leaf, encode_held(held))
        made = sign_acknowledgement(self._key.pair, held, self._clock_ms(), proof)
        return encode_acknowledgement(made)

    def _acknowledge_all(self, group: Group, staged: Staged, now_ms: int) -> list[bytes]:
        first, made = self.log.state.size, list[bytes]()
        for index, held in enumerate(group.held, first):
            answer = sign_acknowledgement(self._key.pair, held, now_ms, staged.prove(index))
            made.append(encode_acknowledgement(answer))
            known = group.hosts[held.host]
            known.row = known.row._replace(log_leaf=index, root=held.root)
        return made

    def open_tenant(self, name: str) -> bytes:
        """The key of a tenant's boxes."""
        return open_tenant(self._store, self._vault, name)

    def commit_rows(self, known: KnownHost, row: Host, changes: Changes) -> None:
        """Write this, with the host's row, of which nothing else waits to be written."""
        self._store.commit(changes)
        more = row.stored_bytes - known.row.stored_bytes
        known.row = row
        self.tally.add(row.tenant, stored_bytes=more)

    def act(self, *acts: Act) -> None:
        """Do these, durably. StateError where one does not follow from those before."""
        group = Group()
        group.acts += acts
        self.commit(group)

    def find(self, host: bytes) -> KnownHost | None:
        """The host as it stands; None: none is here. StoreDamage: its row is not as sealed."""
        known = self._hosts.pop(host, None)
        if known is None:
            known = load_host(self._store, self._vault, host)
            if known is None:
                return None
        self._remember(known)
        return known

    def _remember(self, known: KnownHost) -> None:
        self._hosts[known.row.host] = known
        idle = (host for host, one in self._hosts.items() if not one.hashes)
        if len(self._hosts) > HOSTS_OPEN_MAX:
            oldest = next(idle, None)
            if oldest is not None and oldest != known.row.host:
                del self._hosts[oldest]


def _read(request: Request) -> Offer:
    """The batch of a request; SpecError where it does not read or is another host's."""
    batch = decode_batch(decompress(request.data) if request.is_packed else request.data)
    if batch.host != request.host:
        raise SpecError("batch: is of another host than the one that sends it")
    return batch
