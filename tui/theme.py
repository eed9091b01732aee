"""Colours: two themes that the colour-blind can tell apart, dark and light.

After Okabe and Ito (2008): well is blue, broken is vermillion, a warning is yellow; red is never
set against green. No colour says a thing alone: a word or a sign stands beside it, so NO_COLOR,
with which no colour at all is sent, loses nothing.
"""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="docklock-dark",
    primary="#56b4e9",
    secondary="#7f8fa6",
    accent="#56b4e9",
    success="#56b4e9",
    warning="#f0c742",
    error="#ff7f32",
    foreground="#e4e6ea",
    background="#101318",
    surface="#181c23",
    panel="#252b35",
    dark=True,
)
LIGHT = Theme(
    name="docklock-light",
    primary="#00598f",
    secondary="#54606e",
    accent="#00598f",
    success="#00598f",
    warning="#7a5c00",
    error="#a83c00",
    foreground="#14181f",
    background="#fafbfc",
    surface="#eef0f3",
    panel="#dde2e8",
    dark=False,
)
THEMES = (DARK, LIGHT)
