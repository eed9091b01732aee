"""The host's key: on disk, in memory, over rotations and crashes, sealed by a credential."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from chainlite import checkpoint, hostkeys, hostlog, keys
from chainlite.errors import SpecError, StateError
from docklock.evidence import key_file, keyring, rotation
from docklock.evidence.host_log import HostLog
from docklock.evidence.operations import record_operation
from docklock.paths import Paths
from tests.evidence.recording import ROOT, append, begin, make_id, make_paths, record
from tests.memory import find_in_files, get_guarded

SYSTEMD_CREDS = shutil.which("systemd-creds")


def read_keys(paths: Paths) -> hostkeys.HostKeys:
    """The host's keys as its log says; the checkpoint must be signed by the newest."""
    found = hostkeys.HostKeys(keyring.get_public_key(paths))
    with HostLog(paths, None) as log, log.read():
        for index, data in log.get_key_leaves():
            leaf = hostlog.decode_leaf(data)
            assert isinstance(leaf, hostlog.Key | hostlog.Revocation)
            assert leaf.leaf_index == index
            found.take(leaf)
        checkpoint.parse_checkpoint(log.get_note(), found.public)
        assert log.get_key_number() == found.number
    return found


def load_secret(paths: Paths) -> bytes:
    """The 64-byte secret of an unsealed host key, as root reads it from the file."""
    seed = Path(keyring.get_key_path(paths)).read_bytes()[-32:]
    return seed + keys.make_key_pair(seed).public


