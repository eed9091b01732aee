"""A log that is served as tiles from memory: by a host that may serve what it likes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from chainlite import tile
from chainlite.errors import SpecError
from tests.chainlite.trees import Tree


def get_file(tree: Tree, size: int, path: str) -> bytes | None:
    """What a log of the first `size` leaves has at a path, after C2SP tlog-tiles."""
    if path == "/checkpoint":
        return tree.note(size)
    try:
        wanted = tile.parse_path(path[1:])
    except SpecError:
        return None
    count = tile.get_width(wanted.level, wanted.number, size)
    if count < wanted.width or wanted.level == tile.ENTRIES:
        return None
    first = wanted.number * tile.WIDTH
    level = wanted.level * tile.HEIGHT
    return b"".join(tree.read(level, first + at) for at in range(wanted.width))


class Served:
    """What is served now; a test may change it."""

    def __init__(self, tree: Tree, size: int) -> None:
        self.tree, self.size, self.url = tree, size, ""
        self.asked: list[str] = []


@contextmanager
def serve(tree: Tree, size: int) -> Iterator[Served]:
    served = Served(tree, size)

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.asked.append(self.path)
            data = get_file(served.tree, served.size, self.path)
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
