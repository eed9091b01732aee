"""How wide what is printed may be: the terminal's columns, where stdout is one.

What a pipe or a file gets is never cut. Not here: the terminal of a container (cli/terminal.py),
progress bars (image/progress.py).
"""

from __future__ import annotations

import os
import sys

COLUMNS_MIN = 20  # below that nothing fits, and nothing is cut


def get_columns() -> int:
    """The terminal's width, which COLUMNS may say otherwise; 0 for no terminal, or no width."""
    if not sys.stdout.isatty():
        return 0
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit():
        width = int(asked)
    else:
        try:
            width = os.get_terminal_size(sys.stdout.fileno()).columns
        except OSError:
            return 0
    return width if width >= COLUMNS_MIN else 0


def wrap(text: str, indent: int) -> str:
    """The text in lines that fit the terminal, all but the first indented; elsewhere as it is."""
    columns = get_columns()
    if len(text) <= columns or columns < indent + COLUMNS_MIN:
        return text
    from textwrap import fill

    return fill(text, columns, subsequent_indent=" " * indent, break_on_hyphens=False)
