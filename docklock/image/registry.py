"""One repository of a registry: its manifests and blobs, with the authorisation it asks for.

Not here: one exchange (registry_http), where blobs go to (download), which of them (pull, push).
Invariants: a document is given only if its digest is the one that was asked for; retries, sizes
and times have limits; what the registry says in words is cut and escaped before anybody reads it.
Source: OCI distribution-spec 1.1; distribution, spec/api.md.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

from chainlite.errors import DocklockError, PeerError, SpecError
from chainlite.report import escape
from docklock.document import SIZE_MAX_BYTES, parse_document
from docklock.image.credentials import Login
from docklock.image.layout import INDEX_TYPES, MANIFEST_TYPES
from docklock.image.reference import DEFAULT_DOMAIN, Reference, check_tag
from docklock.image.registry_auth import Challenge, authorise, parse_challenges, parse_retry_after
from docklock.image.registry_http import (
    NO_FIELDS,
    Answer,
    Body,
    NotTls,
    RegistryError,
    Wire,
    follow,
    get_origin,
    is_loopback,
    show_url,
)

HUB_HOST = "registry-1.docker.io"
MANIFEST_BYTES_MAX = 4 << 20
TAGS_A_PAGE = 1000
TAGS_MAX = 100_000
ERROR_BYTES_MAX = 64 << 10
WORDS_CHARS_MAX = 300
DIGEST_FIELD = "Docker-Content-Digest"
ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))

Found = TypeVar("Found")


class Manifest(NamedTuple):
    """A manifest or an index as it came."""

    media_type: str
    digest: str
    data: bytes


class Repository:
    """Asks one repository. Threads may share it."""

    def __init__(
        self,
        reference: Reference,
        login: Login | None,
        wire: Wire | None = None,
        actions: str = "pull",
    ) -> None:
        self.domain, _, self.path = reference.name.partition("/")
        self.name = reference.familiar if self.path else self.domain
        self._login = login
        self._scope = f"repository:{self.path}:{actions}" if actions else ""
        self.wire = wire or Wire()
        self._lock = threading.Lock()
        self._base = ""
        self._authorization = ""

    def fetch_manifest(self, wanted: str) -> Manifest:
        """By tag or digest. SpecError: its digest is another."""

        def fetch() -> Manifest:
            answer = self.ask("GET", f"manifests/{wanted}", {"Accept": ACCEPT})
            try:
                self._check(answer, 200)
                return self._read_manifest(answer, wanted)
            finally:
                answer.close()

        return self.retry(fetch)

    def fetch_document(self, digest: str) -> bytes:
        """A small blob, whole."""

        def fetch() -> bytes:
            answer = self.open_blob(digest)
            try:
                return answer.read_all(SIZE_MAX_BYTES)
            finally:
                answer.close()

        data = self.retry(fetch)
        self._check_digest(digest, data)
        return data

    def list_tags(self) -> tuple[str, ...]:
        """All tags, in the registry's order. PeerError: what it lists is no tag, or has no end."""
        found: dict[str, None] = {}
        url = f"{self.get_base()}{self.path}/tags/list?n={TAGS_A_PAGE}"
        for _ in range(TAGS_MAX // TAGS_A_PAGE):
            tags, url = self.retry(partial(self._fetch_tags, url))
            found.update(dict.fromkeys(tags))
            if not url:
                return tuple(found)
        raise PeerError(f"{self.name}: more than {TAGS_MAX} tags")

    def open_blob(self, digest: str, offset: int = 0) -> Answer:
        """A blob's bytes from `offset` on, or from its start: 200 instead of 206. No retries."""
        fields = {"Range": f"bytes={offset}-"} if offset else {}
        answer = self.ask("GET", f"blobs/{digest}", fields)
        if answer.status not in (200, 206):
            try:
                self._check(answer, 200)
            finally:
                answer.close()
        return answer

    def ask(
        self,
        method: str,
        path: str,
        fields: Mapping[str, str] = NO_FIELDS,
        body: Body | None = None,
    ) -> Answer:
        """One request below the repository, authorised if that is asked for."""
        return self.ask_url(method, f"{self.get_base()}{self.path}/{path}", fields, body)

    def ask_url(
        self,
        method: str,
        url: str,
        fields: Mapping[str, str] = NO_FIELDS,
        body: Body | None = None,
    ) -> Answer:
        """As `ask`, of any URL; another origin than the registry's is told no password."""
        if get_origin(url) != get_origin(self.get_base()):
            return self.wire.exchange(method, url, fields, body)
        used = self._authorization
        answer = self.wire.exchange(method, url, {**fields, **_get_field(used)}, body)
        if answer.status != 401:
            return answer
        answer.close()
        if not self._renew(answer.get_all("WWW-Authenticate"), used):
            raise self._deny(answer)
        if body is not None and not isinstance(body, bytes):
            body.seek(0)
        fields = {**fields, **_get_field(self._authorization)}
        answer = self.wire.exchange(method, url, fields, body)
        if answer.status == 401:
            answer.close()
            raise self._deny(answer)
        return answer

    def get_base(self) -> str:
        """`https://HOST/v2/`; plain HTTP for this machine if no TLS is spoken there."""
        with self._lock:
            if not self._base:
                try:
                    self._base = self._find_base()
                except RegistryError as error:
                    error.is_passing = False  # who is not there at all is not waited for
                    raise
            return self._base

    def check_login(self) -> None:
        """RegistryError unless the registry lets the user in."""
        answer = self.ask_url("GET", self.get_base())
        try:
            self._check(answer, 200)
        finally:
            answer.close()

    def retry(self, attempt: Callable[[], Found]) -> Found:
        """What `attempt` gives, tried again while the registry may do better."""
        for count in range(self.wire.pace.retries_max):
            try:
                return attempt()
            except RegistryError as error:
                self.pause(error, count)
        return attempt()

    def pause(self, error: RegistryError, count: int) -> None:
        """Waits before another attempt; raises `error` where none is worth it."""
        pace = self.wire.pace
        wait_s = error.retry_after_s
        if wait_s < 0:
            wait_s = min(pace.retry_first_s * 2**count, pace.retry_max_s)
        if not error.is_passing or wait_s > pace.retry_max_s or self.wire.aborted.is_set():
            raise error
        if self.wire.aborted.wait(wait_s):
            raise error

    def refuse(self, answer: Answer) -> RegistryError:
        """What an answer that is not wanted means; its body is read."""
        status = answer.status
        words = self._read_words(answer)
        is_passing = status in (408, 425, 429) or status >= 500
        if status == 404:
            place = "manifest" if "/manifests/" in answer.url else "name"
            place = "blob" if "/blobs/sha256:" in answer.url else place
            text = f"{self.name} not found: {words or f'{place} unknown'}"
        elif status == 403:
            text = f"access to {self.name} denied: {words or 'denied'}"
        else:
            text = f"{self.name}: the registry answers {status}{words and ': ' + words}"
        retry_after_s = parse_retry_after(answer.get("Retry-After"))
        return RegistryError(text, status, is_passing=is_passing, retry_after_s=retry_after_s)

    def _fetch_tags(self, url: str) -> tuple[list[str], str]:
        """(a page of tags, where the next is; empty after the last)."""
        answer = self.ask_url("GET", url)
        try:
            self._check(answer, 200)
            document = parse_document(answer.read_all(MANIFEST_BYTES_MAX), self.name)
            tags = [item.as_str() for item in document.get("tags").as_list()]
            for tag in tags:
                check_tag(self.name, tag)
            target, _, rest = answer.get("Link").partition(">")
            if not target.startswith("<") or 'rel="next"' not in rest:
                return tags, ""
            is_plain = url.startswith("http:")
            return tags, follow(answer.url, target[1:], is_plain_allowed=is_plain)
        except SpecError as error:
            raise PeerError(str(error)) from None
        finally:
            answer.close()

    def _check(self, answer: Answer, wanted: int) -> None:
        if answer.status != wanted:
            raise self.refuse(answer)

    def _find_base(self) -> str:
        host = HUB_HOST if self.domain == DEFAULT_DOMAIN else self.domain
        url = f"https://{host}/v2/"
        bare = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
        try:
            self.wire.exchange("HEAD", url).close()
        except NotTls:
            if not is_loopback(bare):
                raise
            url = f"http://{host}/v2/"
            self.wire.exchange("HEAD", url).close()
        return url

    def _renew(self, fields: tuple[str, ...], used: str) -> bool:
        """Gets what a 401 asks for; False where there is nothing new to say."""
        is_plain = self.get_base().startswith("http:")
        with self._lock:
            if self._authorization != used:
                return True  # another thread has just done it
            challenges = parse_challenges(fields)
            # A token can be had by anybody; a password has to be known.
            for challenge in sorted(challenges, key=lambda item: item.scheme, reverse=True):
                found = self._authorise(challenge, is_plain=is_plain)
                if found and found != used:
                    self._authorization = found
                    return True
        return False

    def _authorise(self, challenge: Challenge, *, is_plain: bool) -> str:
        try:
            return self.retry(
                lambda: authorise(self.wire, challenge, self._login, self._scope, is_plain=is_plain)
            )
        except RegistryError as error:
            error.is_passing = False  # as often as it is worth it: not by who asks us once more
            raise

    def _deny(self, answer: Answer) -> RegistryError:
        if self._login is None:
            text = (
                f"access to {self.name} denied: it does not exist or needs"
                f" `docklock login {self.domain}`: no basic auth credentials"
            )
        else:
            text = f"access to {self.name} denied: unauthorized: incorrect username or password"
        return RegistryError(text, answer.status)

    def _read_manifest(self, answer: Answer, wanted: str) -> Manifest:
        data = answer.read_all(MANIFEST_BYTES_MAX)
        digest = wanted if wanted.startswith("sha256:") else answer.get(DIGEST_FIELD)
        if digest:
            self._check_digest(digest, data)
        document = parse_document(data, self.name)
        if document.get("schemaVersion").value == 1:
            raise SpecError(f"{self.name}: an image of schema 1, which nobody signs off any more")
        kind = answer.get("Content-Type").partition(";")[0].strip()
        media_type = document.get("mediaType").as_str(kind)
        return Manifest(media_type, f"sha256:{hashlib.sha256(data).hexdigest()}", data)

    def _check_digest(self, wanted: str, data: bytes) -> None:
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if found != wanted:
            raise PeerError(f"{self.name}: the registry gives {found} for {escape(wanted[:80])}")

    def _read_words(self, answer: Answer) -> str:
        """The registry's errors: CODE: message; nothing where it has none that can be read."""
        try:
            data = answer.read_all(ERROR_BYTES_MAX)
            errors = parse_document(data, show_url(answer.url)).get("errors").as_list()
            words = "; ".join(
                f"{item.get('code').as_str('').lower().replace('_', ' ')}:"
                f" {item.get('message').as_str('')}"
                for item in errors[:3]
            )
        except DocklockError:
            return ""
        return escape(words[:WORDS_CHARS_MAX])


def _get_field(authorization: str) -> dict[str, str]:
    return {"Authorization": authorization} if authorization else {}
