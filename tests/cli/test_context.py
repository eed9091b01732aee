"""`docklock context` in Docker's words: one context, this host; what names another is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docklock.cli.context import REFUSED, VARIABLES
from docklock.cli.main import run


class Context:
    """`docklock --root ROOT context ...`."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._capsys = root, capsys

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        assert run(["--root", str(self.root), "context", *words]) == code
        return self._capsys.readouterr()


@pytest.fixture
def context(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Context:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return Context(tmp_path / "root", capsys)


def test_default_is_listed_in_dockers_columns(context: Context) -> None:
    endpoint = f"file://{context.root}"
    out, error = context("ls")
    head, row = out.splitlines()
    assert head.split() == ["NAME", "DESCRIPTION", "DOCKER", "ENDPOINT", "ERROR"]
    assert row.split() == ["default", "*", *"This host, without a daemon".split(), endpoint]
    assert row.index(endpoint) == head.index("DOCKER ENDPOINT")
    assert error == ""
    assert context("list")[0] == out
    assert context("ls", "-q")[0] == "default\n"
    assert context("ls", "--format", "{{.Name}} {{.Current}}")[0] == "default true\n"
    assert context("ls", "--format", "table {{.Name}}")[0] == "NAME\ndefault\n"
    assert json.loads(context("ls", "--format", "json")[0]) == {
        "Current": True,
        "Description": "This host, without a daemon",
        "DockerEndpoint": endpoint,
        "Error": "",
        "Name": "default",
    }


def test_default_is_shown_inspected_and_used(context: Context) -> None:
    assert context("show") == ("default\n", "")
    assert context("use", "default") == ("default\n", 'Current context is now "default"\n')
    (found,) = json.loads(context("inspect")[0])
    assert found["Endpoints"]["docker"]["Host"] == f"file://{context.root}"
    assert context("inspect", "-f", "{{.Endpoints.docker.Host}}", "default")[0] == (
        f"file://{context.root}\n"
    )


def test_another_is_not_there(context: Context) -> None:
    out, error = context("inspect", "far", code=1)
    assert json.loads(out) == [] and 'context "far": context not found' in error
    out, error = context("inspect", "default", "far", code=1)
    assert len(json.loads(out)) == 1 and "far" in error
    assert "ssh HOST docklock" in context("use", "far", code=1)[1]
    assert context("rm", "far", "default", code=1) == (
        "",
        'docklock: context "far" does not exist\ndocklock: context "default" cannot be removed\n',
    )
    assert context("rm", "-f", "far") == ("far\n", "")


@pytest.mark.parametrize("verb", REFUSED)
def test_what_would_name_a_daemon_is_refused_with_what_to_do(context: Context, verb: str) -> None:
    out, error = context(verb, "far", "--docker", "host=tcp://192.0.2.1:2376", code=1)
    assert out == ""
    assert error.startswith(f"docklock: docklock context {verb}: docklock has no daemon")
    assert "ssh HOST docklock" in error and "--root DIR" in error
    assert f"docklock context {verb}" in context(verb, "--help")[0]
    assert not context.root.exists()


@pytest.mark.parametrize("variable", VARIABLES)
def test_who_has_chosen_another_is_told_that_it_is_not_heeded(
    context: Context, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "tcp://192.0.2.1:2376")
    for words in (("ls",), ("show",), ("use", "default")):
        assert f"Warning: {variable} is set, and docklock does not heed it" in context(*words)[1]
    monkeypatch.setenv(variable, "default")
    assert context("show") == ("default\n", "")
