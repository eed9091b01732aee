"""What policies refused on this host, and the rule that would let it through with a receipt.

A shipped profile and a person's own file are never edited: the proposal is a file in root's own
directory of policies that extends what the container has. Where the container has such a file
already, the rule goes into it. `apply` writes the file and runs `docklock update --policy`, so the
change is on record; it holds from the container's next start.
Not here: counting (docklock.evidence.refused), the rule and the text (docklock.policy.propose).
Invariants: a proposal is applied to exactly what it was shown for, or not at all; a look reads a
bounded part of a store and is over in LOOK_MAX_NS (tests/console/test_host_policy.py).
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import DocklockError, SpecError, StateError
from docklock.cli.policy_questions import describe_change, format_treatment, resolve_name
from docklock.console.events import make_event
from docklock.console.facts import Denial, Done, Proposal
from docklock.console.host_acts import run_command
from docklock.evidence.host_log import HostLog, has_host_log
from docklock.evidence.refused import RefusedCalls
from docklock.lifecycle import list_containers, read_container
from docklock.policy.diff import compare_policies, is_looser
from docklock.policy.inherit import resolve_policy
from docklock.policy.load import read_base, read_source
from docklock.policy.machines import get_machine
from docklock.policy.propose import (
    find_refusal,
    find_tests,
    insert_rule,
    is_opened,
    make_document,
    make_rule,
)
from docklock.policy.shipped import find_policy, fix_name
from docklock.runtime import read_spec

if TYPE_CHECKING:
    from docklock.evidence.refused import Kind, Refused
    from docklock.lifecycle import Container
    from docklock.paths import Paths
    from docklock.policy.explain import Step
    from docklock.policy.inherit import Resolved
    from docklock.policy.model import ArgumentTest, RuleModel
    from docklock.policy.propose import Refusal

CONTAINERS_MAX = 200
"""Of all that ever ran the newest; those that are there come first."""
LOOK_MAX_NS = 250_000_000
DENIALS_MAX = 500
JUDGED_MAX = 4096
PROPOSALS_MAX = 16
"""Remembered, so that they can be applied."""
FILES_MAX = 100
EFFECTS_MAX = 50
DEFAULT = "default"
SYSCALL = "syscall."

Marks = tuple[tuple[str, int, int], ...]


class Place(NamedTuple):
    """A container as its policy is judged for."""

    container: Container
    capabilities: frozenset[str]


class Known(NamedTuple):
    """A policy as its files were, and what was found out about calls under it."""

    marks: Marks
    resolved: Resolved
    judged: dict[object, tuple[tuple[ArgumentTest, ...], Refusal]]


class Draft(NamedTuple):
    """A proposal's file: as it was (None: not there), as it would be."""

    path: str
    old: bytes | None
    new: bytes
    policy: str  # the container's when it was proposed


