"""A virtual machine that systemd runs, for the .deb: installed, rebooted, upgraded, removed.

Made as machine.py says, of a root with systemd. Its disk lasts as long as the emulator, so a reboot
is the guest's own. Not here: the job (systemd_guest.py), the expectations (test_systemd.py).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.vm.debian import SYSTEMD_PACKAGES
from tests.vm.machine import CHECKOUT, Boot, Machine, boot

LIMIT_S = 900  # alone it takes 300, build included
SLOWER = 4
"""How many times as long a command may take as on a machine that is not emulated."""
VERSIONS = ("1.0", "2.0")
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "e2scrub_reap.service", "fstrim.timer", "getty@tty1.service", "serial-getty@ttyS0.service",
    "systemd-firstboot.service", "systemd-pstore.service", "systemd-update-utmp.service",
)  # fmt: skip
JOB_UNIT = f"""
[Unit]
After=multi-user.target
[Service]
Type=simple
Environment=PYTHONPATH=/job/checkout:/job/packages PYTHONDONTWRITEBYTECODE=1 CI=true
Environment=DOCKLOCK_TEST_FULL=@FULL@ DOCKLOCK_TEST_SLOWER={SLOWER}
Environment=LC_ALL=C.UTF-8 HOME=/root PATH=/usr/sbin:/usr/bin
WorkingDirectory=/job/checkout
ExecStart=/usr/bin/timeout {LIMIT_S - 60} /usr/bin/python3 -m tests.vm.@MODULE@
ExecStopPost=/bin/sh -c 'test $$SERVICE_RESULT = success || systemctl poweroff --no-block'
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
"""
# Five seconds: systemd scales nothing for an emulator, and a test is not to wait half a minute.
WATCHDOG = "[Service]\nWatchdogSec=6s\n"
INIT = f"""
set -e
etc=/etc/systemd/system
/bin/busybox mkdir -p $etc/multi-user.target.wants $etc/docklock.service.d
for unit in {" ".join(MASKED)}; do /bin/busybox ln -sf /dev/null $etc/$unit; done
/bin/busybox ln -sf /lib/systemd/system/multi-user.target $etc/default.target
/bin/busybox ln -sf ../job.service $etc/multi-user.target.wants/job.service
/bin/busybox cat > $etc/job.service <<'UNIT'{JOB_UNIT}UNIT
/bin/busybox cat > $etc/docklock.service.d/watchdog.conf <<'UNIT'
{WATCHDOG}UNIT
echo 0123456789abcdef0123456789abcdef > /etc/machine-id
exec /lib/systemd/systemd
"""


def build_packages(directory: Path) -> tuple[Path, ...]:
    """The checkout's .deb as two versions; the second has another tree, too."""
    found = []
    for version in VERSIONS:
        words = [str(CHECKOUT / "systemd/build-deb"), str(directory), version]
        # Not packed: the packing takes longer than all else, and is of tests/test_package.py.
        environment = os.environ | {"DOCKLOCK_DEB_COMPRESSION": "none"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(Path(done.stdout.strip()))
    return tuple(found)


def boot_systemd(directory: Path, *, full: bool) -> Boot:
    """`full`: with a reboot, and all checks."""
    packages = build_packages(directory)
    init = make_init("systemd_guest", full=full)
    return boot(directory, Machine(SYSTEMD_PACKAGES, init, packages, LIMIT_S, ()))


def make_init(module: str, *, full: bool) -> str:
    """PID 1's script: units for a job that is a module of this package, then systemd."""
    return INIT.replace("@FULL@", str(int(full))).replace("@MODULE@", module)
