"""Images from an OCI image layout: every manifest that its index.json lists, digests checked.

`stage_image` also takes them from a registry (pull): a Source has the blobs. Not here: docker
archives (archive), unpacking (layer). The manifest is kept byte for byte, so the
image has the same digest here as where it came from. Of an index for several platforms the
host's is taken. Source: OCI image-spec 1.1, image-layout.md, image-index.md, manifest.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from chainlite.errors import SpecError
from docklock.document import Cursor, parse_document
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

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from docklock.image.folder import Folder
    from docklock.image.stream import Readable

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


class Wanted(NamedTuple):
    """A layer as manifest and configuration name it. `is_here`: nothing has to be fetched."""

    digest: str
    diff_id: str
    blob_bytes: int
    is_here: bool


class Source(Protocol):
    """Where an image's documents and layers come from. `where` names it in errors."""

    @property
    def where(self) -> str: ...

    def read_manifest(self, digest: str) -> bytes:
        """A manifest or an index; its digest is checked."""

    def read_blob(self, digest: str) -> bytes:
        """A small blob; its digest is checked."""

    def expect_layers(self, layers: tuple[Wanted, ...]) -> None:
        """Told once an image: what will be asked for, lowest first."""

    def open_layer(self, digest: str) -> AbstractContextManager[Readable]:
        """A layer's bytes, which whoever reads them checks."""


def load_layout(staging: Staging, folder: Folder) -> tuple[NewImage, ...]:
    """Stages every image of the layout."""
    version = folder.parse(LAYOUT_FILE).required("imageLayoutVersion")
    if not version.as_str().startswith("1."):
        raise version.error(f"expected 1.0.0, got {version.as_str()!r}")
    found = [
        stage_image(staging, folder, item, _get_reference(item))
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


def stage_image(
    staging: Staging, source: Source, item: Cursor, reference: str, platform: str = ""
) -> NewImage:
    """Stages the image of a descriptor; of an index for several platforms `OS/ARCH[/VARIANT]`'s,
    the host's if that is empty.
    """
    for _ in range(NESTED_MAX):
        kind = item.required("mediaType")
        if kind.as_str() not in INDEX_TYPES:
            break
        item = _pick_platform(source, item, platform)
    else:
        raise item.error(f"indexes more than {NESTED_MAX} deep")
    if kind.as_str() not in MANIFEST_TYPES:
        raise kind.error(f"{kind.as_str()!r} is no image manifest")
    data = _check_size(item, source.read_manifest(parse_digest(item.required("digest"))))
    manifest = parse_document(data, f"{source.where}: {item.get('digest').as_str()}")
    config = manifest.required("config")
    if config.required("mediaType").as_str() not in CONFIG_TYPES:
        raise config.error(f"{config.get('mediaType').as_str()!r} is no container image")
    config_data = _check_size(config, source.read_blob(parse_digest(config.required("digest"))))
    layers = _load_layers(staging, source, manifest, config_data, platform)
    staging.write_blob(data)
    entry = Entry(
        reference=reference,
        image_id=staging.write_blob(config_data),
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


def _load_layers(
    staging: Staging, source: Source, manifest: Cursor, config: bytes, platform: str
) -> tuple[Layer, ...]:
    where = f"{source.where}: {manifest.get('config').get('digest').as_str()}"
    diff_ids = parse_config(config, where)
    _check_platform(parse_document(config, where), platform)
    descriptors = manifest.required("layers").as_list()
    if len(descriptors) != len(diff_ids):
        raise manifest.get("layers").error(
            f"{len(descriptors)} layers, but the configuration has {len(diff_ids)} diff_ids"
        )
    wanted = tuple(
        _want_layer(staging, item, diff_id)
        for item, diff_id in zip(descriptors, diff_ids, strict=True)
    )
    source.expect_layers(wanted)
    return tuple(_load_layer(staging, source, item) for item in wanted)


def _want_layer(staging: Staging, item: Cursor, diff_id: str) -> Wanted:
    digest = parse_digest(item.required("digest"))
    size = item.required("size").as_int(0, SIZE_MAX_BYTES)
    is_here = find_layer(staging, diff_id, digest) is not None
    return Wanted(digest, diff_id, size, is_here)


def _load_layer(staging: Staging, source: Source, item: Wanted) -> Layer:
    # Looked for again: a layer may stand twice in an image.
    found = find_layer(staging, item.diff_id, item.digest)
    if found is not None:
        return found
    with source.open_layer(item.digest) as file:
        expected = Expected(item.diff_id, item.digest, item.blob_bytes)
        return take_layer(staging, file, f"{source.where}: {item.digest}", expected)


def _pick_platform(source: Source, item: Cursor, platform: str) -> Cursor:
    """The descriptor for a platform; an index with a single image is taken as it is."""
    digest = parse_digest(item.required("digest"))
    data = _check_size(item, source.read_manifest(digest))
    items = parse_document(data, f"{source.where}: {digest}").required("manifests").as_list()
    # Build attestations are listed beside the images, for the platform unknown/unknown.
    images = [found for found in items if _get_platform(found)[0] != "unknown"]
    wanted = tuple((platform or f"linux/{get_architecture()}").split("/"))
    for found in images:
        if _get_platform(found)[: len(wanted)] == wanted:
            return found
    if len(images) == 1 and not platform:
        return images[0]
    names = ("/".join(filter(None, _get_platform(found))) for found in images)
    legal = ", ".join(names) or "none"
    raise item.error(f"no image for {'/'.join(wanted)}; there are: {legal}")


def _check_platform(config: Cursor, platform: str) -> None:
    """An image that is asked for by its platform and says that it is for another is refused."""
    found = config.get("os").as_str("linux"), config.get("architecture").as_str("")
    if platform and tuple(platform.split("/"))[:2] != found:
        raise config.error(f"the image is for {'/'.join(found)}, not for {platform}")


def _get_platform(item: Cursor) -> tuple[str, str, str]:
    found = item.get("platform")
    system, machine = found.get("os").as_str(""), found.get("architecture").as_str("")
    return system, machine, found.get("variant").as_str("")


def _get_reference(item: Cursor) -> str:
    """The image's full name; empty if the layout only gives a tag, which names nothing alone."""
    notes = item.get("annotations")
    name = notes.get(CONTAINERD_NAME).as_str("") or notes.get(REF_NAME).as_str("")
    if not name or not (":" in name or "/" in name):
        return ""
    reference = parse_reference(name)
    return "" if reference.digest else reference.text


def _check_size(item: Cursor, data: bytes) -> bytes:
    """The document that a descriptor names, if it has the size that is said."""
    size = item.required("size").as_int(0, SIZE_MAX_BYTES)
    if size != len(data):
        name = item.get("digest").as_str()
        raise item.get("size").error(f"{name} has {len(data)} bytes, not {size}")
    return data
