"""A served server with one honest host, and what those need who attack it over sockets.

The attackers come from other addresses of the loopback network than the host does.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import time
from pathlib import Path
from typing import NamedTuple, Self

from chainlite.bpci.actor import Role
from chainlite.bpci.grant import Grant, sign_grant
from chainlite.bpci.serving import make_server
from chainlite.cage.client import Caller
from chainlite.keys import compute_host_id, make_key_pair
from docklock.evidence import keyring
from tests.bpci.batches import make_data
from tests.bpci.callers import make_keyid
from tests.bpci.test_served import NAME, NONCES, Process, run
from tests.conftest import SLOWER
from tests.evidence.test_key_changes import load_key
from tests.ledger.offered import make_host

SHORT = {
    "HEAD_S": 1.0, "BODY_S": 2.0, "IDLE_S": 2.0, "CROWDED_S": 0.5, "WRITE_S": 1.0, "LINGER_S": 0.5,
    "HANDSHAKE_S": 1.0, "SWEEP_S": 0.1, "STOP_S": 5.0,
}  # fmt: skip
"""Times of `listening`, in seconds."""
GONE_S = 15.0 * SLOWER
"""By when each of those connections is gone, on a machine that has other things to do."""
GROWTH_MAX_BYTES = 256 << 20
"""Of the server's memory, whatever is sent: the queue before the writer alone may have 64 MiB."""
PART_BYTES = 1 << 16


class Response(NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes


class Attacked:
    def __init__(self, top: Path, words: tuple[str, ...] = (), **changes: float) -> None:
        top.mkdir(exist_ok=True)
        self.paths = make_host(top)
        self.directory, self.said = top / "bpci", top / "stderr"
        key = make_server(str(self.directory))
        self.key = key.pair
        enrolled = keyring.ensure_host_key(self.paths).enrolled
        self.host, own = compute_host_id(enrolled), load_key(self.paths)
        self.seed = own.secret[:32]
        self.caller = Caller(own, make_keyid(self.host, own.public), key.pair.public, key.origin)
        self.grant = sign_grant(Grant("acme", enrolled, (int(time.time()) + 3600) * 1000), key.pair)
        self.data = make_data(self.paths)
        with self.said.open("wb") as stderr:
            self.process = Process(
                self.directory, *words, stderr=stderr,
                program=("tests.bpci.served_otherwise", json.dumps(SHORT | changes)),
            )  # fmt: skip
        self.port, self.is_tls = self.process.port, bool(words)
        if not words:
            assert self.process.ask("POST", "/v1/enrol", self.grant)[0] == 200
            assert self.process.post(self.caller, self.data).status == 200
        self.memory_bytes = self.read_memory("VmRSS")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.end()

    def let_in(self, role: Role) -> tuple[Caller, bytes]:
        """A member of the host's tenant, and the seed of its key."""
        seed = hashlib.sha256(role.value.encode()).digest()
        key = make_key_pair(seed)
        expires_ms = (int(time.time()) + 3600) * 1000
        grant = sign_grant(Grant("acme", key.public, expires_ms, role), self.key)
        assert self.process.ask("POST", "/v1/enrol", grant)[0] == 200
        keyid = make_keyid(compute_host_id(key.public), key.public)
        return self.caller._replace(key=key, keyid=keyid), seed

    def read_memory(self, name: str) -> int:
        status = Path(f"/proc/{self.process.process.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found
        return int(found[1]) << 10

    def check_well(self) -> None:
        """The honest host is heard; the server has taken no memory and told of no fault."""
        assert self.process.post(self.caller, self.data).status == 200
        assert self.process.ask("GET", "/readyz")[0] == 200
        assert self.read_memory("VmHWM") - self.memory_bytes < GROWTH_MAX_BYTES
        assert self.said.read_bytes() == b""

    def check_whole(self) -> None:
        """After the end: all that is stored is as it was."""
        assert self.process.end() == 0
        done = run("bpci", "audit", str(self.directory))
        assert (done.returncode, done.stderr) == (0, ""), done.stdout

    def connect(self, source: str = "127.0.0.2") -> socket.socket:
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=GONE_S, source_address=(source, 0)
        )

    def exchange_all(self, *requests: bytes) -> list[bytes]:
        """What is answered to each, on connections of their own, until the server ends them.

        Each from an address of its own, so that none is refused for another one's sake.
        """
        links = list[socket.socket]()
        for number, request in enumerate(requests):
            link = self.connect(f"127.1.{number // 250}.{1 + number % 250}")
            links.append(link)
            try:
                link.sendall(request)
            except OSError:
                pass  # it was refused before it was whole
        return [read_end(link) for link in links]

    def sign(
        self, method: str, target: str, body: bytes = b"", fields: dict[str, str] | None = None,
        caller: Caller | None = None,
    ) -> bytes:  # fmt: skip
        """A call of the honest host's, or another's, as it goes over the wire."""
        prepared = (caller or self.caller).prepare(
            method, f"http://{NAME}{target}", body, fields or {},
            created_s=int(time.time()), nonce=next(NONCES),
        )  # fmt: skip
        pairs = dict(prepared.fields) | {"content-length": str(len(body)), "connection": "close"}
        return write_request(method, prepared.target, pairs) + body


def write_request(method: str, target: str, fields: dict[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {one}" for name, one in fields.items()]]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def read_end(link: socket.socket) -> bytes:
    """All that comes until the other side ends; AssertionError where it does not in time."""
    parts = list[bytes]()
    with link:
        link.settimeout(GONE_S)
        try:
            while part := link.recv(PART_BYTES):
                parts.append(part)
        except ConnectionError:
            pass
    return b"".join(parts)


def parse_responses(data: bytes, *, may_be_cut: bool = False) -> list[Response]:
    """The responses that these bytes are, one after the other; AssertionError for other bytes.

    The last one may be cut where who asked went on sending: the end of a connection with more to
    read is a reset.
    """
    found = list[Response]()
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        if may_be_cut and not end:
            break
        line, *lines = head.decode("latin-1").split("\r\n")
        assert end and re.fullmatch(r"HTTP/1\.1 [1-5][0-9][0-9] [\w -]*", line), line
        fields = dict[str, str]()
        for one in lines:
            name, colon, value = one.partition(": ")
            name = name.lower()
            assert colon and re.fullmatch(r"[a-z-]+", name) and name not in fields, one
            assert re.fullmatch(r"[\t -~]*", value), one
            fields[name] = value
        status = int(line.split()[1])
        if status >= 200:
            size = int(fields["content-length"])
            found.append(Response(status, fields, data[:size]))
            assert may_be_cut or len(data) >= size
            data = data[size:]
    return found
