"""`docklock import`: a root file system, as a directory or a tar, becomes an image of one layer.

Not here: images that other tools saved (archive, layout).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from docklock.document import encode_document
from docklock.health import decode_check, encode_image_check
from docklock.image.changes import apply_changes
from docklock.image.layer import ZSTD_LAYER, Layer, take_layer
from docklock.image.reference import Reference
from docklock.image.staging import NewImage, Staging
from docklock.image.store import Entry, ImageConfig
from docklock.image.stream import Readable
from docklock.image.tree import TreeStream
from docklock.paths import Paths

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def import_directory(
    paths: Paths,
    directory: str,
    reference: Reference | None,
    changes: Sequence[str] = (),
    message: str = "",
) -> str:
    """Imports a directory; gives the image's ID."""
    config = apply_changes(ImageConfig(), changes)
    with Staging(paths) as staging:
        stream = TreeStream(directory, skip=staging.store.root)
        try:
            layer = take_layer(staging, stream, directory)
        finally:
            stream.close()
        return _commit(staging, layer, reference, config, message or describe_source(directory))


def import_tar(
    paths: Paths,
    stream: Readable,
    where: str,
    reference: Reference | None,
    changes: Sequence[str] = (),
    message: str = "",
) -> str:
    """Imports a tar, compressed or not; `where` names it in errors. Gives the image's ID."""
    config = apply_changes(ImageConfig(), changes)
    with Staging(paths) as staging:
        layer = take_layer(staging, stream, where)
        return _commit(staging, layer, reference, config, message or describe_source(where))


def encode_config(config: ImageConfig) -> dict[str, object]:
    """The `config` object of an image configuration; what is empty is left out."""
    lists = {
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.cmd),
        "Env": list(config.env),
        "Labels": dict(config.labels),
        "ExposedPorts": {port: {} for port in config.exposed},
        "Volumes": {path: {} for path in config.volumes},
    }
    words = {"WorkingDir": config.cwd, "User": config.user, "StopSignal": config.stop_signal}
    health = {"Healthcheck": encode_image_check(decode_check(config.health))}
    return {key: value for key, value in {**lists, **words, **health}.items() if value}


def get_architecture() -> str:
    """The host's architecture in OCI's words."""
    machine = os.uname().machine
    return ARCHITECTURES.get(machine, machine)


def encode_manifest(
    config: tuple[str, int], layers: Sequence[tuple[str, int]], layer_type: str
) -> bytes:
    """A manifest of our own; blobs are (digest, size in bytes)."""
    return encode_document(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": config[0], "size": config[1]},
            "layers": [
                {"mediaType": layer_type, "digest": digest, "size": size} for digest, size in layers
            ],
        }
    )


def add_manifest(
    staging: Staging, config: bytes, layers: Sequence[Layer], reference: str
) -> NewImage:
    """Stages a configuration and a manifest of our own over layers that we packed."""
    image_id = staging.write_blob(config)
    blobs = [(layer.digest, layer.blob_bytes) for layer in layers]
    manifest = encode_manifest((image_id, len(config)), blobs, ZSTD_LAYER)
    entry = Entry(
        reference=reference,
        image_id=image_id,
        digest=staging.write_blob(manifest),
        media_type=MANIFEST_TYPE,
        manifest_bytes=len(manifest),
        image_bytes=sum(layer.size_bytes for layer in layers),
    )
    return NewImage(
        entry,
        tuple(layer.diff_id for layer in layers),
        tuple(layer.digest for layer in layers),
    )


def _commit(
    staging: Staging,
    layer: Layer,
    reference: Reference | None,
    config: ImageConfig,
    comment: str,
) -> str:
    created = _get_time()
    document = encode_document(
        {
            "architecture": get_architecture(),
            "os": "linux",
            "created": created,
            "config": encode_config(config),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
            "history": [{"created": created, "comment": comment}],
        }
    )
    image = add_manifest(staging, document, (layer,), reference.text if reference else "")
    staging.commit((image,), "import")
    return image.entry.image_id


def describe_source(where: str) -> str:
    """The last component only: a path of this machine is nobody else's business."""
    return f"Imported from {os.path.basename(os.path.normpath(where)) or '-'}"


def _get_time() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
