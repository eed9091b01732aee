"""--platform of pull, run and create, as people write it."""

from __future__ import annotations

import pytest

from chainlite.errors import SpecError
from docklock.cli.pull import parse_platform


@pytest.mark.parametrize(
    ("word", "platform"),
    [
        ("", ""),
        ("linux", ""),
        ("linux/amd64", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_a_platform_is_what_docker_takes_it_for(word: str, platform: str) -> None:
    assert parse_platform(word) == platform


@pytest.mark.parametrize("word", ["/", "linux/", "/amd64", "linux/arm/v7/x"])
def test_what_is_none_is_refused(word: str) -> None:
    with pytest.raises(SpecError, match="expected OS/ARCH"):
        parse_platform(word)
