"""A policy document and those it extends -> one canonical model, and where each rule came from.

Not here: reading files (the caller gives `read`), one document (parse.py). Pure.
Order: a document before those it extends, these in the order it names them, each once: the last
place of a document that is reached twice, so that a base that two bases share comes after both.
Rules are in that order, and the first that matches decides; every other key is that of the first
document that has it, but for name and description, which are not inherited.
A call that an earlier rule decides without condition is dropped from a later one, so that documents
which mean the same have the same model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import SpecError
from docklock.policy.arguments import get_strings
from docklock.policy.model import Model, RuleModel
from docklock.policy.parse import Document, parse_document
from docklock.policy.parse_rules import MUST_ALLOW, RULES_MAX
from docklock.policy.yaml_nodes import Node, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[str, str], tuple[str, bytes]]

DOCUMENTS_MAX = 16
STEPS_MAX = 256  # documents reached, each as often as it is extended


class Origin(NamedTuple):
    """The document and the line (from 1) of a rule, or of `default`."""

    where: str
    policy: str
    line: int


class Resolved(NamedTuple):
    """A model, where its parts are from, and the documents it is made of, nearest first."""

    model: Model
    origins: tuple[Origin, ...]  # of each rule
    default_origin: Origin
    documents: tuple[Document, ...]


def parse_policy(data: bytes, where: str) -> Model:
    """The model of a document that extends nothing. SpecError for one that does."""
    return resolve_policy(data, where, _refuse_bases).model


def resolve_policy(data: bytes, where: str, read: Read) -> Resolved:
    """The model of a document and its bases.

    `read(word, where)` gives name and bytes of what a document at `where` calls `word`, or
    SpecError. SpecError also for a cycle, too many documents, and what no base says either.
    """
    documents = _order_documents(parse_document(data, where), read)
    first = documents[0]
    rules, origins = _merge_rules(documents)
    if len(rules) > RULES_MAX:
        raise SpecError(f"{where}: {len(rules)} rules with those inherited; at most {RULES_MAX}")
    decider = next(one for one in documents if one.default is not None)  # who extends none has one
    assert decider.default is not None
    added = [one.architectures for one in documents if one.architectures is not None]
    deaths = [one.on_worker_death for one in documents if one.on_worker_death is not None]
    action, errno = decider.default
    _check_must_allow(rules, decider, action)
    return Resolved(
        Model(
            first.name,
            first.description,
            action,
            errno,
            rules,
            added[0] if added else (),
            deaths[0] if deaths else "restart",
        ),
        origins,
        Origin(decider.where, decider.name, decider.default_node.line),
        documents,
    )


def _refuse_bases(word: str, where: str) -> tuple[str, bytes]:
    raise SpecError(f"{where} extends {word}, and other policies are not read here")


class _Walk:
    """Reads every document once and notes each arrival."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.known: dict[str, Document] = {}
        self.order: list[str] = []

    def visit(self, document: Document, above: tuple[str, ...]) -> None:
        """Depth first; `above` are the documents that led here."""
        self.order.append(document.where)
        self.known[document.where] = document
        chain = (*above, document.where)
        for node in document.extends:
            source = Source(document.where)
            where, base = self._open(node, source)
            if where in chain:
                source.fail(node, f"extends itself: {' -> '.join((*chain, where))}")
            if len(self.known) > DOCUMENTS_MAX or len(self.order) > STEPS_MAX:
                source.fail(node, f"extends more than {DOCUMENTS_MAX} policies in all")
            self.visit(base, chain)

    def _open(self, node: Node, source: Source) -> tuple[str, Document]:
        try:
            where, data = self.read(node.value, source.where)
        except SpecError as error:
            source.fail(node, f"extends {node.value}: {error}")
        known = self.known.get(where)
        return where, known if known is not None else parse_document(data, where)


def _order_documents(first: Document, read: Read) -> tuple[Document, ...]:
    walk = _Walk(read)
    walk.visit(first, ())
    last = {where: position for position, where in enumerate(walk.order)}
    return tuple(walk.known[where] for where in sorted(last, key=last.__getitem__))


def _merge_rules(
    documents: tuple[Document, ...],
) -> tuple[tuple[RuleModel, ...], tuple[Origin, ...]]:
    """Rules in order, less the calls that an earlier one decides without condition."""
    rules: list[RuleModel] = []
    origins: list[Origin] = []
    decided: set[str] = set()
    for document in documents:
        for rule, line in zip(document.rules, document.lines, strict=True):
            left = tuple(name for name in rule.syscalls if name not in decided)
            if left:
                rules.append(_narrow(rule, left))
                origins.append(Origin(document.where, document.name, line))
            if rule.when is None and rule.unless is None:
                decided.update(rule.syscalls)
    return tuple(rules), tuple(origins)


def _narrow(rule: RuleModel, names: tuple[str, ...]) -> RuleModel:
    """`rule` for these of its calls only, and the masks that they have."""
    known = {value for name in names for value in get_strings(name)}
    masks = tuple(mask for mask in rule.masks if mask in known)
    return rule._replace(syscalls=names, masks=masks)


def _check_must_allow(rules: tuple[RuleModel, ...], decider: Document, action: str) -> None:
    """Programs cannot end or return from a signal without these; every profile allows them."""
    named = {name for rule in rules for name in rule.syscalls}
    missing = [name for name in MUST_ALLOW if name not in named]
    if missing and action != "allow":
        Source(decider.where).fail(
            decider.default_node,
            f"add a rule that allows {', '.join(missing)}: every program needs them",
        )
