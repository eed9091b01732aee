"""Merging: order, what wins, what is refused, and that the digest covers what was inherited."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from chainlite.errors import SpecError
from docklock.capability import CAPABILITIES
from docklock.paths import Paths
from docklock.policy.inherit import DOCUMENTS_MAX, Resolved, parse_policy, resolve_policy
from docklock.policy.load import compile_source, load_policy, read_base
from docklock.policy.model import encode_model
from tests.policy.policies import MUST_ALLOW, compile_shipped

NEEDED = MUST_ALLOW.decode()


def resolve(files: dict[str, str], first: str = "a") -> Resolved:
    def read(word: str, where: str) -> tuple[str, bytes]:
        if word not in files:
            raise SpecError(f"no file {word}")
        return word, files[word].encode()

    return resolve_policy(files[first].encode(), first, read)


def write(name: str, extends: str = "", call: str = "", rest: str = "") -> str:
    """A document with one rule, `call: action`."""
    text = f"name: {name}\n" + (f"extends: {extends}\n" if extends else "") + rest
    if call:
        names, _, action = call.partition(": ")
        text += f"rules:\n  - {{syscalls: [{names}], action: {action}}}\n"
    return text


ALLOW = "default: {action: allow}\n"


def get_rules(found: Resolved) -> list[tuple[str, str]]:
    return [(name, rule.action) for rule in found.model.rules for name in rule.syscalls]


def test_own_rules_come_before_those_of_bases_in_the_order_of_extends() -> None:
    found = resolve(
        {
            "a": write("a", "[b, c]", "read: record"),
            "b": write("b", "", "read, write: deny", ALLOW),
            "c": write("c", "", "write, close: hold", "default: {action: deny}\n" + ""),
        }
    )
    assert get_rules(found) == [("read", "record"), ("write", "deny"), ("close", "hold")]
    assert found.model.default_action == "allow", "of the first document that has one"
    assert [(one.policy, one.line) for one in found.origins] == [("a", 4), ("b", 4), ("c", 4)]
    assert found.default_origin == ("b", "b", 2)


def test_a_base_that_two_bases_share_comes_after_both() -> None:
    files = {
        "a": write("a", "[b, c]"),
        "b": write("b", "d", "read: record"),
        "c": write("c", "d", "write: record"),
        "d": write("d", "", "read, write, close: hold", ALLOW),
    }
    found = resolve(files)
    assert [one.name for one in found.documents] == ["a", "b", "c", "d"]
    assert get_rules(found) == [("read", "record"), ("write", "record"), ("close", "hold")]


def test_every_other_key_is_that_of_the_nearest_document_that_has_it() -> None:
    files = {
        "a": write("a", "[b, c]", rest="description: mine\n"),
        "b": write("b", "", rest=ALLOW + "description: theirs\n"),
        "c": write("c", rest=ALLOW + "architectures: [i386]\non-worker-death: kill\n"),
    }
    model = resolve(files).model
    assert (model.name, model.description) == ("a", "mine")
    assert (model.architectures, model.on_worker_death) == (("i386",), "kill")
    nearer = files | {"b": files["b"] + "architectures: [native]\non-worker-death: restart\n"}
    model = resolve(nearer).model
    assert (model.architectures, model.on_worker_death) == ((), "restart")
    files["a"] = "name: a\nextends: b\n"
    assert resolve(files).model.description == "", "a description is not inherited"


def test_a_conditional_rule_leaves_the_inherited_one_for_what_it_does_not_match() -> None:
    test = "{args: [{index: 0, op: '==', value: AF_VSOCK}]}"
    rule = f"rules:\n  - {{syscalls: [socket], action: kill, when: {test}}}\n"
    found = resolve({"a": write("a", "b", rest=rule), "b": write("b", "", "socket: record", ALLOW)})
    assert get_rules(found) == [("socket", "kill"), ("socket", "record")]


CYCLES = {
    ("a->a", "a: a"): "a -> a",
    ("a->b->a", "a: b, b: a"): "a -> b -> a",
    ("a->b->c->b", "a: b, b: c, c: b"): "b -> c -> b",
}


@pytest.mark.parametrize("case", CYCLES, ids=lambda case: case[0])
def test_cycles_are_refused_with_the_way_round(case) -> None:
    pairs = [pair.split(": ") for pair in case[1].split(", ")]
    files = {name: write(name, base, rest=ALLOW) for name, base in pairs}
    with pytest.raises(SpecError, match=f"extends itself: .*{CYCLES[case]}") as raised:
        resolve(files)
    assert str(raised.value).split(":")[1:3] == ["2", "10"]


def test_too_many_documents_are_refused() -> None:
    names = [f"n{i}" for i in range(DOCUMENTS_MAX + 2)]
    files = {name: write(name, after) for name, after in itertools.pairwise(names)}
    with pytest.raises(SpecError, match=f"more than {DOCUMENTS_MAX} policies"):
        resolve(files | {names[-1]: write("last", rest=ALLOW)}, "n0")
    wide = {f"m{i}": write(f"m{i}", f"[x{i}, y{i}]") for i in range(5)}
    for i in range(5):
        wide |= {f"{side}{i}": write("s", f"m{i + 1}") for side in "xy"}
    wide["m5"] = write("last", rest=ALLOW)
    assert len(resolve(wide, "m0").documents) == 16, "a lattice is no cycle"


MISTAKES = {
    "name: a\nextends: nowhere\n": "a:2:10: extends nowhere: no file nowhere",
    "name: a\nextends: [b, b]\n": "a:2:14: extends 'b'",
    "name: a\nextends: []\n": "a:2:10: extends names 1 to 8",
    "name: a\nextends: {b: c}\n": "a:2:10: policy must be a word",
    "name: a\nextends: no\n": "a:2:10: policy must be a word: YAML 1.1",
    "extends: b\ndefault: {action: allow}\n": "needs the key name",
    "name: a\nextends: b\ndefault: {action: deny}\n": "a:3:10: add a rule that allows exit",
    "name: a\nextends: bad\n": "bad:1:1: a policy has no key 'nmae'; the nearest is name",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named_where_it_is(text) -> None:
    with pytest.raises(SpecError) as raised:
        resolve({"a": text, "b": write("b", rest=ALLOW), "bad": "nmae: b\n"})
    assert MISTAKES[text] in str(raised.value)


def test_a_default_comes_from_somewhere() -> None:
    text = "name: a\nextends: b\n"
    with pytest.raises(SpecError, match="b:1:1: a policy needs the key default"):
        resolve({"a": text, "b": "name: b\n"})


def test_a_policy_without_reader_refuses_bases() -> None:
    with pytest.raises(SpecError, match="not read here"):
        parse_policy(b"name: a\nextends: b\n", "a")


def test_the_digest_covers_what_was_inherited(tmp_path: Path) -> None:
    """The same merged by hand is the same policy; another base is another."""
    base = "name: base\ndefault: {action: deny}\nrules:\n" + NEEDED
    (tmp_path / "base.yaml").write_text(base)
    child = b"name: mine\nextends: ./base.yaml\nrules:\n  - {syscalls: [read], action: record}\n"
    where = str(tmp_path / "mine.yaml")
    rule = "  - {syscalls: [read], action: record}\n"
    whole = base.replace("base", "mine").replace("rules:\n", f"rules:\n{rule}")
    merged = compile_source(child, where, "x86_64", ())
    assert merged == compile_source(whole.encode(), where, "x86_64", ())
    (tmp_path / "base.yaml").write_text(base.replace("action: deny", "action: deny, errno: EIO"))
    assert compile_source(child, where, "x86_64", ()).digest != merged.digest


def test_on_worker_death_masks_and_architectures_are_in_the_digest() -> None:
    head = "name: a\ndefault: {action: allow}\n"
    texts = ["", "on-worker-death: kill\n", "architectures: [i386]\n",
             "rules: [{syscalls: [execve], action: record}]\n",
             "rules: [{syscalls: [execve], action: record, masks: [argv]}]\n"]  # fmt: skip
    compiled = [compile_source((head + text).encode(), "a", "aarch64", ()) for text in texts]
    assert len({one.digest for one in compiled}) == len(texts)
    assert [one.kills_on_worker_death for one in compiled[:2]] == [False, True]
    same = "on-worker-death: restart\narchitectures: [native]\n"
    assert compile_source((head + same).encode(), "a", "aarch64", ()) == compiled[0]


def test_a_base_is_found_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "top.yaml").write_text("name: top\nextends: default\n")
    (tmp_path / "deep" / "middle.yaml").write_text("name: middle\nextends: ../top.yaml\n")
    (tmp_path / "mine.yaml").write_text("name: mine\nextends: deep/middle.yaml\n")
    where = str(tmp_path / "mine.yaml")
    found = resolve_policy(Path(where).read_bytes(), where, read_base)
    assert [one.name for one in found.documents] == ["mine", "middle", "top", "default"]
    program = compile_source(Path(where).read_bytes(), where, "x86_64", CAPABILITIES).program
    assert program == compile_shipped("default", "x86_64", CAPABILITIES).program


def test_a_changed_base_is_compiled_anew(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path / "state"), str(tmp_path / "run"))
    base, mine = tmp_path / "base.yaml", tmp_path / "mine.yaml"
    base.write_text("name: base\ndefault: {action: allow}\n")
    mine.write_text("name: mine\nextends: ./base.yaml\n")
    first = load_policy(str(mine), paths)
    assert load_policy(str(mine), paths) == first
    base.write_text(base.read_text() + "on-worker-death: kill\n")
    second = load_policy(str(mine), paths)
    assert second.digest != first.digest
    base.unlink()
    with pytest.raises(SpecError, match=r"mine\.yaml:2:10: extends .*base\.yaml.*cannot"):
        load_policy(str(mine), paths)


def test_the_same_text_in_two_places_has_each_its_own_base(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path / "state"), str(tmp_path / "run"))
    digests = set()
    for place, death in (("one", "kill"), ("two", "restart")):
        (tmp_path / place).mkdir()
        base = f"name: base\ndefault: {{action: allow}}\non-worker-death: {death}\n"
        (tmp_path / place / "base.yaml").write_text(base)
        (tmp_path / place / "mine.yaml").write_text("name: mine\nextends: base.yaml\n")
        digests.add(load_policy(str(tmp_path / place / "mine.yaml"), paths).digest)
    assert len(digests) == 2


def test_calls_that_are_decided_already_leave_no_trace_in_the_model() -> None:
    files = {"a": write("a", "b", "read: record"), "b": write("b", "", "read: deny", ALLOW)}
    alone = "name: a\ndefault: {action: allow}\nrules: [{syscalls: [read], action: record}]\n"
    assert encode_model(resolve(files).model) == encode_model(parse_policy(alone.encode(), "a"))
