"""How many witnesses must have cosigned a checkpoint, and who runs them.

With w witnesses of which b are assumed bad, any two sets of k share an honest one if 2k > w + b:
then no log gets two histories past the policy. Not here: cosignatures (cosignature), what was
anchored (report), asking witnesses (docklock.witness). Pure.
Invariants: a quorum is never met by one operator's witnesses if that operator runs the host; a
witness counts once, whatever keys it has.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from chainlite.cosignature import Cosignature
    from chainlite.note import VerifierKey


class Member(NamedTuple):
    """A witness: its keys (all under `name`), who runs it, and where it is asked ("" if not)."""

    name: str
    operator: str
    url: str
    keys: tuple[VerifierKey, ...]


class Quorum(NamedTuple):
    """`need` of the members must have cosigned, of which `bad` may lie; `operator` runs the log."""

    operator: str
    need: int
    bad: int
    members: tuple[Member, ...]

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """All keys of all members."""
        return tuple([key for member in self.members for key in member.keys])


class Standing(NamedTuple):
    """Who of a quorum has cosigned, whose witnesses they are, and why that is not enough or ""."""

    names: tuple[str, ...]
    operators: tuple[str, ...]
    need: int
    witness_count: int
    why: str

    @property
    def is_met(self) -> bool:
        """Whether the quorum is met."""
        return not self.why


def check_quorum(quorum: Quorum) -> None:
    """SpecError with the name of the setting at its beginning, if the quorum protects nothing."""
    count, names = len(quorum.members), [member.name for member in quorum.members]
    if not count:
        raise SpecError("witness: there is none")
    if 2 * quorum.need <= count + quorum.bad:
        raise SpecError(
            f"need: {quorum.need} of {count} witnesses with {quorum.bad} assumed bad can vouch for "
            f"two histories: at least {(count + quorum.bad) // 2 + 1}"
        )
    if quorum.need > count:
        raise SpecError(f"need: {quorum.need} of {count} witnesses is never met")
    if all(member.operator == quorum.operator for member in quorum.members):
        raise SpecError(f"operator: every witness is run by {quorum.operator!r} itself")
    if len(set(names)) != count:
        raise SpecError("witness: two have the same name")
    publics = [(member.name, key.public) for member in quorum.members for key in member.keys]
    if len({public for _, public in publics}) != len(publics):
        raise SpecError("witness: two have the same key")


def judge_quorum(quorum: Quorum, by: Iterable[Cosignature]) -> Standing:
    """Whether these cosignatures are enough; only members count."""
    signed = {one.name for one in by}
    members = [member for member in quorum.members if member.name in signed]
    operators = tuple(sorted({member.operator for member in members}))
    why = ""
    if len(members) < quorum.need:
        why = f"{len(members)} of {len(quorum.members)} witnesses, {quorum.need} are needed"
    elif set(operators) <= {quorum.operator}:
        why = f"all of them are run by {quorum.operator}, who runs the log"
    names = tuple(sorted(member.name for member in members))
    return Standing(names, operators, quorum.need, len(quorum.members), why)


def describe_standing(standing: Standing | None) -> dict[str, Any] | None:
    """The standing as JSON shows it."""
    if standing is None:
        return None
    return {
        "met": standing.is_met,
        "need": standing.need,
        "of": standing.witness_count,
        "witnesses": list(standing.names),
        "operators": list(standing.operators),
        "why": standing.why or None,
    }


def render_standing(standing: Standing) -> str:
    """The standing for people: operators are counted, not keys."""
    count = len(standing.operators)
    names = f" ({', '.join(standing.operators)})" if count else ""
    operators = f"{count} operator{'' if count == 1 else 's'}{names}"
    if not standing.is_met:
        return f"policy not met: {standing.why}; {operators}"
    signed = f"{len(standing.names)} of {standing.witness_count} witnesses"
    return f"policy met: {signed} ({standing.need} needed), {operators}"
