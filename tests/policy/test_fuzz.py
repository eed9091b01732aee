"""Hostile documents: a policy, a selection or a profile in JSON gives a result or a SpecError.

This is the policy's part of the fuzzing that `./test --full` runs: CASES documents, a slice of them
otherwise.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlite.errors import SpecError
from docklock.document import Cursor
from docklock.policy.import_seccomp import import_profile
from docklock.policy.inherit import resolve_policy
from docklock.policy.load import compile_source, read_source
from docklock.policy.selection import SELECTION, read_selection
from docklock.policy.shipped import find_policy
from tests.conftest import FULL
from tests.policy.test_parse import HEAD, TAIL

CASES = 25_000  # a quarter of all fuzzing
SHARES = {"text": 8, "bytes": 2, "extends": 2, "spoilt": 5, "selection": 3, "profile": 5}
pytestmark = pytest.mark.fuzz


def count_cases(target: str) -> int:
    """How many documents a target gets in this run."""
    return CASES * SHARES[target] // sum(SHARES.values()) if FULL else 60


def fuzz(target: str) -> Any:
    return hypothesis.settings(max_examples=count_cases(target))


def test_the_shares_make_up_the_whole() -> None:
    whole = sum(SHARES.values())
    assert sum(CASES * share // whole for share in SHARES.values()) == CASES


def compile_quietly(data: bytes) -> None:
    """Both machines; any other exception than SpecError fails the test."""
    for machine in ("aarch64", "x86_64"):
        try:
            compile_source(data, "fuzz.yaml", machine, ("CAP_SYS_ADMIN",), read=refuse)
        except SpecError as error:
            assert "fuzz.yaml" in str(error) or "policy" in str(error)


def refuse(word: str, where: str) -> tuple[str, bytes]:
    raise SpecError(f"{where}: no {word}")


WORDS = st.sampled_from(
    "name default rules extends architectures i386 masks argv"
    " on-worker-death syscalls action errno when unless capability args index op value mask allow"
    " deny closed record read socket EPERM CAP_SYS_ADMIN masked any_bits == 0 1 0xff no 010 ~ <<"
    " = -1 path & * ! | > % @ ` { } [ ] , : - ? # ' \" \n".split(" ")
)
PIECES = st.lists(st.one_of(WORDS, st.text(max_size=4), st.just(" "), st.just("\n")), max_size=60)
VALUES = st.recursive(
    st.one_of(WORDS, st.integers(-5, 1 << 65).map(str)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(WORDS, inner), max_size=4).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=12,
)


@fuzz("text")
@given(st.one_of(PIECES.map("".join), VALUES, VALUES.map(lambda v: f"{HEAD}  - {v}\n{TAIL}")))
def test_any_text_gives_a_policy_or_a_spec_error(text) -> None:
    compile_quietly(text.encode("utf-8", "surrogatepass"))


@fuzz("bytes")
@given(st.binary(max_size=200))
def test_any_bytes_give_a_policy_or_a_spec_error(data) -> None:
    compile_quietly(data)


NAMES = st.sampled_from("abcd")


@fuzz("extends")
@given(st.dictionaries(NAMES, st.tuples(st.lists(NAMES, max_size=4), VALUES), max_size=4))
def test_any_web_of_policies_gives_a_policy_or_a_spec_error(files) -> None:
    documents = {"a": HEAD + TAIL}
    for name, (bases, value) in files.items():
        rules = f"rules: [{value}]\n" if value.startswith("{") else ""
        documents[name] = f"name: {name}\nextends: [{', '.join(bases)}]\n{rules}"

    def read(word: str, where: str) -> tuple[str, bytes]:
        if word not in documents:
            raise SpecError(f"{where}: no {word}")
        return word, documents[word].encode()

    try:
        resolve_policy(documents["a"].encode(), "a", read)
    except SpecError as error:
        assert str(error)


def spoil(chosen: random.Random, source: bytes) -> bytes:
    data = bytearray(source)
    for _ in range(chosen.randint(1, 4)):
        at = chosen.randrange(len(data))
        kind = chosen.randrange(4)
        if kind == 0:
            data[at] ^= 1 << chosen.randrange(8)
        elif kind == 1:
            del data[at : at + chosen.randrange(1, 20)]
        elif kind == 2:
            data[at:at] = data[chosen.randrange(len(data)) :][: chosen.randrange(20)]
        else:
            data[at] = chosen.choice(b"{}[]:,&*!|>'\"%@`-?#\n\t 0~")
    return bytes(data)


@pytest.mark.parametrize("name", ["observe", "batch"])
def test_shipped_policies_with_spoilt_bytes_give_a_policy_or_a_spec_error(name, seed) -> None:
    chosen = random.Random(seed)
    source = read_source(find_policy(name))
    for _ in range(count_cases("spoilt") // 2):
        compile_quietly(spoil(chosen, source))


SELECTION_TEXT = b"""select:
  - {image: "docker.io/library/nginx:*", policy: network-service}
  - {label: tier=batch, image-label: x, policy: ./mine.yaml}
  - {policy: strict}
"""


def test_a_spoilt_selection_gives_cases_or_a_spec_error(seed, tmp_path: Path) -> None:
    chosen = random.Random(seed)
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    path = tmp_path / SELECTION
    for _ in range(count_cases("selection")):
        path.write_bytes(spoil(chosen, SELECTION_TEXT))
        try:
            read_selection(str(path))
        except SpecError as error:
            assert SELECTION in str(error)


KEYS = st.sampled_from(
    "defaultAction defaultErrnoRet syscalls names name action errnoRet args index value valueTwo op"
    " includes excludes caps arches minKernel".split()
)
ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 1 << 64), st.floats(allow_nan=False),
    st.text(max_size=4),
    st.sampled_from(
        "SCMP_ACT_ALLOW SCMP_ACT_ERRNO SCMP_ACT_LOG SCMP_ACT_TRAP SCMP_CMP_EQ SCMP_CMP_MASKED_EQ"
        " SCMP_CMP_GE read socket clone exit nosuch CAP_KILL amd64 4.8 9 x.y".split()
    ),
)  # fmt: skip
JSONS = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner), max_leaves=8
)
RULES = st.fixed_dictionaries(
    {"names": st.lists(st.sampled_from(("read", "socket", "clone", "exit", "nosuch")), min_size=1),
     "action": st.sampled_from(("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL"))},
    optional={"args": JSONS, "errnoRet": ATOMS, "includes": JSONS, "excludes": JSONS},
)  # fmt: skip
PROFILES = st.fixed_dictionaries(
    {"defaultAction": st.sampled_from(("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_LOG"))},
    optional={"syscalls": st.lists(RULES, max_size=3) | JSONS, "defaultErrnoRet": ATOMS},
)


@fuzz("profile")
@given(PROFILES | JSONS)
def test_any_profile_in_json_gives_a_policy_or_a_spec_error(value) -> None:
    value = json.loads(json.dumps(value))
    try:
        import_profile(Cursor(value, "fuzz.json"), "fuzz", "x86_64", (6, 18))
    except SpecError as error:
        assert "fuzz.json" in str(error)
