"""Runs one container by docklock's kernel layer, in a process of its own, and prints what happened.

pytest's workers have threads and must not clone; this program has none. The argument is JSON:
bundle, name, and what to do. It prints one JSON object a line: first what the program wrote.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import select
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from chainlite.errors import DocklockError
from docklock import enter
from docklock.cgroup import driver
from docklock.kernel import seccomp
from docklock.kernel.numbers import get_number
from docklock.plan import Overlay, Plan, build_plan
from docklock.spec import parse_spec


class FailingStep(NamedTuple):
    """A step that fails, as any of them may."""

    def describe(self) -> str:
        return "fail on purpose"

    def execute(self, root: object) -> None:
        del root
        raise OSError(5, "on purpose")


def make_program(numbers: list[int]) -> bytes:
    """Traps `numbers`, allows the rest."""
    code = struct.pack("<HBBI", 0x20, 0, 0, 0)
    for number in numbers:
        code += struct.pack("<HBBI", 0x15, 0, 1, number) + struct.pack("<HBBI", 6, 0, 0, 0x7FC00000)
    return code + struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000)


def serve(listener: int, pidfd: int) -> list[int]:
    """Let every trapped call continue until the process ends; returns their numbers."""
    poll, seen = select.poll(), []
    poll.register(listener, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    while pidfd not in [fd for fd, _ in poll.poll()]:
        data = bytearray(seccomp.NOTIF_SIZE_BYTES)
        try:
            fcntl.ioctl(listener, seccomp.NOTIF_RECV, data)
        except FileNotFoundError:
            continue
        notification = seccomp.NOTIF.unpack(data)
        seen.append(notification[3])
        answer = seccomp.NOTIF_RESP.pack(notification[0], 0, 0, seccomp.USER_NOTIF_FLAG_CONTINUE)
        fcntl.ioctl(listener, seccomp.NOTIF_SEND, answer)
    os.close(listener)
    return seen


def finish(init: enter.Init) -> dict[str, Any]:
    warnings = enter.await_ready(init)
    listener = enter.start(init)
    seen = serve(listener, init.pidfd) if listener is not None else []
    error = enter.parse_child_error(os.read(init.error_fd, 65536))
    result = os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
    assert result is not None
    init.close()
    os.close(init.pidfd)
    return {
        "status": result.si_status,
        "killed": result.si_code != os.CLD_EXITED,
        "seen": seen,
        "warnings": list(warnings),
        **(describe(error) if error else {}),
    }


def finish_plan(start: Callable[[Plan], enter.Init], plan: Plan) -> dict[str, Any]:
    return finish(start(plan))


def describe(error: DocklockError) -> dict[str, Any]:
    return {"error": str(error), "kind": type(error).__name__, "exit_code": error.exit_code}


def attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return work()
    except DocklockError as error:
        return describe(error)


def run(job: dict[str, Any]) -> None:
    with open(f"{job['bundle']}/config.json", "rb") as file:
        spec = parse_spec(file.read(), "config.json")
    # A descriptor that would survive execve: the container must not get it.
    fcntl.fcntl(os.open("/", os.O_RDONLY), fcntl.F_DUPFD, 50)
    cgroup = driver.locate_for(job["name"], spec.linux.resources)
    driver.create(cgroup, spec.linux.resources)
    overlay = Overlay(tuple(job["lowers"]), job["upper"], job["work"]) if job["lowers"] else None
    plan = build_plan(spec, job["bundle"], overlay=overlay, cgroup_dirs=cgroup.dirs)
    is_trapped = job["trap"] and job["mode"] != "join"
    program = make_program([get_number(name) for name in job["trap"]]) if is_trapped else None
    flags = seccomp.get_listener_flags()

    def start(chosen: Plan) -> enter.Init:
        return enter.spawn(
            chosen,
            cgroup=cgroup,
            stdio=(0, 1, 2),
            program=program,
            seccomp_flags=flags,
            user=job["user"],
        )

    try:
        if job["mode"] == "fail-each":
            for index in range(len(plan.steps) + 1):
                steps = (*plan.steps[:index], FailingStep(), *plan.steps[index:])
                chosen = Plan(spec, steps)
                print(json.dumps(attempt(functools.partial(finish_plan, start, chosen))))
        elif job["mode"] == "hang":
            init = start(plan)
            enter.await_ready(init)
            if job["started"]:
                enter.start(init)
            print(json.dumps({"pid": init.pid}), flush=True)
            time.sleep(60)
        elif job["mode"] == "join":
            join(job, start(plan), spec, cgroup)
        else:
            print(json.dumps(attempt(lambda: finish(start(plan)))), flush=True)
            print(json.dumps({"usage": cgroup.stat()._asdict()}))
    finally:
        cgroup.kill()
        cgroup.delete()


def join(job: dict[str, Any], init: enter.Init, spec: Any, cgroup: driver.Cgroup) -> None:
    enter.start(init)
    enter.parse_child_error(os.read(init.error_fd, 4096))
    process = spec.process._replace(args=tuple(job["join"]))
    program = make_program([get_number(name) for name in job["trap"]]) if job["trap"] else None

    def more() -> dict[str, Any]:
        return finish(
            enter.join(init.pidfd, process, cgroup=cgroup, program=program, user=job["user"])
        )

    print(json.dumps(attempt(more)), flush=True)
    enter.abort(init)


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
