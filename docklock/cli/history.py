"""`docklock history`: an image's steps, the newest first, in Docker's columns.

Not here: what a step is (docklock.image.history).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from docklock.cli import options
from docklock.cli.options import Command, check_count, flag, text
from docklock.image.history import MISSING, Step, read_history
from docklock.image.listing import show_created, show_size, show_table
from docklock.image.store import ImageStore

if TYPE_CHECKING:
    from docklock.paths import Paths

HISTORY = Command(
    "history",
    "[OPTIONS] IMAGE",
    "Show how an image was made.",
    (
        flag("-H", "--human", help="sizes and times for people; --human=false: bytes, RFC 3339"),
        flag("-q", "--quiet", help="only IDs"),
        flag("--no-trunc", help="whole IDs and instructions"),
        text("--format", help="a Go template, 'table TEMPLATE', table or json", metavar="FORMAT"),
    ),
    examples=("docklock history --no-trunc debian:12",),
)
SHORT_ID_CHARS = 12
CREATED_BY_CHARS = 45
HEADS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


def run_history(argv: list[str], paths: Paths) -> int:
    """`docklock history`."""
    is_human = not any(word in ("--human=false", "-H=false") for word in argv)
    values, words = options.parse(HISTORY, argv)
    check_count(HISTORY, words, 1, 1)
    steps = read_history(ImageStore(paths), words[0])
    rows = [describe_step(step, is_full=values["no_trunc"], is_human=is_human) for step in steps]
    form = values["format"] or "table"
    if values["quiet"]:
        sys.stdout.write("".join(f"{row['ID']}\n" for row in rows))
    elif form == "table":
        cells = [[row[key] for key in HEADS] for row in rows]
        sys.stdout.write(show_table(list(HEADS.values()), cells, is_whole=values["no_trunc"]))
    else:
        from docklock.cli.template import show_rows

        sys.stdout.write(show_rows(rows, form, HEADS | {"CreatedAt": "CREATED AT"}))
    return 0


def describe_step(step: Step, *, is_full: bool, is_human: bool) -> dict[str, str]:
    """Docker's columns by Docker's names."""
    image_id, created_by = step.image_id, step.created_by.replace("\t", " ")
    if image_id != MISSING and not is_full:
        image_id = image_id[7 : 7 + SHORT_ID_CHARS]
    if not is_full and len(created_by) > CREATED_BY_CHARS:
        created_by = created_by[: CREATED_BY_CHARS - 1] + "…"
    _, since = show_created(step.created)
    return {
        "Comment": step.comment,
        "CreatedAt": step.created,
        "CreatedBy": created_by,
        "CreatedSince": since if is_human else step.created,
        "ID": image_id,
        "Size": show_size(step.size_bytes) if is_human else str(step.size_bytes),
    }
