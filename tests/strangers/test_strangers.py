"""Strangers' programs check what is served: Go on x/mod's sumdb, JavaScript on Web Crypto."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from chainlite import checkpoint, cosignature, mldsa, note
from chainlite.tlogproof import encode_log_proof, parse_log_proof
from docklock.evidence.tiles import make_log_proof, publish, read_log_keys, read_published
from docklock.paths import Paths
from tests.chainlite.samples import WITNESS, WITNESS_KEY
from tests.evidence.logs import grow
from tests.evidence.recording import make_paths

HERE = Path(__file__).parent
VECTORS = HERE.parent / "vectors"
GOPATH = "/usr/share/gocode"
SECOND = mldsa.Signer(b"\x78" * 32)
SECOND_WITNESS = cosignature.Witness("witness.example/w2", SECOND.public, note.COSIGNED_MLDSA44)

Run = Callable[..., subprocess.CompletedProcess[str]]


def need(program: str, why: str) -> str:
    """The program's path; the test is skipped where it is missing, and fails in CI."""
    found = shutil.which(program)
    if found is None:
        assert os.environ.get("CI") != "true", f"{why}: CI may not skip"
        pytest.skip(f"{why}: ./test installs it as root")
    return found


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The Go verifier, built offline from Debian's packages."""
    program, folder = need("go", "golang-go is missing"), tmp_path_factory.mktemp("go")
    if not os.path.isdir(f"{GOPATH}/src/golang.org/x/mod/sumdb/tlog"):
        assert os.environ.get("CI") != "true"
        pytest.skip("golang-golang-x-mod-dev is missing: ./test installs it as root")
    environment = os.environ | {
        "GO111MODULE": "off", "GOPATH": GOPATH, "GOFLAGS": "", "GOPROXY": "off",
        "GOCACHE": str(folder / "cache"), "HOME": str(folder),
    }  # fmt: skip
    subprocess.run(
        [program, "build", "-o", str(folder / "verify"), "main.go", "mldsa.go"],
        cwd=HERE / "go", env=environment, check=True,
    )  # fmt: skip
    return lambda *words: run(str(folder / "verify"), *words)


@pytest.fixture(scope="module")
def javascript() -> Run:
    program = need("node", "nodejs is missing")
    return lambda *words: run(program, "--no-warnings", str(HERE / "verify.mjs"), *words)


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=120
    )


class Served(NamedTuple):
    """A log of 1,300 leaves as it is served, both witnesses' lines added, and all their keys."""

    paths: Paths
    top: Path
    keys: Path
    old: Path
    proof: Path
    size: int


@pytest.fixture
def served(tmp_path: Path) -> Served:
    paths = make_paths(tmp_path)
    grow(paths, 600)
    publish(paths)
    old = tmp_path / "old"
    old.write_bytes(cosign_all(read_published(paths)))
    grow(paths, 700)
    proof = make_log_proof(paths, 777)
    top = tmp_path / "copy"
    shutil.copytree(paths.log, top)
    (top / "checkpoint").write_bytes(cosign_all(read_published(paths)))
    (tmp_path / "proof").write_bytes(encode_log_proof(proof._replace(note=cosign_all(proof.note))))
    keys = [*read_log_keys(paths), WITNESS, SECOND_WITNESS]
    (tmp_path / "keys").write_text("\n".join(map(note.encode_vkey, keys)))
    size = checkpoint.parse_claim(read_published(paths)).size
    return Served(paths, top, tmp_path / "keys", old, tmp_path / "proof", size)


def cosign_all(data: bytes) -> bytes:
    once = cosignature.cosign(data, WITNESS.name, WITNESS_KEY, 1_795_000_000)
    return cosignature.cosign_mldsa(once, SECOND_WITNESS, SECOND.sign, 1_795_000_001)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_go_judges_every_ml_dsa_vector_as_its_authors_say(go: Run) -> None:
    assert go("mldsa", VECTORS / "mldsa_44.json").stdout == "mldsa 180\n"


def test_go_verifies_checkpoint_tiles_entries_and_consistency(go: Run, served: Served) -> None:
    done = go("log", served.top, served.keys, served.old)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"log {served.size} ") and " continues " in done.stdout
    assert go("proof", served.proof, served.keys).stdout == f"leaf 777 of {served.size}\n"


def test_javascript_verifies_checkpoint_tiles_and_entries(javascript: Run, served: Served) -> None:
    done = javascript("log", served.top, served.keys)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"log {served.size} ")
    assert javascript("proof", served.proof, served.keys).stdout.startswith("leaf 777 of ")


@pytest.mark.parametrize("stranger", ["go", "javascript"])
def test_strangers_refuse_what_is_not_under_the_signatures(
    stranger: str, served: Served, request: pytest.FixtureRequest
) -> None:
    verify: Run = request.getfixturevalue(stranger)
    assert verify("log", served.top, served.keys).returncode == 0
    files = ["tile/0/000", "tile/1/000.p/5", "tile/entries/002"]
    files += [f"tile/0/005.p/{served.size - 1280}", f"tile/entries/005.p/{served.size - 1280}"]
    for name in files:
        path = served.top / name
        whole = path.read_bytes()
        flip(path, 40)
        assert verify("log", served.top, served.keys).returncode == 1, name
        path.write_bytes(whole[:-1])
        assert verify("log", served.top, served.keys).returncode == 1, name
        path.write_bytes(whole)
    signed = note.parse_note((served.top / "checkpoint").read_bytes())
    for number in range(4):
        lines = [line for at, line in enumerate(signed.lines) if at != number]
        (served.top / "checkpoint").write_bytes(note.encode_note(signed.text, lines))
        assert verify("log", served.top, served.keys).returncode == 1, number
    for number in range(4) if stranger == "go" else (0, 2):  # Web Crypto has no ML-DSA
        spoilt = bytearray(signed.lines[number].signature)
        spoilt[30] ^= 1
        lines = list(signed.lines)
        lines[number] = lines[number]._replace(signature=bytes(spoilt))
        (served.top / "checkpoint").write_bytes(note.encode_note(signed.text, lines))
        assert verify("log", served.top, served.keys).returncode == 1, number


@pytest.mark.parametrize("stranger", ["go", "javascript"])
def test_strangers_refuse_a_proof_of_another_leaf(
    stranger: str, served: Served, request: pytest.FixtureRequest
) -> None:
    verify: Run = request.getfixturevalue(stranger)
    proof = parse_log_proof(served.proof.read_bytes())
    for changed in (
        proof._replace(extra=proof.extra + b"x"),
        proof._replace(leaf_index=776),
        proof._replace(leaf_index=served.size),
        proof._replace(path=proof.path[:-1]),
        proof._replace(path=proof.path[::-1]),
    ):
        served.proof.write_bytes(encode_log_proof(changed))
        assert verify("proof", served.proof, served.keys).returncode == 1


def test_go_refuses_a_log_that_does_not_continue_an_older_checkpoint(
    go: Run, served: Served
) -> None:
    """The host's own keys sign another history: only who kept the old checkpoint sees it."""
    fork = Paths(f"{served.paths.state}.fork", f"{served.paths.state}.fork/run")
    shutil.copytree(f"{served.paths.state}/keys", f"{fork.state}/keys")
    grow(fork, 900)
    publish(fork)
    grow(fork, 900)
    publish(fork)
    keys = served.keys.with_name("two")
    keys.write_text("\n".join(map(note.encode_vkey, read_log_keys(fork))))
    assert go("log", fork.log, keys).returncode == 0
    done = go("log", fork.log, keys, served.old)
    assert done.returncode == 1 and "invalid transparency proof" in done.stderr
