"""--mount: key=value pairs, of bind mounts and of tmpfs. Loaded when one is given.

Not here: -v and --tmpfs (values.py), what a mount does (docklock.mounts).
Source: docker/cli opts/mount.go; its words for what is wrong.
"""

from __future__ import annotations

import csv
import os

from chainlite.errors import SpecError
from chainlite.lean import NamedTuple
from docklock.cli.limits import parse_bytes
from docklock.spec import Mount

_NAMES = {
    "type": "type",
    "source": "source",
    "src": "source",
    "target": "target",
    "dst": "target",
    "destination": "target",
    "readonly": "readonly",
    "ro": "readonly",
    "consistency": "consistency",
    "bind-propagation": "bind-propagation",
    "bind-nonrecursive": "bind-nonrecursive",
    "bind-recursive": "bind-recursive",
    "tmpfs-size": "tmpfs-size",
    "tmpfs-mode": "tmpfs-mode",
}
_FLAGS = ("readonly", "bind-nonrecursive")
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")
_PROPAGATIONS = ("private", "rprivate", "slave", "rslave")
_TMPFS = ("noexec", "nosuid", "nodev")
MODE_MAX = 0o7777


class _Asked(NamedTuple):
    """One --mount: what it says, and as it was typed."""

    word: str
    found: dict[str, str]

    def refuse(self, why: str) -> SpecError:
        return SpecError(f"--mount {self.word}: {why}")


def parse_mount(word: str) -> Mount:
    """The mount of one --mount; SpecError in Docker's words."""
    asked = _Asked(word, {})
    try:
        fields = next(csv.reader([word], strict=True))
    except (csv.Error, StopIteration):
        raise asked.refuse("expected key=value pairs with commas between them") from None
    for field in fields:
        _take(asked, field)
    kind, target = asked.found.get("type", "volume"), asked.found.get("target", "")
    for name in asked.found:
        group = name.partition("-")[0]
        if group in ("bind", "tmpfs") and group != kind and "-" in name:
            raise asked.refuse(f"cannot mix '{group}-*' options with mount type '{kind}'")
    if not target:
        raise asked.refuse("target is required")
    if not target.startswith("/") or os.path.normpath(target).strip("/") == "":
        raise asked.refuse(f"invalid mount target {target!r}: must be an absolute path below /")
    if kind == "bind":
        return _make_bind(asked, os.path.normpath(target))
    if kind == "tmpfs":
        return _make_tmpfs(asked, os.path.normpath(target))
    if kind == "volume":
        raise asked.refuse("docklock has no volumes yet; give type=bind or type=tmpfs")
    raise asked.refuse(f"mount type unknown: {kind!r}; give bind or tmpfs")


def _take(asked: _Asked, field: str) -> None:
    key, has_value, value = field.strip().partition("=")
    key = key.lower()
    if key.startswith("volume-"):
        raise asked.refuse(f"docklock has no volumes yet, so no {key}")
    name = _NAMES.get(key)
    if not has_value and name not in _FLAGS:
        raise asked.refuse(f"invalid field '{field}' must be a key=value pair")
    if name is None:
        from docklock.nearest import suggest

        raise asked.refuse(f"unexpected key '{key}' in '{field}'{suggest(key, _NAMES)}")
    if name in _FLAGS:
        if has_value and value.lower() not in (*_TRUE, *_FALSE):
            raise asked.refuse(f"invalid value for {key}: {value}")
        value = "" if value.lower() in _FALSE else "true"
    asked.found[name] = value


def _make_bind(asked: _Asked, target: str) -> Mount:
    found = asked.found
    source = found.get("source", "")
    if not source:
        raise asked.refuse('invalid mount config for type "bind": field Source must not be empty')
    if not source.startswith(("/", ".")):
        raise asked.refuse(f"invalid mount path {source!r}: it must be absolute, or begin with .")
    source = os.path.abspath(source)
    if not os.path.exists(source):
        why = f"bind source path does not exist: {source}"
        raise asked.refuse(f'invalid mount config for type "bind": {why}')
    propagation = found.get("bind-propagation", "rprivate")
    if propagation not in _PROPAGATIONS:
        known = ", ".join(_PROPAGATIONS)
        raise asked.refuse(
            f"bind-propagation={propagation}: no mount goes back to the host: {known}"
        )
    readonly = found.get("readonly", "")
    return Mount(
        target,
        "bind",
        source,
        (_choose_depth(asked, readonly), propagation, *(("ro",) if readonly else ())),
    )


def _choose_depth(asked: _Asked, readonly: str) -> str:
    """rbind or bind. What is read-only is so with all that is mounted below it."""
    choice = asked.found.get("bind-recursive", "enabled")
    if choice in ("writable", "readonly"):
        if not readonly:
            raise asked.refuse(f"option 'bind-recursive={choice}' requires 'readonly'")
        if choice == "writable":
            why = "a read-only mount is read-only with its submounts; use two mounts"
            raise asked.refuse(f"bind-recursive=writable: {why}")
    elif choice not in ("enabled", "disabled"):
        known = "enabled, disabled or readonly"
        raise asked.refuse(f"invalid value for bind-recursive: {choice} (must be {known})")
    is_flat = choice == "disabled" or bool(asked.found.get("bind-nonrecursive"))
    return "bind" if is_flat else "rbind"


def _make_tmpfs(asked: _Asked, target: str) -> Mount:
    found = asked.found
    if "source" in found:
        why = "field Source must not be specified"
        raise asked.refuse(f'invalid mount config for type "tmpfs": {why}')
    options = list(_TMPFS)
    if found.get("readonly"):
        options.append("ro")
    if "tmpfs-size" in found:
        options.append(f"size={parse_bytes('--mount tmpfs-size', found['tmpfs-size'])}")
    if "tmpfs-mode" in found:
        mode = found["tmpfs-mode"]
        if not mode or set(mode) - set("01234567") or int(mode, 8) > MODE_MAX:
            raise asked.refuse(f"invalid value for tmpfs-mode: {mode}")
        options.append(f"mode={mode}")
    return Mount(target, "tmpfs", "tmpfs", tuple(options))
