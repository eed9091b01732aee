"""A server of a test's own over real HTTP: it verifies batches, keeps them, and acknowledges.

What it has taken (Books) outlives its listening: a test stops it and starts it again, gives it the
books of a backup, or none. `act` is what a test makes it do instead with a request.
Not here: the server of chainlite.bpci, whose formats and verification these are.
"""

from __future__ import annotations

import asyncio
import copy
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from chainlite import cosignature, hostlog, merkle, mldsa, note, segment
from chainlite.bpci import acknowledgement, batch
from chainlite.bpci.acknowledgement import Held, encode_held, get_server_origin
from chainlite.bpci.actor import parse_keyid
from chainlite.bpci.app import ROUTES
from chainlite.bundle import StoredSegment
from chainlite.cage.asgi import read_body, send_whole
from chainlite.cage.middleware import Cage
from chainlite.cage.signature import Known
from chainlite.cage.store import CageStore
from chainlite.ledger.bodies import HostBodies, verify_offer
from chainlite.ledger.offer import Item, Offer
from chainlite.tlogproof import LogProof
from docklock.outbox.settings import Server
from tests.cage.callers import call, make_scope
from tests.chainlite.samples import make_key
from tests.chainlite.trees import Tree
from tests.witness.served_logs import get_file

TIME_MS = 1_795_000_000_123
CUT = "cut"
"""What `act` says for: no answer, the connection is gone."""


class NothingHeld(Exception):
    """There is nothing that could be acknowledged."""


class Books:
    """What a server has durably: hosts, what they sent, its own log."""

    def __init__(self, number: int = 77) -> None:
        self.key = make_key(number)
        self.origin = get_server_origin(self.key.public)
        self.mldsa = mldsa.Signer(bytes([number]) * 32)
        self.log_keys = (
            note.VerifierKey(self.origin, self.key.public, note.ED25519),
            note.VerifierKey(self.origin, self.mldsa.public, note.COSIGNED_MLDSA44),
        )
        self.hosts: dict[bytes, HostBodies] = {}
        self.items: dict[bytes, list[Item]] = {}
        self.leaves: list[Held] = []

    def copy(self) -> Books:
        """A backup."""
        made = copy.copy(self)
        made.hosts, made.leaves = copy.deepcopy(self.hosts), list(self.leaves)
        made.items = {host: list(items) for host, items in self.items.items()}
        return made

    def take(self, data: bytes) -> bytes:
        """The acknowledgement of a batch, which is taken if it begins where the host stands."""
        offer = batch.decode_batch(data)
        known = self.hosts.setdefault(offer.host, HostBodies(offer.host))
        if offer.start == known.progress.size:
            known.apply(verify_offer(known, offer, batch.decode_segment_body))
            self.items.setdefault(offer.host, []).extend(offer.items)
        if not known.progress.size:
            raise NothingHeld
        return self.acknowledge(self.get_held(offer.host))

    def take_request(self, request: Request) -> bytes:
        return self.take(request.offer_data)

    def get_held(self, host: bytes) -> Held:
        progress = self.hosts[host].progress if host in self.hosts else HostBodies(host).progress
        return Held(host, progress.size, progress.root if progress.size else merkle.EMPTY_ROOT)

    def acknowledge(self, held: Held, claim: Held | None = None) -> bytes:
        """That it holds so much; `claim`: it says that, and its log has the other."""
        if held not in self.leaves:
            self.leaves.append(held)
        return self.encode(self.leaves, self.leaves.index(held), claim or held)

    def encode(self, leaves: list[Held], index: int, claim: Held) -> bytes:
        """The acknowledgement that has the leaf at this index of a log of these leaves."""
        tree = self.get_tree(leaves)
        size = len(leaves)
        path = merkle.compute_inclusion(index, size, tree.read)
        proof = LogProof(encode_held(leaves[index]), index, path, tree.note(size))
        made = acknowledgement.sign_acknowledgement(self.key, claim, TIME_MS, proof)
        return acknowledgement.encode_acknowledgement(made)

    def get_tree(self, leaves: list[Held]) -> Tree:
        """Its log, if it has these leaves."""
        return BooksTree(self, [encode_held(one) for one in leaves])

    def get_file(self, path: str) -> bytes | None:
        """What is served of its log; None for what it has not."""
        return get_file(self.get_tree(self.leaves), len(self.leaves), path)

    def get_size(self, host: bytes) -> int:
        return self.get_held(host).size

    def get_stored(self, host: bytes) -> dict[bytes, StoredSegment]:
        """Each segment that it holds, by its header."""
        found = {}
        for item in self.items.get(host, []):
            leaf = hostlog.decode_leaf(item.leaf)
            if isinstance(leaf, hostlog.Segment):
                body = batch.decode_segment_body(item.body, segment.decode_header(leaf.header))
                parts = (leaf.header, leaf.signature, body.secret, body.leaf_tags, body.packed)
                found[leaf.header] = StoredSegment(*parts)
        return found


