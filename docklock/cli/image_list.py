"""`docklock images`: images in Docker's columns, the newest first.

Not here: templates (template), the form of filters (filters), the store (docklock.image.store).
"""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from docklock.cli import options
from docklock.cli.options import Command, check_count, flag, text
from docklock.image.listing import show_created, show_size, show_table
from docklock.image.reference import get_familiar_name, parse_reference, split_full
from docklock.image.store import Image, ImageStore

if TYPE_CHECKING:
    from docklock.image.store import Entry
    from docklock.paths import Paths

IMAGES = Command(
    "images",
    "[OPTIONS] [NAME[:TAG]]",
    "List images, the newest first.",
    (
        flag("-a", "--all", help="accepted for Docker's sake; all are shown"),
        options.listed("-f", "--filter", metavar="KEY=VALUE",
                       help="only these: before dangling label reference since until"),
        text("--format", help="a Go template, 'table TEMPLATE', table or json", metavar="FORMAT"),
        flag("-q", "--quiet", help="only IDs"),
        flag("--no-trunc", help="whole IDs"),
        flag("--digests", help="show manifest digests"),
    ),
    examples=(
        "docklock images", "docklock images --filter dangling=true -q",
        "docklock images --format json",
    ),
)  # fmt: skip
SHORT_ID_CHARS = 12
NONE = "<none>"
KEYS = ("before", "dangling", "label", "reference", "since", "until")
TRUE, FALSE = ("true", "1"), ("false", "0")
HEADS = {
    "Containers": "CONTAINERS",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "SharedSize": "SHARED SIZE",
    "Size": "SIZE",
    "Tag": "TAG",
    "UniqueSize": "UNIQUE SIZE",
}


def run_images(argv: list[str], paths: Paths) -> int:
    """`docklock images [NAME[:TAG]]`."""
    values, words = options.parse(IMAGES, argv)
    check_count(IMAGES, words, 0, 1)
    store = ImageStore(paths)
    entries = choose_named(store.list_entries(), "".join(words))
    found = list(zip(store.read_images(entries, entries), entries, strict=True))
    if values["filter"]:
        found = choose(store, found, values["filter"])
    found.sort(key=lambda pair: (pair[0].created, pair[1].reference), reverse=True)
    rows = [describe(image, entry, is_full=values["no_trunc"]) for image, entry in found]
    form = values["format"] or "table"
    if values["quiet"] and not values["format"]:
        sys.stdout.write("".join(f"{key}\n" for key in dict.fromkeys(row["ID"] for row in rows)))
    elif form == "table":
        digest = ("Digest",) if values["digests"] else ()
        keys = ("Repository", "Tag", *digest, "ID", "CreatedSince", "Size")
        cells = [[row[key] for key in keys] for row in rows]
        heads = [HEADS[key] for key in keys]
        sys.stdout.write(show_table(heads, cells, is_whole=values["no_trunc"]))
    else:
        from docklock.cli.template import show_rows

        sys.stdout.write(show_rows(rows, form, HEADS))
    return 0


def choose_named(entries: tuple[Entry, ...], name: str) -> tuple[Entry, ...]:
    """A name without a tag means all its tags; none means all images."""
    if not name:
        return entries
    wanted = parse_reference(name)
    if ":" in name.rpartition("/")[2]:
        return tuple(item for item in entries if item.reference == wanted.text)
    return tuple(item for item in entries if item.reference.startswith(f"{wanted.name}:"))


def choose(
    store: ImageStore, found: list[tuple[Image, Entry]], words: list[str]
) -> list[tuple[Image, Entry]]:
    """Those that fit --filter."""
    from docklock.cli.filters import Filters
    from docklock.cli.receipts import parse_since

    filters = Filters("images", words, KEYS)
    dangling = filters.check("dangling", TRUE + FALSE)
    created = {
        key: [parse_created(store.resolve(word).created) for word in filters.get(key)]
        for key in ("before", "since")
    }
    created["before"] += [parse_since(word, _now_ns()) / 1e9 for word in filters.get("until")]

    def fits(image: Image, entry: Entry) -> bool:
        at = parse_created(image.created)
        return (
            all((word in TRUE) != bool(entry.reference) for word in dangling)
            and filters.fits_labels(dict(image.config.labels))
            and filters.fits("reference", lambda value: is_match(entry, value))
            and all(at < one for one in created["before"])
            and all(at > one for one in created["since"])
        )

    return [(image, entry) for image, entry in found if fits(image, entry)]


def parse_created(text: str) -> float:
    """Seconds since 1970; 0 for what is no time."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _now_ns() -> int:
    import time

    return time.time_ns()


def is_match(entry: Entry, pattern: str) -> bool:
    """Docker's shell pattern over the familiar name, with its tag or without; * stops at /."""
    if not entry.reference:
        return False
    familiar = parse_reference(entry.reference).familiar
    name = get_familiar_name(split_full(entry.reference)[0])
    return any(
        text.count("/") == pattern.count("/") and fnmatchcase(text, pattern)
        for text in (familiar, name)
    )


def describe(image: Image, entry: Entry, *, is_full: bool) -> dict[str, str]:
    """Docker's fields by Docker's names."""
    name, tag = split_full(entry.reference)
    created_at, since = show_created(image.created)
    return {
        "Containers": "N/A",
        "CreatedAt": created_at,
        "CreatedSince": since,
        "Digest": entry.digest,
        "ID": entry.image_id if is_full else entry.image_id[7 : 7 + SHORT_ID_CHARS],
        "Repository": get_familiar_name(name) if name else NONE,
        "SharedSize": "N/A",
        "Size": show_size(entry.image_bytes),
        "Tag": tag or NONE,
        "UniqueSize": "N/A",
    }
