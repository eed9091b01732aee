"""The document, the README and the table of routes say the same; nothing else is answered."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from chainlite.bpci.app import DESCRIPTIONS, ROUTES
from chainlite.bpci.openapi import PATH, encode_document, make_document
from chainlite.cage.refusal import TYPE_PREFIX
from chainlite.cage.routes import Access, Route
from chainlite.errors import SpecError
from tests.bpci.callers import NAME, Served
from tests.cage.callers import Reply, call, make_scope

TOP = Path(__file__).parents[2]
PARTS = re.compile(r"\{\w+(:path)?\}")
ALIKE = ("{}", "{}/", "/{}", "{}/.", "{}%2F", "{}%00", "{}%0D%0A", "{};x", "{}.json", "{}?", "{}#")
OTHERS = (
    "/", "/docs", "/redoc", "/openapi.json", "/v1", "/v1/", "/favicon.ico", "/static/x", "/tile",
    "/tile/", "/v1/hosts/", "/v1/containers/", "/..", "/%2e%2e/etc/passwd", "*", "",
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")


def ask(directory: Path, *calls: tuple[str, str]) -> list[Reply]:
    """The answers to calls that nobody signed."""

    async def run() -> list[Reply]:
        async with Served(directory) as served:
            return [
                await call(
                    served.cage,
                    make_scope(
                        method, target, [(b"host", NAME.encode())],
                        client=(f"192.0.2.{number % 250}", 4711),
                    ),
                    b"",
                )
                for number, (method, target) in enumerate(calls)
            ]  # fmt: skip

    return asyncio.run(run())


def get_part(found: re.Match[str]) -> str:
    return "(?s:.+)" if found[1] else "[^/]+"


def list_operations(document: Any) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, one in document["paths"].items() for method in one}


def test_the_document_is_valid_served_and_printed(tmp_path: Path) -> None:
    [reply] = ask(tmp_path, ("GET", PATH))
    assert (reply.status, reply.get("content-type")) == (200, "application/json")
    validate(json.loads(reply.body), cls=OpenAPIV31SpecValidator)
    done = subprocess.run(
        [sys.executable, "-m", "docklock.cli.main", "bpci", "openapi"],
        cwd=TOP, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, reply.body)


def test_a_document_that_is_wrong_would_be_found() -> None:
    document: Any = make_document(ROUTES, DESCRIPTIONS)
    document["paths"]["/healthz"]["get"]["responses"]["200"].pop("description")
    with pytest.raises(Exception, match="is not valid under any|is a required property"):
        validate(document, cls=OpenAPIV31SpecValidator)


def test_routes_and_descriptions_are_the_same() -> None:
    routes = {(one.method, one.pattern.replace(":path}", "}")) for one in ROUTES}
    document: Any = make_document(ROUTES, DESCRIPTIONS)
    assert list_operations(document) == routes and len(routes) == len(ROUTES)
    for one in ROUTES:
        path = document["paths"][one.pattern.replace(":path}", "}")][one.method.lower()]
        assert path["x-access"] == one.access.value
        assert bool(path["security"]) == (one.access is Access.CAGED)
    names = [one.name for one in DESCRIPTIONS.values()]
    assert len(set(names)) == len(names)
    with pytest.raises(SpecError, match="not described"):
        make_document((*ROUTES, Route("GET", "/more", Access.PUBLIC)), DESCRIPTIONS)
    with pytest.raises(SpecError, match="no route"):
        make_document(ROUTES[:-1], DESCRIPTIONS)


def test_parameters_of_a_path_are_described() -> None:
    for name, one in DESCRIPTIONS.items():
        wanted = [part.strip("{}").removesuffix(":path") for part in name.split("/") if "{" in part]
        assert [each.name for each in one.parameters if each.place == "path"] == wanted, name


def test_the_readme_has_the_same_table() -> None:
    text = (TOP / "chainlite/bpci/README.md").read_text().partition("## Addresses\n")[2]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    written = {(row[0], row[1]) for row in rows if row[0].partition(" ")[0] in METHODS}
    assert written == {(f"{one.method} {one.pattern}", one.access.value) for one in ROUTES}


def test_no_other_address_is_answered(tmp_path: Path) -> None:
    """Starlette's own ways (HEAD, OPTIONS, slashes, docs) lead nowhere: all is refused before."""
    known = [(one.method, re.compile(PARTS.sub(get_part, one.pattern))) for one in ROUTES]
    paths = [one.pattern.replace("{host}", "00").replace("{rest:path}", "0/000") for one in ROUTES]
    targets = [one.format(path) for one in ALIKE for path in paths]
    targets += [path.replace("/", "//") for path in paths] + [path.upper() for path in paths]
    calls = [(method, target) for target in (*targets, *OTHERS) for method in METHODS]
    for (method, target), reply in zip(calls, ask(tmp_path, *calls), strict=True):
        assert reply.status in (200, 400, 401, 404, 405, 503), (method, target, reply)
        path = unquote(target.partition("?")[0])
        if reply.status in (200, 401, 503):
            assert any(method == one and is_it.fullmatch(path) for one, is_it in known), target
        if reply.status == 405:
            allowed = {one for one, is_it in known if is_it.fullmatch(path)}
            assert method not in allowed
            assert reply.get("allow") == ", ".join(sorted(allowed)), target


def list_reasons(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The status and reason of each refusal that a module can raise."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            said = [one.value for one in node.args if isinstance(one, ast.Constant)]
            if node.func.id == "Refusal" and len(said) >= 2 and isinstance(said[0], int):
                yield said[0], str(said[1])
            elif node.func.id == "unsigned" and said:
                yield 401, str(said[0])


def test_each_reason_for_a_refusal_is_in_the_document() -> None:
    """What modules raise is found in their text, so that a new one is missed here and not later."""
    document = encode_document(ROUTES, DESCRIPTIONS).decode()
    found = {
        reason
        for room in ("bpci", "cage")
        for path in (TOP / "chainlite" / room).glob("*.py")
        if path.name != "client.py"
        for reason in list_reasons(ast.parse(path.read_text()))
    }
    assert len(found) > 30
    for status, reason in sorted(found):
        assert f'"{TYPE_PREFIX}{reason}"' in document, (status, reason)
        assert f'"{status}"' in document, (status, reason)
