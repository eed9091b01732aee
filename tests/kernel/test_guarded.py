"""Guarded memory, and the keys in it: where their secrets are, and where they are not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Generator
from pathlib import Path

import pytest

from chainlite import keys, sodium
from chainlite.errors import StateError
from docklock.kernel.guarded import PAGE_BYTES, make_guarded_page
from tests.memory import count_in_memory, find_secrets, get_guarded, get_mappings

TAG = b"\x31"
ROOT = Path(__file__).parents[2]
RATCHET = textwrap.dedent(
    """
    import os, sys
    from chainlite import keys
    from docklock.kernel.guarded import make_guarded_page
    def say(*words):
        print(*words, flush=True)
        sys.stdin.readline()
    key = keys.make_guarded_pair(make_guarded_page())
    for _ in range(100):
        keys.sign(key, b"1", os.urandom(100))
    child = os.fork()
    if child == 0:
        os.pause() if hasattr(os, "pause") else __import__("signal").pause()
    say(key.public.hex(), child)
    following = keys.make_guarded_pair(make_guarded_page())
    keys.sign(key, b"2", following.public)
    key.erase()
    keys.sign(following, b"1", b"message")
    say(following.public.hex())
    """
)


@pytest.fixture
def ratchet(need_root: None) -> Generator[subprocess.Popen[str], None, None]:
    """A process that signs, forks and goes on to its next key when it is told."""
    process = subprocess.Popen(
        [sys.executable, "-c", RATCHET], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        yield process
        process.kill()


def ask(process: subprocess.Popen[str], *, go_on: bool = False) -> list[str]:
    assert process.stdin is not None
    assert process.stdout is not None
    if go_on:
        process.stdin.write("\n")
        process.stdin.flush()
    return process.stdout.readline().split()


def test_an_earlier_key_is_nowhere_in_memory_and_a_child_never_had_it(
    ratchet: subprocess.Popen[str],
) -> None:
    public, child = ask(ratchet)
    try:
        first = find_secrets(ratchet.pid)[bytes.fromhex(public)]
        assert keys.make_key_pair(first[:32]).public.hex() == public
        assert count_in_memory(ratchet.pid, first) == 1, "the seed, in its page alone"
        assert get_guarded(int(child)) == []
        assert count_in_memory(int(child), first) == 0
        (following,) = ask(ratchet, go_on=True)
        assert list(find_secrets(ratchet.pid)) == [bytes.fromhex(following)]
        assert count_in_memory(ratchet.pid, first) == 0
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_a_key_of_guarded_memory_signs_as_the_same_seed_does_elsewhere() -> None:
    page = make_guarded_page()
    seed = os.urandom(32)
    sodium.get_view(page.address + 64, 32)[:] = seed
    guarded, plain = keys.load_guarded_pair(page, 64), keys.make_key_pair(seed)
    assert guarded.public == plain.public
    assert keys.sign(guarded, TAG, b"message") == keys.sign(plain, TAG, b"message")
    assert sodium.get_view(page.address + 64, 32)[:] == bytes(32)
    guarded.erase()


def test_two_keys_differ_and_each_is_its_own() -> None:
    one, two = (keys.make_guarded_pair(make_guarded_page()) for _ in range(2))
    signature = keys.sign(one, TAG, b"message")
    assert keys.is_signed(one.public, TAG, b"message", signature)
    assert not keys.is_signed(two.public, TAG, b"message", signature)
    one.erase()
    two.erase()


def test_an_erased_key_signs_no_more_and_its_page_is_gone() -> None:
    page = make_guarded_page()
    key = keys.make_guarded_pair(page)
    address = page.address
    key.erase()
    key.erase()
    with pytest.raises(StateError, match="erased"):
        keys.sign(key, TAG, b"message")
    assert not any(m.start <= address < m.end for m in get_mappings(os.getpid()))


FORK = """
import os, sys
from chainlite import keys
from chainlite.errors import StateError
from docklock.kernel.guarded import make_guarded_page
key = keys.make_guarded_pair(make_guarded_page())
child = os.fork()
if child == 0:
    refused = 0
    for use in (lambda: keys.sign(key, b"1", b"x"), key.erase):
        try:
            use()
        except StateError:
            refused += 1
    os._exit(refused)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
keys.sign(key, b"1", b"x")
key.erase()
"""


def run_program(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_forked_child_is_refused_and_does_not_crash() -> None:
    done = run_program(FORK)
    assert done.returncode == 0, done.stderr


def test_a_page_lies_between_guards_and_its_process_cannot_be_dumped() -> None:
    page = make_guarded_page()
    around = {m.start: m for m in get_mappings(os.getpid())}
    assert around[page.address].mode == "rw-p"
    assert around[page.address + PAGE_BYTES].mode == "---p"
    before = [m for m in around.values() if m.end == page.address]
    assert [m.mode for m in before] == ["---p"]
    done = run_program(DUMPABLE)
    assert done.stdout.split() == ["1", "0"], done.stderr
    page.release()


DUMPABLE = """
from docklock.kernel.guarded import make_guarded_page
from docklock.kernel.process import prctl
get_dumpable = 3
print(prctl(get_dumpable))
make_guarded_page()
print(prctl(get_dumpable))
"""


UNLOCKABLE = """
import os, resource
from docklock.errors import KernelError
from docklock.kernel.guarded import make_guarded_page
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
os.setresuid(65534, 65534, 65534)
def count():
    with open("/proc/thread-self/maps") as file:
        return len(file.readlines())
before = count()
try:
    make_guarded_page()
except KernelError as error:
    assert "ulimit -l" in str(error), error
    assert count() <= before
    print("refused")
"""


def test_memory_that_cannot_be_locked_is_an_error_and_leaves_nothing(need_root: None) -> None:
    """RLIMIT_MEMLOCK binds who has no CAP_IPC_LOCK: a process that becomes another user."""
    done = run_program(UNLOCKABLE)
    assert done.stdout == "refused\n", done.stderr


def test_a_seal_opens_with_its_key_and_head_alone() -> None:
    page = make_guarded_page()
    view, nonce = sodium.get_view(page.address, 128), os.urandom(24)
    view[0:64] = secret = os.urandom(64)
    box = sodium.seal_at(page.address, 32, page.address + 32, nonce, b"head")
    view[0:32] = bytes(32)
    assert not sodium.open_at(page.address, box, page.address + 32, nonce, b"another head")
    assert sodium.open_at(page.address, box, page.address + 32, nonce, b"head")
    assert view[0:32] == secret[:32]
    view[32:33] = bytes([view[32:33][0] ^ 1])
    assert not sodium.open_at(page.address, box, page.address + 32, nonce, b"head")
    page.release()
