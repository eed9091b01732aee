"""Routes: what is not declared is refused, and the table says all that is."""

from __future__ import annotations

import pytest

from chainlite.cage.refusal import Refusal
from chainlite.cage.routes import Access, Route, Routes
from chainlite.errors import SpecError
from tests.cage.callers import ROUTES


def test_a_call_finds_its_route_or_none() -> None:
    routes = Routes(ROUTES)
    for method, path, pattern in (
        ("GET", "/v1/blocks/7", "/v1/blocks/{height}"),
        ("POST", "/v1/receipts", "/v1/receipts"),
        ("GET", "/tile/0/x001/067", "/tile/{rest:path}"),
    ):
        assert routes.find(method, path).pattern == pattern
    for method, path, status in (
        ("GET", "/", 404), ("GET", "", 404), ("GET", "/v1/blocks/", 404), ("GET", "/tile/", 404),
        ("GET", "/v1/blocks/7/8", 404), ("GET", "/v1/receipts/", 404), ("POST", "//note", 404),
        ("GET", "/v1/blocks/{height}/", 404), ("GET", "/v1/receipts", 405), ("HEAD", "/note", 405),
        ("POST", "/v1/blocks/7", 405), ("POST", "/V1/receipts", 404),
    ):  # fmt: skip
        with pytest.raises(Refusal) as caught:
            routes.find(method, path)
        assert caught.value.status == status, path


def test_the_table_lists_every_route() -> None:
    table = Routes(ROUTES).list_table()
    assert len(table) == len(ROUTES)
    assert table[1] == ("POST", "/v1/receipts", "caged", "2")
    assert {row[2] for row in table} == {access.value for access in Access}


def test_a_table_that_cannot_be_read_one_way_is_refused() -> None:
    route = Route("GET", "/a", Access.PUBLIC)
    for routes in (
        (route, route),
        (Route("GET", "a", Access.PUBLIC),),
        (Route("get", "/a", Access.PUBLIC),),
        tuple(Route("GET", f"/{number}", Access.PUBLIC) for number in range(257)),
    ):
        with pytest.raises(SpecError):
            Routes(routes)
