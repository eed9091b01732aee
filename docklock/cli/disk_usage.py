"""`docklock system df`: what takes space, by kind or, with -v, each image, container and evidence.

Docker's columns and fields; SizeBytes and ReclaimableBytes are docklock's, and so is the evidence,
which is never reclaimable. There are no volumes and no build cache. Not here: freeing (system.py).
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from docklock.cli import options
from docklock.cli.image_list import describe as describe_image
from docklock.cli.options import check_count
from docklock.cli.ps import HEADS as CONTAINER_HEADS
from docklock.cli.ps import Show, read_rows
from docklock.cli.system import DF, find_used, measure_tree
from docklock.image.history import read_layer_size
from docklock.image.listing import show_size, show_table
from docklock.image.store import ImageStore
from docklock.lifecycle import is_live, list_containers

if TYPE_CHECKING:
    from docklock.image.store import Image
    from docklock.paths import Paths

HEADS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
    "SizeBytes": "SIZE BYTES",
    "ReclaimableBytes": "RECLAIMABLE BYTES",
}
COLUMNS = ("Type", "TotalCount", "Active", "Size", "Reclaimable")
IMAGE_HEADS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
}
CONTAINER_COLUMNS = (
    "ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names",
)  # fmt: skip
EVIDENCE_HEADS = {"Container": "CONTAINER ID", "Size": "SIZE"}
HOST_LOG = "host log"
SHORT_ID = 12


class Row(NamedTuple):
    """One kind, in bytes. `reclaimable` is what prune -a would free."""

    kind: str
    total: int
    active: int
    size: int
    reclaimable: int

    def describe(self) -> dict[str, str]:
        """Docker's fields, and the bytes."""
        share = f" ({self.reclaimable * 100 // self.size}%)" if self.size else ""
        return {
            "Active": str(self.active),
            "Reclaimable": show_size(self.reclaimable) + share,
            "ReclaimableBytes": str(self.reclaimable),
            "Size": show_size(self.size),
            "SizeBytes": str(self.size),
            "TotalCount": str(self.total),
            "Type": self.kind,
        }


def run_df(argv: list[str], paths: Paths) -> int:
    """`docklock system df`."""
    values, words = options.parse(DF, argv)
    check_count(DF, words, 0, 0)
    form = values["format"] or "table"
    if values["verbose"]:
        sys.stdout.write(show_each(paths, form))
        return 0
    found = (measure_images(paths), measure_containers(paths), measure_evidence(paths))
    rows = [one.describe() for one in found]
    if form == "table":
        sys.stdout.write(show_columns(rows, {key: HEADS[key] for key in COLUMNS}))
    else:
        from docklock.cli.template import show_rows

        sys.stdout.write(show_rows(rows, form, HEADS))
    return 0


def show_each(paths: Paths, form: str) -> str:
    """Docker's tables of each thing, or one document of them, whole or by a template."""
    found = {
        "Images": list_images(paths),
        "Containers": list_container_sizes(paths),
        "Volumes": [],
        "BuildCache": [],
        "Evidence": list_evidence(paths),
    }
    if form.strip() == "json":
        return json.dumps(found) + "\n"
    if form != "table":
        from docklock.cli.template import render
        from docklock.cli.template_parse import parse_template

        return render(parse_template(form), found) + "\n"
    containers = {key: CONTAINER_HEADS[key] for key in CONTAINER_COLUMNS}
    heads = {"Images": IMAGE_HEADS, "Containers": containers, "Evidence": EVIDENCE_HEADS}
    return "\n".join(
        f"{name} space usage:\n\n{show_columns(found[name], columns)}"
        for name, columns in heads.items()
    )


def show_columns(rows: list[dict[str, Any]], heads: dict[str, str]) -> str:
    """Docker's table of these fields."""
    return show_table(list(heads.values()), [[str(row[key]) for key in heads] for row in rows])


def list_images(paths: Paths) -> list[dict[str, str]]:
    """Docker's fields of each name; what layers that another image has take is shared."""
    store = ImageStore(paths)
    entries = store.list_entries()
    images = {entry.image_id: store.read_image(entry, entries) for entry in entries}
    owners = Counter(layer for image in images.values() for layer in set(image.diff_ids))
    users = count_users(paths)
    rows = []
    for entry in entries:
        image = images[entry.image_id]
        shared = measure_shared(store, image, owners)
        rows.append(
            describe_image(image, entry, is_full=False)
            | {
                "Containers": str(users[entry.image_id]),
                "SharedSize": show_size(shared),
                "UniqueSize": show_size(max(0, entry.image_bytes - shared)),
            }
        )
    return rows


def measure_shared(store: ImageStore, image: Image, owners: Counter[str]) -> int:
    """The bytes of its layers that another image has, too."""
    shared = [layer for layer in set(image.diff_ids) if owners[layer] > 1]
    return sum(read_layer_size(store, layer) for layer in shared)


def count_users(paths: Paths) -> Counter[str]:
    """How many containers each image has."""
    return Counter(row.container.image_id for row in read_rows(paths))


def list_container_sizes(paths: Paths) -> list[dict[str, str]]:
    """Docker's fields of each container, whether it runs or not."""
    show = Show(paths, is_full=False, has_size=True, has_mounts=False)
    rows = [show.describe(row) for row in read_rows(paths)]
    return [row | {"Size": row["Size"].partition(" ")[0]} for row in rows]


def list_evidence(paths: Paths) -> list[dict[str, str]]:
    """Each container's evidence, of those that are gone as well, and the host log."""
    sizes = {HOST_LOG: measure_host_log(paths)}
    for name in sorted(list_files(paths)):
        container = name.partition(".")[0][:SHORT_ID]
        sizes[container] = sizes.get(container, 0) + measure_tree(f"{paths.evidence}/{name}")
    return [{"Container": name, "Size": show_size(size)} for name, size in sizes.items()]


def list_files(paths: Paths) -> list[str]:
    """The names of the evidence files."""
    try:
        return os.listdir(paths.evidence)
    except FileNotFoundError:
        return []


def measure_images(paths: Paths) -> Row:
    """By image: layers that two share count once in SIZE, and for neither as reclaimable alone."""
    by_id = {one.image_id: one for one in ImageStore(paths).list_entries()}
    used = find_used(paths)
    free = [entry.image_bytes for image_id, entry in by_id.items() if image_id not in used]
    size = measure_tree(paths.images)
    return Row("Images", len(by_id), len(by_id) - len(free), size, min(size, sum(free)))


def measure_containers(paths: Paths) -> Row:
    """Their upper directories, logs and records."""
    ids = list_containers(paths)
    sizes = {one: measure_tree(paths.container(one)) for one in ids}
    live = {one for one in ids if is_live(paths, one)}
    free = sum(size for one, size in sizes.items() if one not in live)
    return Row("Containers", len(ids), len(live), sum(sizes.values()), free)


def measure_evidence(paths: Paths) -> Row:
    """Evidence files and the host log; never reclaimable."""
    names = list_files(paths)
    stores = sum(name.endswith(".db") for name in names)
    live = sum(name.endswith(".journal") for name in names)
    size = measure_tree(paths.evidence) + measure_host_log(paths)
    return Row("Evidence", stores, live, size, 0)


def measure_host_log(paths: Paths) -> int:
    """The host log's database."""
    return sum(measure_tree(f"{paths.host_db}{suffix}") for suffix in ("", "-wal", "-shm"))
