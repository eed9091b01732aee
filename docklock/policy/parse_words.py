"""Keys and words of a document of ours: which are known, and the right word for a wrong one.

Not here: YAML itself (yaml_nodes.py), what a policy is (parse.py). Pure.
"""

from __future__ import annotations

from typing import NoReturn

from docklock.policy.yaml_nodes import Node, Source, get_text

RACY = ("address", "addresses", "argv", "env", "filename", "host", "path", "paths", "port", "ports")


def get_fields(node: Node, source: Source, known: tuple[str, ...], what: str) -> dict[str, Node]:
    """The mapping as key to value; SpecError for a key that is not `known`."""
    if node.kind != "mapping":
        source.fail(node, f"a {what} must be a mapping ({', '.join(known)}), not a {node.kind}")
    fields = {}
    for key, value in node.value:
        if key.value in RACY:
            _fail_racy(key, source)
        if key.value not in known:
            source.fail(key, f"a {what} has no key {key.value!r}{suggest(key.value, known)}")
        fields[key.value] = value
    return fields


def _fail_racy(key: Node, source: Source) -> NoReturn:
    source.fail(
        key,
        f"a rule cannot decide on {key.value} yet: the container can change that memory between"
        " the check and the call, so the rule could be passed by; decide on numbers and flags in"
        " registers (args), or keep the path or peer out by mounts and networks",
    )


def suggest(word: str, known: tuple[str, ...]) -> str:
    """The tail of a message: the nearest of `known`, else all of them where they are few."""
    import difflib

    near = difflib.get_close_matches(word[:64], known, n=1, cutoff=0.6) if len(word) > 1 else []
    if near:
        return f"; the nearest is {near[0]}"
    return f"; choose one of {', '.join(known)}" if len(known) <= 12 else ""


def parse_word(node: Node, source: Source, what: str, known: tuple[str, ...]) -> str:
    """The node as one of `known`; SpecError with the nearest of them."""
    word = get_text(node, source, what)
    if word not in known:
        source.fail(node, f"no {what} is called {word[:64]!r}{suggest(word, known)}")
    return word
