"""Images from an OCI image layout: every manifest that its index.json lists, digests checked.

Not here: docker archives (archive), unpacking (layer). The manifest is kept byte for byte, so the
image has the same digest here as where it came from. Of an index for several platforms the
host's is taken. Source: OCI image-spec 1.1, image-layout.md, image-index.md, manifest.md.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from docklock.document import Cursor, parse_document
from docklock.image.folder import Folder, get_blob_name
from docklock.image.imports import get_architecture
from docklock.image.layer import Expected, Layer, find_layer, take_layer
from docklock.image.reference import parse_reference
from docklock.image.staging import NewImage, Staging
from docklock.image.store import (
    REF_NAME,
    SIZE_MAX_BYTES,
    Entry,
    parse_diff_ids,
    parse_digest,
    parse_image_config,
)

LAYOUT_FILE = "oci-layout"
CONTAINERD_NAME = "io.containerd.image.name"
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
CONFIG_TYPES = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
NESTED_MAX = 3


def load_layout(staging: Staging, folder: Folder) -> tuple[NewImage, ...]:
    """Stages every image of the layout."""
    version = folder.parse(LAYOUT_FILE).required("imageLayoutVersion")
    if not version.as_str().startswith("1."):
        raise version.error(f"expected 1.0.0, got {version.as_str()!r}")
    found = [
        _load_descriptor(staging, folder, item)
        for item in folder.parse("index.json").required("manifests").as_list()
    ]
    if not found:
        raise SpecError(f"{folder.where}: index.json lists no manifest")
    return tuple(found)


def parse_config(data: bytes, where: str) -> tuple[str, ...]:
    """Checks an image configuration whole; gives its diff_ids, lowest first."""
    document = parse_document(data, where)
    system = document.get("os")
    if system.as_str("linux") != "linux":
        raise system.error(f"expected linux, got {system.as_str()!r}")
    document.get("created").as_str("")
    document.get("architecture").as_str("")
    parse_image_config(document.get("config"))
    return parse_diff_ids(document)


def _load_descriptor(staging: Staging, folder: Folder, item: Cursor) -> NewImage:
    reference = _get_reference(item)
    for _ in range(NESTED_MAX):
        kind = item.required("mediaType")
        if kind.as_str() not in INDEX_TYPES:
            break
        item = _pick_platform(folder, item)
    else:
        raise item.error(f"indexes more than {NESTED_MAX} deep")
    if kind.as_str() not in MANIFEST_TYPES:
        raise kind.error(f"{kind.as_str()!r} is no image manifest")
    data, where = _read_blob(folder, item)
    manifest = parse_document(data, where)
    config = manifest.required("config")
    if config.required("mediaType").as_str() not in CONFIG_TYPES:
        raise config.error(f"{config.get('mediaType').as_str()!r} is no container image")
    layers = _load_layers(staging, folder, manifest)
    staging.write_blob(data)
    entry = Entry(
        reference=reference,
        image_id=staging.write_blob(_read_blob(folder, config)[0]),
        digest=parse_digest(item.required("digest")),
        media_type=kind.as_str(),
        manifest_bytes=len(data),
        image_bytes=sum(layer.size_bytes for layer in layers),
    )
    return NewImage(
        entry,
        tuple(layer.diff_id for layer in layers),
        tuple(layer.digest for layer in layers),
    )


def _load_layers(staging: Staging, folder: Folder, manifest: Cursor) -> tuple[Layer, ...]:
    data, where = _read_blob(folder, manifest.required("config"))
    diff_ids = parse_config(data, where)
    descriptors = manifest.required("layers").as_list()
    if len(descriptors) != len(diff_ids):
        raise manifest.get("layers").error(
            f"{len(descriptors)} layers, but the configuration has {len(diff_ids)} diff_ids"
        )
    return tuple(
        _load_layer(staging, folder, item, diff_id)
        for item, diff_id in zip(descriptors, diff_ids, strict=True)
    )


def _load_layer(staging: Staging, folder: Folder, item: Cursor, diff_id: str) -> Layer:
    digest = parse_digest(item.required("digest"))
    size = item.required("size").as_int(0, SIZE_MAX_BYTES)
    found = find_layer(staging, diff_id, digest)
    if found is not None:
        return found
    name = get_blob_name(digest)
    with folder.open(name) as file:
        expected = Expected(diff_id, digest, size)
        return take_layer(staging, file, f"{folder.where}: {name}", expected)


def _pick_platform(folder: Folder, item: Cursor) -> Cursor:
    """The descriptor for this host; an index with a single image is taken as it is."""
    data, where = _read_blob(folder, item)
    items = parse_document(data, where).required("manifests").as_list()
    # Build attestations are listed beside the images, for the platform unknown/unknown.
    images = [found for found in items if _get_platform(found)[0] != "unknown"]
    for found in images:
        if _get_platform(found) == ("linux", get_architecture()):
            return found
    if len(images) == 1:
        return images[0]
    legal = ", ".join("/".join(_get_platform(found)) for found in images) or "none"
    raise item.error(f"no image for linux/{get_architecture()}; there are: {legal}")


def _get_platform(item: Cursor) -> tuple[str, str]:
    platform = item.get("platform")
    return platform.get("os").as_str(""), platform.get("architecture").as_str("")


def _get_reference(item: Cursor) -> str:
    """The image's full name; empty if the layout only gives a tag, which names nothing alone."""
    notes = item.get("annotations")
    name = notes.get(CONTAINERD_NAME).as_str("") or notes.get(REF_NAME).as_str("")
    if not name or not (":" in name or "/" in name):
        return ""
    reference = parse_reference(name)
    return "" if reference.digest else reference.text


def _read_blob(folder: Folder, item: Cursor) -> tuple[bytes, str]:
    """The document a descriptor names; its digest and its size are checked."""
    digest = parse_digest(item.required("digest"))
    data = folder.read_blob(digest)
    size = item.required("size").as_int(0, SIZE_MAX_BYTES)
    if size != len(data):
        raise item.get("size").error(f"{digest} has {len(data)} bytes, not {size}")
    return data, f"{folder.where}: {digest}"
