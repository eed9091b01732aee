"""The guard's process: it leaves its creator, and runs one container, again if the policy says so.

Not here: one run (main.py), the waiting between two (restarting.py), who forks it (launch.py).
"""

from __future__ import annotations

import os

from chainlite.errors import DocklockError
from chainlite.lean import TYPE_CHECKING
from docklock.bare import socket
from docklock.kernel.title import set_title
from docklock.lifecycle import RESTARTING, State, mark_guard, release_live
from docklock.supervisor.apart import detach
from docklock.supervisor.leaving import Leaving
from docklock.supervisor.main import EXIT_RUNTIME_ERROR, Supervisor
from docklock.supervisor.scope import ask_for_scope
from docklock.supervisor.task import Task, read_task
from docklock.supervisor.wire import send_message
from docklock.supervisor.worker import Worker, write_traceback

if TYPE_CHECKING:
    from docklock.paths import Paths
    from docklock.supervisor.control import Control


def get_start_exit_code(error: DocklockError) -> int:
    """126 or 127 when the program is at fault, else 125."""
    return max(error.exit_code, EXIT_RUNTIME_ERROR)


def record_refusal(paths: Paths, container_id: str, error: Exception) -> None:
    """Say in the host's log that no run began; its front end tells the user."""
    from docklock.evidence.denials import record_denial

    record_denial(paths, "start", error, EXIT_RUNTIME_ERROR, container_id)


def run_supervisor(
    paths: Paths,
    container_id: str,
    *,
    run: int,
    is_started_at_once: bool,
    channel: socket.socket,
    live_fd: int,
    worker: Worker,
) -> None:
    """The whole life of a guard process; the caller exits after it. `worker` waits for its run."""
    mark_guard(live_fd)
    set_title(f"docklock guard {container_id[:12]}")
    try:
        task = read_task(
            paths,
            container_id,
            run,
            is_started_at_once=is_started_at_once,
            channel=channel,
            live_fd=live_fd,
        )
    except (DocklockError, OSError) as error:
        record_refusal(paths, container_id, error)
        release_live(paths, container_id)
        event = {"event": "error", "message": str(error), "exit_code": EXIT_RUNTIME_ERROR}
        send_message(channel, event)
        return
    detach(keep_stdio=not task.container.detached_stdio)
    scope = ask_for_scope(container_id, (os.getpid(), worker.pid))
    task = task._replace(leaving=Leaving(), scope=scope, worker=worker)
    ended, control = task.previous, None
    if ended.status != RESTARTING:
        ended, control = run_once(task)
        task = task._replace(run=run + 1, previous=ended, worker=None)
    if ended.status == RESTARTING:
        from docklock.supervisor.restarting import keep_running

        keep_running(task, control, run_once)


def run_once(task: Task, control: Control | None = None) -> tuple[State, Control | None]:
    """One run from create to its end: the status that it leaves, and its control socket."""
    supervisor = Supervisor(task, control)
    try:
        supervisor.create()
        supervisor.serve()
    except DocklockError as error:
        if not supervisor.is_on_record:
            record_refusal(task.paths, task.container.id, error)
        ended = supervisor.finish(str(error), get_start_exit_code(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the container must not go on
        write_traceback(f"{task.paths.container(task.container.id)}/supervisor.log")
        ended = supervisor.finish(f"docklock failed, and the container was killed: {error!r}")
    else:
        ended = supervisor.finish()
    return ended, supervisor.control
