"""Classes of chainlite.lean.NamedTuple behave as typing.NamedTuple's."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlite import lean, sha2

TOP = Path(__file__).resolve().parent.parent.parent


class Lean(lean.NamedTuple):
    """A document."""

    host: bytes
    count: int = 7
    names: tuple[str, ...] = ()

    @property
    def double(self) -> int:
        return 2 * self.count

    def add(self, number: int) -> int:
        return self.count + number

    @classmethod
    def make(cls, host: bytes) -> Lean:
        return cls(host)

    @staticmethod
    def twice(number: int) -> int:
        return 2 * number


class Typed(typing.NamedTuple):
    """A document."""

    host: bytes
    count: int = 7
    names: tuple[str, ...] = ()

    @property
    def double(self) -> int:
        return 2 * self.count

    def add(self, number: int) -> int:
        return self.count + number

    @classmethod
    def make(cls, host: bytes) -> Typed:
        return cls(host)

    @staticmethod
    def twice(number: int) -> int:
        return 2 * number


KINDS = (Lean, Typed)


def test_a_value_is_the_same_tuple_with_the_same_names() -> None:
    for made in ((b"h",), (b"h", 1), (b"h", 1, ("a",))):
        lean_one, typed_one = (kind(*made) for kind in KINDS)
        assert lean_one == typed_one == (*made, *(7, ())[len(made) - 1 :])
        assert isinstance(lean_one, tuple)
        assert hash(lean_one) == hash(typed_one)
        assert (lean_one.host, lean_one.count, lean_one.names) == tuple(typed_one)
        assert repr(lean_one) == repr(typed_one).replace("Typed", "Lean")
        assert lean_one._asdict() == typed_one._asdict()
        assert list(lean_one._asdict()) == list(typed_one._asdict())
        assert lean_one.double == typed_one.double
        assert lean_one.add(1) == typed_one.add(1)


def test_names_and_defaults_are_taken_alike() -> None:
    for kind in KINDS:
        assert kind(host=b"h", names=("x",)) == (b"h", 7, ("x",))
        assert kind(b"h", names=("x",)) == (b"h", 7, ("x",))
        assert kind.make(b"h") == (b"h", 7, ())
        assert kind.twice(2) == 4
        assert type(kind.make(b"h")) is kind
        assert kind._make([b"h", 2, ()]) == (b"h", 2, ())
        assert kind(b"h")._replace(count=None) == (b"h", None, ())
        assert type(kind(b"h")._replace(count=1)) is kind
    assert Lean._fields == Typed._fields
    assert Lean._field_defaults == Typed._field_defaults
    assert Lean.__match_args__ == Typed.__match_args__
    assert Lean.__doc__ == Typed.__doc__
    assert Lean.__mro__[1:] == Typed.__mro__[1:]
    assert Lean.__annotations__.keys() == Typed.__annotations__.keys()
    assert (Lean.__module__, Lean.__qualname__) == (__name__, "Lean")


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_fields_are_refused(kind: typing.Any) -> None:
    for args, named in (
        ((), {}),
        ((), {"count": 1}),
        ((1, 2, 3, 4), {}),
        ((1,), {"host": 2}),
        ((1, 2, 3), {"host": 2}),
        ((1,), {"other": 2}),
    ):
        with pytest.raises(TypeError):
            kind(*args, **named)
    with pytest.raises(TypeError):
        kind._make([1, 2])
    with pytest.raises((TypeError, ValueError)):
        kind(1)._replace(other=2)
    with pytest.raises(AttributeError):
        kind(1).count = 2
    with pytest.raises(AttributeError):
        kind(1).other = 2


def test_a_class_that_typing_refuses_is_refused() -> None:
    for base in (lean.NamedTuple, typing.NamedTuple):
        with pytest.raises(TypeError):

            class Misordered(base):
                a: int = 1
                b: int

        with pytest.raises((TypeError, AttributeError)):

            class Reserved(base):
                a: int

                def __new__(cls) -> typing.Self:
                    raise AssertionError


def test_values_are_copied_pickled_and_matched() -> None:
    one = Lean(b"h", 3)
    assert copy.copy(one) == copy.deepcopy(one) == one
    assert copy.copy(one).count == 3
    back = pickle.loads(pickle.dumps(one))
    assert (type(back), back) == (Lean, one)
    match one:
        case Lean(host, count, _):
            assert (host, count) == (b"h", 3)
        case _:
            raise AssertionError


def test_it_imports_no_other_module() -> None:
    program = (
        "import sys; before = set(sys.modules); import chainlite.lean;"
        "print(*sorted(set(sys.modules) - before))"
    )
    environment = os.environ | {"PYTHONPATH": str(TOP)}
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], env=environment, capture_output=True, text=True
    )
    found = set(done.stdout.split()) - {"__future__"}
    assert found == {"_collections", "chainlite", "chainlite.lean"}, done.stderr


@given(st.binary(max_size=300))
def test_sha256_is_that_of_hashlib(data: bytes) -> None:
    assert sha2.sha256(data).digest() == hashlib.sha256(data).digest()
    assert sha2.sha256(data).hexdigest() == hashlib.sha256(data).hexdigest()
