"""Still screens to one that moves: an SVG without script, as a README shows it.

Each still is what Textual exports. A piece of text or ground that is the same in several of them is
written once, with the stills that it is seen in; CSS steps through these, so nothing is drawn half.
Not here: how the stills come about (record_tui). Invariants: the same stills make the same bytes;
no script, no font and nothing else from elsewhere; every piece of text has a width of its own, so
that columns stand under each other in any font.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

CELL_WIDTH, CELL_HEIGHT = 12, 24
"""Of a cell here; a monospaced letter is 0.6 of its size wide: FONT_SIZE 20."""
FONT_SIZE, ASCENT = 20, 18
EXPORTED_WIDTH, EXPORTED_HEIGHT = 12.2, 24.4
"""Of a cell as rich.console exports it: its letters are 20 high and 0.61 of that wide."""
GROUND, WORDS, KEYS = "#101318", "#e4e6ea", "#f0c742"
MARGIN = 8
STILLS_MAX = 100

_STYLE = re.compile(r"\.\S+-(r\d+) \{ ?(.*?) ?\}")
_TEXT = re.compile(
    r'<text class="\S+-(r\d+)" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', re.DOTALL
)
_RECT = re.compile(r'<rect fill="(#\w+)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"')
_RUN = re.compile(r"\S+(?: \S+)*")


class Still(NamedTuple):
    """A screen for so many seconds; `keys` were pressed, `words` say what is seen."""

    svg: str
    seconds: float
    keys: str = ""
    words: str = ""


class Piece(NamedTuple):
    """Something that is drawn: ground (no text) or text, `cells` wide; `style` is CSS."""

    row: int
    column: int
    cells: int
    style: str
    text: str = ""


def make_moving(stills: Sequence[Still], columns: int, rows: int, about: str) -> str:
    """The SVG; it begins again when it is through. Below the screen stand keys and words."""
    assert 0 < len(stills) <= STILLS_MAX
    seen: dict[Piece, int] = {}
    for number, still in enumerate(stills):
        for piece in (*read_pieces(still.svg), *_caption(still, rows)):
            seen[piece] = seen.get(piece, 0) | 1 << number
    groups: dict[int, list[Piece]] = {}
    for piece, mask in seen.items():
        groups.setdefault(mask, []).append(piece)
    styles = {style: f"s{i}" for i, style in enumerate(sorted({p.style for p in seen}))}
    width = columns * CELL_WIDTH + 2 * MARGIN
    height = (rows + 1) * CELL_HEIGHT + 3 * MARGIN
    whole = (1 << len(stills)) - 1
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{html.escape(about)}</title>",
        "<style>",
        f"text{{font:{FONT_SIZE}px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace}}",
        *(f".{name}{{{style}}}" for style, name in styles.items()),
        *(_write_steps(mask, stills) for mask in sorted(groups) if mask != whole),
        "</style>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{GROUND}"/>',
    ]
    for is_text in (False, True):  # grounds lie below all text
        for mask in sorted(groups):
            drawn = [_write(p, styles) for p in sorted(groups[mask]) if bool(p.text) == is_text]
            if drawn:
                name = "" if mask == whole else f' class="m{mask:x}"'
                lines += [f"<g{name}>", *drawn, "</g>"]
    return "\n".join((*lines, "</svg>")) + "\n"


def read_pieces(svg: str) -> Iterator[Piece]:
    """What an exported screen shows, by cells."""
    styles = dict(_STYLE.findall(svg))
    before: Piece | None = None
    for fill, x, y, width in _RECT.findall(svg):
        row = round((float(y) - 1.5) / EXPORTED_HEIGHT)
        piece = Piece(row, round(float(x) / EXPORTED_WIDTH), round(float(width) / EXPORTED_WIDTH),
                      f"fill:{fill}")  # fmt: skip
        if (
            before
            and before[:1] + before[3:] == piece[:1] + piece[3:]
            and (before.column + before.cells == piece.column)
        ):  # one ground where there were two: no seam between them
            before = before._replace(cells=before.cells + piece.cells)
            continue
        if before and before.style != f"fill:{GROUND}":
            yield before
        before = piece
    if before and before.style != f"fill:{GROUND}":
        yield before
    for style, x, y, escaped in _TEXT.findall(svg):
        row = round((float(y) - 18.5) / EXPORTED_HEIGHT)
        text = html.unescape(escaped).replace("\u00a0", " ")
        start = round(float(x) / EXPORTED_WIDTH)
        css = re.sub(r";$", "", re.sub(r"\s*([:;])\s*", r"\1", styles[style]))
        for run in _RUN.finditer(text.rstrip()):
            yield Piece(row, start + run.start(), len(run[0]), css, run[0])


def read_lines(svg: str) -> list[str]:
    """The letters of an exported screen, for a person."""
    rows: dict[int, str] = {}
    for piece in sorted(piece for piece in read_pieces(svg) if piece.text):
        rows[piece.row] = rows.get(piece.row, "").ljust(piece.column) + piece.text
    return [rows.get(row, "") for row in range(max(rows, default=-1) + 1)]


def _caption(still: Still, rows: int) -> Iterator[Piece]:
    """The line below the screen."""
    keys = f"[{still.keys}]" if still.keys else ""
    if keys:
        yield Piece(rows, 0, len(keys), f"fill:{KEYS};font-weight:bold", keys)
    if still.words:
        start = len(keys) + bool(keys)
        yield Piece(rows, start, len(still.words), f"fill:{WORDS}", still.words)


def _write(piece: Piece, styles: dict[str, str]) -> str:
    x = piece.column * CELL_WIDTH + MARGIN
    y = piece.row * CELL_HEIGHT + MARGIN
    name, width = styles[piece.style], piece.cells * CELL_WIDTH
    if not piece.text:
        return f'<rect class="{name}" x="{x}" y="{y}" width="{width}" height="{CELL_HEIGHT}"/>'
    text = html.escape(piece.text, quote=False)
    return f'<text class="{name}" x="{x}" y="{y + ASCENT}" textLength="{width}">{text}</text>'


def _write_steps(mask: int, stills: Sequence[Still]) -> str:
    """When what is in these stills is seen."""
    total = sum(still.seconds for still in stills)
    steps, before, at = [], -1, 0.0
    for number, still in enumerate(stills):
        is_seen = mask >> number & 1
        if is_seen != before:
            steps.append(f"{at / total * 100:.4g}%{{opacity:{is_seen}}}")
            before = is_seen
        at += still.seconds
    name = f"m{mask:x}"
    return (
        f"@keyframes {name}{{{''.join(steps)}}}"
        f".{name}{{animation:{name} {total:g}s step-end infinite}}"
    )
