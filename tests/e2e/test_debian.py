"""A real Debian in a container, under the default policy: what people run there works.

Every test ends with `docklock verify` of its own container.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Docklock, Result
from tests.image.registries import Registry, need_program
from tests.vm.debian import get_debian_tar

PYTHON_PROGRAM = """
import ctypes, hashlib, json, os, socket, sqlite3, ssl, subprocess, sys, tempfile, threading

server = socket.create_server(("127.0.0.1", 0))
def answer():
    connection, _ = server.accept()
    with connection:
        connection.sendall(connection.recv(100).upper())
thread = threading.Thread(target=answer)
thread.start()
with socket.create_connection(server.getsockname()) as client:
    client.sendall(b"hello over loopback")
    said = client.recv(100).decode()
thread.join()
child = subprocess.run(["sh", "-c", "echo child; exit 3"], capture_output=True, text=True)
left, right = socket.socketpair()
counted = []
threads = [threading.Thread(target=counted.append, args=(n,)) for n in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with tempfile.NamedTemporaryFile() as file:
    database = sqlite3.connect(file.name)
    database.execute("create table t (x)"); database.execute("insert into t values (7)")
    database.commit()
    (row,) = database.execute("select x from t").fetchone()
pid = os.fork()
if pid == 0: os._exit(5)
print(json.dumps([said, child.stdout, child.returncode, sorted(counted) == list(range(20)), row,
                  os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), ctypes.CDLL(None).getpid()]))
"""
C_PROGRAM = r"""
#include <pthread.h>
#include <stdio.h>
static void *count(void *sum) { for (int i = 1; i <= 100; i++) *(long *)sum += i; return 0; }
int main(void) {
    pthread_t thread; long sum = 0;
    if (pthread_create(&thread, 0, count, &sum)) return 1;
    pthread_join(thread, 0);
    printf("%ld\n", sum);
    return 42;
}
"""
DEB_SCRIPT = """
set -e
mkdir -p /tmp/p/DEBIAN /tmp/p/opt/hello
echo hello > /tmp/p/opt/hello/greeting
chown -R 33:33 /tmp/p/opt/hello
chmod 4755 /tmp/p/opt/hello/greeting
cat > /tmp/p/DEBIAN/control <<END
Package: hello-docklock
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@localhost>
Description: a package
END
printf '#!/bin/sh\\nadduser --system --no-create-home hello 2>/dev/null || useradd -r hello\\n' \
    > /tmp/p/DEBIAN/postinst
