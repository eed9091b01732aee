"""Take batches: verify, keep, put what is held into the server's log, answer. The one writer.

What came together shares one commit: rows, the server's log with a leaf for each new state, and its
checkpoint are durable together, and only then is anything answered. Not here: who may send
(the door's), queues (desk), what a batch is worth (verification).
Invariants: nothing is acknowledged that is not verified and durable; after a commit that failed
nothing of it is believed; a batch that does not begin where its host stands changes nothing of it.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

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
from chainlite.bpci.at_rest import Vault
from chainlite.bpci.batch import decode_batch, decompress
from chainlite.bpci.handed import Contradiction, NotYet, decode_handed, judge_handed, measure_block
from chainlite.bpci.known_host import KnownHost, decode_progress, encode_run_row
from chainlite.bpci.own_log import OwnLog
from chainlite.bpci.quota import Quota
from chainlite.bpci.rows import get_header, make_leaf_row, make_reader, make_segment_row
from chainlite.bpci.store import (
    Alert,
    Changes,
    Host,
    Leaf,
    LogBlock,
    Notarised,
    Run,
    Segment,
    StoreDamage,
    Tenant,
)
from chainlite.bpci.tally import Tally
from chainlite.bpci.verification import (
    Trouble,
    Verdict,
    find_contradiction,
    get_newest_key,
    judge_batch,
)
from chainlite.cage.refusal import Refusal
from chainlite.errors import SpecError, StateError, TamperError
from chainlite.ledger.bodies import read_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chainlite.bpci.act import Act
    from chainlite.bpci.at_rest import ServerKey
    from chainlite.bpci.own_log import Staged
    from chainlite.bpci.store import Store
    from chainlite.bpci.tally import Exceeded
    from chainlite.ledger.offer import Offer

HOSTS_OPEN_MAX = NEWEST_CACHED = 4096
ALERTS_MAX = 16
"""Of one host: each keeps a batch, and what comes after is only counted."""
FUTURE_MAX_NS = 600 * 10**9
"""How far ahead of the server's clock a receipt may be without an alert."""
TAKEN, KNOWN, REFUSED, BROKEN = "taken", "known", "refused", "broken"
STRANGER, REVOKED, EXCEEDED, NOT_YET = "stranger", "revoked", "exceeded", "not yet"


class Request(NamedTuple):
    """A batch, the host that its sender says it is, and the key that signed the call.

    That key must be one that the host's log, with this batch, names as its newest; empty where the
    caller has checked that by other means.
    """

    host: bytes
    data: bytes
    is_packed: bool = False
    public: bytes = b""


class Answer(NamedTuple):
    """TAKEN, KNOWN (it does not begin where the host stands), REFUSED, STRANGER where the key is
    not the host's, REVOKED where the host is, EXCEEDED where a quota of its tenant does not allow
    it (`which` of quota.NAMES), or BROKEN where the store is damaged, and why.

    `acknowledgement` says what is held now; empty where the host is not enrolled. `alert` is the
    kind of one that was raised: also beside TAKEN.
    """

    kind: str
    acknowledgement: bytes = b""
    receipts: int = 0
    why: str = ""
    alert: str = ""
    which: int = -1


class HandedIn(NamedTuple):
    """LogBlocks (handed.encode_handed) that a host hands in, which has shown its newest key."""

    host: bytes
    data: bytes


