"""What each route asks of who calls it: a signature, a client certificate, or nothing.

Not here: how that is checked (middleware). Invariants: a route that is declared nothing is
refused; each part of a path matches one part of a pattern, decoded as the application sees it; two
declarations never match the same call by surprise: the exact one wins, else the first.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from chainlite.cage.refusal import Refusal
from chainlite.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

ROUTES_MAX = 256
MIB = 1024 * 1024


class Access(Enum):
    """How a caller shows who it is."""

    CAGED = "caged"
    MUTUAL_TLS = "mutual TLS"
    PUBLIC = "public"


class Route(NamedTuple):
    """A method and a pattern, as `/v1/blocks/{height}` or `/tile/{rest:path}`, and its terms."""

    method: str
    pattern: str
    access: Access
    cost_m: int = 1000
    """Thousandths of a credit."""
    request_bytes_max: int = 64 * 1024
    response_bytes_max: int = 8 * MIB
    body_timeout_s: float = 10.0
    """From the head of a request until its last byte."""


class Routes:
    """The table of all routes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        """SpecError where one is declared twice or cannot be read."""
        self._all = tuple(routes)
        if len(self._all) > ROUTES_MAX:
            raise SpecError(f"more than {ROUTES_MAX} routes")
        self._exact: dict[tuple[str, str], Route] = {}
        self._patterns: list[tuple[str, list[str], Route]] = []
        for route in self._all:
            if not route.pattern.startswith("/") or route.method != route.method.upper():
                raise SpecError(f"route {route.method} {route.pattern}: want METHOD /path")
            if (route.method, route.pattern) in self._exact:
                raise SpecError(f"route {route.method} {route.pattern} is declared twice")
            self._exact[route.method, route.pattern] = route
            if "{" in route.pattern:
                self._patterns.append((route.method, route.pattern.split("/"), route))

    def find(self, method: str, path: str) -> Route:
        """The route of a call by its decoded path; Refusal (404, 405) where none is declared."""
        route = self._exact.get((method, path)) if "{" not in path else None
        if route is not None:
            return route
        parts = path.split("/")
        for other, pattern, route in self._patterns:
            if other == method and is_match(pattern, parts):
                return route
        known = {one.method for one in self._all if is_match(one.pattern.split("/"), parts)}
        if known:
            allowed = tuple(sorted(known))
            raise Refusal(
                405, "no-method", f"this path knows {', '.join(allowed)}", allowed=allowed
            )
        raise Refusal(404, "no-route", "nothing is declared there")

    def list_table(self) -> list[tuple[str, str, str, str]]:
        """Each route's method, pattern, access and cost in credits: for documents and tests."""
        return [
            (route.method, route.pattern, route.access.value, f"{route.cost_m / 1000:g}")
            for route in self._all
        ]


def is_match(pattern: list[str], parts: list[str]) -> bool:
    """Whether the parts of a path are those of a pattern; `{name}` is any part but an empty one."""
    if pattern[-1].endswith(":path}"):
        pattern, parts, rest = pattern[:-1], parts[: len(pattern) - 1], parts[len(pattern) - 1 :]
        if not any(rest):
            return False
    return len(pattern) == len(parts) and all(
        wanted == part or (wanted.startswith("{") and part != "")
        for wanted, part in zip(pattern, parts, strict=True)
    )
