"""`docklock rmi`: takes a name away, and the image with its last one.

Invariant: an image that a container uses keeps its blobs and layers; with force it only loses its
names. Not here: what no image needs any more (staging.remove_unused).
Source: docker rmi; moby daemon/images/image_delete.go.
"""

from __future__ import annotations

import hashlib
import os

from chainlite.errors import SpecError, StateError
from docklock.document import parse_document
from docklock.evidence.operations import record_operation
from docklock.image.reference import parse_reference
from docklock.image.staging import (
    lock_store,
    read_diff_ids,
    remove_unused,
    tidy_entries,
    write_index,
)
from docklock.image.store import Entry, ImageStore, find_entry
from docklock.paths import Paths

SHORT_ID_CHARS = 12


def remove_image(paths: Paths, text: str, *, is_forced: bool) -> tuple[str, ...]:
    """Removes what `text` names; gives Docker's lines `Untagged: NAME` and `Deleted: DIGEST`."""
    store = ImageStore(paths)
    if not os.path.isdir(store.root):
        find_entry((), text)
    with lock_store(store.root):
        entries = store.list_entries()
        entry = find_entry(entries, text)
        same = tuple(item for item in entries if item.image_id == entry.image_id)
        gone = (entry,) if _is_named(entry, text) else same
        is_last = len(gone) == len(same)
        user = find_container(paths, entry.image_id) if is_last else ""
        if not is_forced:
            _check_free(entry, gone, user, text)
        left = tuple(item for item in entries if item not in gone)
        if user:
            left += (entry._replace(reference=""),)
        diff_ids = _read_layers(store, entry)
        for item in gone:
            labels = (("image", item.image_id), ("name", item.reference))
            record_operation(paths, "rmi", labels=labels)
        write_index(store.root, tidy_entries(left))
        removed = remove_unused(store, left)
    lines = [f"Untagged: {_show(item.reference)}" for item in gone if item.reference]
    if is_last and not user:
        lines.append(f"Deleted: {entry.image_id}")
        lines += [f"Deleted: {item}" for item in get_chain_ids(diff_ids, removed)]
    return tuple(lines)


def find_container(paths: Paths, image_id: str) -> str:
    """The ID of a container made from the image, or an empty text."""
    try:
        names = sorted(os.listdir(paths.containers))
    except FileNotFoundError:
        return ""
    for name in names:
        where = f"{paths.containers}/{name}/container.json"
        try:
            with open(where, "rb") as file:
                document = parse_document(file.read(), where)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if document.get("image_id").as_str("") == image_id:
            return name
    return ""


def get_chain_ids(diff_ids: tuple[str, ...], removed: tuple[str, ...]) -> tuple[str, ...]:
    """Docker's names for the removed layers, topmost first (image-spec, "Layer ChainID")."""
    found: list[str] = []
    chain = ""
    for diff_id in diff_ids:
        text = f"{chain} {diff_id}".encode()
        chain = f"sha256:{hashlib.sha256(text).hexdigest()}" if chain else diff_id
        if diff_id in removed:
            found.insert(0, chain)
    return tuple(found)


def _read_layers(store: ImageStore, entry: Entry) -> tuple[str, ...]:
    try:
        return read_diff_ids(store, entry.image_id)
    except SpecError:
        return ()  # spoilt on disk: it has to be removable all the same


def _is_named(entry: Entry, text: str) -> bool:
    """True when `text` is the entry's name and not an ID."""
    try:
        reference = parse_reference(text)
    except SpecError:
        return False
    return bool(reference.digest) or entry.reference == reference.text


def _check_free(entry: Entry, gone: tuple[Entry, ...], user: str, text: str) -> None:
    short = entry.image_id[7 : 7 + SHORT_ID_CHARS]
    if len(gone) > 1:
        raise StateError(
            f"conflict: unable to delete {short} (must be forced) - image is referenced in"
            " multiple repositories: name one, or use -f"
        )
    if user:
        raise StateError(
            f"conflict: unable to remove {text} (must be forced) - container"
            f" {user[:SHORT_ID_CHARS]} is using its image {short}: remove the container first"
        )


def _show(reference: str) -> str:
    return parse_reference(reference).familiar