chmod 755 /tmp/p/DEBIAN/postinst
dpkg-deb --build /tmp/p /tmp/p.deb > /dev/null
apt-get install -y -qq /tmp/p.deb > /tmp/log 2>&1 || { cat /tmp/log; exit 1; }
dpkg -l hello-docklock | tail -1 | cut -c1-2
stat -c '%u:%g %a' /opt/hello/greeting
id -u hello > /dev/null && echo user
dpkg -r hello-docklock > /dev/null
test ! -e /opt/hello && echo removed
"""


@pytest.fixture(scope="session")
def debian_tar(need_root: None) -> Path:
    return get_debian_tar()


@pytest.fixture(scope="module")
def debian(dock: Docklock, debian_tar: Path) -> Iterator[Docklock]:
    """A docklock with the image `debian`."""
    dock("import", str(debian_tar), "debian")
    yield dock
    for name in dock("ps", "-aq").stdout.split():
        dock("verify", name)


def run(dock: Docklock, name: str, *words: str, code: int = 0) -> Result:
    """Run in a container called `name` and verify its evidence."""
    result = dock("run", "--name", name, *words, code=code)
    assert dock("verify", name).stdout.startswith("whole: ")
    return result


def sh(dock: Docklock, name: str, script: str, *options: str, code: int = 0) -> Result:
    return run(dock, name, *options, "debian", "bash", "-c", script, code=code)


def get_ops(dock: Docklock, name: str) -> set[object]:
    return {receipt["op"] for receipt in dock.receipts(name)}


def test_python_threads_processes_and_sockets(debian: Docklock) -> None:
    result = run(debian, "py", "debian", "python3", "-c", PYTHON_PROGRAM)
    assert json.loads(result.stdout) == ["HELLO OVER LOOPBACK", "child\n", 3, True, 7, 5, 1]
    assert "127.0.0.1:" in debian("receipts", "--op", "syscall.connect", "py").stdout
    assert {receipt["decision"] for receipt in debian.receipts("py")} == {"allowed"}


def test_gcc_compiles_a_program_that_runs(debian: Docklock) -> None:
    script = (
        f"cat > /tmp/a.c <<'END'\n{C_PROGRAM}\nEND\ngcc -O2 -pthread -o /tmp/a /tmp/a.c; /tmp/a"
    )
    assert sh(debian, "cc", script, code=42).stdout == "5050\n"
    programs = str([r for r in debian.receipts("cc") if r["op"] == "syscall.execve"])
    assert "cc1" in programs and "collect2" in programs and "/tmp/a" in programs


def test_a_package_is_built_installed_and_removed(debian: Docklock) -> None:
    lines = sh(debian, "deb", DEB_SCRIPT).stdout.splitlines()
    assert lines == ["ii", "33:33 4755", "user", "removed"]


def test_apt_and_dpkg_answer(debian: Docklock) -> None:
    text = sh(debian, "apt", "apt-get --version | head -1; dpkg -l | grep -c ^ii").stdout
    version, count = text.splitlines()
    assert version.startswith("apt ")
    assert int(count) > 80


def test_a_pipeline_is_a_pipeline(debian: Docklock) -> None:
    script = (
        "set -o pipefail; seq 100000 | sort -R | sort -n | tail -1 | tee /tmp/x | rev; cat /tmp/x"
    )
    assert sh(debian, "pipe", script).stdout == "000001\n100000\n"
    assert sh(debian, "pipefail", "set -o pipefail; false | true", code=1).stdout == ""


def test_another_user_by_name_and_by_su(debian: Docklock) -> None:
    assert run(debian, "user", "-u", "www-data", "debian", "id").stdout == (
        "uid=33(www-data) gid=33(www-data) groups=33(www-data)\n"
    )
    assert "uid=65534" in sh(debian, "su", "su nobody -s /bin/sh -c id").stdout
    assert "syscall.setuid" in get_ops(debian, "su")
    refused = sh(debian, "touch", "touch /etc/x || exit 9", "-u", "1000:1000", code=9)
    assert "Permission denied" in refused.stderr


def test_owners_modes_and_times_can_be_set(debian: Docklock) -> None:
    script = """
    cd /srv; touch a; chown 33:65534 a; chmod 2640 a; touch -d @86400 a; ln a b; ln -s a c
    chown -h 33 c; setpriv --reuid 33 cat a; stat -c '%u:%g %a %Y %h' a; stat -c %u c
    """
    assert sh(debian, "own", script).stdout == "33:65534 2640 86400 2\n33\n"


def test_the_memory_limit_kills_a_program(debian: Docklock) -> None:
    program = "x = []\nwhile True: x.append(bytearray(b'x' * 1048576))"
    run(debian, "oom", "--memory", "32m", "debian", "python3", "-c", program, code=137)
    assert debian.inspect("oom")["State"]["OOMKilled"] is True  # type: ignore[index]


def test_a_child_killed_for_memory_leaves_its_parent(debian: Docklock) -> None:
    script = """
    python3 -c "
    x = []
    while True: x.append(bytearray(b'x' * 1048576))"
    echo $?
    """.replace("\n    ", "\n")
    assert sh(debian, "oomchild", script, "--memory", "32m").stdout == "137\n"


def test_a_read_only_root_with_a_tmpfs(debian: Docklock) -> None:
    script = "touch /x 2>&1; echo made > /tmp/y; cat /tmp/y; touch /run/z 2>&1; stat -fc %T /tmp"
    lines = sh(debian, "ro", script, "--read-only", "--tmpfs", "/tmp").stdout.splitlines()
    assert "Read-only file system" in lines[0]
    assert lines[1] == "made"
    assert "Read-only file system" in lines[2]
    assert lines[3] == "tmpfs"


def test_a_docker_archive_of_it_loads_and_runs(
    debian: Docklock, debian_tar: Path, tmp_path: Path
) -> None:
    """Two layers as `docker save` writes them; the second one whites out a file of the first."""
    archive = tmp_path / "archive.tar"
    write_docker_archive(archive, debian_tar)
    assert debian("load", "-i", str(archive)).stdout == "Loaded image: debian:saved\n"
    text = run(debian, "saved", "debian:saved").stdout
    assert text == "33 /srv 7 whited out\n"


def write_docker_archive(path: Path, rootfs: Path) -> None:
    top = make_tar({"srv/made": b"7\n", "etc/.wh.issue": b""})
    script = "echo $(id -u) $(pwd) $(cat made) $(test -e /etc/issue || echo whited out)"
    with rootfs.open("rb") as file:
        digests = [hashlib.file_digest(file, "sha256").hexdigest()]
    digests.append(hashlib.sha256(top).hexdigest())
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"User": "www-data", "WorkingDir": "/srv", "Cmd": ["bash", "-c", script]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    names = ["first/layer.tar", "second/layer.tar"]
    manifest = [{"Config": "config.json", "RepoTags": ["debian:saved"], "Layers": names}]
    with tarfile.open(path, "w") as archive:
        archive.add(rootfs, names[0])
        second = gzip.compress(top)
        for name, data in (
            (names[1], second),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            add_file(archive, name, data)


def make_tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            add_file(archive, name, data)
    return buffer.getvalue()


def add_file(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    entry.mode = 0o644
    archive.addfile(entry, io.BytesIO(data))


def test_debian_goes_to_a_registry_and_back(debian: Docklock, tmp_path: Path) -> None:
    need_program()
    script = "find / -xdev -printf '%p %m %U:%G %s %l\\n' | grep -v '^/etc/host' | sort | sha256sum"
    before = sh(debian, "before-push", script).stdout
    assert before.split()[0] != hashlib.sha256().hexdigest()
    with Registry(tmp_path / "registry") as registry:
        name = f"{registry.domain}/debian:1"
        debian("tag", "debian", name)
        debian("push", "-q", name)
        elsewhere = Docklock(tmp_path / "elsewhere")
        elsewhere("pull", "-q", name)
    asked = ("image", "inspect", "--format", "{{.Id}}")
    assert elsewhere(*asked, name).stdout == debian(*asked, "debian").stdout
    after = elsewhere("run", "--rm", "--pull", "never", name, "bash", "-c", script).stdout
    assert after == before
    assert "whole" in elsewhere("system", "check").stdout
    debian("rmi", name)
