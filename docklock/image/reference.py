"""Image references as Docker reads them: `busybox` is docker.io/library/busybox:latest.

Not here: looking a reference up (store). Pure; no regular expressions, because compiling one costs
more than a whole `docklock run` may spend here.
Source: distribution/reference, normalize.go and regexp.go.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from chainlite.lean import NamedTuple

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
NAME_CHARS_MAX = 255
TAG_CHARS_MAX = 128

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_WORD = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_HEX = frozenset("0123456789abcdef")


class Reference(NamedTuple):
    """A name with its domain, and a tag or a digest (`sha256:` + 64 hex); the other is empty."""

    name: str
    tag: str
    digest: str

    @property
    def text(self) -> str:
        """The full form, as index.json keeps it."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"

    @property
    def familiar(self) -> str:
        """The form Docker prints: `busybox:latest`."""
        name = get_familiar_name(self.name)
        return f"{name}@{self.digest}" if self.digest else f"{name}:{self.tag}"


def get_familiar_name(name: str) -> str:
    """Drops the default domain and the default namespace."""
    name = name.removeprefix(f"{DEFAULT_DOMAIN}/")
    return name.removeprefix("library/") if name.count("/") == 1 else name


def split_full(text: str) -> tuple[str, str]:
    """(name, tag) of a reference in its full form; no tag for one by digest."""
    name, at, _ = text.partition("@")
    if at:
        return name, ""
    name, _, tag = text.rpartition(":")
    return name, tag


def is_hex(text: str, *, size: int = 64) -> bool:
    """True for exactly `size` lower-case hexadecimal digits."""
    return len(text) == size and _HEX.issuperset(text)


def is_digest(text: str) -> bool:
    """True for `sha256:` and 64 lower-case hexadecimal digits."""
    return text.startswith("sha256:") and is_hex(text[7:])


def parse_reference(text: str) -> Reference:
    """Normalises what a user typed; SpecError if it is no reference."""
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _invalid(text, "after '@' comes sha256: and 64 hexadecimal digits")
    name, tag = _split_tag(rest)
    if tag is not None:
        check_tag(text, tag)
    domain, path = _split_domain(name)
    _check_path(text, path)
    _check_domain(text, domain)
    if len(domain) + 1 + len(path) > NAME_CHARS_MAX:
        raise _invalid(text, f"a name has at most {NAME_CHARS_MAX} characters")
    if is_hex(name):
        raise _invalid(text, "64 hexadecimal digits are an image ID, not a name")
    return Reference(f"{domain}/{path}", "" if digest else tag or DEFAULT_TAG, digest)


def _split_tag(text: str) -> tuple[str, str | None]:
    colon = text.rfind(":")
    if colon < 0 or "/" in text[colon:]:
        return text, None
    return text[:colon], text[colon + 1 :]


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first.lower() != first):
        domain, path = first, rest
    else:
        domain, path = DEFAULT_DOMAIN, name
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return domain, path


def check_tag(text: str, tag: str) -> None:
    """SpecError, which shows `text`, unless `tag` may be one."""
    legal = tag and tag[0] in _WORD and all(char in _WORD or char in ".-" for char in tag)
    if not legal or len(tag) > TAG_CHARS_MAX:
        raise _invalid(text, f"a tag is 1 to {TAG_CHARS_MAX} letters, digits and '_', '.', '-'")


def _check_domain(text: str, domain: str) -> None:
    host, colon, port = domain.partition(":")
    if host.startswith("[") and "]" in domain:
        host, _, after = domain.partition("]")
        host, colon, port = host[1:].replace(":", "."), after[:1], after[1:]
    if colon and not (port.isascii() and port.isdigit()):
        raise _invalid(text, f"the port {port!r} is no number")
    for label in host.split("."):
        if (not label and domain[0] != "[") or label[:1] == "-" or label[-1:] == "-":
            raise _invalid(text, f"{domain!r} is no host name")
        if not all((char in _WORD and char != "_") or char == "-" for char in label):
            raise _invalid(text, f"{domain!r} is no host name")


def _check_path(text: str, path: str) -> None:
    if path.lower() != path:
        raise _invalid(text, "a repository name is lower case")
    if not all(_is_component(part) for part in path.split("/")):
        raise _invalid(text, "a name is a-z, 0-9, and single '.', '_', '__' or '-' between them")


def _is_component(part: str) -> bool:
    """[a-z0-9]+ with separators `.`, `_`, `__` or any number of `-` between the words."""
    separator = ""
    words = 0
    for char in part:
        if char in _LOWER:
            if separator not in ("", ".", "_", "__") and separator.strip("-"):
                return False
            if separator and not words:
                return False
            separator, words = "", words + 1
        elif char in "._-":
            separator += char
        else:
            return False
    return words > 0 and not separator


def _invalid(text: str, reason: str) -> SpecError:
    return SpecError(f"invalid reference format: {text!r}: {reason}")
