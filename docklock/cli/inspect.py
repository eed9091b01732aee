"""`docklock inspect`: containers and images as JSON, by Docker's names."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from chainlite.errors import StateError
from docklock.cli import options
from docklock.cli.health import read_health
from docklock.cli.options import Command, check_count, text
from docklock.lifecycle import (
    RESTARTING,
    RUNNING,
    STOPPED,
    Container,
    State,
    find_container,
    read_container,
)
from docklock.log_settings import JSON_FILE, decode_log
from docklock.paths import Paths
from docklock.restart import parse_policy
from docklock.runtime import CONFIG, get_state
from docklock.supervisor.logfile import format_time

INSPECT = Command(
    "inspect",
    "[OPTIONS] NAME|ID...",
    "Show all about containers or images as JSON.",
    (
        text(
            "-f",
            "--format",
            help="a Go template such as {{.State.Status}}; or json",
            metavar="FORMAT",
        ),
        text("--type", help="container or image", metavar="TYPE"),
    ),
    examples=(
        "docklock inspect web",
        "docklock inspect --format '{{.State.Status}}' web",
    ),
)
_RATES = ("ReadBps", "ReadIOPS", "WriteBps", "WriteIOPS")
NEVER = "0001-01-01T00:00:00Z"


def run_inspect(argv: list[str], paths: Paths) -> int:
    """`docklock inspect`: 1 if any name is unknown; the others are still printed."""
    values, words = options.parse(INSPECT, argv)
    check_count(INSPECT, words, 1)
    found, code = [], 0
    for word in words:
        try:
            found.append(describe(paths, word, values["type"]))
        except StateError as error:
            print(f"docklock: {error}", file=sys.stderr)
            code = 1
    if values["format"] in (None, "json"):
        print(json.dumps(found, indent=4 if values["format"] is None else None))
    else:
        from docklock.cli.template import render
        from docklock.cli.template_parse import parse_template

        nodes = parse_template(values["format"])
        for value in found:
            print(render(nodes, fill_optional(value)))
    return code


def fill_optional(value: dict[str, Any]) -> dict[str, Any]:
    """With what Docker's document leaves out when it is empty, so that {{if}} can ask for it."""
    for key, optional in (("State", "Health"), ("Config", "Healthcheck")):
        if key in value:
            value = value | {key: {optional: None} | value[key]}
    return value


def describe(paths: Paths, word: str, kind: str | None) -> dict[str, Any]:
    """The container, or else the image, called `word`."""
    if kind != "image":
        try:
            container_id = find_container(paths, word)
            container = read_container(paths, container_id)
            return describe_container(container, get_state(paths, container_id))
        except StateError:
            if kind == "container":
                raise
    try:
        return describe_image(paths, word)
    except StateError:
        if kind == "image":
            raise
        raise StateError(f"No such object: {word}{_suggest(paths, word)}") from None


def _suggest(paths: Paths, word: str) -> str:
    """The nearest of containers' and images' names."""
    from docklock.image.store import ImageStore, suggest_name
    from docklock.lifecycle import list_names
    from docklock.nearest import suggest

    return suggest(word, list_names(paths)) or suggest_name(word, ImageStore(paths).list_entries())


def describe_image(paths: Paths, word: str) -> dict[str, Any]:
    """Docker's document for an image. StateError if there is none."""
    from docklock.image.reference import get_familiar_name, split_full
    from docklock.image.store import ImageStore

    store = ImageStore(paths)
    image = store.resolve(word)
    document = store.read_document(image.id)
    config = image.config
    repositories = dict.fromkeys(split_full(name)[0] for name in image.references)
    return {
        "Id": image.id,
        "RepoTags": [get_familiar_name(name) for name in image.references if "@" not in name],
        "RepoDigests": [f"{get_familiar_name(name)}@{image.digest}" for name in repositories],
        "Created": image.created,
        "Author": document.get("author").as_str(""),
        "Architecture": image.architecture,
        "Os": "linux",
        "Size": image.size_bytes,
        "Config": {
            "Entrypoint": list(config.entrypoint),
            "Cmd": list(config.cmd),
            "Env": list(config.env),
            "ExposedPorts": {port: {} for port in config.exposed},
            "Labels": dict(config.labels),
            "StopSignal": config.stop_signal,
            "User": config.user,
            "Volumes": {path: {} for path in config.volumes},
            "WorkingDir": config.cwd,
        },
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
    }


def describe_container(container: Container, state: State) -> dict[str, Any]:
    """Docker's document for a container, with docklock's own under `Docklock`."""
    spec = read_config(container)
    process = spec["process"]
    policy, log = parse_policy(container.restart), decode_log(container.log)
    return {
        "Id": container.id,
        "Created": format_time(container.created_ns),
        "Path": container.command[0] if container.command else "",
        "Args": list(container.command[1:]),
        "State": describe_status(state) | describe_health(container),
        "Image": container.image_id,
        "Name": f"/{container.name}",
        "RestartCount": state.restart_count,
        "LogPath": f"{container.bundle}/container.log" if log.driver == JSON_FILE else "",
        "HostConfig": {
            "NetworkMode": container.network,
            "LogConfig": {"Type": log.driver, "Config": dict(log.options)},
            "RestartPolicy": {"Name": policy.name, "MaximumRetryCount": policy.retries_max},
            "AutoRemove": container.auto_remove,
            "Privileged": is_privileged(spec.get("linux", {})),
            "ReadonlyRootfs": spec["root"].get("readonly", False),
            **describe_limits(spec.get("linux", {}).get("resources", {})),
            **describe_more(spec),
        },
        "Config": {
            "Hostname": spec.get("hostname", ""),
            "Env": process.get("env", []),
            "Cmd": list(container.command),
            "Image": container.image,
            "WorkingDir": process["cwd"],
            "User": str(process["user"]["uid"]),
            "Labels": dict(container.labels),
            "OpenStdin": container.stdin_open,
            "Tty": container.tty,
            "StopSignal": container.stop_signal,
            "StopTimeout": container.stop_timeout_s,
            **describe_check(container),
        },
        "Mounts": [
            {
                "Type": "bind",
                "Source": mount["source"],
                "Destination": mount["destination"],
                "RW": "ro" not in mount.get("options", []),
            }
            for mount in spec.get("mounts", [])
            if mount.get("type") == "bind"
            and not mount["source"].startswith(f"{container.bundle}/")
        ],
        "Docklock": {
            "Policy": container.policy,
            "Sign": container.sign,
            "Run": state.run,
            "OciSpec": spec,
        },
    }


