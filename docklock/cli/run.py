"""`docklock run` and `create`: from Docker's options and an image to a container and its spec.

Not here: how options are parsed (options.py), what a spec's defaults are (docklock.defaults), what
happens then (docklock.runtime).
"""

from __future__ import annotations

import os
import sys
import time

from chainlite.errors import About, SpecError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.cli import options
from docklock.cli.attach import (
    DETACH_KEYS,
    SIG_PROXY,
    choose_attachment,
    follow,
    report_lost,
    wait_created,
)
from docklock.cli.find_image import PULL_OPTIONS, find_image
from docklock.cli.options import Command, check_count, flag, listed, text
from docklock.cli.values import (
    LIMIT_OPTIONS,
    MORE_OPTIONS,
    build_env,
    parse_label,
    parse_security,
    parse_tmpfs,
    parse_ulimit,
    parse_volume,
)
from docklock.defaults import default_spec
from docklock.image.store import Image, ImageConfig
from docklock.lifecycle import Container, check_name, make_directories
from docklock.paths import Paths
from docklock.policy.selection import Subject, choose_policy
from docklock.policy.shipped import fix_name
from docklock.runtime import load_container_policy, make_container
from docklock.spec import Mount, Resources, Spec, User
from docklock.supervisor.launch import launch

if TYPE_CHECKING:
    from typing import Any

    from docklock.policy.load import Compiled
    from docklock.spec import Device

ID_BYTES = 32
SIGNS = ("segment", "each")
# Written into the bundle, bound over /etc. With the host's network its names are the host's, too.
FILES = {"none": ("hostname", "hosts"), "host": ("hostname", "hosts", "resolv.conf")}
EMPTY = ImageConfig()
POLICY_PRIVILEGED = "observe"
# OCI's words for architectures to those of a policy; an image of the host's own needs none.
ARCHITECTURES = {"386": "i386"}

_CREATE_OPTIONS = (
    text("--name", help="the container's name", metavar="NAME"),
    *PULL_OPTIONS,
    flag("--rm", help="remove the container when it ends; its evidence stays"),
    text(
        "--restart",
        help="run it again: no, on-failure[:n], always, unless-stopped",
        metavar="POLICY",
    ),
    text("--health-cmd", help="check its health with this command", metavar="COMMAND"),
    text("--health-interval", help="time between checks (30s)", metavar="TIME"),
    text("--health-timeout", help="a check that takes longer has failed (30s)", metavar="TIME"),
    text("--health-retries", help="failures in a row to be unhealthy (3)", metavar="COUNT"),
    text("--health-start-period", help="failures count for nothing so long", metavar="TIME"),
    flag("--no-healthcheck", help="no check, whatever the image says"),
    flag("-i", "--interactive", help="keep standard input open"),
    flag("-t", "--tty", help="give it a terminal"),
    listed("-e", "--env", help="set an environment variable", metavar="NAME[=VALUE]"),
    listed("-v", "--volume", help="bind a host path", metavar="HOST:CONTAINER[:ro]"),
    listed("--tmpfs", help="mount a tmpfs", metavar="PATH[:OPTIONS]"),
    text("-w", "--workdir", help="working directory", metavar="DIR"),
    text("-u", "--user", help="user and group, names or numbers", metavar="USER[:GROUP]"),
    text("--entrypoint", help="replace the image's entrypoint", metavar="PROGRAM"),
    text("-h", "--hostname", help="hostname", metavar="NAME"),
    text("--net", "--network", help="none (the default) or host", metavar="NETWORK"),
    *LIMIT_OPTIONS,
    listed("--ulimit", help="resource limit", metavar="NAME=SOFT[:HARD]"),
    listed("--cap-add", help="add a capability, or ALL", metavar="NAME"),
    listed("--cap-drop", help="drop a capability, or ALL", metavar="NAME"),
    listed(
        "--security-opt", help="no-new-privileges[=true|false] (on by default)", metavar="OPTION"
    ),
    flag("--read-only", help="mount the root file system read-only"),
    flag("--privileged", help="all capabilities, no masks, policy observe"),
    text("--policy", help="a policy's name or file (see docklock policy ls)", metavar="POLICY"),
    text("--sign", help="sign by segment (the default) or each receipt", metavar="segment|each"),
    listed("-l", "--label", help="set a label", metavar="NAME=VALUE"),
    text("--stop-signal", help="what docklock stop sends", metavar="SIGNAL"),
    *MORE_OPTIONS,
    text("--rootfs", help="run this directory, in place, instead of an image", metavar="DIR"),
)
CREATE = Command(
    "create",
    "[OPTIONS] IMAGE [COMMAND [ARG...]]",
    "Make a container without starting it.",
    _CREATE_OPTIONS,
    is_program_last=True,
    examples=("docklock create --name job busybox sh -c 'echo hello'",),
)
RUN = Command(
    "run",
    "[OPTIONS] IMAGE [COMMAND [ARG...]]",
    "Run a program in a new container.",
    (
        flag("-d", "--detach", help="run in the background and print the id"),
        flag("--plan", help="print every step, and do nothing"),
        listed("-a", "--attach", help="attach to these alone", metavar="stdin|stdout|stderr"),
        SIG_PROXY,
        DETACH_KEYS,
        *_CREATE_OPTIONS,
    ),
    is_program_last=True,
    examples=(
        "docklock run --rm -it debian bash",
        "docklock run -d --name web -m 256m --restart on-failure busybox httpd -f",
        "docklock run --rm --policy strict -v /srv/data:/data:ro busybox ls /data",
    ),
)


