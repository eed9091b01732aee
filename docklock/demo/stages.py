"""One receipt through the pipeline: a file of each stage, checked, and that it is of the last one.

Each file is checked twice: by the command that an auditor types, on a root where nothing is, and
here by the formats alone, which shows that it is the same segment all the way: the leaf that is in
the evidence is under the LogBlock's root, under the log that the final block anchors, and under the
log that the server has acknowledged. Not here: what runs (pipeline), the texts (docklock.cli.demo).
Invariant: what is returned was checked; TamperError where one stage is not of the one before.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import time
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from chainlite import bundle, hostlog, logblock, merkle, notarised, segment
from chainlite.bpci.acknowledgement import decode_held
from chainlite.errors import StateError, TamperError
from chainlite.logblock import SignedHeader
from chainlite.proofs.light import check_light
from chainlite.proofs.light_format import decode_light
from chainlite.proofs.trusted import trust_genesis
from chainlite.tlogproof import check_log_proof
from chainlite.trust import parse_log_keys
from docklock.chain.client import ask
from docklock.chain.devnet import HOST as LOOPBACK
from docklock.chain.directory import read_genesis_file
from docklock.chain.doors import parse_host_status
from docklock.demo.pipeline import SERVER
from docklock.evidence.host_log import HostLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from chainlite.proofs.light import Final
    from docklock.demo.commands import Commands
    from docklock.demo.pipeline import Pipeline

BUSYBOX = "/bin/busybox"
APPLETS = ("sh", "ls", "mount", "id")
CONTAINER = IMAGE = "demo"
PROGRAM = "id; ls /; mount -t tmpfs none /tmp; true"
FOLLOWED = "syscall.mount"
"""The receipt that is followed: `default` denies it and says so."""
EVIDENCE, BLOCKS, FINAL, HELD = "receipts.evidence", "logblocks", "receipt.final", "bpci.tlog-proof"
HOST_KEY, NOTARY_KEY, SERVER_KEYS = "host.pub", "notary.pub", "bpci.keys"
GENESIS = "genesis.toml"
ASK_S = 10.0
OK, BLOCK_BYTES_MAX = 200, 8 << 20


class Stage(NamedTuple):
    """A stage that was checked: its file, the words after `docklock` that check it, what they said,
    and what was found (hashes in hex, numbers)."""

    name: str
    file: str
    check: tuple[str, ...]
    said: str
    found: dict[str, Any]


class Followed(NamedTuple):
    """The receipt that is followed, and the segment that it is in: a leaf of the host's log."""

    event_index: int
    signed: SignedHeader

    @property
    def leaf_hash(self) -> bytes:
        return compute_leaf_hash(self.signed)


def compute_leaf_hash(signed: SignedHeader) -> bytes:
    """A segment's leaf in the host's log, and in a LogBlock."""
    return merkle.compute_leaf_hash(hostlog.encode_segment(hostlog.Segment(*signed)))


def run_container(pipeline: Pipeline, top: str) -> str:
    """A real container of busybox, without a network; what its program printed.

    StateError where there is no busybox, or no container can be made.
    """
    if not os.path.exists(BUSYBOX):
        raise StateError(f"{BUSYBOX} is missing: apt-get install busybox-static")
    tree = f"{top}/rootfs"
    os.makedirs(f"{tree}/bin")
    shutil.copy2(BUSYBOX, f"{tree}/bin/busybox")
    for name in APPLETS:
        os.symlink("busybox", f"{tree}/bin/{name}")
    pipeline.commands.run("import", tree, IMAGE)
    return pipeline.commands.run("run", "--name", CONTAINER, IMAGE, "sh", "-c", PROGRAM)


def follow(pipeline: Pipeline, into: str, reader: Commands) -> Iterator[Stage]:
    """The stages in order; their files are in `into`. `reader` has a root where nothing is."""
    host = _export_keys(pipeline, into)
    followed, stage = _show_receipts(pipeline, into, reader)
    yield stage
    yield _show_block(pipeline, into, reader, followed)
    leaf_index, stage = _show_final(pipeline, into, reader, followed, host)
    yield stage
    yield _show_held(pipeline, into, reader, leaf_index, followed)


