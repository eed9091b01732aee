"""One exchange with a registry: connect, TLS, redirects, and limits of time and size.

Not here: what is asked and what an answer means (registry), tokens (registry_auth).
Invariants: plain HTTP goes to a peer that is this machine, and to nobody whom a remote registry
names; a certificate is always verified; the Authorization header is seen by the origin that was
asked and by no other; no answer, however slow or long, holds anybody for ever.
Source: RFC 9110, sections 10.2 and 15.4; RFC 9112.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple, Protocol, cast
from urllib.parse import unquote, urljoin, urlsplit

from chainlite.errors import PeerError, StateError
from docklock import __version__
from docklock.image.certificates import load_certificates

REDIRECTS_MAX = 5
REDIRECTS = (301, 302, 303, 307, 308)
URL_CHARS_MAX = 8192
BLOCK_BYTES = 1 << 16
"""Of a body that is sent: so much has to go in Pace.read_s."""
CERTIFICATE_DIRS = ("/etc/docklock/certs.d", "/etc/docker/certs.d")
NO_FIELDS: Mapping[str, str] = {}


class Pace(NamedTuple):
    """How long one may be kept waiting. A transfer that is slower than the floor has stalled."""

    connect_s: float = 15.0
    read_s: float = 30.0
    head_s: float = 60.0
    """From the end of a request to the end of the answer's fields."""
    window_s: float = 60.0
    window_bytes_min: int = 65_536
    retries_max: int = 5
    retry_first_s: float = 1.0
    retry_max_s: float = 60.0


class Stream(Protocol):
    """A body that is sent again from its start where the registry asks who sends it."""

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, position: int, /) -> object: ...


Body = bytes | Stream


class RegistryError(StateError):
    """A registry refuses or is away. `status` is 0 where it did not answer.

    `is_passing`: it may do better in `retry_after_s` seconds (below 0: it does not say).
    """

    def __init__(
        self, text: str, status: int = 0, *, is_passing: bool = False, retry_after_s: float = -1.0
    ) -> None:
        super().__init__(text)
        self.status, self.is_passing, self.retry_after_s = status, is_passing, retry_after_s