class Request(NamedTuple):
    """A container to be, and its spec."""

    container: Container
    spec: Spec
    values: dict[str, Any]  # of its options
    architecture: str  # the image's, in OCI's words; "" for a directory


def run_create(argv: list[str], paths: Paths) -> int:
    """`docklock create`: print the id."""
    values, words = options.parse(CREATE, argv)
    request = build_request(paths, CREATE, values, words)
    from docklock.evidence.operations import record_operation
    from docklock.lifecycle import release_live

    make_directories(paths)
    check_policy(paths, request)
    live_fd = _make(paths, request)
    record_operation(paths, "create", request.container.id)

    release_live(paths, request.container.id)
    os.close(live_fd)
    print(request.container.id)
    return 0


def run_run(argv: list[str], paths: Paths) -> int:
    """`docklock run`: the program's exit code, or the id with --detach."""
    values, words = options.parse(RUN, argv)
    keys, is_shown = _check_terminal(values)
    if not is_shown:
        return 1
    attachment = choose_attachment(values, keys)
    request = build_request(paths, RUN, values, words)
    if values["plan"]:
        return _print_plan(request)
    container = request.container
    make_directories(paths)
    check_policy(paths, request)  # a policy that does not compile leaves no container
    live_fd = _make(paths, request)
    channel = launch(
        paths,
        container.id,
        live_fd,
        run=0,
        start_at_once=True,
        is_background=values["detach"],
    )
    if not values["detach"] and attachment.is_any:
        code = follow(channel, attachment, lambda: report_lost(paths, container.id))
        if not attachment.shown:  # only its input: Docker's way to say which it was
            print(container.id)
        return code
    with About(container.id):
        event = wait_created(channel)
        if event["event"] != "started" and event.get("message"):
            raise_start_error(event)
    print(container.id)
    return 0


def _check_terminal(values: dict[str, Any]) -> tuple[bytes, bool]:
    """(the detach keys, whether there is a terminal where one is needed). SpecError."""
    if not values["tty"] and values["detach_keys"] is None:
        return b"", True
    from docklock.cli.terminal import complain_without_terminal, parse_detach_keys

    keys = parse_detach_keys(values["detach_keys"])
    interactive = values["interactive"] and not values["detach"] and not values["plan"]
    return keys, not complain_without_terminal(interactive=interactive, tty=values["tty"])


def raise_start_error(event: dict[str, Any]) -> None:
    """The supervisor's words as our error, with its exit code."""
    from docklock.errors import StartError

    error = StartError(str(event["message"]))
    error.exit_code = int(event["exit_code"])
    raise error