def _export_keys(pipeline: Pipeline, into: str) -> bytes:
    """What an auditor is handed once: public keys and the genesis. The host's id."""
    run = pipeline.commands.run
    shown = json.loads(run("keys", "show", "--format", "json"))
    run("notary", "run", "--flush")
    notary = json.loads(run("notary", "status", "--json"))
    texts = {
        HOST_KEY: f"{shown['verifier']}\n",
        NOTARY_KEY: f"{notary['public_key']}\n",
        SERVER_KEYS: "".join([f"{key}\n" for key in pipeline.server_keys]),
    }
    for name, text in texts.items():
        with open(f"{into}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    shutil.copyfile(pipeline.genesis, f"{into}/{GENESIS}")
    return bytes.fromhex(shown["fingerprint"])


def _check(
    reader: Commands, into: str, name: str, file: str, *options: str
) -> Callable[[dict[str, Any]], Stage]:
    """Have `docklock verify` check a file of `into` by others of it, which options name last."""
    check = ("verify", f"{into}/{file}", *[f"{into}/{one}" if at % 2 else one
                                           for at, one in enumerate(options)])  # fmt: skip
    said = reader.run(*check)
    return lambda found: Stage(name, f"{into}/{file}", check, said.strip(), found)


def _show_receipts(pipeline: Pipeline, into: str, reader: Commands) -> tuple[Followed, Stage]:
    """The container's evidence: each receipt in a segment that its epoch's key signed."""
    run = pipeline.commands.run
    lines = run("receipts", "--json", "--op", FOLLOWED, CONTAINER).splitlines()
    if not lines:
        raise StateError(f"the container left no receipt of {FOLLOWED}")
    shown = json.loads(lines[0])
    index = int(shown["index"])
    run("evidence", CONTAINER, "-o", f"{into}/{EVIDENCE}")
    finish = _check(reader, into, "receipts", EVIDENCE, "--host-key", HOST_KEY)
    segments = read_segments(f"{into}/{EVIDENCE}")
    having = [(signed, header) for signed, header in segments
              if header.first_index <= index < header.first_index + header.event_count]  # fmt: skip
    if not having:
        raise TamperError(f"no segment of the evidence has receipt {index}")
    [(signed, header)] = having
    followed = Followed(index, signed)
    found = {
        "container": header.container.hex(),
        "receipts": sum(one.event_count for _, one in segments),
        "segments": len(segments),
        "receipt": index,
        "op": shown["op"],
        "decision": shown["decision"],
        "segment_leaf": followed.leaf_hash.hex(),
    }
    return followed, finish(found)


def read_segments(path: str) -> list[tuple[SignedHeader, segment.Header]]:
    """The segments of a container's evidence file, in its order."""
    found = []
    with open(path, "rb") as file:
        for frame in bundle.iterate_frames(file.read):
            if frame.kind in (bundle.SEGMENT, bundle.REDACTED):
                header, stored = bundle.decode_segment(frame.payload, frame.kind)
                found.append((SignedHeader(stored.header, stored.signature), header))
    return found


def _show_block(pipeline: Pipeline, into: str, reader: Commands, followed: Followed) -> Stage:
    """The LogBlock with the segment: the notary's signature, and the path to its root."""
    path = f"{into}/{BLOCKS}"
    pipeline.commands.run("notary", "export", CONTAINER, "-o", path)
    finish = _check(
        reader, into, "logblock", BLOCKS, "--host-key", HOST_KEY, "--notary-key", NOTARY_KEY
    )
    having = [one for one in read_blocks(path) if followed.signed in one[1]]
    if not having:
        raise TamperError("no LogBlock has the segment that the evidence has")
    [(data, segments)] = having
    block, at = logblock.decode_block(data), segments.index(followed.signed)
    proof = prove_in_block(segments, at)
    if not merkle.is_included(followed.leaf_hash, at, len(segments), proof, block.root):
        raise TamperError("the segment is not under the root of its LogBlock")
    found = {
        "notary": block.notary.hex(),
        "height": block.height,
        "hash": logblock.compute_block_hash(data).hex(),
        "root": block.root.hex(),
        "segment_index": at,
        "segments": len(segments),
        "path": [value.hex() for value in proof],
    }
    return finish(found)


def read_blocks(path: str) -> list[tuple[bytes, tuple[SignedHeader, ...]]]:
    """The LogBlocks of a notary's file with their segments."""
    with open(path, "rb") as file:
        frames = list(bundle.iterate_frames(BytesIO(file.read()).read, notarised.LAYOUT))
    found = []
    for frame in frames:
        if frame.kind == notarised.LOGBLOCK:
            data, _, body = notarised.decode_block_frame(frame.payload)
            found.append((data, logblock.decode_segments(body)))
    return found


def prove_in_block(segments: tuple[SignedHeader, ...], at: int) -> tuple[bytes, ...]:
    """RFC 6962's path from a segment to the root of its LogBlock."""
    hashes = [compute_leaf_hash(one) for one in segments]

    def read(level: int, number: int) -> bytes:
        return merkle.compute_root(hashes[number << level : number + 1 << level])

    return merkle.compute_inclusion(at, len(hashes), read)


def _show_final(
    pipeline: Pipeline, into: str, reader: Commands, followed: Followed, host: bytes
) -> tuple[int, Stage]:
    """The light proof that the receipt is final, once f + 1 validators keep it; its leaf."""
    path = f"{into}/{FINAL}"
    with HostLog(pipeline.paths, None) as log:
        size = log.get_size()

    def is_kept() -> bool:
        shown = ask(pipeline.node, "GET", f"/hosts/{host.hex()}")
        return parse_host_status(shown).available >= size

    pipeline.commands.wait("f + 1 validators that keep the receipts", is_kept)
    pipeline.commands.run("prove", CONTAINER, str(followed.event_index), "--final", "-o", path)
    finish = _check(reader, into, "final", FINAL, "--genesis", GENESIS, "--host-key", HOST_KEY)
    chain = read_genesis_file(f"{into}/{GENESIS}")
    with open(path, "rb") as file:
        data = file.read()
    shown = check_light(data, trust_genesis(chain.genesis), time.time_ns() // 1_000_000)
    event = decode_light(data, chain.id).event
    is_of_it = event is not None and segment.encode_header(event.header) == followed.signed.header
    if not is_of_it or shown.event is None or shown.event.event_index != followed.event_index:
        raise TamperError("the light proof is of another receipt than the evidence")
    final = shown.final
    _compare_with_server(pipeline, final)
    found = {
        "chain": chain.id.hex(),
        "height": final.height,
        "block": final.block_hash.hex(),
        "sealed_by": [key.hex() for key in final.signers],
        "validators": len(chain.genesis.members),
        "log_size": final.log_size,
        "leaf_index": shown.leaf_index,
    }
    return shown.leaf_index, finish(found)


def _compare_with_server(pipeline: Pipeline, final: Final) -> None:
    """The server, which has checked it itself, shows the same block."""
    block: dict[str, Any] = {}

    def has_it() -> bool:
        block.update(fetch_block(pipeline.port, final.height))
        return bool(block)

    pipeline.commands.wait("the block at the server", has_it)
    if block["hash"] != final.block_hash.hex():
        raise TamperError(f"the server shows another block {final.height} than the light proof")


def fetch_block(port: int, height: int) -> dict[str, Any]:
    """What a server on loopback says of a final block; empty while it does not."""
    door = http.client.HTTPConnection(LOOPBACK, port, timeout=ASK_S)
    try:
        door.request("GET", f"/v1/blocks/{height}")
        with door.getresponse() as answer:
            found = json.loads(answer.read(BLOCK_BYTES_MAX)) if answer.status == OK else {}
    except (OSError, http.client.HTTPException):
        return {}
    finally:
        door.close()
    return dict(found)


def _show_held(
    pipeline: Pipeline, into: str, reader: Commands, leaf_index: int, followed: Followed
) -> Stage:
    """The server's acknowledgement: in its own log, of a log of the host that has the segment."""
    run, path = pipeline.commands.run, f"{into}/{HELD}"
    run("sync", "now", "--config", pipeline.config)
    handed = run("notary", "hand-in", SERVER, "--config", pipeline.config, "--json")
    [blocks] = [json.loads(line) for line in handed.splitlines()]
    run("sync", "proof", SERVER, "-o", path, "--config", pipeline.config)
    finish = _check(reader, into, "acknowledgement", HELD, "--log-key", SERVER_KEYS)
    with open(path, "rb") as file:
        proven = check_log_proof(file.read(), parse_log_keys(list(pipeline.server_keys)))
    held = decode_held(proven.leaf)
    with HostLog(pipeline.paths, None) as log:
        proof = log.get_proof(leaf_index, held.size) if leaf_index < held.size else ()
    if not merkle.is_included(followed.leaf_hash, leaf_index, held.size, proof, held.root):
        raise TamperError("the server has acknowledged a log that does not have the segment")
    found = {
        "server": proven.state.origin,
        "leaf_index": proven.leaf_index,
        "log_size": proven.state.size,
        "host": held.host.hex(),
        "held_size": held.size,
        "held_root": held.root.hex(),
        "held_logblocks": blocks["height"],
        "path": [value.hex() for value in proof],
    }
    return finish(found)