class HostPolicy:
    """The part of a source. One thread at a time, not always the same."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._machine = get_machine(os.uname().machine)
        self._calls: dict[str, RefusedCalls] = {}
        self._known: dict[str, Known] = {}
        self._drafts: dict[str, Draft] = {}
        self._kinds: dict[tuple[str, str, str, str], Kind] = {}

    def read_denials(self, container: str = "") -> tuple[Denial, ...]:
        """Of one container, or of the newest; the last refused first."""
        until_ns = time.monotonic_ns() + LOOK_MAX_NS
        found: list[Denial] = []
        for name, app in self._list(container):
            calls = self._calls.setdefault(name, RefusedCalls(self._paths, name))
            calls.look(until_ns)
            found += self._describe(name, app, calls)
        return tuple(sorted(found, key=lambda one: -one.last_ns)[:DENIALS_MAX])

    def propose(self, denial: Denial) -> Proposal:
        """The change, which nobody has made yet. StateError where there is none."""
        if denial.unproposable:
            raise StateError(denial.unproposable)
        kind = self._kinds.get(_get_key(denial))
        if kind is None:
            raise StateError("look at what was denied again: that is no longer known")
        place = self._find_place(denial.container)
        call = denial.op.removeprefix(SYSCALL)
        before = self._resolve(place.container.policy)
        tests = find_tests(before, call, kind.args, place.capabilities)
        draft = self._draft(place, call, kind, tests, denial)
        after = resolve_policy(draft.new, draft.path, read_base)
        changes = compare_policies(before.model, after.model, self._machine, place.capabilities)
        effects = [describe_change(one) for one in changes[:EFFECTS_MAX]]
        if len(changes) > EFFECTS_MAX:
            effects.append(f"and {len(changes) - EFFECTS_MAX} more")
        token = hashlib.sha256(repr((denial.container, draft)).encode()).hexdigest()
        while len(self._drafts) >= PROPOSALS_MAX:
            self._drafts.pop(next(iter(self._drafts)))
        self._drafts[token] = draft
        return Proposal(
            container=denial.container,
            policy=after.model.name,
            path=draft.path,
            diff=_make_diff(draft),
            effects=tuple(effects),
            is_looser=is_looser(changes),
            token=token,
            note=self._make_note(place.container, draft),
        )

    def apply(self, proposal: Proposal) -> Done:
        """Write the file and have the container use it from its next start on, on record.

        StateError if the file, or the container's policy, is another than when it was proposed.
        """
        draft = self._drafts.get(proposal.token)
        if draft is None:
            raise StateError("the proposal is not known any more: propose it again")
        container = read_container(self._paths, proposal.container)
        if _read_file(draft.path) != draft.old or container.policy != draft.policy:
            raise StateError(f"{draft.path}: changed since it was proposed: propose it again")
        del self._drafts[proposal.token]
        _write(draft.path, draft.new)
        done = run_command(self._paths, ("update", "--policy", draft.path, container.id))
        if not done.is_done:
            _undo(draft)
            return done
        return Done(is_done=True, text=f"{draft.path} is written; {proposal.note}")

    def _list(self, container: str) -> list[tuple[str, str]]:
        """Ids and names, the newest run first."""
        here = set(list_containers(self._paths))
        if not has_host_log(self._paths):
            return []
        with HostLog(self._paths, None) as log:
            runs = log.get_runs(container)
        names = {run.container: run.app for run in reversed(runs)}
        found = sorted(names.items(), key=lambda one: one[0] not in here)[:CONTAINERS_MAX]
        for gone in self._calls.keys() - dict(found).keys() if not container else ():
            del self._calls[gone]
        return found

    def _describe(self, name: str, app: str, calls: RefusedCalls) -> list[Denial]:
        """Each kind of refused call, those that the same rule would open together."""
        if not calls.counted.refused:
            return []
        place, why_not = None, ""
        try:
            place = self._find_place(name)
        except DocklockError as error:
            why_not = str(error)
        merged: dict[tuple[object, ...], Refused] = {}
        judged: dict[tuple[object, ...], tuple[str, str]] = {}
        for one in calls.counted.refused:
            tests, rule, why = self._judge(place, one.kind)
            key: tuple[object, ...] = (one.kind.op, one.kind.errno, rule, tests)
            known = merged.get(key)
            merged[key] = one if known is None else known.add(one)
            judged[key] = rule, why or why_not
        found = []
        for key, refused in merged.items():
            rule, why = judged[key]
            denial = self._make(name, app, place, refused, rule, why)
            found.append(denial._replace(note=_describe_part(calls)))
        return found

    def _judge(self, place: Place | None, kind: Kind) -> tuple[tuple[ArgumentTest, ...], str, str]:
        """What tells this call from others, the rule that refuses it, why none is proposed."""
        call = kind.op.removeprefix(SYSCALL)
        if place is None:
            return (), "", ""
        if call == kind.op or kind.arch not in (0, self._machine.audit):
            return (), "", "made by a program of another architecture: write its rule by hand"
        try:
            resolved, judged = self._read(place.container.policy)[1:]
            default = self._resolve(DEFAULT)
        except DocklockError as error:
            return (), "", str(error)
        key = (place.capabilities, call, kind.args)
        if key not in judged:
            if len(judged) >= JUDGED_MAX:
                judged.clear()
            refusal = find_refusal(resolved, default, call, kind.args, place.capabilities)
            judged[key] = find_tests(resolved, call, kind.args, place.capabilities), refusal
        tests, refusal = judged[key]
        why = refusal.why_not or _check_change(self._paths, place.container)
        return tests, _format_step(refusal.step, tests), why

    def _make(
        self, name: str, app: str, place: Place | None, refused: Refused, rule: str, why: str
    ) -> Denial:
        number = refused.kind.errno
        denial = Denial(
            container=name,
            container_name=place.container.name if place is not None else app,
            op=refused.kind.op,
            errno=errno.errorcode.get(number, str(number)) if number else "",
            times=refused.times,
            first_ns=refused.first_ns,
            last_ns=refused.last_ns,
            example=make_event(refused.example),
            rule=rule,
            policy=place.container.policy if place is not None else "",
            unproposable=why,
        )
        self._kinds[_get_key(denial)] = refused.kind
        return denial

    def _find_place(self, container_id: str) -> Place:
        """StateError for a container that is not there any more."""
        try:
            container = read_container(self._paths, container_id)
            held = read_spec(container).process.capabilities.bounding
        except StateError:
            raise StateError("the container was removed: name a policy for the next one") from None
        except OSError as error:
            raise StateError(f"its bundle cannot be read: {error.strerror}") from None
        return Place(container, frozenset(held))

    def _resolve(self, word: str) -> Resolved:
        """A policy with what it extends, read again where one of its files has changed."""
        return self._read(word).resolved

    def _read(self, word: str) -> Known:
        known = self._known.get(word)
        if known is None or _mark(known.resolved) != known.marks:
            found = resolve_name(word)
            known = self._known[word] = Known(_mark(found), found, {})
        return known

    def _draft(
        self,
        place: Place,
        call: str,
        kind: Kind,
        tests: tuple[ArgumentTest, ...],
        denial: Denial,
    ) -> Draft:
        """An edit of the container's own file, or a new one that extends what it has."""
        container, rule = place.container, make_rule(call, tests)
        path, asked = find_policy(container.policy), (call, kind.args, place.capabilities)
        if os.path.dirname(os.path.abspath(path)) == self._paths.policies:
            old = read_source(path)
            new = insert_rule(old, path, rule)
            if new is not None and is_opened(new, path, read_base, *asked):
                return Draft(path, old, new, container.policy)
        fresh = self._find_free(container)
        new = self._make_file(container, fresh, rule, denial)
        if not is_opened(new, fresh, read_base, *asked):
            raise StateError(f"no rule opens {call} here: see docklock policy explain {call}")
        return Draft(fresh, None, new, container.policy)

    def _find_free(self, container: Container) -> str:
        """A path in root's directory of policies that nothing has."""
        stem = f"{self._paths.policies}/{container.name}-{container.id[:12]}"
        for number in range(1, FILES_MAX):
            path = f"{stem}{f'-{number}' if number > 1 else ''}.yaml"
            if not os.path.lexists(path):
                return path
        raise StateError(f"{stem}-*.yaml: {FILES_MAX} files are there already: remove some")

    def _make_file(self, container: Container, path: str, rule: RuleModel, denial: Denial) -> bytes:
        (call,) = rule.syscalls
        comments = (
            f"Proposed by docklock top for container {container.name} ({container.id[:12]}):",
            f"{call} was refused {denial.times} times. It is let through, and leaves a receipt.",
        )
        name = os.path.basename(path).removesuffix(".yaml").lower()[-64:].lstrip("-_.")
        return make_document(name, fix_name(container.policy), rule, comments)

    def _make_note(self, container: Container, draft: Draft) -> str:
        note = f"it holds from its next start on: docklock restart {container.name}"
        others = []
        for other in list_containers(self._paths):
            try:
                found = read_container(self._paths, other)
            except StateError:
                continue
            if found.policy == draft.path and other != container.id:
                others.append(found.name)
        if others and draft.old is not None:
            note += f"; also for {', '.join(sorted(others)[:5])}{' ...' * (len(others) > 5)}"
        return note