def is_privileged(linux: dict[str, Any]) -> bool:
    """Whether it may use every device and sees all of /proc, as --privileged gives."""
    rules = linux.get("resources", {}).get("devices", [])
    is_all = any(rule["allow"] and rule.get("type") == "a" for rule in rules)
    return is_all and not linux.get("maskedPaths") and not linux.get("readonlyPaths")


def describe_more(spec: dict[str, Any]) -> dict[str, Any]:
    """What the rarer options have set, by Docker's names."""
    process, linux = spec["process"], spec.get("linux", {})
    kinds = {namespace["type"] for namespace in linux.get("namespaces", [])}
    shm = [mount for mount in spec.get("mounts", []) if mount["destination"] == "/dev/shm"]
    sizes = [
        int(option[5:])
        for mount in shm
        for option in mount.get("options", [])
        if option.startswith("size=") and option[5:].isdigit()
    ]
    return {
        "GroupAdd": [str(number) for number in process["user"].get("additionalGids", [])],
        "OomScoreAdj": process.get("oomScoreAdj", 0),
        "ShmSize": sizes[0] if sizes else 0,
        "Sysctls": linux.get("sysctl", {}),
        "Annotations": spec.get("annotations", {}),
        "CgroupParent": os.path.dirname(linux.get("cgroupsPath", "")),
        "CgroupnsMode": "private" if "cgroup" in kinds else "host",
        "IpcMode": ("private" if shm else "none") if "ipc" in kinds else "host",
        "UTSMode": "" if "uts" in kinds else "host",
        "Init": process["args"][0] == "/sbin/docker-init",
    }


def describe_limits(resources: dict[str, Any]) -> dict[str, Any]:
    """Docker's names for them; 0 or an empty text is no limit."""
    memory, cpu = resources.get("memory", {}), resources.get("cpu", {})
    return {
        "Memory": memory.get("limit", 0),
        "MemoryReservation": memory.get("reservation", 0),
        "MemorySwap": memory.get("swap", 0),
        "CpuShares": cpu.get("shares", 0),
        # However it was said: what --cpus sets is a quota in a period, and no more is on record.
        "NanoCpus": max(0, cpu.get("quota", 0)) * 10**9 // (cpu.get("period", 0) or 100_000),
        "CpuQuota": cpu.get("quota", 0),
        "CpuPeriod": cpu.get("period", 0),
        "CpusetCpus": cpu.get("cpus", ""),
        "CpusetMems": cpu.get("mems", ""),
        "PidsLimit": resources.get("pids", {}).get("limit", 0),
        **describe_block_io(resources.get("blockIO", {})),
    }


def describe_block_io(section: dict[str, Any]) -> dict[str, Any]:
    """Docker's names for it; a device by its number, for that is what is limited."""
    found: dict[str, Any] = {"BlkioWeight": section.get("weight", 0)}
    for name, ours, field in (
        ("BlkioWeightDevice", "weightDevice", "Weight"),
        *((f"BlkioDevice{name}", f"throttle{name}Device", "Rate") for name in _RATES),
    ):
        found[name] = [
            {"Path": f"/dev/block/{one['major']}:{one['minor']}", field: one[field.lower()]}
            for one in section.get(ours, [])
        ]
    return found


def describe_status(state: State) -> dict[str, Any]:
    """Docker's `State`."""
    return {
        "Status": "exited" if state.status == STOPPED else state.shown,
        "Running": state.status in (RUNNING, RESTARTING),
        "Paused": state.is_frozen,
        "Restarting": state.status == RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": False,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": format_time(state.started_ns) if state.started_ns else NEVER,
        "FinishedAt": format_time(state.finished_ns) if state.finished_ns else NEVER,
    }


def describe_health(container: Container) -> dict[str, Any]:
    """Docker's `Health` of a container with a check."""
    health = read_health(container)
    if health is None:
        return {}
    log = [
        {
            "Start": format_time(one.began_ns),
            "End": format_time(one.ended_ns),
            "ExitCode": one.exit_code,
            "Output": one.output,
        }
        for one in health.results
    ]
    streak = health.failing_streak
    return {"Health": {"Status": health.status, "FailingStreak": streak, "Log": log}}


def describe_check(container: Container) -> dict[str, Any]:
    """Docker's `Healthcheck`, if there is one."""
    if not container.health:
        return {}
    from docklock.health import decode_check, encode_image_check

    return {"Healthcheck": encode_image_check(decode_check(container.health))}


def read_config(container: Container) -> dict[str, Any]:
    """The bundle's config.json as it stands."""
    with open(f"{container.bundle}/{CONFIG}", encoding="utf-8") as file:
        value = json.load(file)
    assert isinstance(value, dict)
    return value
