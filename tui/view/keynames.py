"""Keys as people write them, in letters that every terminal's font has. Pure."""

from __future__ import annotations

NAMES = {
    "question_mark": "?", "slash": "/", "colon": ":", "escape": "esc", "pagedown": "pgdn",
    "pageup": "pgup", "ctrl+p": "ctrl-p", "left_square_bracket": "[", "delete": "del",
    "right_square_bracket": "]", "plus": "+", "minus": "-", "shift+tab": "shift-tab",
}  # fmt: skip


def write_key(name: str) -> str:
    """Of Textual's name for a key, or for several that mean the same, what stands on the first."""
    key = name.partition(",")[0]
    return NAMES.get(key, key)
