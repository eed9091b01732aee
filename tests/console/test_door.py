"""Words of the command line name a source, or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainlite.errors import SpecError
from docklock.console.door import open_source
from docklock.console.facts import Overview
from docklock.console.saved import Answer, encode_saved


def test_a_root_without_anything_is_an_empty_host(tmp_path: Path) -> None:
    source = open_source(["--root", str(tmp_path / "nothing"), f"--runroot={tmp_path}"])
    overview = source.containers.read_overview()
    assert (overview.containers, overview.agent, overview.trouble) == ((), "none", "")
    assert source.alerts.read_alerts() == ()
    assert not (tmp_path / "nothing").exists(), "a look makes nothing"


@pytest.mark.parametrize("words", [["--what", "x"], ["--root"], ["--root=a", "--root", "b"]])
def test_other_words_are_refused(words: list[str]) -> None:
    with pytest.raises(SpecError, match=words[0].partition("=")[0]):
        open_source(words)


def test_a_saved_file_is_shown_again(tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    path.write_bytes(encode_saved("web1", [Answer("overview", 5, Overview(5, host="h"))]))
    source = open_source(["--replay", str(path)])
    assert source.name == "replay of web1"
    assert source.containers.read_overview().host == "h"
    path.write_bytes(b"{}")
    with pytest.raises(SpecError, match=f"^{path}: format"):
        open_source(["--replay", str(path)])
    with pytest.raises(SpecError, match="cannot read it"):
        open_source(["--replay", str(tmp_path)])