def build_request(
    paths: Paths, command: Command, values: dict[str, Any], words: list[str]
) -> Request:
    """Check every option against the image; nothing is made. SpecError, StateError."""
    has_more = any(values[option.key] for option in MORE_OPTIONS)
    if has_more:
        from docklock.cli.refine import check_options, refine

        check_options(values)
    container_id = os.urandom(ID_BYTES).hex()
    name = values["name"] or _make_name(container_id)
    check_name(name)
    _check_choices(values)
    image, layers, program = _find_root(paths, command, values, words)
    config = image.config if image is not None else EMPTY
    labels = tuple(parse_label(word) for word in values["label"])
    args = _choose_program(values["entrypoint"], config, program)
    is_host = "host" in (values["network"], values["uts"])
    hostname = values["hostname"] or (os.uname().nodename if is_host else container_id[:12])
    bundle = paths.container(container_id)
    user, home = find_user(layers or (values["rootfs"],), values["user"] or config.user)
    spec = default_spec(
        args=args,
        env=build_env(config.env, values["env"], hostname, home, tty=values["tty"]),
        cwd=values["workdir"] or config.cwd or "/",
        user=user,
        hostname="" if is_host else hostname,
        rootfs=os.path.abspath(values["rootfs"]) if values["rootfs"] else "rootfs",
        cap_add=tuple(values["cap_add"]),
        cap_drop=tuple(values["cap_drop"]),
        network=values["network"] or "none",
        readonly=values["read_only"],
        resources=_build_resources(values),
        mounts=_build_mounts(bundle, values),
        tmpfs=tuple(parse_tmpfs(word) for word in values["tmpfs"]),
        rlimits=tuple(parse_ulimit(word) for word in values["ulimit"]),
        privileged=values["privileged"],
        devices=_list_devices() if values["privileged"] else (),
        no_new_privs=parse_security(values["security_opt"]) and not values["privileged"],
        terminal=values["tty"],
        console_size=_get_size() if values["tty"] else None,
    )
    if not os.path.isabs(spec.process.cwd):
        raise SpecError(f"working directory {spec.process.cwd!r}: must be absolute")
    container = Container(
        id=container_id,
        name=name,
        bundle=bundle,
        image=words[0] if image is not None else "",
        image_id=image.id if image is not None else "",
        created_ns=time.time_ns(),
        command=args,
        layers=layers,
        policy=_choose_policy(paths, values, image, labels),
        sign=values["sign"] or "segment",
        auto_remove=values["rm"],
        stdin_open=values["interactive"],
        tty=values["tty"],
        network=values["network"] or "none",
        stop_signal=_choose_stop_signal(values, config),
        restart=_parse_restart(values),
        health=_choose_health(values, config),
        labels=labels,
    )
    architecture = image.architecture if image is not None else ""
    if has_more:
        roots = layers or (values["rootfs"],)
        container, spec = refine(container, spec, values, roots, architecture)
    return Request(container, spec, values, architecture)


def _build_mounts(bundle: str, values: dict[str, Any]) -> tuple[Mount, ...]:
    """Our files over /etc, then what -v asks for."""
    names = FILES[values["network"] or "none"]
    ours = (
        Mount(f"/etc/{name}", "bind", f"{bundle}/{name}", ("bind", "rprivate")) for name in names
    )
    return (*ours, *(parse_volume(word) for word in values["volume"]))


def _make_name(container_id: str) -> str:
    from docklock.cli.names import generate_name

    return generate_name(container_id)


def _list_devices() -> tuple[Device, ...]:
    from docklock.cli.devices import list_host_devices

    return list_host_devices()


def _get_size() -> tuple[int, int] | None:
    from docklock.cli.terminal import get_size

    return get_size()


def check_policy(paths: Paths, request: Request) -> None:
    """Compile the container's policy. SpecError if that fails or it closes the image's calls."""
    compiled = load_container_policy(paths, request.container, request.spec)
    check_architecture(compiled, request.container.image, request.architecture)


def check_architecture(compiled: Compiled, image: str, architecture: str) -> None:
    """SpecError where the policy closes all calls of an image of that architecture."""
    needed = ARCHITECTURES.get(architecture, "")
    if needed and needed not in compiled.architectures:
        raise SpecError(
            f"image {image} is for {needed}, and policy {compiled.name} closes"
            f" all its calls: write a policy with `extends: {compiled.name}` and"
            f" `architectures: [{needed}]`, and name it with --policy"
        )


def _choose_program(
    entrypoint: str | None, config: ImageConfig, words: tuple[str, ...]
) -> tuple[str, ...]:
    """Docker's rule: --entrypoint also clears the image's command."""
    if entrypoint is not None:
        args = (*((entrypoint,) if entrypoint else ()), *words)
    else:
        args = (*config.entrypoint, *(words or config.cmd))
    if not args:
        raise SpecError("no program to run: the image names none, so give one")
    return args


def _find_root(
    paths: Paths, command: Command, values: dict[str, Any], words: list[str]
) -> tuple[Image | None, tuple[str, ...], tuple[str, ...]]:
    """(image or None, its layers, the program's words)."""
    if values["rootfs"]:
        if not os.path.isdir(values["rootfs"]):
            raise SpecError(f"--rootfs {values['rootfs']}: no such directory")
        return None, (), tuple(words)
    check_count(command, words, 1)
    image = find_image(paths, values, words[0])
    return image, image.layers, tuple(words[1:])


