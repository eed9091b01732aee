"""Every option that Docker has is there, or refused with the reason."""

from __future__ import annotations

import pytest

from docklock.cli import main, options
from docklock.cli.containers import KILL, RM, STOP, WAIT
from docklock.cli.cp import CP
from docklock.cli.events import EVENTS
from docklock.cli.exec import EXEC
from docklock.cli.logs import LOGS
from docklock.cli.missing import MISSING, explain, explain_command
from docklock.cli.options import Command, UsageError
from docklock.cli.prune import CONTAINERS, IMAGES
from docklock.cli.restart import RESTART
from docklock.cli.run import CREATE, RUN
from docklock.cli.system import DF, PRUNE
from docklock.cli.update import UPDATE

# docker --help of version 28, without --help.
_LIMITS = """--blkio-weight --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c
 --cpu-shares --cpus --cpuset-cpus --cpuset-mems --kernel-memory -m --memory
 --memory-reservation --memory-swap --pids-limit --restart"""
_CREATE = f"""{_LIMITS} --add-host --annotation -a --attach --blkio-weight-device --cap-add
 --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-count --cpu-percent --device
 --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops
 --disable-content-trust --dns --dns-opt --dns-option --dns-search --domainname --entrypoint -e
 --env --env-file --expose --gpus --group-add --health-cmd --health-interval --health-retries
 --health-start-interval --health-start-period --health-timeout -h --hostname --init -i
 --interactive --io-maxbandwidth --io-maxiops --ip --ip6 --ipc --isolation -l --label --label-file
 --link --link-local-ip --log-driver --log-opt --mac-address --memory-swappiness --mount --name
 --net --net-alias --network --network-alias --no-healthcheck --oom-kill-disable --oom-score-adj
 --pid --platform --privileged -p --publish -P --publish-all --pull -q --quiet --read-only --rm
 --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs -t
 --tty --ulimit --use-api-socket -u --user --userns --uts -v --volume --volume-driver
 --volumes-from -w --workdir"""
DOCKERS = {
    "create": (CREATE, _CREATE),
    "run": (RUN, f"{_CREATE} -d --detach --detach-keys --sig-proxy"),
    "exec": (
        EXEC,
        "-d --detach --detach-keys -e --env --env-file -i --interactive --privileged -t --tty -u"
        " --user -w --workdir",
    ),
    "kill": (KILL, "-s --signal"),
    "stop": (STOP, "-s --signal -t --timeout --time"),
    "restart": (RESTART, "-s --signal -t --timeout --time"),
    "wait": (WAIT, ""),
    "cp": (CP, "-a --archive -L --follow-link -q --quiet"),
    "rm": (RM, "-f --force -l --link -v --volumes"),
    "logs": (
        LOGS,
        "--details -f --follow --since -n --tail -t --timestamps --until",
    ),
    "update": (UPDATE, _LIMITS),
    "events": (EVENTS, "-f --filter --format --since --until"),
    "system df": (DF, "--format -v --verbose"),
    "system prune": (PRUNE, "-a --all --filter -f --force --volumes"),
    "container prune": (CONTAINERS, "--filter -f --force"),
    "image prune": (IMAGES, "-a --all --filter -f --force"),
}


def list_names(command: Command) -> set[str]:
    return {name for option in command.options for name in option.names}


@pytest.mark.parametrize("name", DOCKERS)
def test_every_option_of_dockers_is_there_or_refused_with_a_reason(name: str) -> None:
    command, text = DOCKERS[name]
    lacking = set(text.split()) - list_names(command)
    assert lacking == set(MISSING.get(name, {}))
    for option in lacking:
        with pytest.raises(UsageError, match=rf"^docklock {name}: {option}: \w+"):
            options.parse(command, [option, "x"])


def test_what_docker_has_not_either_is_unknown() -> None:
    assert explain("run", "--nmae") == ""
    with pytest.raises(UsageError, match="unknown option --nmae, did you mean --name"):
        options.parse(RUN, ["--nmae", "x"])


# docker --help of version 28, with its plugins.
_COMMANDS = """attach build builder buildx checkpoint commit compose config container context cp
 create diff events exec export history image images import info inspect kill load
 login logout logs manifest network node pause plugin port ps pull push rename
 restart rm rmi run save search secret service stack start stats stop swarm system
 tag top trust unpause update version volume wait"""


@pytest.mark.parametrize("command", _COMMANDS.split())
def test_a_command_of_dockers_is_there_or_refused_with_the_reason(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    is_there = command in main.NOUNS or any(name.split()[0] == command for name in main.COMMANDS)
    assert is_there is (explain_command(command) == "")
    if not is_there:
        assert main.run([command, "x"]) == 2
        assert f"docklock: {command}: {explain_command(command)}" in capsys.readouterr().err
