"""Which policy a container runs under, where the command line names none.

Not here: reading policies (load.py), the command line (docklock/cli/run.py).
Who may say it: root's file first (SELECTION in the directory of policies; `default` where it has
no answer); then a label of the image or the container, which may choose a shipped policy that is
stricter, and no other: whoever builds an image must not loosen what it runs under.
Every `docklock run` imports this: YAML only where root wrote a file.
"""

from __future__ import annotations

import os

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.policy.shipped import find_policy, is_file_name

if TYPE_CHECKING:
    from docklock.policy.yaml_nodes import Node, Source

SELECTION = "select.yaml"
LABEL = "dev.docklock.policy"
POLICY_DEFAULT = "default"
CASES_MAX = 1000
KEYS = ("image", "image-label", "label", "policy")

# For each shipped policy those that let no more happen, with no less of a receipt, whatever the
# container's capabilities (tests/policy/test_selection.py compares them).
STRICTER: dict[str, tuple[str, ...]] = {
    "batch": (),
    "default": ("batch", "network-service", "strict"),
    "network-service": (),
    "observe": ("batch", "default", "network-service", "strict"),
    "strict": ("batch",),
}

Labels = tuple[tuple[str, str], ...]


class Case(NamedTuple):
    """One line of root's file. An empty pattern matches everything; all that are given must."""

    image: str  # * is any run of characters
    image_label: str  # NAME or NAME=VALUE
    label: str
    policy: str  # a shipped policy's name, or a file's full path


class Subject(NamedTuple):
    """The container to be. `names` are all full references of its image."""

    names: tuple[str, ...]
    image_labels: Labels
    labels: Labels


class Choice(NamedTuple):
    """A policy, and what the user should read about how it was chosen ("" for nothing)."""

    policy: str
    note: str


def choose_policy(directory: str, subject: Subject) -> Choice:
    """By root's file in `directory`, then by labels. SpecError for a mistake in the file."""
    chosen = POLICY_DEFAULT
    for case in read_selection(f"{directory}/{SELECTION}"):
        if matches(case, subject):
            chosen = case.policy
            break
    note = ""
    for whose, labels in (("container", subject.labels), ("image", subject.image_labels)):
        wanted = dict(labels).get(LABEL, "")
        if not wanted or wanted == chosen:
            continue
        if wanted in STRICTER.get(chosen, ()):
            chosen = wanted
        else:
            note = (
                f"the {whose}'s label {LABEL}={wanted[:64]!r} is not followed: a label can only"
                f" choose a shipped policy stricter than {chosen}; name others with --policy"
            )
    return Choice(chosen, note)


def matches(case: Case, subject: Subject) -> bool:
    """Whether every pattern of the case fits."""
    if case.image and not any(is_like(case.image, name) for name in subject.names):
        return False
    pairs = ((case.label, subject.labels), (case.image_label, subject.image_labels))
    return all(not wanted or _has_label(wanted, labels) for wanted, labels in pairs)


def is_like(pattern: str, text: str) -> bool:
    """Whether `text` is `pattern`, where * stands for any run of characters."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    last = rest.pop()
    if not text.startswith(first) or len(text) < len(first) + len(last):
        return False
    end = len(text) - len(last)
    at = len(first)
    for part in rest:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return text.endswith(last)


def read_selection(path: str) -> tuple[Case, ...]:
    """Root's cases in order; none if there is no file. SpecError with the place of a mistake."""
    from docklock.policy.load import read_source

    if not os.path.lexists(path):
        return ()
    from docklock.policy.parse_words import get_fields
    from docklock.policy.yaml_nodes import Source, parse_nodes

    data = read_source(path)
    source = Source(path)
    root = parse_nodes(data, source)
    fields = get_fields(root, source, ("select",), "selection")
    cases = fields.get("select")
    if cases is None or cases.kind != "sequence":
        source.fail(cases or root, "a selection is select: and a sequence of cases")
    if len(cases.value) > CASES_MAX:
        source.fail(cases, f"{len(cases.value)} cases; at most {CASES_MAX}")
    return tuple(_parse_case(one, source) for one in cases.value)


def _has_label(wanted: str, labels: Labels) -> bool:
    name, equals, value = wanted.partition("=")
    return any(key == name and (not equals or have == value) for key, have in labels)


def _parse_case(node: Node, source: Source) -> Case:
    from docklock.policy.parse_words import get_fields
    from docklock.policy.yaml_nodes import get_text

    fields = get_fields(node, source, KEYS, "case")
    if "policy" not in fields:
        source.fail(node, "a case needs the key policy")
    texts = {key: get_text(value, source, key) for key, value in fields.items()}
    for key, text in texts.items():
        if not text:
            source.fail(fields[key], f"{key} must not be empty; leave the key out")
    for key in ("image-label", "label"):
        if texts.get(key, "x")[0] == "=":
            source.fail(fields[key], f"{key} must be NAME or NAME=VALUE")
    return Case(
        texts.get("image", ""),
        texts.get("image-label", ""),
        texts.get("label", ""),
        _find(fields["policy"], texts["policy"], source),
    )


def _find(node: Node, word: str, source: Source) -> str:
    """The policy's name, or the full path of a file beside the selection."""
    if is_file_name(word):
        path = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(source.where)), word))
        if not os.path.isfile(path):
            source.fail(node, f"policy {word}: there is no file {path}")
        return path
    try:
        find_policy(word)
    except SpecError as error:
        source.fail(node, str(error))
    return word
