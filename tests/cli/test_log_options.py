"""--log-driver and --log-opt: what is taken, what it means, what is refused and why."""

from __future__ import annotations

import pytest

from chainlite.errors import SpecError
from docklock.cli.log_options import parse_settings, set_log
from docklock.defaults import default_spec
from docklock.lifecycle import Container
from docklock.log_settings import DEFAULT, LogSettings, decode_log


def parse(driver: str | None, *words: str) -> LogSettings:
    return parse_settings({"log_driver": driver, "log_opt": list(words)})


def test_no_option_is_what_a_record_without_settings_has() -> None:
    assert parse(None) == parse("json-file") == DEFAULT


@pytest.mark.parametrize(
    ("driver", "words", "bytes_max", "files_max"),
    [
        ("json-file", ("max-size=10m",), 10 << 20, 1),
        ("json-file", ("max-size=10m", "max-file=3"), 10 << 20, 3),
        ("json-file", ("max-file=3",), 64 << 20, 3),
        ("json-file", ("max-size=-1",), 0, 1),
        ("json-file", ("max-size=10m", "compress=false"), 10 << 20, 1),
        ("local", (), 20 << 20, 5),
        ("local", ("max-size=1k", "max-file=2"), 1024, 2),
        ("journald", (), 20 << 20, 5),
        ("journald", ("cache-max-size=1m", "cache-max-file=2"), 1 << 20, 2),
        ("journald", ("cache-disabled=true",), 64 << 20, 0),
        ("none", (), 64 << 20, 0),
    ],
)
def test_limits_are_dockers(
    driver: str, words: tuple[str, ...], bytes_max: int, files_max: int
) -> None:
    settings = parse(driver, *words)
    assert (settings.max_bytes, settings.files_max) == (bytes_max, files_max)
    assert settings.driver == driver
    assert dict(settings.options) == dict(word.split("=") for word in words)


def test_non_blocking_has_a_buffer() -> None:
    settings = parse("json-file", "mode=non-blocking", "max-buffer-size=4m")
    assert not settings.is_blocking
    assert settings.buffer_bytes_max == 4 << 20


@pytest.mark.parametrize(
    ("driver", "words", "why"),
    [
        ("syslog", (), "sends no output elsewhere"),
        ("jsonfile", (), "no log driver named 'jsonfile' is registered, did you mean json-file"),
        (
            "json-file",
            ("max-sise=1m",),
            "unknown log opt 'max-sise' for json-file log driver, did you mean max-size",
        ),
        ("local", ("tag=x",), "unknown log opt 'tag' for local log driver"),
        ("none", ("max-size=1m",), "unknown log opt 'max-size' for none log driver"),
        ("local", ("zzz=1",), "unknown log opt 'zzz' for local log driver; there are compress"),
        ("json-file", ("max-size",), "give NAME=VALUE"),
        ("json-file", ("max-size=big",), "give a size"),
        ("json-file", ("max-file=0", "max-size=1m"), "give a number from 1"),
        ("json-file", ("max-size=-1", "max-file=2"), "it needs a max-size"),
        ("json-file", ("compress=true", "max-size=1m"), "compresses no logs"),
        ("journald", ("cache-compress=true",), "compresses no logs"),
        ("json-file", ("compress=maybe",), "give true or false"),
        ("json-file", ("mode=fast",), "give blocking or non-blocking"),
        ("json-file", ("max-buffer-size=1m",), "only supported with 'mode=non-blocking'"),
    ],
)
def test_what_is_refused_says_why(driver: str, words: tuple[str, ...], why: str) -> None:
    with pytest.raises(SpecError, match=rf"^--log-.*{why}"):
        parse(driver, *words)


def describe(*words: str) -> dict[str, str]:
    container = Container(
        "0123456789abcdef" * 4, "web", "/b", image="busybox:1", image_id="sha256:" + "f" * 64,
        command=("sh", "-c", "x"), labels=(("tier", "front"), ("tierce", "3")),
    )  # fmt: skip
    spec = default_spec(args=("sh",), env=("PATH=/bin", "REGION=eu"))
    done = set_log(container, spec, {"log_driver": "json-file", "log_opt": list(words)})
    return dict(decode_log(done.log).attributes)


def test_attributes_are_those_that_are_named_or_matched() -> None:
    assert describe() == {}
    assert describe("labels=tier,none", "env=REGION") == {"tier": "front", "REGION": "eu"}
    assert describe("labels-regex=^tier", "env-regex=^PA") == {
        "tier": "front", "tierce": "3", "PATH": "/bin",
    }  # fmt: skip
    with pytest.raises(SpecError, match=r"^--log-opt labels-regex=\("):
        describe("labels-regex=(")


def test_a_tag_is_a_template_over_dockers_fields() -> None:
    assert describe("tag={{.Name}}/{{.ID}}/{{.ImageName}}/{{.ImageID}}/{{.DaemonName}}") == {
        "tag": "web/0123456789ab/busybox:1/ffffffffffff/docklock"
    }
    with pytest.raises(SpecError, match=r"^--log-opt tag: character \d+: .*Nmae.*Name"):
        describe("tag={{.Nmae}}")
