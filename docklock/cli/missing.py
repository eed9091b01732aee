"""Why docklock has not an option or a command that Docker has. Loaded once one is asked for.

Not here: options that are refused for their value. Held to Docker's own list by
tests/cli/test_missing.py: an option or a command of Docker's is either there or here.
"""

from __future__ import annotations

_NETWORKS = "docklock has the networks none and host yet: no ports, links or addresses of its own"
_VOLUMES = "docklock has no named volumes yet: bind a path of this host with -v"
_WINDOWS = "it is for Windows containers"
_V1_ONLY = "cgroup v2 has no such setting, and docklock has none that only some hosts keep"
_PROGRAMS = {
    "--cpu-count": _WINDOWS,
    "--cpu-percent": _WINDOWS,
    "--cpu-rt-period": _V1_ONLY,
    "--cpu-rt-runtime": _V1_ONLY,
    "--disable-content-trust": "docklock knows no content trust: images are fetched by digest",
    "--domainname": "docklock sets no NIS domain: give --hostname NAME.DOMAIN",
    "--expose": _NETWORKS,
    "--health-start-interval": "docklock checks at --health-interval from the start on",
    "--io-maxbandwidth": _WINDOWS,
    "--io-maxiops": _WINDOWS,
    "--ip": _NETWORKS,
    "--ip6": _NETWORKS,
    "--isolation": _WINDOWS,
    "--kernel-memory": "Linux has no such limit any more: --memory counts the kernel's, too",
    "--link": _NETWORKS,
    "--link-local-ip": _NETWORKS,
    "--mac-address": _NETWORKS,
    "--memory-swappiness": _V1_ONLY,
    "--net-alias": _NETWORKS,
    "--network-alias": _NETWORKS,
    "--oom-kill-disable": _V1_ONLY,
    "--publish": _NETWORKS,
    "--publish-all": _NETWORKS,
    "--runtime": "docklock is the runtime; Docker can be given docklock-runtime as one",
    "--storage-opt": "docklock's overlay has no quota: system df -v shows what containers take",
    "--use-api-socket": "docklock has no API socket to give yet",
    "--volume-driver": _VOLUMES,
    "--volumes-from": _VOLUMES,
    "-P": _NETWORKS,
    "-p": _NETWORKS,
}
_RM = dict.fromkeys(("-l", "--link"), _NETWORKS)
_UPDATE = {name: _PROGRAMS[name] for name in ("--cpu-rt-period", "--cpu-rt-runtime")} | {
    "--kernel-memory": _PROGRAMS["--kernel-memory"]
}
_ATTACH = "docklock run has it; what was created is followed by docklock start -a"
MISSING = {
    "create": _PROGRAMS | {"--attach": _ATTACH, "-a": _ATTACH},
    "rm": _RM,
    "run": _PROGRAMS,
    "system prune": {"--volumes": "docklock has no volumes yet"},
    "update": _UPDATE,
}

_BUILD = "docklock builds no images: docker build, buildah or kaniko do; pull, load or import them"
_SWARM = "docklock has no swarm"
COMMANDS = {
    "build": _BUILD,
    "builder": _BUILD,
    "buildx": _BUILD,
    "checkpoint": "docklock has no checkpoints: pause a container, or stop and start it",
    "commit": "docklock makes no image of a container: docklock export NAME | docklock import -",
    "compose": "docklock reads no Compose files yet",
    "config": _SWARM,
    "manifest": "docklock pulls by platform out of an index, and makes none",
    "network": "docklock has the networks none and host yet: run --network",
    "node": _SWARM,
    "plugin": "docklock has no plugins",
    "port": _NETWORKS,
    "search": "registries have no common search: ask the registry's own page",
    "secret": _SWARM,
    "service": _SWARM,
    "stack": _SWARM,
    "swarm": _SWARM,
    "trust": "docklock knows no content trust: images are fetched by digest",
    "volume": _VOLUMES,
}


def explain_command(command: str) -> str:
    """Why it is not there; empty for what Docker has not either."""
    return COMMANDS.get(command, "")


def explain(command: str, option: str) -> str:
    """Why it is not there; empty for what Docker has not either."""
    return MISSING.get(command, {}).get(option, "")
