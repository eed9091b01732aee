"""Who may do what at a server, and under which rules, as its acts say. Pure.

Members and revocations, quotas and retention, and what was erased. Nothing else says so: there is
no row of it that could be edited, only acts, each sealed in its place (act_log).
Not here: hosts that are not revoked (their own rows). Invariants: an act that does not follow from
those before is refused; who was revoked stays so, and is enrolled under no other role.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite.bpci.act import Act, Kind
from chainlite.bpci.actor import Role
from chainlite.bpci.grant import ROLES, decode_grant, read_next_key
from chainlite.bpci.quota import Quota, get_day, get_least
from chainlite.errors import DocklockError, TamperError
from chainlite.keys import compute_host_id

if TYPE_CHECKING:
    from collections.abc import Callable

FOR_EVER = 0
NOT_REVOKED = 0
KEYS_MAX = 1000
"""Of one member, one after the other."""


class Member(NamedTuple):
    """Who is no host: `publics` are its keys, the newest last; times are Unix ms."""

    member: bytes
    tenant: str
    role: Role
    publics: tuple[bytes, ...]
    since_ms: int
    by: bytes
    revoked_ms: int = NOT_REVOKED


class Erasure(NamedTuple):
    """The newest of a tenant: all from before `cutoff_ns` (Unix ns), by a rule of `days`."""

    cutoff_ns: int
    days: int
    time_ms: int
    is_done: bool
    segments: int = 0
    alerts: int = 0


class Excess(NamedTuple):
    """A quota that was met on a day: which (quota.NAMES), by which host first, and when."""

    which: int
    day: int
    host: bytes
    time_ms: int


class Access:
    """All of it; `apply` alone changes it. One writes, in one thread; others may read."""

    def __init__(self) -> None:
        self.members: dict[bytes, Member] = {}
        self.revoked_hosts: dict[bytes, int] = {}
        self.retention: dict[str, int] = {}
        self.erasures: dict[str, Erasure] = {}
        self.excesses: dict[tuple[str, int], Excess] = {}
        self._quotas: dict[tuple[str, bool], Quota] = {}
        self._days: dict[str, tuple[int, int]] = {}
        self._reach_ns: dict[str, int] = {}

    def get_quota(self, tenant: str) -> Quota:
        """What holds for a tenant."""
        return get_least(*[self.get_quota_by(tenant, is_admins=one) for one in (False, True)])

    def get_quota_by(self, tenant: str, *, is_admins: bool) -> Quota:
        """What the operator has set, or the tenant's admin."""
        return self._quotas.get((tenant, is_admins), Quota())

    def get_retention(self, tenant: str) -> int:
        """Days that a tenant's bodies are kept; FOR_EVER."""
        return self.retention.get(tenant, FOR_EVER)

    def get_cutoff_ns(self, tenant: str) -> int:
        """Bodies whose last receipt is before this may have been erased; 0: none."""
        return self._reach_ns.get(tenant, 0)

    def find_day(self, tenant: str, now_ms: int) -> int | None:
        """The tenant's receipts before today, if today is known; a clock that was put back does
        not begin an older day."""
        day, before = self._days.get(tenant, (-1, 0))
        return before if get_day(now_ms) <= day else None

    def is_excess_known(self, tenant: str, which: int, day: int) -> bool:
        """Whether it was written down that day."""
        found = self.excesses.get((tenant, which))
        return found is not None and found.day >= day

    def apply(self, act: Act) -> None:
        """The next act. TamperError where it does not follow."""
        try:
            _APPLY[act.kind](self, act)
        except (DocklockError, ValueError, TypeError) as error:
            raise TamperError(f"act {act.kind.name.lower()}: {error}") from None

    def check(self, act: Act) -> None:
        """As `apply`, and nothing is changed."""
        other = Access()
        if act.name in self.members:
            other.members[act.name] = self.members[act.name]
        if act.name in self.revoked_hosts:
            other.revoked_hosts[act.name] = self.revoked_hosts[act.name]
        if act.tenant in self.erasures:
            other.erasures[act.tenant] = self.erasures[act.tenant]
        other.apply(act)

    def _enrol(self, act: Act) -> None:
        grant = decode_grant(act.record)  # office has checked it, and the act's box says so
        (number,) = act.numbers
        said = (act.tenant, ROLES[number], act.by, act.name)
        if said != (grant.tenant, grant.role, grant.by, compute_host_id(grant.public)):
            raise TamperError("it is not what the grant says")
        if grant.role is Role.HOST or act.name in self.members:
            raise TamperError("it is a host, or enrolled already")
        if act.name in self.revoked_hosts:
            raise TamperError("it was revoked as a host")
        self.members[act.name] = Member(
            act.name, act.tenant, grant.role, (grant.public,), act.time_ms, act.by
        )

    def _rotate(self, act: Act) -> None:
        member, change = self._get_valid(act), read_next_key(act.record)
        if (change.member, change.old) != (member.member, member.publics[-1]):
            raise TamperError("the next key is not signed by the one before")
        if change.public in member.publics or len(member.publics) >= KEYS_MAX:
            raise TamperError("the key was its already, or they are too many")
        publics = (*member.publics, change.public)
        self.members[act.name] = member._replace(publics=publics)

    def _revoke(self, act: Act) -> None:
        if act.name in self.members:
            member = self._get_valid(act)
            self.members[act.name] = member._replace(revoked_ms=max(act.time_ms, 1))
            return
        if act.name in self.revoked_hosts:
            raise TamperError("it is revoked already")
        self.revoked_hosts[act.name] = act.time_ms

    def _get_valid(self, act: Act) -> Member:
        member = self.members.get(act.name)
        if member is None or member.revoked_ms or member.tenant != act.tenant:
            raise TamperError("there is no such member, or it was revoked")
        return member

    def _set_quota(self, act: Act) -> None:
        receipts_per_day, stored_bytes, hosts = act.numbers
        self._quotas[act.tenant, bool(act.by)] = Quota(receipts_per_day, stored_bytes, hosts)

    def _set_retention(self, act: Act) -> None:
        (self.retention[act.tenant],) = act.numbers

    def _begin_day(self, act: Act) -> None:
        day, before = act.numbers
        self._days[act.tenant] = (day, before)

    def _exceed(self, act: Act) -> None:
        which, day = act.numbers
        self.excesses[act.tenant, which] = Excess(which, day, act.name, act.time_ms)

    def _erase(self, act: Act) -> None:
        cutoff_ns, days = act.numbers
        self._reach_ns[act.tenant] = max(cutoff_ns, self.get_cutoff_ns(act.tenant))
        self.erasures[act.tenant] = Erasure(cutoff_ns, days, act.time_ms, is_done=False)

    def _end_erasing(self, act: Act) -> None:
        erasure, (cutoff_ns, segments, alerts) = self.erasures.get(act.tenant), act.numbers
        if erasure is None or erasure.cutoff_ns != cutoff_ns:
            raise TamperError("it was not begun")
        self.erasures[act.tenant] = erasure._replace(
            is_done=True, segments=segments, alerts=alerts, time_ms=act.time_ms
        )


_APPLY: dict[Kind, Callable[[Access, Act], None]] = {
    Kind.ENROL: Access._enrol,
    Kind.ROTATE: Access._rotate,
    Kind.REVOKE: Access._revoke,
    Kind.QUOTA: Access._set_quota,
    Kind.RETENTION: Access._set_retention,
    Kind.DAY: Access._begin_day,
    Kind.EXCEED: Access._exceed,
    Kind.ERASE: Access._erase,
    Kind.ERASED: Access._end_erasing,
}
