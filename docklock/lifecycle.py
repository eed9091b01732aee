"""What a container is on disk, which status it has, and how it is found by name or id.

Not here: what happens while it runs (supervisor/), the verbs (runtime.py), mending after a crash
(repair.py).

Files, all below `Paths.state`, written by rename so that a reader sees old or new, never half:
- `live/ID`       lock file; guard and worker share its flock for life: a free one means that both
                  are dead. The guard has a record lock on it besides. It is empty but while a
                  command holds a stopped container.
- `names/NAME`    symbolic link whose text is the container's id; made with O_EXCL semantics.
- `trash/ID`      the directory of a --rm container that has ended, until it is removed.
- `containers/ID/container.json`  what was asked for; `update --restart` alone replaces it.
- `containers/ID/state.json`      status; one writer: the supervisor, or repair once it is dead.

Invariant: `live/ID` exists before anything else of a run does and goes last
(tests/e2e/test_crash.py::test_a_killed_supervisor_is_repaired_by_the_next_command).
"""

from __future__ import annotations

import fcntl
import os
import struct
import time

from chainlite.errors import SpecError, StateError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from docklock.json_text import encode_json, parse_json
from docklock.paths import Paths
from docklock.small_file import read_small

if TYPE_CHECKING:
    from typing import Any

CREATED = "created"
RUNNING = "running"
RESTARTING = "restarting"  # a run has ended, its supervisor waits to begin the next
STOPPED = "stopped"  # the OCI word; Docker's `exited` in listings
PAUSED = "paused"
QUARANTINED = "quarantined"

NAME_LENGTH_MAX = 128
ORPHAN_MAX_S = 5.0
ORPHAN_STEP_S = 0.005
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock: type, whence, start, length, pid
_SIGKILL_BIT = 1 << 8
_HELD = b"held\n"
_MARKS = str.maketrans("", "", "_.-")
PREFIX_LENGTH_MIN = 1


class NoSuchContainer(StateError):
    """No container has that name or id."""


class Container(NamedTuple):
    """What was asked for at create. `command` is the whole argument vector; times are Unix ns."""

    id: str
    name: str
    bundle: str
    image: str = ""
    image_id: str = ""
    created_ns: int = 0
    command: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    policy: str = "default"
    sign: str = "segment"
    auto_remove: bool = False
    stdin_open: bool = False
    tty: bool = False  # its stdio is a terminal
    network: str = "none"
    stop_signal: str = "SIGTERM"
    detached_stdio: bool = True  # False: the container inherits its creator's stdio (OCI)
    labels: tuple[tuple[str, str], ...] = ()
    restart: str = "no"  # docklock.restart.Policy.text
    stop_timeout_s: int = 10  # from the stop signal to SIGKILL; -1: for ever
    health: tuple[object, ...] = ()  # docklock.health.Check, for decode_check
    log: tuple[object, ...] = ()  # docklock.log_settings.LogSettings, for decode_log


class State(NamedTuple):
    """The status of the newest run. `exit_code` is 128+n after signal n.

    `restart_count` and `restart_delay_ms` (the last) are of the restarts since a user's start.
    `cgroup` is where its processes are: (hierarchy's name, directory) each. `is_cut`: its
    supervisor ended as well, so nobody asked its policy. `boot` is the id of the boot in which it
    began, in hex.
    """

    status: str = CREATED
    pid: int = 0
    run: int = -1
    started_ns: int = 0
    finished_ns: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    restart_count: int = 0
    restart_delay_ms: int = 0
    is_stopped_by_user: bool = False
    is_cut: bool = False
    boot: str = ""
    cgroup: tuple[tuple[str, str], ...] = ()
    is_paused: bool = False  # its processes are frozen; it is RUNNING all the same
    policy: str = ""  # digest of the policy that the newest run is under, in hex
    receipts: int = -1  # of the newest run once it has ended, and how many calls its policy
    refused: int = -1  # refused, as its guard has counted; -1: nobody knows
    is_quarantined: bool = False  # frozen and cut off; of a run that has ended: it was to its end

    @property
    def is_frozen(self) -> bool:
        """Whether its processes stand still."""
        return self.is_paused or self.shown == QUARANTINED

    @property
    def shown(self) -> str:
        """The status as people read it: Docker's and runc's `paused` is none of the OCI's."""
        if self.is_quarantined and self.status == RUNNING:
            return QUARANTINED
        return PAUSED if self.is_paused else self.status

    def end(self, exit_code: int, error: str) -> State:
        """The status once no process of the run is left."""
        return self._replace(
            status=STOPPED,
            pid=0,
            cgroup=(),
            finished_ns=time.time_ns(),
            exit_code=exit_code,
            error=error,
            is_paused=False,
        )


def is_name(text: str) -> bool:
    """Whether `text` is [a-zA-Z0-9][a-zA-Z0-9_.-]{0,127} (re takes 4 ms to import)."""
    letters = text.translate(_MARKS)
    return (
        len(text) <= NAME_LENGTH_MAX and text.isascii() and text[:1].isalnum() and letters.isalnum()
    )


