"""What a server of a test's own exports, and what an auditor with public keys makes of it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from chainlite import bundle, export_frames, keys
from chainlite.bpci.exporting import make_scope, write_export
from chainlite.export_frames import Scope
from chainlite.report import Trust
from chainlite.verify import check_file
from docklock.evidence import keyring
from docklock.paths import Paths
from tests.bpci.servers import KEY, NOW_MS, Server

TENANT = "acme"
SCOPE = make_scope(KEY, TENANT)
Frames = list[tuple[int, bytes]]


def export(server: Server, scope: Scope = SCOPE, fill_bytes: int = 4 << 20) -> bytes:
    file = io.BytesIO()
    write_export(server.store, KEY, scope, file.write, NOW_MS, fill_bytes)
    return file.getvalue()


def trust(*hosts: bytes, **changes: object) -> Trust:
    names = [host.hex() for host in hosts] or [""]
    known = Trust(names[0], log_keys=KEY.log_keys, others=tuple(names[1:]))
    return known._replace(**changes)  # type: ignore[arg-type]


def check(data: bytes, known: Trust) -> tuple[dict[str, Any], int]:
    text, code = check_file(io.BytesIO(data).read, known, as_json=True)
    return json.loads(text), code


def render(data: bytes, known: Trust) -> tuple[str, int]:
    return check_file(io.BytesIO(data).read, known, as_json=False)


def get_host(paths: Paths) -> bytes:
    return keys.compute_host_id(keyring.ensure_host_key(paths).enrolled)


def split(data: bytes) -> Frames:
    """The frames of one part, without its seal."""
    read = io.BytesIO(data).read
    found = [
        (frame.kind, frame.payload) for frame in bundle.iterate_frames(read, export_frames.LAYOUT)
    ]
    return found[:-1]


def seal(
    frames: Frames, after: export_frames.Position | None = None, key: keys.KeyPair = KEY.pair
) -> bytes:
    """A part that the server itself, or who has that key, has sealed, whatever is in it."""
    digest, parts = bundle.compute_first_digest(export_frames.LAYOUT), [bundle.EXPORT_MAGIC]
    for kind, payload in frames:
        data, digest = bundle.encode_frame(kind, payload, digest)
        parts.append(data)
    payload = export_frames.sign_seal(key, digest, export_frames.Seal(NOW_MS, after))
    return b"".join(parts) + bundle.encode_frame(export_frames.SEAL, payload, digest)[0]


def make_server(directory: Path, *hosts: Paths) -> Server:
    server = Server(directory)
    for paths in hosts:
        server.enrol(paths, TENANT)
        server.sync(paths, get_host(paths))
    return server
