"""The recording that the README shows: made of stills by benchmarks/moving.py, harmless, small."""

from __future__ import annotations

import importlib.util
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

from tests.tui.network import make_alerts, make_chain
from tests.tui.screen import Hand, drive, make_source

TOP = Path(__file__).resolve().parents[2]
PICTURE = TOP / "benchmarks/top.svg"
BYTES_MAX = 300_000


@pytest.fixture(scope="module")
def moving() -> ModuleType:
    spec = importlib.util.spec_from_file_location("moving", TOP / "benchmarks/moving.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["moving"] = module  # a NamedTuple looks its module up
    spec.loader.exec_module(module)
    return module


def take_screens() -> tuple[list[str], list[str]]:
    """Exported screens of a real app, and the letters that the harness reads in them."""
    svgs, texts = [], []

    async def steps(hand: Hand) -> None:
        for key in ("3", "5"):
            await hand.press(key)
            svgs.append(hand.app.export_screenshot())
            texts.append(hand.read())

    drive(make_source(chain=make_chain(), alerts=make_alerts()), steps, size=(80, 24))
    return svgs, texts


def get_shown(picture: str, number: int, count: int) -> dict[tuple[int, int], str]:
    """What is seen in the middle of one of `count` stills of a second each: texts by place."""
    share = (number + 0.5) / count * 100
    hidden = set()
    for name, body in re.findall(r"@keyframes (m\w+)\{((?:[\d.]+%\{opacity:[01]\})+)\}", picture):
        steps = re.findall(r"([\d.]+)%\{opacity:(\d)", body)
        if [seen for at, seen in steps if float(at) <= share][-1] == "0":
            hidden.add(name)
    shown = {}
    root = ET.fromstring(picture)
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        if group.get("class") not in hidden:
            for text in group.iter("{http://www.w3.org/2000/svg}text"):
                shown[int(text.attrib["x"]), int(text.attrib["y"])] = text.text or ""
    return shown


def test_each_still_is_seen_in_its_time_and_nothing_else(moving: ModuleType) -> None:
    svgs, texts = take_screens()
    stills = [moving.Still(svg, 1.0, str(i), f"caption {i}") for i, svg in enumerate(svgs)]
    picture = moving.make_moving(stills, 80, 24, "two screens <of it>")
    for number, text in enumerate(texts):
        shown = get_shown(picture, number, len(stills))
        words = sorted(word for run in shown.values() for word in run.split())
        expected = sorted([*text.split(), f"[{number}]", "caption", str(number)])
        assert words == expected
    assert picture.count(">1 Containers<") == 1, "what is the same in both is written once"
    assert picture == moving.make_moving(stills, 80, 24, "two screens <of it>")
    assert moving.read_lines(svgs[0])[0].split() == texts[0].splitlines()[0].split()


def test_the_picture_in_the_readme_is_there_small_and_without_script() -> None:
    assert "](benchmarks/top.svg)" in (TOP / "README.md").read_text()
    picture = PICTURE.read_text()
    assert len(picture.encode()) <= BYTES_MAX
    root = ET.fromstring(picture)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert names <= {"svg", "title", "style", "rect", "g", "text"}
    assert not re.search(r"url\(|@import|href", picture)
    assert "NOT WHOLE" not in picture and "no answer since" not in picture