def check_name(name: str) -> None:
    """SpecError unless `name` has Docker's form."""
    if not is_name(name):
        raise SpecError(
            f"container name {name!r}: use letters, digits, '_', '.', '-', at most 128, "
            "starting with a letter or digit"
        )


def make_directories(paths: Paths) -> None:
    """Make the state's directories, readable by root alone."""
    ours = (paths.containers, names_dir(paths), live_dir(paths), trash_dir(paths))
    for directory in (paths.state, paths.run, *ours):
        os.makedirs(directory, mode=0o700, exist_ok=True)


def names_dir(paths: Paths) -> str:
    """Where names link to ids."""
    return f"{paths.state}/names"


def trash_dir(paths: Paths) -> str:
    """Where the directories of ended --rm containers wait, under their ids, to be removed."""
    return f"{paths.state}/trash"


def live_dir(paths: Paths) -> str:
    """Where the locks of live runs are."""
    return f"{paths.state}/live"


def socket_path(paths: Paths, container_id: str) -> str:
    """The control socket of a container's supervisor."""
    return f"{paths.run}/{container_id[:32]}.sock"


def acquire_live(paths: Paths, container_id: str, *, is_new: bool = True) -> int:
    """The locked descriptor of `live/ID`; StateError when a supervisor holds it.

    A worker whose guard has died holds it for as long as it kills the container: we wait for that.
    Without `is_new` the marker must be there already: StateError if the run has been mended.
    """
    path = f"{live_dir(paths)}/{container_id}"
    deadline = time.monotonic() + ORPHAN_MAX_S
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            if not is_new:
                raise StateError(f"container {container_id[:12]} has ended") from None
            fd = _make_live(paths, container_id)
            if fd >= 0:
                return fd
            if time.monotonic() >= deadline:
                raise StateError(f"container {container_id[:12]} is being started") from None
            time.sleep(ORPHAN_STEP_S)  # somebody else is making it
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_orphaned, is_busy = not _has_guard(fd), is_held(fd)
            os.close(fd)
            if is_orphaned and time.monotonic() < deadline:
                time.sleep(ORPHAN_STEP_S)
                continue
            why = "is held by another command: try again" if is_busy else "is running"
            raise StateError(f"container {container_id[:12]} {why}") from None
        try:
            status = os.fstat(fd)
            if status.st_ino == os.stat(path).st_ino:
                if is_new and status.st_size:
                    os.ftruncate(fd, 0)  # what a killed command wrote is not the next owner's
                return fd
        except FileNotFoundError:
            pass
        os.close(fd)  # somebody removed the marker between open and lock: again with the new one


def _make_live(paths: Paths, container_id: str) -> int:
    """A new marker, locked before it has its name: repair takes a free one for a dead run's.

    -1 if somebody else was first.
    """
    directory = live_dir(paths)
    fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    ours = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # By a descriptor: without one Python calls link(2), which does not follow the link.
        os.link(str(fd), f"{directory}/{container_id}", src_dir_fd=ours, follow_symlinks=True)
    except FileExistsError:
        os.close(fd)
        return -1
    finally:
        os.close(ours)
    return fd


def hold_stopped(paths: Paths, container_id: str) -> int:
    """As acquire_live, for a command at work on a stopped container: nobody starts or removes it.

    What it writes says that no run dies with the lock (`is_held`). Ended by release_live.
    """
    fd = acquire_live(paths, container_id)
    mark_guard(fd)  # so that others need not wait for us to die
    os.write(fd, _HELD)
    return fd


def is_held(live_fd: int) -> bool:
    """Whether a lock's last owner was a command that held a stopped container."""
    return bool(os.pread(live_fd, len(_HELD), 0))


