"""agent.toml: what it may say, and errors that name file, key and line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainlite.errors import SpecError
from chainlite.toml_lines import FILE_BYTES_MAX, find_line
from docklock.agent.config import Settings, parse_config


def test_an_empty_file_gives_the_defaults() -> None:
    assert parse_config(b"", "f") == Settings("", "info", 30, notary=True)


def test_every_setting_is_read() -> None:
    text = b'# ours\nsocket = "/run/x.sock"\nlog-level = "debug"\nscan-seconds = 3600\n'
    text += b"notary = false\n"
    assert parse_config(text, "f") == Settings("/run/x.sock", "debug", 3600, notary=False)
    more = b'witnesses = "/w.toml"\nwitness-seconds = 5\n'
    chain = b'[chain]\nrole = "submitter"\ndir = "/c"\n'
    assert parse_config(chain, "f")[7:9] == ("submitter", "/c")
    assert parse_config(text + more, "f")[4:6] == ("/w.toml", 5)
    assert parse_config(b'submit = "/srv/chain"', "f").submit == "/srv/chain"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("socket = 3", "line 1: socket: expected a string"),
        ('socket = "run/x"', "line 1: socket: expected an absolute path"),
        ('\n\nlog-level = "loud"', "line 3: log-level: expected one of error, warning, info"),
        ("log-level = true", "line 1: log-level: expected a string"),
        ("# one\nscan-seconds = 0\n", "line 2: scan-seconds: expected 1 to 3600"),
        ("scan-seconds = 3601", "line 1: scan-seconds: expected 1 to 3600"),
        ("scan-seconds = true", "line 1: scan-seconds: expected an integer"),
        ('witnesses = "w.toml"', "line 1: witnesses: expected an absolute path"),
        ('submit = "chain"', "line 1: submit: expected an absolute path"),
        ("witness-seconds = 0", "line 1: witness-seconds: expected 1 to 3600"),
        ("scan-seconds = 1.0", "line 1: scan-seconds: expected an integer"),
        ("notary = 1", "line 1: notary: expected true or false"),
        ('a = """\nsocket = 1\n"""\n', "line 1: a: unknown key; known are socket, log-level"),
        ('[chain]\ndir = "/x"\n', "line 1: chain: expected a role: one of validator, follower"),
        ('[chain]\n\nrole = "king"\n', "line 3: chain.role: expected one of validator"),
        ('[chain]\nrole = "follower"\ndir = "x"', "line 3: chain.dir: expected an absolute path"),
        ('a.b = 1\n[chain]\nrole = "follower"', "line 1: a: unknown key"),
        ('[chain]\nrole = "follower"\nport = 1', "line 3: chain.port: unknown key; known are role"),
        ("chain = 1", "line 1: chain: expected a table [chain]"),
        ('\n[agent]\nsocket = "/x"', "line 2: agent: unknown key"),
        ('socket = "/x"\nagent.level = 1', "line 2: agent: unknown key"),
        ("socket = [\n1,\n2]\n", "line 1: socket: expected a string"),
        ("socket =\n", "line 1, column 9: Invalid value"),
        ('socket = "/x"\nsocket = "/y"\n', "line 2"),
        ("socket", "f: "),
    ],
)
def test_errors_name_file_line_and_key(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_config(text.encode(), "f")
    assert str(caught.value).startswith("f: ")
    assert said in str(caught.value)


def test_bytes_that_are_not_utf8_are_named_by_line() -> None:
    with pytest.raises(SpecError, match="f: line 2: not UTF-8"):
        parse_config(b"# ok\n\xff\n", "f")


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(SpecError, match="at most 65536"):
        parse_config(b"#" * (FILE_BYTES_MAX + 1), "f")


@given(
    before=st.lists(st.sampled_from(["", "# scan-seconds = 1", 'x = """\n[', '"""']), max_size=4)
)
def test_the_line_is_right_whatever_stands_before(before: list[str]) -> None:
    text = "\n".join(
        [*(line for line in before if not line.startswith(("x", '"'))), "scan-seconds = 0"]
    )
    assert find_line(text, lambda document: "scan-seconds" in document) == len(text.splitlines())


@given(st.binary(max_size=200))
def test_any_bytes_are_settings_or_an_error(data: bytes) -> None:
    try:
        assert isinstance(parse_config(data, "f"), Settings)
    except SpecError as error:
        assert str(error).startswith("f: ")
