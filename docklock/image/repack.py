"""Layers in gzip on their way to a registry: Docker before 23 and others read no zstd.

Only of an image whose manifest is of our own making (import, load of a docker archive), so that
what came from elsewhere goes on byte for byte. Not here: sending (push). Invariants: a blob is
compared with its digest while it is read, so that nothing spoilt gets a digest that fits; the same
image gives the same bytes each time.
"""

from __future__ import annotations

import hashlib
import zlib
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple, cast

from chainlite.errors import SpecError, StateError
from docklock.image.imports import encode_manifest
from docklock.image.layer import ZSTD_LAYER
from docklock.image.stream import CHUNK_BYTES, Tap, Unpacked

GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
LEVEL = 6  # Docker's
_GZIP_WINDOW = 31  # 15 bits, and gzip's header without name and time


class Blob(NamedTuple):
    """A blob, open: another command may remove its name meanwhile. `name` is what is shown."""

    digest: str
    file: BinaryIO
    size: int
    name: str


def is_own(manifest: bytes, config: Blob, layers: tuple[Blob, ...]) -> bool:
    """Whether the manifest is what we make of these blobs, so that nobody else knows its digest."""
    blobs = [(layer.digest, layer.size) for layer in layers]
    return manifest == encode_manifest((config.digest, config.size), blobs, ZSTD_LAYER)


def repack_layer(layer: Blob, directory: str) -> Blob:
    """The layer in gzip, a file without a name in `directory`. StateError: it is spoilt."""
    file = cast("BinaryIO", TemporaryFile(dir=directory))
    digest, size = hashlib.sha256(), 0
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    try:
        layer.file.seek(0)
        packed = Tap(layer.file)
        plain = Unpacked(packed, layer.digest)
        while True:
            data = plain.read(CHUNK_BYTES)
            found = packer.compress(data) if data else packer.flush()
            file.write(found)
            digest.update(found)
            size += len(found)
            if not data:
                break
        packed.drain()
        if packed.digest != layer.digest:
            raise SpecError(f"its digest is {packed.digest}")
        file.seek(0)
        return Blob(f"sha256:{digest.hexdigest()}", file, size, layer.name)
    except SpecError as error:
        file.close()
        raise StateError(
            f"{layer.digest}: spoilt in the store: see `docklock system check`: {error}"
        ) from None
    except OSError:
        file.close()
        raise


def describe(config: Blob, layers: tuple[Blob, ...]) -> bytes:
    """The manifest over layers that were packed again."""
    blobs = [(layer.digest, layer.size) for layer in layers]
    return encode_manifest((config.digest, config.size), blobs, GZIP_LAYER)
