"""`docklock history`: how an image was made, newest first, by its configuration's `history`.

Not here: the table (docklock.cli.history). Source: OCI image-spec 1.1, config.md, "history"; moby
daemon/images/image_history.go.
"""

from __future__ import annotations

from typing import NamedTuple

from chainlite.errors import SpecError
from docklock.document import Cursor, parse_document
from docklock.image.store import SIZE_MAX_BYTES, ImageStore, parse_diff_ids

MISSING = "<missing>"


class Step(NamedTuple):
    """One step. `image_id` is the image's for the newest one: of the others only layers are here.

    `size_bytes` is what its layer holds unpacked; 0 for a step that made none.
    """

    image_id: str
    created: str
    created_by: str
    comment: str
    size_bytes: int


def read_history(store: ImageStore, text: str) -> tuple[Step, ...]:
    """The steps of the image that `text` names. SpecError if they do not fit its layers."""
    image = store.resolve(text)
    document = store.read_document(image.id)
    left = list(parse_diff_ids(document))
    steps: list[Step] = []
    history = document.get("history")
    for item in history.as_list():
        size = 0
        if not item.get("empty_layer").as_bool(default=False):
            if not left:
                raise item.error("more steps with a layer than there are layers")
            size = read_layer_size(store, left.pop(0))
        steps.append(_parse_step(item, size))
    if steps:
        steps[-1] = steps[-1]._replace(image_id=image.id)
    return tuple(reversed(steps))


def read_layer_size(store: ImageStore, diff_id: str) -> int:
    """The bytes of a layer's files."""
    where = f"{store.layer(diff_id)}/layer.json"
    try:
        with open(where, "rb") as file:
            document = parse_document(file.read(), where)
    except FileNotFoundError:
        raise SpecError(f"{where}: missing: docklock system check says what else is") from None
    return document.required("size_bytes").as_int(0, SIZE_MAX_BYTES)


def _parse_step(item: Cursor, size_bytes: int) -> Step:
    return Step(
        MISSING,
        item.get("created").as_str(""),
        item.get("created_by").as_str(""),
        item.get("comment").as_str(""),
        size_bytes,
    )