def test_key_files_are_private_made_once_and_checked(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    with pytest.raises(StateError, match="keys init"):
        keyring.get_public_key(paths)
    key = keyring.ensure_host_key(paths)
    assert keyring.ensure_host_key(paths).public == key.public
    assert stat.S_IMODE(os.stat(f"{paths.keys}/host.key").st_mode) == 0o600
    assert sorted(os.listdir(paths.keys)) == ["host.key", "host.pub"]
    os.unlink(f"{paths.keys}/host.pub")
    assert keyring.get_public_key(paths) == key.public
    path = Path(f"{paths.keys}/host.key")
    data = path.read_bytes()
    for spoilt in (b"PRIVATE+KEY+nonsense\n", data[:-1], data[:18] + b"\0\2" + data[20:]):
        path.write_bytes(spoilt)
        with pytest.raises(SpecError, match="host.key"):
            keyring.ensure_host_key(paths).sign(b"message")
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(SpecError, match="not the one it names"):
        keyring.ensure_host_key(paths).sign(b"message")


def make_key(paths: Paths) -> None:
    keyring.ensure_host_key(paths)


def test_commands_at_once_make_one_key(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    spawn = multiprocessing.get_context("spawn")
    makers = [spawn.Process(target=make_key, args=(paths,)) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0] * 4
    assert sorted(os.listdir(paths.keys)) == ["host.key", "host.pub"]
    assert keyring.get_public_key(paths) == keyring.ensure_host_key(paths).public


def test_the_private_key_is_in_memory_only_while_it_signs(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    key = keyring.ensure_host_key(paths)
    before = len(get_guarded(os.getpid()))
    with HostLog(paths, key) as log:
        with log.write():
            assert len(get_guarded(os.getpid())) == before + 1
            log.append_operation("import")
        assert len(get_guarded(os.getpid())) == before
        with pytest.raises(SpecError), log.write():
            log.append_operation("x" * 65)
    assert len(get_guarded(os.getpid())) == before
    assert keys.is_signed(key.public, b"", b"message", key.sign(b"message"))
    assert len(get_guarded(os.getpid())) == before


def test_a_rotation_is_signed_by_the_old_key_and_the_log_by_the_new(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1))
    enrolled, fingerprint = keyring.get_public_key(paths), keyring.get_fingerprint(paths)
    publics = [enrolled]
    for number in (1, 2, 3):
        rotated = rotation.rotate_host_key(paths)
        assert rotated.number == number
        publics.append(rotated.public)
        record(paths, make_id(number + 1))
    found = read_keys(paths)
    assert [item.public for item in found.records] == publics
    assert len(set(publics)) == 4
    assert (keyring.get_fingerprint(paths), found.host.hex()) == (fingerprint, fingerprint)
    assert sorted(os.listdir(paths.keys)) == ["host.key", "host.pub"]


def test_each_start_is_signed_by_the_key_of_its_leaf(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    for number in range(1, 4):
        record(paths, make_id(number))
        rotation.rotate_host_key(paths)
    found = read_keys(paths)
    with HostLog(paths, None) as log:
        runs = log.get_runs()
        for expected, run in enumerate(runs):
            start = hostlog.decode_leaf(log.get_leaf(run.start_leaf))
            assert isinstance(start, hostlog.Start)
            key = found.get_at(run.start_leaf)
            assert key.number == expected
            assert keys.is_signed(key.public, b"\x32", start.certificate, start.signature)
            signer = found.find_signer(
                b"\x32", start.certificate, start.signature, first_index=run.start_leaf
            )
            assert signer == key


def test_an_old_seed_is_in_no_file_after_a_rotation(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths)
    secret = load_secret(paths)
    assert find_in_files(tmp_path, secret) == [Path(keyring.get_key_path(paths))]
    old = os.open(keyring.get_key_path(paths), os.O_RDONLY)
    rotation.rotate_host_key(paths)
    assert find_in_files(tmp_path, secret) == []
    assert set(os.read(old, 4096)) == {0}, "overwritten, not only unlinked"
    os.close(old)


def test_a_live_run_goes_on_over_rotations(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    live = begin(paths)
    for number in range(3):
        append(live, number)
        rotation.rotate_host_key(paths)
        live.request_commit(now=True)
    live.close(0)
    assert read_keys(paths).number == 3
    with HostLog(paths, None) as log:
        assert log.get_runs()[0].exit_leaf is not None


def append_many(paths: Paths, count: int) -> None:
    for _ in range(count):
        record_operation(paths, "import")


def test_rotations_and_commits_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    paths, rotations, count = make_paths(tmp_path), 0, 40
    record(paths)
    live = begin(paths, make_id(2))
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=append_many, args=(paths, count)) for _ in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        append(live, rotations)
        live.request_commit(now=True)
        rotation.rotate_host_key(paths)
        rotations += 1
    for writer in writers:
        writer.join()
    live.close(0)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert read_keys(paths).number == rotations
    assert sorted(os.listdir(paths.keys)) == ["host.key", "host.pub"]


SIGN_WHILE_RENAMED = """
import os, sys
from docklock.evidence import key_file, keyring
from docklock.evidence.host_log import HostLog
from docklock.paths import get_paths
paths = get_paths(sys.argv[1])
ours, following = keyring.get_key_path(paths), keyring.get_next_path(paths)
key = keyring.HostKey(paths, key_file.read_head(ours))
def hook(event, words):
    if event == "open" and words[0] == following and os.path.exists(following):
        os.rename(following, ours)
sys.addaudithook(hook)
with HostLog(paths, key) as log, log.write():
    log.append_operation("import")
assert not os.path.exists(following)
"""


def test_a_key_that_is_renamed_while_it_is_looked_for_is_found(tmp_path: Path) -> None:
    """The log names key 1, host.key is still key 0; the rename comes between the two looks."""
    paths = make_paths(tmp_path)
    record(paths)
    key = keyring.ensure_host_key(paths)
    following = keyring.get_next_path(paths)
    with HostLog(paths, key) as log, log.write():
        log.append_key(key_file.write_new_key(following, number=1, enrolled=key.enrolled))
    done = subprocess.run(
        [sys.executable, "-c", SIGN_WHILE_RENAMED, paths.state],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert read_keys(paths).number == 1


ROTATE_AND_DIE = """
import os, signal, sys
from docklock.evidence import rotation
from docklock.paths import get_paths
paths, left = get_paths(sys.argv[1]), [int(sys.argv[2])]
def hook(event, words):
    if event in ("open", "os.link", "os.rename", "os.remove", "os.mkdir") and started:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
started = []
sys.addaudithook(hook)
started.append(1)
rotation.rotate_host_key(paths)
"""


def test_a_rotation_killed_at_any_step_is_undone_or_finished(tmp_path: Path) -> None:
    """Before each file that it opens, links, renames or removes; until it gets through."""
    paths = make_paths(tmp_path)
    record(paths, make_id(1))
    number, outcomes = 0, []
    for step in range(100):
        secret = load_secret(paths)
        done = subprocess.run(
            [sys.executable, "-c", ROTATE_AND_DIE, paths.state, str(step)],
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
        head = key_file.read_head(keyring.get_key_path(paths))
        with HostLog(paths, keyring.HostKey(paths, head)) as log, log.write():
            log.append_operation("import")  # before anybody has finished it
        record_operation(paths, "import")
        assert sorted(os.listdir(paths.keys)) == ["host.key", "host.pub"]
        found = read_keys(paths).number
        assert found in (number, number + 1)
        assert bool(find_in_files(tmp_path, secret)) is (found == number)
        outcomes.append((done.returncode, found - number))
        number = found
        if done.returncode == 0:
            break
    assert {(-signal.SIGKILL, 0), (-signal.SIGKILL, 1)} < set(outcomes)
    assert outcomes[-1] == (0, 1)


def test_a_key_and_a_log_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    paths, other = make_paths(tmp_path), make_paths(tmp_path / "other")
    record(paths)
    saved = Path(keyring.get_key_path(paths)).read_bytes()
    rotation.rotate_host_key(paths)
    Path(keyring.get_key_path(paths)).write_bytes(saved)
    with pytest.raises(StateError, match="restore keys/ and host.db together"):
        record(paths, make_id(2))
    record(other)
    shutil.copytree(other.keys, paths.keys, dirs_exist_ok=True)
    with pytest.raises(StateError, match="another host's log"):
        record(paths, make_id(3))


def test_a_lost_log_is_not_begun_anew_with_a_later_key(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths)
    rotation.rotate_host_key(paths)
    os.unlink(paths.host_db)
    with pytest.raises(StateError, match="restore keys/ and host.db together"):
        record(paths, make_id(2))


def test_a_revocation_of_the_key_of_now_rotates_it_first(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths)
    index = rotation.revoke_host_key(paths, None, None)
    record(paths, make_id(2))
    found = read_keys(paths)
    assert found.number == 1
    assert found.records[0].revoked_from == index
    with HostLog(paths, None) as log:
        first, second = (run.start_leaf for run in log.get_runs())
    assert not found.is_revoked_at(first), "what it signed before stands"
    assert not found.is_revoked_at(second)


def test_a_revocation_may_reach_back(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    for number in (1, 2):
        record(paths, make_id(number))
    rotation.rotate_host_key(paths)
    record(paths, make_id(3))
    with HostLog(paths, None) as log:
        first, second, third = (run.start_leaf for run in log.get_runs())
    rotation.revoke_host_key(paths, 0, second)
    found = read_keys(paths)
    assert [found.is_revoked_at(leaf) for leaf in (first, second, third)] == [False, True, False]


def test_what_cannot_be_revoked_is_refused(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths)
    for number, first in ((1, None), (-1, None), (0, 10**6), (0, -1)):
        with pytest.raises(SpecError, match="keys revoke"):
            rotation.revoke_host_key(paths, number, first)
    read_keys(paths)


# Sealed by a credential.


@pytest.fixture
def credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory as systemd gives it to a unit with LoadCredential."""
    directory = tmp_path / "credentials"
    directory.mkdir(mode=0o500)
    path = directory / key_file.CREDENTIAL
    path.write_bytes(os.urandom(32))
    path.chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    return path


def test_a_sealed_key_is_nowhere_in_the_open_and_works(credential: Path, tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    record(paths)
    rotation.rotate_host_key(paths)
    record(paths, make_id(2))
    assert read_keys(paths).number == 1
    loaded = key_file.load_key(keyring.get_key_path(paths))
    assert loaded is not None
    head, key = loaded
    assert head.is_sealed
    key.erase()
    data = Path(keyring.get_key_path(paths)).read_bytes()
    for start in range(len(data) - 31):
        assert keys.make_key_pair(data[start : start + 32]).public != head.public


def test_without_its_credential_a_sealed_key_signs_nothing(
    credential: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_paths(tmp_path)
    record(paths)
    fingerprint = keyring.get_fingerprint(paths)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(StateError, match="LoadCredentialEncrypted"):
        record(paths, make_id(2))
    assert keyring.get_fingerprint(paths) == fingerprint
    read_keys(paths)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credential.parent))
    credential.chmod(0o600)
    right = credential.read_bytes()
    credential.write_bytes(os.urandom(32))
    with pytest.raises(StateError, match="not the one it needs"):
        record(paths, make_id(2))
    credential.write_bytes(b"short")
    with pytest.raises(SpecError, match="32 to 2048 bytes"):
        record(paths, make_id(2))
    credential.write_bytes(right)
    record(paths, make_id(2))


def test_a_process_that_has_signed_goes_on_when_its_units_credential_is_taken_away(
    credential: Path, tmp_path: Path
) -> None:
    """As a guard's is, when the unit that began it has ended. A new process cannot begin."""
    paths = make_paths(tmp_path)
    record(paths)
    credential.unlink()
    record(paths, make_id(2))
    program = (
        "import sys; from docklock.evidence.keyring import ensure_host_key;"
        "from docklock.paths import get_paths;"
        "ensure_host_key(get_paths(sys.argv[1], sys.argv[2])).hold(None)"
    )
    words = [sys.executable, "-c", program, paths.state, paths.run]
    done = subprocess.run(words, capture_output=True, text=True)
    assert "LoadCredentialEncrypted" in done.stderr


def test_a_sealed_file_is_bound_to_what_it_says_openly(credential: Path, tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    keyring.ensure_host_key(paths)
    path = Path(keyring.get_key_path(paths))
    data = path.read_bytes()
    path.write_bytes(data[:24] + b"\x07" + data[25:])
    with pytest.raises(StateError, match="not the one it needs"):
        key_file.load_key(str(path))


def test_a_rotation_seals_a_key_that_was_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_paths(tmp_path)
    record(paths)
    secret = load_secret(paths)
    directory = tmp_path / "credentials"
    directory.mkdir()
    (directory / key_file.CREDENTIAL).write_bytes(os.urandom(64))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    record(paths, make_id(2))
    assert not key_file.read_head(keyring.get_key_path(paths)).is_sealed
    rotation.rotate_host_key(paths)
    assert key_file.read_head(keyring.get_key_path(paths)).is_sealed
    record(paths, make_id(3))
    assert find_in_files(tmp_path, secret) == []


@pytest.mark.skipif(SYSTEMD_CREDS is None, reason="systemd-creds is not installed")
def test_a_credential_that_systemd_creds_encrypted_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SYSTEMD_CREDS is not None
    directory, sealed = tmp_path / "credentials", tmp_path / "docklock-host-key.cred"
    directory.mkdir()
    name = f"--name={key_file.CREDENTIAL}"
    for words, data in (
        (["--with-key=auto-initrd", name, "encrypt", "-", str(sealed)], os.urandom(32)),
        ([name, "decrypt", str(sealed), str(directory / key_file.CREDENTIAL)], b""),
    ):
        done = subprocess.run([SYSTEMD_CREDS, *words], input=data, capture_output=True)
        if done.returncode:
            pytest.skip(f"systemd-creds does not run here: {done.stderr.decode()[-200:]}")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    paths = make_paths(tmp_path)
    record_operation(paths, "import")
    assert key_file.read_head(keyring.get_key_path(paths)).is_sealed
    read_keys(paths)
