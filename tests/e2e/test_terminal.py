"""Terminals: run, create and start, exec and attach with -t, as a user at a real one sees them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from docklock.cli.terminal import DetachKeys, parse_detach_keys
from tests.e2e.conftest import Docklock
from tests.e2e.test_oci import SPEC, make_busybox_tree, runtime

LIMIT_S = 15.0
# The terminal's session must outlive docklock: its settings are looked at afterwards.
SESSION = 'trap : INT; "$@"; echo "left with $?."; exec sleep 1000'


class Screen:
    """A user at a terminal, in whose shell one docklock command runs."""

    def __init__(self, dock: Docklock, *words: str, size: tuple[int, int] = (24, 80)) -> None:
        self.master, self.slave = os.openpty()
        self.resize(*size)
        self.settings = termios.tcgetattr(self.slave)
        self.seen = ""
        self.shell = subprocess.Popen(
            ["setsid", "--ctty", "sh", "-c", SESSION, "sh", *dock.argv(*words)],
            env=dock.environment,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
        )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read_until(self, pattern: str) -> re.Match[str]:
        """What the screen shows up to `pattern` is done with; its match."""
        deadline = time.monotonic() + LIMIT_S
        while not (found := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65536).decode()
        self.seen = self.seen[found.end() :]
        return found

    def read_exit_code(self) -> int:
        return int(self.read_until(r"left with (\d+)\.").group(1))

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def is_restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.settings

    def front_end_pid(self) -> int:
        pid = self.shell.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def close(self) -> None:
        self.shell.kill()
        self.shell.wait()
        os.close(self.master)
        os.close(self.slave)


@contextlib.contextmanager
def at(dock: Docklock, *words: str, size: tuple[int, int] = (24, 80)) -> Iterator[Screen]:
    screen = Screen(dock, *words, size=size)
    try:
        yield screen
    finally:
        screen.close()


@pytest.fixture(params=["run", "start", "exec"])
def shell(request: pytest.FixtureRequest, dock: Docklock) -> Iterator[tuple[str, Screen, str]]:
    """(how, a screen with a busybox shell that waits at its prompt, its container)."""
    how, name = request.param, f"term-{request.param}-{time.monotonic_ns()}"
    words = ("-it", "--name", name, "busybox", "sh")
    if how == "run":
        words = ("run", *words)
    elif how == "start":
        dock("create", *words)
        words = ("start", "-ai", name)
    else:
        dock("run", "-d", "--name", name, "busybox", "sleep", "1000")
        words = ("exec", "-it", name, "sh")
    with at(dock, *words) as screen:
        screen.read_until("# ")
        yield how, screen, name
    dock("rm", "-f", name)


def test_a_program_has_a_terminal_of_the_callers_size(
    dock: Docklock, shell: tuple[str, Screen, str]
) -> None:
    how, screen, _ = shell
    screen.type("tty; stty size; test -t 2 && echo yes-$TERM; echo x > /dev/tty\n")
    screen.read_until(r"/dev/pts/\d+\s+24 80\s+yes-xterm\s+x")
    if how != "exec":
        screen.type("echo on the console > /dev/console; ls -l /dev/console\n")
        screen.read_until(r"\s+on the console\s+crw--w---- +1 root +5 ")


def test_a_resize_reaches_the_program(shell: tuple[str, Screen, str]) -> None:
    _, screen, _ = shell
    screen.resize(33, 101)
    deadline = time.monotonic() + LIMIT_S
    while True:
        screen.type("stty size; echo done\n")
        if screen.read_until(r"(\d+ \d+)\s+done").group(1) == "33 101":
            return
        assert time.monotonic() < deadline


def has_terminal(command: bytes) -> bool:
    """Whether a process of this command line is its terminal's foreground job."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes() == command:
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                return fields[2] == fields[5]  # its process group, and the terminal's
        except OSError:
            continue
    return False


