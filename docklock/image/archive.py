"""`docklock load`: images that `docker save`, podman or skopeo wrote, as a tar or a directory.

A tar is first unpacked into staging by the same code as a layer, so that it may be hostile too; of
one that lies on a disk uncompressed the data stays where it is (in_place).
Not here: OCI layouts (layout), root file systems (imports).
Source: moby image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import hashlib
import os

from chainlite.errors import SpecError
from docklock.document import Cursor
from docklock.image.folder import Folder
from docklock.image.imports import add_manifest
from docklock.image.in_place import Held, PlacingReader, find_file
from docklock.image.layer import Expected, Layer, find_layer, take_layer
from docklock.image.layout import LAYOUT_FILE, load_layout, parse_config
from docklock.image.reference import is_hex, parse_reference
from docklock.image.staging import NewImage, Staging
from docklock.image.store import Entry
from docklock.image.stream import Readable, Unpacked
from docklock.image.tar import TarReader
from docklock.image.unpack import Limits, unpack_layer
from docklock.paths import Paths

MANIFEST_FILE = "manifest.json"


def load_archive(paths: Paths, stream: Readable, where: str) -> tuple[Entry, ...]:
    """Loads every image of a tar, compressed or not."""
    with Staging(paths) as staging:
        outer = f"{staging.path}/outer"
        os.mkdir(outer, 0o700)
        file = find_file(stream)
        if file is None:
            unpack_layer(TarReader(Unpacked(stream, where), where), outer, Limits())
            return _load(staging, outer, where)
        reader = PlacingReader(file, where)
        unpack_layer(reader, outer, Limits())
        return _load(staging, outer, where, Held(file, reader.places))


def load_directory(paths: Paths, directory: str) -> tuple[Entry, ...]:
    """Loads every image of an OCI layout or an unpacked docker archive."""
    with Staging(paths) as staging:
        return _load(staging, directory, directory)


def _load(
    staging: Staging, directory: str, where: str, held: Held | None = None
) -> tuple[Entry, ...]:
    with Folder(directory, where, held) as folder:
        if folder.has(LAYOUT_FILE) and folder.has("index.json"):
            images = load_layout(staging, folder)
        elif folder.has(MANIFEST_FILE):
            images = _load_docker(staging, folder)
        else:
            raise SpecError(
                f"{where}: neither {LAYOUT_FILE} nor {MANIFEST_FILE} is in it: `docklock load`"
                " takes saved images; a root file system goes in with `docklock import`"
            )
    staging.commit(images, "load")
    return tuple(image.entry for image in images)


def _load_docker(staging: Staging, folder: Folder) -> tuple[NewImage, ...]:
    found: list[NewImage] = []
    manifest = folder.parse(MANIFEST_FILE)
    for item in manifest.as_list():
        image = _load_image(staging, folder, item)
        names = [parse_reference(text).text for text in item.get("RepoTags").as_strings()]
        found += [
            image._replace(entry=image.entry._replace(reference=name)) for name in names or [""]
        ]
    if not found:
        raise manifest.error("it lists no image")
    return tuple(found)


def _load_image(staging: Staging, folder: Folder, item: Cursor) -> NewImage:
    name = item.required("Config")
    config = folder.read(name.as_str())
    _check_name(name, config)
    diff_ids = parse_config(config, f"{folder.where}: {name.as_str()}")
    files = item.required("Layers").as_list()
    if len(files) != len(diff_ids):
        raise item.get("Layers").error(
            f"{len(files)} layers, but {name.as_str()} has {len(diff_ids)} diff_ids"
        )
    layers = [
        _load_layer(staging, folder, file.as_str(), diff_id)
        for file, diff_id in zip(files, diff_ids, strict=True)
    ]
    return add_manifest(staging, config, layers, "")


def _load_layer(staging: Staging, folder: Folder, name: str, diff_id: str) -> Layer:
    found = find_layer(staging, diff_id)
    if found is not None:
        return found
    with folder.open(name) as file:
        return take_layer(staging, file, f"{folder.where}: {name}", Expected(diff_id))


def _check_name(name: Cursor, config: bytes) -> None:
    """Docker names the configuration by its digest; another digest means that it was changed."""
    stem = name.as_str().rpartition("/")[2].removesuffix(".json")
    digest = hashlib.sha256(config).hexdigest()
    if is_hex(stem) and stem != digest:
        raise name.error(f"{name.as_str()} has the digest {digest}: it is spoilt")
