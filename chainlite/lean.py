"""NamedTuple, Protocol and TYPE_CHECKING for modules that every `docklock run` imports.

`typing` takes 6 ms to import and `collections.namedtuple` compiles a function for every class;
a start of a container may take 40 ms in all. To mypy these are typing's own; to a program a class
made here behaves as typing.NamedTuple's does: fields, defaults, methods, `_make`, `_replace`,
`_asdict`, `_fields`, `_field_defaults`, equality and order of tuples, pickle and copy.
Not here: generic named tuples, which nobody uses. Annotations are strings and never evaluated.
Invariant: tests/chainlite/test_lean.py holds one class of each kind side by side.
"""

from __future__ import annotations

__all__ = ["TYPE_CHECKING", "NamedTuple", "Protocol"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple, Protocol
else:
    from _collections import _tuplegetter

    Protocol = object
    _new = tuple.__new__
    _RESERVED = frozenset(
        ("__new__", "__init__", "__slots__", "__getnewargs__", "_fields", "_field_defaults")
        + ("_make", "_replace", "_asdict")
    )

    class _Shape(type):
        """Makes a class of fields out of a class statement with the base NamedTuple."""

        def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(mcs, name, bases, namespace)
            if len(bases) != 1:
                raise TypeError("a NamedTuple has no other base")
            fields = tuple(namespace.get("__annotations__", ()))
            members = {key: value for key, value in namespace.items() if key not in fields}
            refused = _RESERVED.intersection(members)
            if refused or any(field[0] == "_" for field in fields):
                raise AttributeError(f"{name}: cannot define {', '.join(refused) or '_fields'}")
            defaults = {field: namespace[field] for field in fields if field in namespace}
            if tuple(defaults) != fields[len(fields) - len(defaults) :]:
                raise TypeError(f"{name}: a field without a default follows one with a default")
            getters = {
                field: _tuplegetter(number, f"Alias for field number {number}")
                for number, field in enumerate(fields)
            }
            made = {
                "__slots__": (),
                "__match_args__": fields,
                "_fields": fields,
                "_field_defaults": defaults,
                "__new__": _make_new(name, fields, defaults),
            }
            return type(name, (tuple,), _METHODS | made | members | getters)

    def _make_new(name: str, fields: tuple[str, ...], defaults: dict[str, Any]) -> Any:
        """A __new__ that needs no code of its own: to compile one takes 0.05 ms."""
        count = len(fields)

        def new(cls: type, /, *args: Any, **named: Any) -> Any:
            if len(args) == count and not named:
                return _new(cls, args)
            if len(named) == count and not args:  # a record that was read: all by name
                try:
                    return _new(cls, [named[key] for key in fields])
                except KeyError:
                    pass  # told below
            if len(args) > count:
                raise TypeError(f"{name}() takes {count} fields but {len(args)} were given")
            rest = [named.pop(key, defaults.get(key, named)) for key in fields[len(args) :]]
            missing = [
                key for key, value in zip(fields[len(args) :], rest, strict=True) if value is named
            ]
            if missing:
                raise TypeError(f"{name}() misses the fields {', '.join(missing)}")
            if named:
                raise TypeError(f"{name}() got unexpected or repeated fields {', '.join(named)}")
            return _new(cls, (*args, *rest))

        return new

    def _make(cls: Any, iterable: Any) -> Any:
        """A new one from the fields in order."""
        values = _new(cls, iterable)
        if len(values) != len(cls._fields):
            raise TypeError(f"expected {len(cls._fields)} fields, got {len(values)}")
        return values

    _places: dict[type, dict[str, int]] = {}

    def _replace(self: Any, /, **named: Any) -> Any:
        """A copy with some fields replaced."""
        kind = type(self)
        places = _places.get(kind)
        if places is None:
            places = _places[kind] = {name: place for place, name in enumerate(kind._fields)}
        values = list(self)
        try:
            for name, value in named.items():
                values[places[name]] = value
        except KeyError:
            strange = [name for name in named if name not in places]
            raise ValueError(f"got unexpected field names: {strange!r}") from None
        return _new(kind, values)

    def _asdict(self: Any) -> dict[str, Any]:
        """The fields by name, in order."""
        return dict(zip(self._fields, self, strict=True))

    def _repr(self: Any) -> str:
        pairs = [f"{key}={value!r}" for key, value in zip(self._fields, self, strict=True)]
        return f"{type(self).__name__}({', '.join(pairs)})"

    def _getnewargs(self: Any) -> tuple[Any, ...]:
        """For pickle and copy."""
        return tuple(self)

    _METHODS = {
        "_make": classmethod(_make),
        "_replace": _replace,
        "__replace__": _replace,
        "_asdict": _asdict,
        "__repr__": _repr,
        "__getnewargs__": _getnewargs,
    }

    class NamedTuple(metaclass=_Shape):
        """The base to name in a class statement."""
