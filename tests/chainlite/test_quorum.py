"""Who must have cosigned: no policy that two histories can pass, and operators, not keys."""

from __future__ import annotations

import itertools

import pytest

from chainlite import cosignature, note, quorum
from chainlite.errors import SpecError
from chainlite.quorum_file import parse_quorum
from tests.chainlite.samples import make_key


def make_vkey(number: int) -> str:
    key = note.VerifierKey(f"w{number}", make_key(number).public)
    return cosignature.encode_witness(key)


def make_text(
    operators: tuple[str, ...] = ("beta", "gamma", "delta"), need: int = 2, bad: int = 0
) -> str:
    lines = ['operator = "acme"', f"need = {need}", f"bad = {bad}"]
    for number, operator in enumerate(operators, 1):
        lines += ["", "[[witness]]", f'name = "w{number}"', f'operator = "{operator}"']
        lines += [f'url = "http://127.0.0.1:{7000 + number}/"', f'keys = ["{make_vkey(number)}"]']
    return "\n".join(lines) + "\n"


def read(text: str) -> quorum.Quorum:
    return parse_quorum(text.encode(), "f")


def sign(*numbers: int) -> tuple[cosignature.Cosignature, ...]:
    return tuple(cosignature.Cosignature(f"w{number}", 5) for number in numbers)


def test_a_file_names_witnesses_operators_and_where_to_ask() -> None:
    found = read(make_text())
    assert (found.operator, found.need, found.bad) == ("acme", 2, 0)
    assert [member.operator for member in found.members] == ["beta", "gamma", "delta"]
    assert found.members[0].url == "http://127.0.0.1:7001"
    assert found.keys[2].public == make_key(3).public


def test_two_quorums_always_share_an_honest_witness() -> None:
    """Every w, b and k: what is accepted shares one, and what is refused need not."""
    for count, bad in itertools.product(range(1, 8), range(4)):
        operators = tuple(f"o{number}" for number in range(count))
        for need in range(count + 1):
            shared_least = 2 * need - count
            try:
                read(make_text(operators, need, bad))
            except SpecError as error:
                assert "line 2: need:" in str(error)
                assert shared_least <= bad
            else:
                assert shared_least > bad


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("need = 2", "need = 1"), "line 2: need: 1 of 3 witnesses with 0 assumed bad"),
        (("need = 2", "need = 4"), "line 2: need: 4 of 3 witnesses is never met"),
        (("need = 2", "need = true"), "line 2: need: want a number"),
        (("need = 2\n", ""), "line 1: need: want a number"),
        (("bad = 0", "bad = 1"), "line 2: need: 2 of 3 witnesses with 1 assumed bad"),
        (("bad = 0", "good = 0"), "line 3: good: unknown key"),
        (('"acme"', '"a c"'), "line 1: operator: want a name"),
        (('name = "w2"', 'name = "w 2"'), "line 12: name: want the name of the witness's key"),
        (('name = "w2"', 'name = "w9"'), "line 15: keys: is of w2, not of w9"),
        (('operator = "gamma"\n', ""), "line 11: operator: want a name"),
        (("http://127.0.0.1:7002/", "https://x/"), "line 14: url: want http://HOST:PORT"),
        (("http://127.0.0.1:7002/", "http://u@x/"), "line 14: url: want http://HOST:PORT"),
        (('name = "w3"', 'nam = "w3"'), "line 18: nam: unknown key"),
        ((f'["{make_vkey(3)}"]', "[]"), "line 21: keys: want one key"),
        ((f'["{make_vkey(3)}"]', '["w3+x+y"]'), "line 21: keys: not a key"),
        ((f'["{make_vkey(3)}"]', f'["{make_vkey(3)}", "{make_vkey(3)}"]'), "two keys of one type"),
    ],
)
def test_errors_name_file_line_and_key(change: tuple[str, str], said: str) -> None:
    text = make_text()
    assert change[0] in text
    with pytest.raises(SpecError) as caught:
        read(text.replace(*change))
    assert str(caught.value).startswith("f: ")
    assert said in str(caught.value)


def test_witnesses_of_the_logs_own_operator_alone_are_refused() -> None:
    with pytest.raises(SpecError, match="line 1: operator: every witness is run by 'acme'"):
        read(make_text(("acme", "acme", "acme")))


def test_one_key_under_two_names_is_refused() -> None:
    key = note.VerifierKey("w2", make_key(1).public)
    text = make_text().replace(make_vkey(2), cosignature.encode_witness(key))
    with pytest.raises(SpecError, match="witness: two have the same key"):
        read(text)
    one = cosignature.encode_witness(note.VerifierKey("w1", make_key(2).public))
    same = make_text().replace(make_vkey(2), one).replace('"w2"', '"w1"')
    with pytest.raises(SpecError, match="witness: two have the same name"):
        read(same)


def test_a_quorum_counts_witnesses_and_reports_operators() -> None:
    found = read(make_text(("beta", "beta", "gamma")))
    met = quorum.judge_quorum(found, sign(1, 2))
    assert met.is_met
    assert quorum.render_standing(met) == (
        "policy met: 2 of 3 witnesses (2 needed), 1 operator (beta)"
    )
    assert not quorum.judge_quorum(found, sign(3)).is_met
    assert not quorum.judge_quorum(found, sign(3, 9)).is_met
    assert quorum.judge_quorum(found, sign(3, 3)).names == ("w3",)
    assert quorum.judge_quorum(found, ()).operators == ()


def test_a_quorum_of_the_logs_own_witnesses_is_not_met() -> None:
    found = read(make_text(("acme", "acme", "gamma")))
    alone = quorum.judge_quorum(found, sign(1, 2))
    assert alone.why == "all of them are run by acme, who runs the log"
    assert quorum.judge_quorum(found, sign(1, 3)).is_met