def _check_choices(values: dict[str, Any]) -> None:
    if values["sign"] not in (None, *SIGNS):
        raise SpecError(f"--sign {values['sign']}: give segment or each")
    if values["network"] not in (None, "none", "host"):
        raise SpecError(f"--network {values['network']}: docklock has none and host yet")


def _choose_policy(
    paths: Paths,
    values: dict[str, Any],
    image: Image | None,
    labels: tuple[tuple[str, str], ...],
) -> str:
    """--policy, else observe for --privileged, else what the host's files and the labels say."""
    name = values["policy"] or (POLICY_PRIVILEGED if values["privileged"] else "")
    if name:
        return fix_name(name)
    names = image.references if image is not None else ()
    image_labels = image.config.labels if image is not None else ()
    choice = choose_policy(paths.policies, Subject(names, image_labels, labels))
    if choice.note:
        print(f"docklock: {choice.note}", file=sys.stderr)
    return choice.policy


def _choose_stop_signal(values: dict[str, Any], config: ImageConfig) -> str:
    if values["stop_signal"]:
        from docklock.signals import parse_signal

        parse_signal(values["stop_signal"])
        return str(values["stop_signal"])
    return config.stop_signal or "SIGTERM"


def _parse_restart(values: dict[str, Any]) -> str:
    """The restart policy as the container's record keeps it. SpecError."""
    if values["restart"] is None:
        return "no"
    from docklock.restart import NO, parse_policy

    policy = parse_policy(values["restart"])
    if values["rm"] and policy.name != NO:
        raise SpecError("conflicting options: cannot specify both --restart and --rm")
    return policy.text


def _choose_health(values: dict[str, Any], config: ImageConfig) -> tuple[object, ...]:
    """The health check as the container's record keeps it. SpecError."""
    is_given = values["no_healthcheck"] or any(
        value is not None for name, value in values.items() if name.startswith("health_")
    )
    if not is_given and not config.health:
        return ()
    from docklock.cli.health import choose_check
    from docklock.health import decode_check

    return choose_check(values, decode_check(config.health))


def _build_resources(values: dict[str, Any]) -> Resources:
    if all(values[option.key] is None for option in LIMIT_OPTIONS):
        return Resources()
    from docklock.cli.limits import parse_limits
    from docklock.update import check_limits

    resources = Resources(**parse_limits(values))
    check_limits(resources)
    return resources


def find_user(roots: tuple[str, ...], wanted: str) -> tuple[User, str]:
    """(user, home) by the topmost /etc/passwd of `roots`, directories of the image or the root."""
    from docklock.users import get_home, resolve_user

    with_accounts = [root for root in roots if os.path.lexists(f"{root}/etc/passwd")]
    fd = os.open((*with_accounts, *roots)[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        user = resolve_user(fd, wanted or "0")
        return user, get_home(fd, user.uid)
    finally:
        os.close(fd)


def _make(paths: Paths, request: Request) -> int:
    """make_container, with the files that are bound over /etc, and --cidfile."""
    container, spec, values, _ = request
    files = _build_files(container.network, spec.hostname)
    if values["add_host"] or any(values[key] for key in values if key.startswith("dns")):
        from docklock.cli.host_files import add_names

        files = add_names(files, values, _read_text("/etc/resolv.conf"))
    if values["cidfile"]:
        from docklock.cli.option_files import IdFile

        with IdFile(values["cidfile"], container.id):
            return make_container(paths, container, spec, files=files)
    return make_container(paths, container, spec, files=files)


def _build_files(network: str, hostname: str) -> dict[str, str]:
    """What is bound over /etc, by name."""
    if network == "host":
        return {name: _read_text(f"/etc/{name}") for name in FILES["host"]}
    name = hostname or os.uname().nodename
    hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    return {"hostname": f"{name}\n", "hosts": f"{hosts}127.0.0.1\t{name}\n"}


def _read_text(path: str) -> str:
    """A file of this host; empty if there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _print_plan(request: Request) -> int:
    from docklock.plan import build_plan
    from docklock.supervisor.task import get_overlay, locate_cgroup

    container, spec = request.container, request.spec
    place = locate_cgroup(container.id, spec)
    plan = build_plan(
        spec, container.bundle, overlay=get_overlay(container), cgroup_dirs=place.dirs
    )
    lines = (*(f"make the cgroup {path}" for _, path in place.dirs), *plan.describe())
    for number, line in enumerate(lines, 1):
        print(f"{number:3} {line}")
    return 0
