"""./install for real, on a host that it cannot change: an overlay of this one's root.

Nothing of systemd runs there; tests/vm/test_systemd.py installs where it does.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import CHECKOUT

IN_AN_OVERLAY = """
set -e
mount -t tmpfs -o mode=755 none "$1/top"
cd "$1/top"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work none root
for name in proc dev sys; do mount --rbind /$name root/$name; done
mount -t tmpfs none root/run
mkdir -p root/var/lib/docklock
mount --bind "$1/state" root/var/lib/docklock
exec chroot root sh -c "cd $2; $3"
"""
JOURNEY = """
set -ex
trap 'command -v docklock && docklock ps -q | xargs -r docklock rm -f' EXIT
./install
first=$(readlink /usr/lib/docklock/current)
docklock import $TREE busybox
test -f /usr/share/man/man1/docklock-run.1 -a -L /usr/share/man/man1/docklock-container-ls.1
touch /usr/share/man/man1/docklock-gone.1
docklock run -d --name witness busybox sh -c 'trap \"exit 5\" TERM; while :; do sleep 0.1; done'
./install
test $(readlink /usr/lib/docklock/current) = $first
echo '# changed' >> docklock/errors.py
./install
test $(readlink /usr/lib/docklock/current) != $first
test -d $first
test ! -e /usr/share/man/man1/docklock-gone.1
docklock exec witness echo in
docklock stop witness
docklock verify witness
test $(docklock inspect witness | grep -c '.ExitCode.: 5') = 1
/usr/lib/docklock/current/trees prune
test ! -d $first
docklock start witness
./install --remove
test ! -e /usr/lib/docklock -a ! -e /usr/bin/docklock
test ! -e /usr/lib/systemd/system/docklock.service
test -z \"$(find /usr/share/man/man1 /usr/share/*/*completion* -name '*docklock*')\"
test -d /var/lib/docklock/evidence
test -z \"$(ls /var/lib/docklock/live)\"
./install --remove
"""


@pytest.mark.usefixtures("need_root", "no_leaks")
def test_install_upgrades_under_a_running_container_and_removes(
    tmp_path: Path, busybox_tree: Path
) -> None:
    for name in ("top", "state"):
        (tmp_path / name).mkdir()
    journey = f"TREE={busybox_tree}; {JOURNEY}"
    words = (
        "unshare",
        "-m",
        "sh",
        "-c",
        IN_AN_OVERLAY,
        "sh",
        str(tmp_path),
        str(CHECKOUT),
        journey,
    )
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "in\n" in done.stdout