class BooksTree(Tree):
    """A log that a server signs with both of its keys."""

    def __init__(self, books: Books, leaves: list[bytes]) -> None:
        super().__init__(books.key, leaves)
        self.origin, self._books = books.origin, books

    def note(self, size: int) -> bytes:
        signed = super().note(size)
        time_s = TIME_MS // 1000
        books = self._books
        return cosignature.cosign_mldsa(signed, books.log_keys[1], books.mldsa.sign, time_s)


class Request:
    """What a server was handed; `public` is the key that signed the call, if one did."""

    def __init__(
        self, path: str, headers: dict[str, str], data: bytes, public: bytes = b""
    ) -> None:
        self.path, self.headers, self.data, self.public = path, headers, data, public
        self.offer_data = batch.decompress(data)
        self.offer: Offer = batch.decode_batch(self.offer_data)


Answer = tuple[int, bytes, dict[str, str]]
Act = Callable[[Request], "Answer | str | None"]
"""An answer, CUT, or None: as usual."""


class BooksServer:
    """Listens on a port of this machine, the same one each time."""

    def __init__(
        self, books: Books, name: str = "office", tls: ssl.SSLContext | None = None
    ) -> None:
        self.books, self.name, self._tls = books, name, tls
        self.requests: list[Request] = []
        self.act: Act | None = None
        self.under_way = self.under_way_most = 0
        self.cut_body_at: int | None = None
        self.cut_after: int | None = None
        self.ca_file = ""
        self.shown: Tree | None = None
        self.asked: list[str] = []
        self.is_bare = False
        self._lock = threading.Lock()
        self._open: set[BaseHTTPRequestHandler] = set()
        self._server: ThreadingHTTPServer | None = None
        self._port = find_port()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def vkeys(self) -> list[str]:
        return [note.encode_vkey(key) for key in self.books.log_keys]

    @property
    def settings(self) -> Server:
        return Server(self.name, self.url, self.books.log_keys, ca_file=self.ca_file)

    @property
    def starts(self) -> list[tuple[int, int]]:
        return [(one.offer.start, one.offer.end) for one in self.requests]

    def start(self) -> Self:
        owner = self

        class Answering(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two writes

            def setup(self) -> None:
                super().setup()
                owner._open.add(self)

            def finish(self) -> None:
                owner._open.discard(self)
                super().finish()

            def do_POST(self) -> None:
                owner.serve(self)

            def do_GET(self) -> None:
                owner.serve_log(self)

            def log_message(self, *_: object) -> None:
                pass

        class Listening(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # whoever asked has gone: killed, or tired of waiting

        self._front = CagedFront(self, self.url.partition("://")[2])
        self._server = Listening(("127.0.0.1", self._port), Answering)
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        serve = {"poll_interval": 0.02}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=serve)
        self._thread.start()
        return self

    def stop(self) -> None:
        """As a process that is killed: all connections end."""
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None
            for handler in list(self._open):
                drop(handler)
            self._front.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers["Content-Length"])
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after < 0:
                drop(handler)
                return
        if self.cut_body_at is not None:
            handler.rfile.read(min(self.cut_body_at, size))
            drop(handler)
            return
        data = handler.rfile.read(size)
        if len(data) < size:
            drop(handler)
            return
        if "signature-input" in handler.headers and not self.is_bare:
            self._front.serve(handler, data)
            return
        request = Request(handler.path, dict(handler.headers.items()), data)
        done = self.decide(request)
        if isinstance(done, str):
            drop(handler)
        else:
            send_answer(handler, *done)

    def decide(self, request: Request) -> Answer | str:
        """The answer to a batch, or CUT."""
        with self._lock:
            self.requests.append(request)
            self.under_way += 1
            self.under_way_most = max(self.under_way, self.under_way_most)
        try:
            done = self.act(request) if self.act is not None else None
            if done is not None:
                return done
            with self._lock:
                return 200, self.books.take_request(request), {}
        except NothingHeld:
            return 409, b"nothing of this host is here", {}
        finally:
            with self._lock:
                self.under_way -= 1

    def serve_log(self, handler: BaseHTTPRequestHandler) -> None:
        """Its own log as tiles: what `shown` says, else as it is."""
        self.asked.append(handler.path)
        path = handler.path
        data = get_file(self.shown, len(self.shown.leaves), path) if self.shown else None
        if self.shown is None:
            data = self.books.get_file(path)
        handler.send_response(200 if data is not None else 404)
        handler.send_header("Content-Length", str(len(data or b"")))
        handler.end_headers()
        handler.wfile.write(data or b"")