class _Group:
    """What will be one commit."""

    def __init__(self) -> None:
        self.blocks: list[LogBlock] = []
        self.notarised: list[Notarised] = []
        self.hosts: dict[bytes, KnownHost] = {}
        self.leaves: list[Leaf] = []
        self.segments: list[Segment] = []
        self.runs: dict[tuple[bytes, bytes], Run] = {}
        self.alerts: dict[tuple[bytes, str, int], Alert] = {}
        self.held: list[Held] = []
        self.acts: list[Act] = []


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

    @property
    def store(self) -> Store:
        """The one that this writes."""
        return self._store

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
        tenant_key = self.open_tenant(tenant)
        host = keys.compute_host_id(public)
        known = self.find(host)
        self._check_enrolment(tenant, host, known)
        if known is not None:
            return self._acknowledge(known.row)
        group = _Group()
        enrolment = at_rest.seal(public, tenant_key, at_rest.label_enrolment(tenant, host))
        row = Host(host, tenant, enrolment, 0, 0, 0, 0, b"", b"", 0, merkle.EMPTY_ROOT)
        known = group.hosts[host] = KnownHost(row, self._store)
        group.held.append(Held(host, 0, merkle.EMPTY_ROOT))
        self.tally.add(tenant, hosts=1)
        made = self._commit(group)
        self._remember(known)
        return made[0]

    def _check_enrolment(self, tenant: str, host: bytes, known: KnownHost | None) -> None:
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
        group = _Group()
        drafts = list[tuple[Answer, KnownHost | None, int]]()
        for request in requests:
            known: KnownHost | None = None
            place = len(group.held)
            try:
                batch = _read(request)
                known = self.find(batch.host)
                if known is None:
                    raise SpecError("batch: the host is not enrolled here")
                if batch.host in self.access.revoked_hosts:
                    known, answer = None, Answer(REVOKED, why="the host was revoked")
                elif request.public and request.public != get_newest_key(known, batch):
                    known, answer = None, Answer(STRANGER, why="the key is not the host's newest")
                else:
                    answer = self._take(group, known, batch, request)
            except StoreDamage as error:
                answer = Answer(BROKEN, why=str(error))
            except (SpecError, TamperError) as error:
                answer = Answer(REFUSED, why=str(error))
            drafts.append((answer, known, place if len(group.held) > place else -1))
        made, answers = self._commit(group), list[Answer]()
        for answer, known, place in drafts:
            held = b""
            if place >= 0:
                held = made[place]
            elif known is not None and answer.kind != BROKEN:
                held = self._acknowledge(known.row)
            answers.append(answer._replace(acknowledgement=held))
        return answers

    def hand_in(self, handed: HandedIn) -> Answer:
        """Keep LogBlocks that hold, all of them or none; durable when this returns.

        NOT_YET: they do not begin where their chain stands, or speak of what has not come yet.
        EXCEEDED: a quota does not allow it.
        StateError: they could not be written.
        """
        group, known = _Group(), self.find(handed.host)
        if known is None:
            return Answer(REFUSED, why="the host is not enrolled here")
        try:
            judged = judge_handed(self._store, known.row, decode_handed(handed.data))
        except Contradiction as error:
            trouble = Trouble(
                verification.LOGBLOCK, error.leaf_index, verification.NO_RECEIPT,
                verification.NO_RECEIPT, str(error),
            )  # fmt: skip
            self._raise_alert(group, known, trouble, Request(handed.host, handed.data))
            self._commit(group)
            return Answer(REFUSED, why=trouble.why, alert=trouble.kind)
        except StoreDamage as error:
            return Answer(BROKEN, why=str(error))
        except NotYet as error:
            return Answer(NOT_YET, why=str(error))
        except (SpecError, TamperError) as error:
            return Answer(REFUSED, why=str(error))
        if not judged.blocks:
            return Answer(KNOWN)
        row, size = known.row, sum(map(measure_block, judged.blocks))
        more = Quota(0, size, 0)
        exceeded = self.tally.judge(row.tenant, row.host, more, self._clock_ms(), group.acts)
        if exceeded is not None:
            self._commit(group)
            return Answer(EXCEEDED, why=exceeded.why, which=exceeded.which)
        group.blocks, group.notarised = list(judged.blocks), list(judged.runs)
        group.hosts[handed.host] = known
        known.row = row._replace(stored_bytes=row.stored_bytes + size)
        self.tally.add(row.tenant, stored_bytes=size)
        self._commit(group)
        return Answer(TAKEN)

    def _take(self, group: _Group, known: KnownHost, batch: Offer, request: Request) -> Answer:
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
        future = self._find_future(batch, verdict)
        if future is not None:
            self._raise_alert(group, known, future, request)
        receipts = known.progress.receipts - before
        return Answer(TAKEN, receipts=receipts, alert=future.kind if future else "")

    def _keep(self, group: _Group, known: KnownHost, batch: Offer, verdict: Verdict) -> None:
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
        group.held.append(Held(row.host, taken.progress.size, taken.root))

    def _judge_quota(
        self, group: _Group, known: KnownHost, batch: Offer, verdict: Verdict
    ) -> Exceeded | None:
        if verdict.taken is None or self.access.get_quota(known.row.tenant) == Quota():
            return None
        size = sum([len(one.leaf) + len(one.body) for one in batch.items[: verdict.leaves]])
        more = Quota(verdict.taken.receipts, size, 0)
        row = known.row
        return self.tally.judge(row.tenant, row.host, more, self._clock_ms(), group.acts)

    def _find_future(self, batch: Offer, verdict: Verdict) -> Trouble | None:
        """The first segment whose times are ahead of this server's clock by more than allowed."""
        limit = self._clock_ms() * 10**6 + FUTURE_MAX_NS
        for index, item in enumerate(batch.items[: verdict.leaves], batch.start):
            if item.leaf[0] != hostlog.SEGMENT_KIND:
                continue
            header = get_header(item.leaf)
            if header.time_last > limit:
                first, last = header.first_index, header.first_index + header.event_count - 1
                why = f"its last receipt is of {header.time_last} ns, which is still to come"
                return Trouble(verification.FUTURE, index, first, last, why)
        return None

    def _raise_alert(
        self, group: _Group, known: KnownHost, trouble: Trouble, request: Request
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

    def _commit(self, group: _Group) -> list[bytes]:
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
        held = Held(row.host, row.size, row.root)
        proof = self.log.prove(row.log_leaf, encode_held(held))
        made = sign_acknowledgement(self._key.pair, held, self._clock_ms(), proof)
        return encode_acknowledgement(made)

    def _acknowledge_all(self, group: _Group, staged: Staged, now_ms: int) -> list[bytes]:
        first, made = self.log.state.size, list[bytes]()
        for index, held in enumerate(group.held, first):
            answer = sign_acknowledgement(self._key.pair, held, now_ms, staged.prove(index))
            made.append(encode_acknowledgement(answer))
            known = group.hosts[held.host]
            known.row = known.row._replace(log_leaf=index, root=held.root)
        return made

    def open_tenant(self, name: str) -> bytes:
        """The key of a tenant's boxes."""
        tenant = self._store.find_tenant(name)
        if tenant is None:
            raise StoreDamage(f"tenant {name!r} is gone")
        try:
            return self._vault.open_tenant_key(name, tenant.sealed_key)
        except TamperError as error:
            raise StoreDamage(f"the key of tenant {name!r}: {error}") from None

    def commit_rows(self, known: KnownHost, row: Host, changes: Changes) -> None:
        """Write this, with the host's row, of which nothing else waits to be written."""
        self._store.commit(changes)
        more = row.stored_bytes - known.row.stored_bytes
        known.row = row
        self.tally.add(row.tenant, stored_bytes=more)

    def act(self, *acts: Act) -> None:
        """Do these, durably. StateError where one does not follow from those before."""
        group = _Group()
        group.acts += acts
        self._commit(group)

    def find(self, host: bytes) -> KnownHost | None:
        """The host as it stands; None: none is here. StoreDamage: its row is not as sealed."""
        known = self._hosts.pop(host, None)
        if known is None:
            row = self._store.find_host(host)
            if row is None:
                return None
            try:  # whoever writes rows moves no host to a tenant of theirs, and makes none
                key = self.open_tenant(row.tenant)
                at_rest.open_enrolment(row.enrolment, key, row.tenant, host)
            except StoreDamage:
                raise
            except TamperError as error:
                raise StoreDamage(f"host {host.hex()[:16]}: {error}") from None
            known = KnownHost(row, self._store)
        self._remember(known)
        return known

    def _remember(self, known: KnownHost) -> None:
        self._hosts[known.row.host] = known
        idle = (host for host, one in self._hosts.items() if not one.hashes)
        if len(self._hosts) > HOSTS_OPEN_MAX:
            oldest = next(idle, None)
            if oldest is not None and oldest != known.row.host:
                del self._hosts[oldest]


def find_newest_publics(store: Store, key: ServerKey, host: bytes) -> tuple[bytes, ...]:
    """A host's newest key, as far as the server knows its log; none where it is not enrolled."""
    row = store.find_host(host)
    tenant = store.find_tenant(row.tenant) if row is not None else None
    if row is None or tenant is None:
        return ()
    if row.progress:
        return (_read_newest(host, decode_progress(row).key_leaves),)
    tenant_key = Vault(key).open_tenant_key(row.tenant, tenant.sealed_key)
    return (at_rest.open_enrolment(row.enrolment, tenant_key, row.tenant, host),)


@lru_cache(maxsize=NEWEST_CACHED)
def _read_newest(host: bytes, key_leaves: tuple[bytes, ...]) -> bytes:
    """The newest key of these records: each call asks for it, and each record is a signature."""
    return read_keys(host, list(key_leaves)).public


def _read(request: Request) -> Offer:
    """The batch of a request; SpecError where it does not read or is another host's."""
    batch = decode_batch(decompress(request.data) if request.is_packed else request.data)
    if batch.host != request.host:
        raise SpecError("batch: is of another host than the one that sends it")
    return batch
