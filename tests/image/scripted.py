"""A registry that answers what a test says, on loopback: for what no honest registry does."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self

BODY_CHUNK = 4096


class Request(NamedTuple):
    """What was asked; `fields` in small letters."""

    method: str
    path: str
    fields: dict[str, str]
    body: bytes = b""


class Reply(NamedTuple):
    """What is answered. `cut`: the connection ends after so many bytes of the body."""

    status: int = 200
    body: bytes = b""
    fields: tuple[tuple[str, str], ...] = ()
    cut: int = -1
    hold: threading.Event | None = None
    """The body comes only when this is set, from byte `pause_at` on."""
    pause_at: int = 0


Script = Callable[[Request], Reply]


class Scripted:
    """A server that runs a script; `asked` is all that it was asked, in order."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Request] = []
        outer = self

        class Answering(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                fields = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, fields, body)
                outer.asked.append(request)
                reply = script(request)
                self.send_response(reply.status)
                names = {name.lower() for name, _ in reply.fields}
                for name, value in reply.fields:
                    self.send_header(name, value)
                if not names & {"content-length", "transfer-encoding"}:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                body = b"" if self.command == "HEAD" else reply.body
                self.wfile.write(body[: reply.pause_at])
                self.wfile.flush()
                if reply.hold is not None:
                    reply.hold.wait(30)
                end = len(body) if reply.cut < 0 else reply.cut
                self.wfile.write(body[reply.pause_at : end])

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that does not speak HTTP, or that has gone."""

        self._server = Quiet(("127.0.0.1", 0), Answering)
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.domain = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.domain}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_layout(files: dict[str, bytes]) -> Script:
    """An honest script: the one image of an OCI layout, under any repository and tag."""
    (item,) = json.loads(files["index.json"])["manifests"]

    def script(request: Request) -> Reply:
        what, _, name = request.path.partition("?")[0].rpartition("/")
        if what.endswith("/manifests"):
            found = files.get(f"blobs/sha256/{item['digest'][7:]}", b"")
            return Reply(200, found, (("Content-Type", item["mediaType"]),))
        if what.endswith("/blobs"):
            return give_range(request, files.get(f"blobs/sha256/{name[7:]}", b""))
        return Reply()

    return script


def give_range(request: Request, data: bytes) -> Reply:
    """As a good server does: from where it is asked to."""
    start = request.fields.get("range", "").removeprefix("bytes=").removesuffix("-")
    if not start:
        return Reply(200, data)
    place = f"bytes {start}-{len(data) - 1}/{len(data)}"
    return Reply(206, data[int(start) :], (("Content-Range", place),))
