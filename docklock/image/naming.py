"""`docklock tag`: one more name for an image that is here.

Not here: taking a name away (remove). Invariant: a name that another image had goes to this one;
the other image stays, nameless, as after `load` and `import`.
"""

from __future__ import annotations

import os

from chainlite.errors import SpecError
from docklock.evidence.operations import record_operation
from docklock.image.reference import parse_reference
from docklock.image.staging import add_entry, lock_store, write_index
from docklock.image.store import ImageStore, find_entry
from docklock.paths import Paths


def tag_image(paths: Paths, source: str, target: str) -> None:
    """Names the image `source` `target`, too. StateError for no such image, and nothing is made."""
    name = parse_reference(target)
    if name.digest:
        raise SpecError(f"{target}: refusing to create a tag with a digest reference")
    store = ImageStore(paths)
    if not os.path.isdir(store.root):
        find_entry((), source)
    with lock_store(store.root):
        entries = store.list_entries()
        entry = find_entry(entries, source)._replace(reference=name.text)
        labels = (("image", entry.image_id), ("name", entry.reference))
        record_operation(paths, "tag", labels=labels)
        if entry not in entries:
            write_index(store.root, add_entry(entries, entry))