def _describe_part(calls: RefusedCalls) -> str:
    counted = calls.counted
    return "" if counted.is_all else f"of its newest {counted.receipts:,} receipts"


def _get_key(denial: Denial) -> tuple[str, str, str, str]:
    return denial.container, denial.op, denial.errno, denial.rule


def _check_change(paths: Paths, container: Container) -> str:
    """Why the container's policy cannot be changed, or nothing."""
    from docklock.update import Change, check_record

    try:
        check_record(paths, container, Change({}, policy=container.policy))
    except StateError as error:
        return f"{error}: run it with --policy"
    return ""


def _format_step(step: Step | None, tests: tuple[ArgumentTest, ...]) -> str:
    """As `strict.yaml:12: deny EPERM where arg0 == 0x11`."""
    if step is None:
        return ""
    origin = step.origin
    where = f"{os.path.basename(origin.where)}:{origin.line}" if origin.line else origin.policy
    return f"{where}: {format_treatment(step.action, step.errno)}{_format_tests(tests)}"


def _format_tests(tests: tuple[ArgumentTest, ...]) -> str:
    words = []
    for index, op, value, mask in tests:
        left = f"arg{index} & {mask:#x}" if op == "masked" else f"arg{index}"
        words.append(f"{left} {'==' if op == 'masked' else op} {value:#x}")
    return f" where {' and '.join(words)}" if words else ""


def _mark(resolved: Resolved) -> Marks:
    found = []
    for document in resolved.documents:
        try:
            status = os.stat(document.where)
        except OSError:
            continue
        found.append((document.where, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _make_diff(draft: Draft) -> tuple[str, ...]:
    old = (draft.old or b"").decode("utf-8", "backslashreplace").splitlines()
    new = draft.new.decode("utf-8", "backslashreplace").splitlines()
    before = draft.path if draft.old is not None else "/dev/null"
    return tuple(difflib.unified_diff(old, new, before, draft.path, lineterm=""))


def _read_file(path: str) -> bytes | None:
    """The file's bytes; None if it is not there."""
    if not os.path.lexists(path):
        return None
    try:
        return read_source(path)
    except SpecError as error:
        raise StateError(str(error)) from None


def _write(path: str, data: bytes) -> None:
    """Replace the file by rename, durably. StateError, and it is as it was."""
    temporary = f"{path}.{os.getpid()}.part"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise StateError(f"{path}: cannot be written: {error.strerror}") from None


def _undo(draft: Draft) -> None:
    """The container does not use it: as if it had never been proposed."""
    if draft.old is None:
        os.unlink(draft.path)
    else:
        _write(draft.path, draft.old)