def mark_guard(live_fd: int) -> None:
    """Say that this process is the guard: a record lock, which ends with it and is not inherited.

    Closing any descriptor of the file in this process ends it, too.
    """
    fcntl.lockf(live_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _find_guard(fd: int) -> int:
    """The process that holds the record lock; -1 in a pid namespace that we do not see, 0 none."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def has_guard(paths: Paths, container_id: str) -> bool:
    """Whether a guard has the container: for who looks often, since it takes no lock, as is_live
    does for a moment. A guard that is dying counts, and so does a command that holds it stopped."""
    try:
        fd = os.open(f"{live_dir(paths)}/{container_id}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return bool(_find_guard(fd))
    finally:
        os.close(fd)


def _has_guard(fd: int) -> bool:
    """Whether a guard holds the record lock, and is not about to die of a SIGKILL."""
    pid = _find_guard(fd)
    if not pid:
        return False
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return pid < 0
    found: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":\t")
        found[name] = value
    pending = int(found[b"SigPnd"], 16) | int(found[b"ShdPnd"], 16)
    return found[b"State"][:1] not in b"ZX" and not pending & _SIGKILL_BIT


def is_live(paths: Paths, container_id: str) -> bool:
    """True while a supervisor holds the container's lock."""
    try:
        fd = os.open(f"{live_dir(paths)}/{container_id}", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def release_live(paths: Paths, container_id: str) -> None:
    """Remove the marker; the caller holds its lock."""
    remove_if_there(f"{live_dir(paths)}/{container_id}")


def remove_if_there(path: str) -> None:
    """Unlink, and no error if it is gone."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def reserve_name(paths: Paths, name: str, container_id: str) -> None:
    """Take `name`; StateError if a container has it."""
    link = f"{names_dir(paths)}/{name}"
    try:
        os.symlink(container_id, link)
        return
    except FileExistsError:
        owner = os.readlink(link)
    if os.path.exists(paths.container(owner)) or is_live(paths, owner):
        raise StateError(
            f'the name "{name}" is in use by container {owner[:12]}; '
            f"remove it (docklock rm {name}) or choose another name"
        )
    os.unlink(link)  # its container is gone: a crash between the two removals
    os.symlink(container_id, link)


def write_json(path: str, value: dict[str, Any]) -> None:
    """Replace `path` by rename. Durability is the evidence store's concern, not this file's."""
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(encode_json(value))
    os.replace(temporary, path)


def write_container(paths: Paths, container: Container) -> None:
    """Write what was asked for."""
    write_json(f"{paths.container(container.id)}/container.json", container._asdict())


def write_state(paths: Paths, container_id: str, state: State) -> None:
    """Write the status; for its one writer."""
    write_json(f"{paths.container(container_id)}/state.json", state._asdict())


def read_container(paths: Paths, container_id: str) -> Container:
    """The record of a full id; StateError when there is none or it is damaged."""
    fields = _read_record(f"{paths.container(container_id)}/container.json", container_id)
    fields["labels"] = tuple((str(k), str(v)) for k, v in fields.get("labels", ()))
    for key in ("command", "layers", "health", "log"):
        fields[key] = tuple(fields.get(key, ()))
    return Container(**fields)


def read_state(paths: Paths, container_id: str) -> State:
    """The status as last written; StateError when there is none or it is damaged."""
    fields = _read_record(f"{paths.container(container_id)}/state.json", container_id)
    fields["cgroup"] = tuple((str(name), str(path)) for name, path in fields.get("cgroup", ()))
    return State(**fields)


def _read_record(path: str, container_id: str) -> dict[str, Any]:
    try:
        fields = parse_json(read_small(path))
    except FileNotFoundError:
        raise NoSuchContainer(f"No such container: {container_id}") from None
    except ValueError as error:
        raise StateError(f"{path}: damaged ({error}); docklock rm -f {container_id[:12]}") from None
    if not isinstance(fields, dict):
        raise StateError(f"{path}: damaged; docklock rm -f {container_id[:12]}")
    return fields


def check_pause(state: State, container_id: str, *, freeze: bool) -> None:
    """StateError, in Docker's words, unless it can be frozen, or thawed, now."""
    if state.shown == QUARANTINED:
        raise StateError(
            f"Container {container_id} is quarantined: docklock quarantine --release lets it go on"
        )
    if freeze and state.status != RUNNING:
        raise StateError(f"Container {container_id} is not running")
    if freeze and state.is_paused:
        raise StateError(f"Container {container_id} is already paused")
    if not freeze and not state.is_paused:
        raise StateError(f"Container {container_id} is not paused")


def check_quarantine(state: State, container_id: str, *, release: bool) -> None:
    """StateError unless it can be quarantined, or released, now."""
    if state.status != RUNNING:
        raise StateError(f"Container {container_id} is not running")
    if state.is_quarantined != release:
        word = "already" if state.is_quarantined else "not"
        raise StateError(f"Container {container_id} is {word} quarantined")


def find_container(paths: Paths, reference: str) -> str:
    """The full id for a name, a full id or a unique prefix; StateError otherwise."""
    if is_name(reference):
        try:
            return os.readlink(f"{names_dir(paths)}/{reference}")
        except OSError:
            pass
    matches = [
        name
        for name in list_containers(paths)
        if len(reference) >= PREFIX_LENGTH_MIN and name.startswith(reference)
    ]
    if len(matches) == 1 or reference in matches:
        return reference if reference in matches else matches[0]
    if matches:
        raise StateError(f"{reference} matches {len(matches)} containers: give more of the id")
    from docklock.nearest import suggest

    hint = suggest(reference, list_names(paths))
    raise NoSuchContainer(f"No such container: {reference}{hint}")


def list_names(paths: Paths) -> list[str]:
    """All containers' names, sorted."""
    try:
        return sorted(os.listdir(names_dir(paths)))
    except OSError:
        return []


def list_containers(paths: Paths) -> list[str]:
    """Full ids of all containers on disk, in no order that means anything."""
    try:
        return os.listdir(paths.containers)
    except FileNotFoundError:
        return []