def test_ctrl_c_interrupts_the_program_and_not_docklock(shell: tuple[str, Screen, str]) -> None:
    _, screen, _ = shell
    screen.type("sleep 1003\n")
    deadline = time.monotonic() + LIMIT_S
    while not has_terminal(b"sleep\x001003\x00"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    screen.type("\x03")
    screen.read_until("# ")
    screen.type("echo code $?; exit 7\n")
    screen.read_until("code 130")
    assert screen.read_exit_code() == 7
    assert screen.is_restored()


def test_the_detach_keys_leave_the_program_running(
    dock: Docklock, shell: tuple[str, Screen, str]
) -> None:
    how, screen, name = shell
    assert screen.is_raw()
    screen.type("sleep 77.5\n")
    screen.read_until("sleep 77.5")
    screen.type("\x10\x11")
    screen.read_until("read escape sequence")
    assert screen.read_exit_code() == 0
    assert screen.is_restored()
    dock.wait_for(lambda: "sleep 77.5" in dock("exec", name, "ps").stdout)
    if how != "exec":
        with at(dock, "attach", name) as again:
            dock.wait_for(again.is_raw)
            again.type("\x03")
            again.read_until("# ")
            again.type("exit 9\n")
            assert again.read_exit_code() == 9
            assert again.is_restored()
        assert "attach" in dock("receipts", "--host", "--json").stdout


def test_other_detach_keys_and_keys_that_only_begin_like_them(dock: Docklock) -> None:
    words = ("run", "--rm", "-it", "--name", "keys", "--detach-keys", "ctrl-a,x", "busybox", "cat")
    with at(dock, *words) as screen:
        dock.wait_for(screen.is_raw)
        screen.type("ab\x01y\n")
        screen.read_until(r"ab(\^A|\x01)y\s+ab\x01y")
        screen.type("\x01x")
        assert screen.read_exit_code() == 0
    assert "keys" in dock("ps").stdout
    dock("rm", "-f", "keys")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_killed_front_end_restores_the_terminal_and_the_program_goes_on(
    dock: Docklock, shell: tuple[str, Screen, str], number: int
) -> None:
    how, screen, name = shell
    os.kill(screen.front_end_pid(), number)
    assert screen.read_exit_code() == 128 + number
    assert screen.is_restored()
    assert dock("ps", "-q", "--no-trunc").stdout.count("\n") >= 1
    assert dock.inspect(name)["State"]["Status"] == "running"  # type: ignore[index]
    if how == "exec":
        assert dock("exec", name, "ps").stdout.count(" sh\n") == 1


def test_a_lost_supervisor_or_relay_restores_the_terminal_and_is_told(
    dock: Docklock, shell: tuple[str, Screen, str]
) -> None:
    how, screen, name = shell
    if how == "exec":
        init = screen.front_end_pid()
        (relay,) = Path(f"/proc/{init}/task/{init}/children").read_text().split()
        os.kill(int(relay), signal.SIGKILL)
        screen.read_until("was killed")
        assert screen.read_exit_code() == 125
        assert " sh\n" not in dock("exec", name, "ps").stdout
    else:
        os.kill(dock.supervisor_pid(name), signal.SIGKILL)
        screen.read_until("was killed; the container was killed")
        assert screen.read_exit_code() == 137
    assert screen.is_restored()


@pytest.mark.parametrize("option", ["--privileged", "--read-only", "--network=host"])
def test_other_containers_have_terminals_too(dock: Docklock, option: str) -> None:
    result = dock("run", "--rm", "-t", option, "busybox", "sh", "-c", "tty; echo c > /dev/console")
    assert re.fullmatch(r"/dev/pts/0\s+c\s+", result.stdout)


def test_input_from_no_terminal_is_refused_in_dockers_words(dock: Docklock) -> None:
    dock("create", "-it", "--name", "typed", "busybox", "cat")
    dock("run", "-d", "-it", "--name", "typed-too", "busybox", "cat")
    for words in (
        ("run", "--rm", "-it", "busybox", "cat"),
        ("start", "-ai", "typed"),
        ("exec", "-it", "typed-too", "cat"),
        ("attach", "typed-too"),
    ):
        result = dock(*words, code=1)
        assert result.stderr == "the input device is not a TTY\n"
    dock("rm", "-f", "typed", "typed-too")


def test_t_alone_needs_no_terminal_and_its_output_is_logged(dock: Docklock) -> None:
    result = dock("run", "-t", "--name", "told", "busybox", "sh", "-c", "tty; echo err >&2; exit 3",
                  code=3)  # fmt: skip
    assert re.fullmatch(r"/dev/pts/\d+\r?\nerr\r?\n", result.stdout)
    assert result.stderr == ""
    assert re.fullmatch(r"/dev/pts/\d+\r?\nerr\r?\n", dock("logs", "told").stdout)
    assert dock.inspect("told")["Config"]["Tty"] is True  # type: ignore[index]
    dock("rm", "told")


def test_a_terminal_belongs_to_the_user(dock: Docklock) -> None:
    program = "stat -c %u:%g $(tty); echo fine > $(tty)"
    result = dock("run", "--rm", "-t", "-u", "1000", "busybox", "sh", "-c", program)
    assert result.stdout.split() == ["1000:5", "fine"]


def test_output_after_a_long_pause_of_the_reader_is_whole(dock: Docklock) -> None:
    result = dock("run", "--rm", "-t", "busybox", "seq", "1", "200000")
    assert result.stdout.split() == [str(number) for number in range(1, 200_001)]
    dock("run", "-d", "--name", "long", "busybox", "sleep", "1000")
    result = dock("exec", "-t", "long", "seq", "1", "200000")
    assert result.stdout.split() == [str(number) for number in range(1, 200_001)]
    dock("rm", "-f", "long")


def test_a_detached_exec_has_a_terminal_and_errors_keep_their_codes(dock: Docklock) -> None:
    dock("run", "-d", "--name", "host", "busybox", "sleep", "1000")
    dock("exec", "-dt", "host", "sh", "-c", "tty > /tmp/tty; seq 1 100000; echo > /tmp/end")
    dock.wait_for(lambda: dock("exec", "host", "test", "-e", "/tmp/end", code=None).returncode == 0)
    assert dock("exec", "host", "cat", "/tmp/tty").stdout.startswith("/dev/pts/")
    result = dock("exec", "-t", "host", "nowhere", code=127)
    assert "exec nowhere: not found in the container" in result.stderr
    assert dock("exec", "-t", "host", "sh", "-c", "exit 5", code=5).stdout == ""
    assert dock("exec", "-t", "host", "sh", "-c", "kill -9 $$", code=137).stdout == ""
    dock("exec", "-dt", "host", "nowhere", code=127)
    assert dock("exec", "host", "tty", code=1).stdout.strip() == "not a tty"
    dock("rm", "-f", "host")


def test_attach_without_a_terminal_copies_output_and_passes_signals(dock: Docklock) -> None:
    program = "trap 'echo got; exit 6' TERM; while true; do echo tick; sleep 0.1; done"
    dock("run", "-d", "--name", "ticks", "busybox", "sh", "-c", program)
    with dock.start("attach", "ticks") as attached:
        assert attached.stdout is not None
        assert attached.stdout.readline() == "tick\n"
        attached.send_signal(signal.SIGTERM)
        assert attached.wait(LIMIT_S) == 6
        assert "got" in attached.stdout.read()
    assert "not running" in dock("attach", "ticks", code=1).stderr
    dock("rm", "ticks")


def test_receipts_of_a_terminals_container_verify(dock: Docklock, victim: list[str]) -> None:
    with at(dock, "run", "-it", "--name", "gated", *victim, "busybox", "sh") as screen:
        screen.read_until("# ")
        screen.type("/bin/id; /bin/ls -d /tmp; echo code $?\n")
        screen.read_until("code 0")
        with at(dock, "exec", "-it", "gated", "sh", "-c", "pwd; exit 4") as second:
            assert second.read_exit_code() == 4
        screen.type("exit\n")
        assert screen.read_exit_code() == 0
    dock("verify", "gated")
    ops = [receipt["op"] for receipt in dock.receipts("gated")]
    assert ops.count("syscall.execve") == 4  # two shells, id and ls
    assert "runtime.exec" in ops
    dock("rm", "gated")


def test_the_guard_holds_the_master_and_the_worker_does_not(dock: Docklock) -> None:
    dock("run", "-dit", "--name", "held", "busybox", "cat")

    def list_terminals(pid: int) -> list[str]:
        links = []
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed while we look
                links.append(os.readlink(link))
        return [link for link in links if "ptmx" in link or "pts" in link]

    assert list_terminals(dock.supervisor_pid("held"))
    assert list_terminals(dock.worker_pid("held")) == []
    init = int(dock.inspect("held")["State"]["Pid"])  # type: ignore[index]
    assert not any("ptmx" in link for link in list_terminals(init))
    dock("rm", "-f", "held")


def fail_to_create(dock: Docklock, bundle: Path, spec: dict[str, object]) -> str:
    """The error of `create` with a console socket that is not there."""
    (bundle / "config.json").write_text(json.dumps(spec))
    words = ("create", "-b", str(bundle), "--console-socket", "/nowhere", "shown")
    result = subprocess.run(
        [sys.executable, "-c", "from docklock.cli.oci import main; main()", *words],
        env=dock.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert result.returncode > 0
    assert "shown" not in dock("ps", "-a").stdout
    return result.stderr


def test_a_bundles_terminal_goes_to_the_console_socket(dock: Docklock, tmp_path: Path) -> None:
    make_busybox_tree(tmp_path / "rootfs")
    process = SPEC["process"] | {  # type: ignore[operator]
        "terminal": True,
        "consoleSize": {"height": 30, "width": 90},
        "args": ["sh", "-c", "tty; stty size; read line; echo got $line"],
    }
    pts = {"destination": "/dev/pts", "type": "devpts", "source": "devpts"}
    spec = SPEC | {"process": process, "mounts": [*SPEC["mounts"], pts]}  # type: ignore[misc]
    (tmp_path / "config.json").write_text(json.dumps(spec))
    result = subprocess.run(
        [sys.executable, "-c", "from docklock.cli.oci import main; main()"]
        + ["create", "-b", str(tmp_path), "shown"],
        env=dock.environment, text=True, capture_output=True,
    )  # fmt: skip
    assert result.returncode == 2
    assert "--console-socket" in result.stderr
    without = spec | {"mounts": SPEC["mounts"]}
    assert "needs the container's own devpts" in fail_to_create(dock, tmp_path, without)
    assert "No such file" in fail_to_create(dock, tmp_path, spec)
    path = str(tmp_path / "console.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen()
        words = ("create", "-b", str(tmp_path), "--console-socket", path, "shown")
        runtime(dock, *words, capture=False)
        connection, _ = listening.accept()
        _, (master,), _, _ = socket.recv_fds(connection, 100, 1)
        connection.close()
    runtime(dock, "start", "shown")
    os.write(master, b"hello\n")
    seen = b""
    with contextlib.suppress(OSError):  # EIO is the end
        while data := os.read(master, 4096):
            seen += data
    os.close(master)
    assert re.search(rb"/dev/pts/0\s+(hello\s+)?30 90\s+(hello\s+)?got hello", seen)
    dock("rm", "-f", "shown")


def test_detach_keys_are_read_as_dockers_and_wrong_ones_refused(dock: Docklock) -> None:
    assert parse_detach_keys(None) == b"\x10\x11"
    assert parse_detach_keys("ctrl-@,ctrl-A,a,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_") == (
        b"\0\x01a\x1b\x1c\x1d\x1e\x1f"
    )
    for wrong in ("ctrl-", "ctrl-1", "ab", "a,", "\x7f", "ctrl-p ctrl-q", ",".join("a" * 17)):
        result = dock("run", "--rm", "--detach-keys", wrong, "busybox", "true", code=125)
        assert "--detach-keys" in result.stderr


def test_held_back_keys_are_never_lost() -> None:
    keys = DetachKeys(b"aab")
    assert keys.feed(b"xa") == (b"x", False)
    assert keys.feed(b"a") == (b"", False)
    assert keys.feed(b"a") == (b"a", False)
    assert keys.feed(b"c") == (b"aac", False)
    assert keys.feed(b"aaab-rest") == (b"a", True)
