"""`docklock info` and `docklock version`: what this host offers, and what it lacks."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from docklock import __version__
from docklock.cli import options
from docklock.cli.options import Command, check_count, text
from docklock.lifecycle import RUNNING, is_live, list_containers
from docklock.paths import Paths

if TYPE_CHECKING:
    from docklock.outbox.status import ServerStatus

FORMAT = text("-f", "--format", help="json, or a Go template", metavar="FORMAT")
INFO = Command(
    "info",
    "[OPTIONS]",
    "Show what this host's kernel offers and lacks.",
    (FORMAT,),
    examples=(
        "docklock info",
        "docklock info --format json",
        "docklock info --format '{{.ServerVersion}} {{.OSType}} {{.NCPU}}'",
    ),
)
VERSION = Command(
    "version",
    "[OPTIONS]",
    "Show the version.",
    (FORMAT,),
    examples=("docklock version", "docklock version --format '{{.Server.Version}}'"),
)
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # Go's words
SYNC_WAKE_UP_KERNEL = (6, 6)
WAIT_KILLABLE_KERNEL = (5, 19)


def run_version(argv: list[str], _paths: Paths) -> int:
    """`docklock version`."""
    values, words = options.parse(VERSION, argv)
    check_count(VERSION, words, 0, 0)
    if values["format"]:
        show(get_version(), values["format"])
    else:
        print(f"docklock {__version__}")
    return 0


def run_info(argv: list[str], paths: Paths) -> int:
    """`docklock info`, for the eye or as JSON."""
    values, words = options.parse(INFO, argv)
    check_count(INFO, words, 0, 0)
    facts = get_facts(paths)
    if values["format"]:
        show(facts | get_docker_facts(paths, facts), values["format"])
    else:
        for name, value in facts.items():
            shown = ", ".join(value) or "none" if isinstance(value, list) else value
            print(f"{name.replace('_', ' ')}: {shown}")
    return 0


def get_version() -> dict[str, object]:
    """Docker's document. There is no daemon, so that both sides are this program."""
    system = os.uname()
    side = {
        "Version": __version__,
        "Os": system.sysname.lower(),
        "Arch": ARCHITECTURES.get(system.machine, system.machine),
        "KernelVersion": system.release,
    }
    return {"Client": side, "Server": side}


def show(document: dict[str, object], form: str) -> None:
    """Print a document as JSON, or as a template says."""
    if form == "json":
        print(json.dumps(document))
        return
    from docklock.cli.template import render
    from docklock.cli.template_parse import parse_template

    print(render(parse_template(form), document))


def get_facts(paths: Paths) -> dict[str, object]:
    """What info prints, by name."""
    from docklock.agent.lock import find_agent
    from docklock.cgroup.hierarchy import detect_hierarchies
    from docklock.image.store import ImageStore

    containers, agent = list_containers(paths), find_agent(paths)
    release = os.uname().release
    return {
        "version": __version__,
        "root": paths.state,
        "containers": len(containers),
        "running": sum(is_live(paths, one) for one in containers),
        "images": len({one.image_id for one in ImageStore(paths).list_entries()}),
        "agent": f"process {agent}" if agent else "none",
        "host_key": get_host_key(paths),
        "chain": get_chain(paths),
        "servers": get_servers(paths),
        "kernel": release,
        "architecture": os.uname().machine,
        "cgroup": [f"v{one.version}: {one.name}" for one in detect_hierarchies()],
        "lacking": get_lacking(parse_release(release)),
    }


def get_docker_facts(paths: Paths, facts: dict[str, object]) -> dict[str, object]:
    """What scripts ask Docker for, by Docker's names, as far as it means anything here."""
    import platform

    from docklock.cli.ps import read_rows

    system, statuses = os.uname(), [row.state for row in read_rows(paths)]
    running = sum(one.status == RUNNING for one in statuses)
    paused = sum(one.is_paused for one in statuses)
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:  # there is no such file
        name = ""
    return {
        "Containers": len(statuses),
        "ContainersRunning": running - paused,
        "ContainersPaused": paused,
        "ContainersStopped": len(statuses) - running,
        "Images": facts["images"],
        "ServerVersion": __version__,
        "Driver": "overlay2",
        "CgroupVersion": "1" if "v1" in str(facts["cgroup"]) else "2",
        "KernelVersion": system.release,
        "OperatingSystem": name,
        "OSType": system.sysname.lower(),
        "Architecture": system.machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "DockerRootDir": paths.state,
        "Name": system.nodename,
    }


def get_host_key(paths: Paths) -> str:
    """The host key's fingerprint; a host without one is no error here."""
    from docklock.evidence.keyring import get_fingerprint, has_host_key

    if not has_host_key(paths):
        return "none yet (docklock keys init, or the first run)"
    return get_fingerprint(paths)


def get_chain(paths: Paths) -> str:
    """The chain of this host's own node, and its process; a host without one is no error."""
    from chainlite.errors import DocklockError
    from docklock.chain.directory import find_process, get_directory, read_chain

    directory = get_directory(paths, None)
    if not os.path.exists(directory.genesis):
        return "none"
    try:
        chain = read_chain(directory)
    except DocklockError as error:
        return str(error)
    pid = find_process(directory)
    return f"{chain.genesis.name} ({chain.short_id}), {f'process {pid}' if pid else 'not running'}"


def get_servers(paths: Paths) -> list[str]:
    """How far each server is; a host without one is no error."""
    from chainlite.errors import DocklockError
    from docklock.outbox.status import find_servers, read_status

    try:
        found = read_status(paths, find_servers(paths))
    except (DocklockError, OSError) as error:
        return [str(error)]
    return [describe_server(one) for one in found]


def describe_server(one: ServerStatus) -> str:
    """How far a server is, how much it lacks, and what it says is wrong."""
    from docklock.outbox.sent import STATES

    text = f"{one.server.name}: {one.standing.size} of {one.size} leaves acknowledged"
    if one.lag.leaves:
        text += f", {one.lag.size_bytes:,} bytes and {one.lag.age_s:.0f} s behind"
    if one.standing.state:
        text += f", {STATES[one.standing.state]}"
    if one.alerts:
        text += f", alerts: {len(one.alerts)}, the last: {one.alerts[-1].kind}"
    return text


def parse_release(release: str) -> tuple[int, int]:
    """(major, minor) of a kernel release."""
    major, minor = release.split("-")[0].split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def get_lacking(kernel: tuple[int, int]) -> list[str]:
    """What the gate would use and this kernel has not."""
    lacking = []
    if kernel < SYNC_WAKE_UP_KERNEL:
        lacking.append("SYNC_WAKE_UP (Linux 6.6): a gated call costs several times more")
    if kernel < WAIT_KILLABLE_KERNEL:
        lacking.append("WAIT_KILLABLE_RECV (Linux 5.19): signals may double receipts")
    return lacking