class CagedFront:
    """The cage around a server of a test's own: signed calls are verified, answers are signed."""

    def __init__(self, owner: BooksServer, authority: str) -> None:
        self._owner, self._cuts = owner, set[str]()
        self._directory = tempfile.TemporaryDirectory()
        path = Path(self._directory.name, "cage.db")
        store = CageStore(path, boot_id="boot", now_ms=time.time_ns() // 10**6)
        self._loop = asyncio.new_event_loop()
        books = owner.books
        self._store = store
        self._cage = Cage(
            self._take, ROUTES, find_key=self._find_key, key=books.key, keyid=books.origin,
            authorities={authority}, store=store,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._store.close()
        self._directory.cleanup()

    def serve(self, handler: BaseHTTPRequestHandler, data: bytes) -> None:
        pairs = [(n.lower().encode(), v.encode("latin-1")) for n, v in handler.headers.items()]
        scope = make_scope("POST", handler.path, pairs, scheme=self._owner.url.partition(":")[0])
        future = asyncio.run_coroutine_threadsafe(call(self._cage, scope, data), self._loop)
        reply = future.result(60)
        if reply.get("x-audit-id") in self._cuts:
            drop(handler)
            return
        send_answer(handler, reply.status, reply.body, dict(reply.fields))

    def _find_key(self, keyid: str) -> Known | None:
        host, public = parse_keyid(keyid)
        return Known(public, host.hex())

    async def _take(self, scope: Any, receive: Any, send: Any) -> None:
        data = await read_body(receive, batch.WIRE_LIMIT_BYTES, 30.0)
        headers = {name.decode().title(): value.decode() for name, value in scope["headers"]}
        caged = scope["docklock.cage"]
        request = Request(scope["path"], headers, data, caged.public)
        done = await self._loop.run_in_executor(None, self._owner.decide, request)
        if isinstance(done, str):
            self._cuts.add(caged.audit_id)
            done = 500, b"", {}
        status, body, fields = done
        await send_whole(
            send, status, [(n.lower().encode(), v.encode()) for n, v in fields.items()], body
        )


def send_answer(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
) -> None:
    handler.send_response_only(status)
    for name, value in headers.items():
        if name.lower() != "content-length":
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def drop(handler: BaseHTTPRequestHandler) -> None:
    """The connection is gone, without a word."""
    handler.close_connection = True
    try:
        handler.connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other was faster


def find_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