class Answer:
    """A response whose body is still to be read. `url` is where the last redirect led."""

    def __init__(
        self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection,
        url: str, pace: Pace,
    ) -> None:  # fmt: skip
        self.status = response.status
        self.url = url
        self._response, self._connection, self._pace = response, connection, pace
        self.length = _read_length(response, url)
        self._left = self.length
        self._window_start, self._window_bytes = time.monotonic(), 0

    def get(self, name: str) -> str:
        """A field; empty where there is none."""
        return self._response.getheader(name) or ""

    def get_all(self, name: str) -> tuple[str, ...]:
        return tuple(self._response.headers.get_all(name) or ())

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none only at the true end of the body."""
        if self._left is not None:
            size = min(size, self._left)
        if size == 0:
            return b""
        try:
            data = self._response.read1(size)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _away(self.url, error) from None
        if self._left is not None:
            self._left -= len(data)
            if not data:
                raise _away(self.url, "it ended the connection in the middle")
        self._check_pace(len(data))
        return data

    def read_all(self, limit: int) -> bytes:
        """The whole body; PeerError if it has more than `limit` bytes."""
        if (self.length or 0) > limit:
            raise PeerError(f"{show_url(self.url)}: {self.length} bytes, at most {limit} are read")
        data = bytearray()
        while piece := self.read(limit + 1 - len(data)):
            data += piece
            if len(data) > limit:
                raise PeerError(f"{show_url(self.url)}: more than {limit} bytes")
        return bytes(data)

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def _check_pace(self, size: int) -> None:
        now = time.monotonic()
        self._window_bytes += size
        if now - self._window_start >= self._pace.window_s:
            if self._window_bytes < self._pace.window_bytes_min:
                raise _away(self.url, f"{self._window_bytes} bytes in {self._pace.window_s:g} s")
            self._window_start, self._window_bytes = now, 0


class Wire:
    """Makes exchanges; `abort`, from any thread, ends those under way and all later ones."""

    def __init__(
        self, pace: Pace | None = None, certificate_dirs: tuple[str, ...] = CERTIFICATE_DIRS
    ) -> None:
        self.pace = pace or Pace()
        self._certificate_dirs = certificate_dirs
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self.aborted = threading.Event()

    def exchange(
        self,
        method: str,
        url: str,
        fields: Mapping[str, str] = NO_FIELDS,
        body: Body | None = None,
        *,
        is_led: bool = True,
    ) -> Answer:
        """One request, and where it is led to. RegistryError: away. PeerError: a bad redirect."""
        sent = {"User-Agent": f"docklock/{__version__}", "Accept-Encoding": "identity", **fields}
        is_plain_allowed = urlsplit(url).scheme == "http"
        for _ in range(REDIRECTS_MAX + 1):
            answer = self._exchange(method, url, sent, body)
            if answer.status not in REDIRECTS or not is_led or method not in ("GET", "HEAD"):
                return answer
            location = answer.get("Location")
            answer.close()
            target = follow(url, location, is_plain_allowed=is_plain_allowed)
            if get_origin(target) != get_origin(url):
                # Whoever serves the blobs is not who the credentials are for.
                sent = {name: value for name, value in sent.items() if name != "Authorization"}
            url = target
        raise PeerError(f"{show_url(url)}: more than {REDIRECTS_MAX} redirects")

    def abort(self) -> None:
        self.aborted.set()
        with self._lock:
            for item in self._sockets:
                _end(item)

    def _exchange(
        self, method: str, url: str, fields: Mapping[str, str], body: Body | None
    ) -> Answer:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = self._connect(url)
        try:
            connection.request(method, target, body=cast("bytes", body), headers=dict(fields))
            response = self._get_response(connection)
            try:
                return Answer(response, connection, url, self.pace)
            except PeerError:
                response.close()
                connection.close()
                raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise _away(url, error) from None

    def _get_response(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        """The fields of the answer; a byte now and then, which no socket's timeout sees, ends."""
        is_late, used = threading.Event(), connection.sock

        def give_up() -> None:
            is_late.set()
            _end(used)

        watch = threading.Timer(self.pace.head_s, give_up)
        watch.daemon = True
        watch.start()
        try:
            response = connection.getresponse()
        except (OSError, http.client.HTTPException):
            if not is_late.is_set():
                raise
        else:
            if not is_late.is_set():
                return response
            response.close()  # http.client takes an end for the end of the fields
        finally:
            watch.cancel()
        raise TimeoutError(f"no answer in {self.pace.head_s:g} s")

    def _connect(self, url: str) -> http.client.HTTPConnection:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if self.aborted.is_set():
            raise RegistryError(f"{show_url(url)}: given up")
        connection = self._make_connection(parts.scheme, host, port)
        try:
            connection.connect()
            if parts.scheme == "http" and not is_loopback(connection.sock.getpeername()[0]):
                connection.close()
                raise PeerError(f"{show_url(url)}: plain HTTP is for this machine alone")
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise PeerError(f"{show_url(url)}: its certificate: {error.verify_message}") from None
        except ssl.SSLError as error:
            connection.close()
            if "ALERT" in str(error.reason):  # who says that speaks TLS
                raise RegistryError(f"{show_url(url)}: TLS: {error.reason}") from None
            raise NotTls(f"{show_url(url)}: no TLS: {error.reason}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise _away(url, error) from None
        connection.sock.settimeout(self.pace.read_s)
        with self._lock:
            self._sockets = {item for item in self._sockets if item.fileno() >= 0}
            self._sockets.add(connection.sock)
        return connection

    def _make_connection(
        self, scheme: str, host: str, port: int | None
    ) -> http.client.HTTPConnection:
        timeout = self.pace.connect_s
        if scheme == "http":
            return http.client.HTTPConnection(
                host, port or 80, timeout=timeout, blocksize=BLOCK_BYTES
            )
        name = f"[{host}]" if ":" in host else host
        context = self._make_context(name if port is None else f"{name}:{port}")
        proxy = _find_proxy(host)
        if proxy is None:
            return http.client.HTTPSConnection(
                host, port or 443, timeout=timeout, context=context, blocksize=BLOCK_BYTES
            )
        found = urlsplit(proxy)
        connection = http.client.HTTPSConnection(
            found.hostname or "", found.port or 3128, timeout=timeout, context=context
        )
        connection.set_tunnel(host, port or 443, _get_proxy_fields(found.username, found.password))
        return connection

    def _make_context(self, place: str) -> ssl.SSLContext:
        """The system's roots, and what an administrator laid down for this registry, as Docker."""
        with self._lock:
            if place not in self._contexts:
                context = ssl.create_default_context()
                for directory in self._certificate_dirs:
                    load_certificates(context, f"{directory}/{place}")
                self._contexts[place] = context
            return self._contexts[place]


class NotTls(RegistryError):
    """What answers does not speak TLS."""


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def get_origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port): what credentials are bound to."""
    parts = urlsplit(url)
    return (
        parts.scheme,
        parts.hostname or "",
        parts.port or (443 if parts.scheme == "https" else 80),
    )


def check_url(url: str, *, is_plain_allowed: bool) -> str:
    """A URL that a registry names; PeerError if nobody should go there."""
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        raise PeerError("the registry names a malformed URL") from None
    legal = len(url) <= URL_CHARS_MAX and url.isascii() and url.isprintable() and " " not in url
    if not legal or not port_is_good or not parts.hostname or parts.username or parts.password:
        raise PeerError("the registry names a malformed URL")
    is_plain = parts.scheme == "http" and is_plain_allowed and is_loopback(parts.hostname)
    if parts.scheme != "https" and not is_plain:
        raise PeerError(f"the registry leads to {show_url(url)}, which is not https")
    return url


def show_url(url: str) -> str:
    """Scheme, host and path: a query may hold a signature that is as good as a password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def follow(url: str, location: str, *, is_plain_allowed: bool) -> str:
    """Where a Location field leads from `url`; PeerError if nobody should go there."""
    if not location:
        raise PeerError(f"{show_url(url)}: it leads to nowhere")
    try:
        target = urljoin(url, location)
    except ValueError:
        raise PeerError(f"{show_url(url)}: it leads to a malformed URL") from None
    return check_url(target, is_plain_allowed=is_plain_allowed)


def _end(item: socket.socket) -> None:
    try:
        # Not SSLSocket's own, which takes the session away from a reading thread.
        socket.socket.shutdown(item, socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended already


def _read_length(response: http.client.HTTPResponse, url: str) -> int | None:
    """The body's length where it is told; http.client has sorted out chunks and HEAD."""
    if response.getheader("Transfer-Encoding"):
        return None
    found = set(response.headers.get_all("Content-Length") or ())
    if len(found) > 1:
        raise PeerError(f"{show_url(url)}: two lengths")
    return response.length


def _find_proxy(host: str) -> str | None:
    """HTTPS_PROXY and NO_PROXY, as curl and Docker read them; never for this machine."""
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    proxy = getproxies_environment().get("https")
    if not proxy or is_loopback(host) or proxy_bypass_environment(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _get_proxy_fields(user: str | None, password: str | None) -> dict[str, str]:
    if user is None:
        return {}
    from base64 import b64encode

    text = f"{unquote(user)}:{unquote(password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(text.encode()).decode()}"}


def _away(url: str, error: Exception | str) -> RegistryError:
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    else:
        text = str(error) or type(error).__name__
    return RegistryError(f"{show_url(url)}: {text}", is_passing=True)
