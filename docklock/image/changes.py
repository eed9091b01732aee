"""Dockerfile instructions on a configuration: `docklock import --change 'CMD ["sh"]'`.

Not here: building. Pure. Source: Dockerfile reference; docker import --help names the instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from chainlite.errors import SpecError
from docklock.document import parse_document
from docklock.image.store import ImageConfig

SHELL = ("/bin/sh", "-c")


def apply_changes(config: ImageConfig, changes: Iterable[str]) -> ImageConfig:
    """The configuration after every instruction, in order; SpecError names the bad one."""
    for text in changes:
        word, _, rest = text.strip().partition(" ")
        instruction = _INSTRUCTIONS.get(word.upper())
        if instruction is None:
            legal = " ".join(sorted(_INSTRUCTIONS))
            raise SpecError(f"--change {text!r}: {word!r} is none of {legal}")
        if not rest.strip():
            raise SpecError(f"--change {text!r}: {word.upper()} needs an argument")
        config = instruction(config, rest.strip(), f"--change {text!r}")
    return config


def _set_cmd(config: ImageConfig, rest: str, where: str) -> ImageConfig:
    return config._replace(cmd=_parse_command(rest, where))


def _set_entrypoint(config: ImageConfig, rest: str, where: str) -> ImageConfig:
    return config._replace(entrypoint=_parse_command(rest, where))


def _add_env(config: ImageConfig, rest: str, where: str) -> ImageConfig:
    env = {item.partition("=")[0]: item for item in config.env}
    env.update((key, f"{key}={value}") for key, value in _parse_pairs(rest, where))
    return config._replace(env=tuple(env.values()))


def _add_label(config: ImageConfig, rest: str, where: str) -> ImageConfig:
    labels = dict(config.labels) | dict(_parse_pairs(rest, where))
    return config._replace(labels=tuple(labels.items()))


def _add_expose(config: ImageConfig, rest: str, where: str) -> ImageConfig:
    ports = []
    for word in rest.split():
        number, _, protocol = word.partition("/")
        protocol = protocol or "tcp"
        is_port = number.isascii() and number.isdigit() and 0 < int(number[:6]) < 65536
        if not is_port or protocol not in ("tcp", "udp", "sctp"):
            raise SpecError(f"{where}: {word!r} is no port: write 80 or 80/tcp, udp, sctp")
        ports.append(f"{int(number)}/{protocol}")
    return config._replace(exposed=tuple(dict.fromkeys((*config.exposed, *ports))))


def _add_volume(config: ImageConfig, rest: str, where: str) -> ImageConfig:
    found = _parse_list(rest, where) if rest.startswith("[") else tuple(rest.split())
    return config._replace(volumes=tuple(dict.fromkeys((*config.volumes, *found))))


def _set_workdir(config: ImageConfig, rest: str, _where: str) -> ImageConfig:
    import posixpath

    cwd = posixpath.normpath(posixpath.join("/", config.cwd, rest))
    return config._replace(cwd=cwd)


def _set_user(config: ImageConfig, rest: str, _where: str) -> ImageConfig:
    return config._replace(user=rest)


def _set_stop_signal(config: ImageConfig, rest: str, _where: str) -> ImageConfig:
    return config._replace(stop_signal=rest)


def _set_health(config: ImageConfig, rest: str, where: str) -> ImageConfig:
    """`NONE`, or `[--interval=D] [--timeout=D] [--start-period=D] [--retries=N] CMD command`."""
    from docklock.health import Check, parse_duration_ns

    check, word = Check(), ""
    while rest:
        word, _, rest = rest.partition(" ")
        rest = rest.strip()
        name, is_option, value = word.partition("=")
        if not is_option or not name.startswith("--"):
            break
        key = name[2:].replace("-", "_")
        if key == "retries" and value.isascii() and value.isdigit():
            check = check._replace(retries=int(value))
        elif key in ("interval", "timeout", "start_period"):
            check = check.with_time(key, parse_duration_ns(f"{where}: {name}", value))
        else:
            raise SpecError(f"{where}: {word!r} is no option of HEALTHCHECK")
    if word.upper() == "NONE" and not rest:
        return config._replace(health=Check(("NONE",)))
    if word.upper() != "CMD" or not rest:
        raise SpecError(f"{where}: write NONE, or CMD and a command")
    is_list = rest.startswith("[")
    test = ("CMD", *_parse_list(rest, where)) if is_list else ("CMD-SHELL", rest)
    return config._replace(health=check._replace(test=test))


def _parse_command(rest: str, where: str) -> tuple[str, ...]:
    """A JSON list as it stands, anything else for the shell."""
    return _parse_list(rest, where) if rest.startswith("[") else (*SHELL, rest)


def _parse_list(rest: str, where: str) -> tuple[str, ...]:
    return parse_document(rest.encode("utf-8", "surrogateescape"), where).as_strings()


def _parse_pairs(rest: str, where: str) -> tuple[tuple[str, str], ...]:
    """`k=v "k 2=v 2"`, or the old form `k the rest`."""
    import shlex

    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise SpecError(f"{where}: {error}") from None
    if words and "=" not in words[0]:
        key, _, value = rest.partition(" ")
        if not value:
            raise SpecError(f"{where}: write NAME=VALUE")
        return ((key, value.strip()),)
    pairs = tuple((word.partition("=")[0], word.partition("=")[2]) for word in words)
    if not all(key and "=" in word for (key, _), word in zip(pairs, words, strict=True)):
        raise SpecError(f"{where}: write NAME=VALUE")
    return pairs


_INSTRUCTIONS: dict[str, Callable[[ImageConfig, str, str], ImageConfig]] = {
    "CMD": _set_cmd,
    "ENTRYPOINT": _set_entrypoint,
    "ENV": _add_env,
    "EXPOSE": _add_expose,
    "HEALTHCHECK": _set_health,
    "LABEL": _add_label,
    "STOPSIGNAL": _set_stop_signal,
    "USER": _set_user,
    "VOLUME": _add_volume,
    "WORKDIR": _set_workdir,
}
