"""Through the command line: a host's receipt, proven final on a chain of real validators."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from chainlite.ledger import operations as ops
from chainlite.ledger.tx import sign_tx
from docklock.evidence.host_log import HostLog
from docklock.evidence.keyring import ensure_host_key
from docklock.paths import Paths
from tests.e2e.chains import DevnetProcess
from tests.e2e.conftest import Docklock
from tests.evidence.recording import make_id, make_paths, record

ROOT = Path(__file__).resolve().parents[2]
FINAL_LIMIT_BYTES = 2500


def verify_alone(*words: str) -> tuple[int, str]:
    """The formats alone, with nothing of this host."""
    done = subprocess.run(
        [sys.executable, "-m", "chainlite.proofs.light", *words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def anchor(devnet: DevnetProcess, paths: Paths, at: Path) -> int:
    """The host registers and anchors its log: two transactions, signed by its key. Its height."""
    key = ensure_host_key(paths)
    chain_id = bytes.fromhex(devnet.ask("v1", "status")["chain_id"])
    with HostLog(paths, None) as log, log.read():
        size = log.get_size()
        state = ops.Anchor(size, log.compute_root(size))
    told = {}
    for nonce, operation in enumerate((ops.Register("tester", bytes(32)), state)):
        at.write_bytes(sign_tx(key, chain_id, nonce, [operation]).encoded)
        told = devnet.ask("v1", "tx", "submit", str(at))
    return int(told["height"])


def test_a_receipt_is_final_to_who_holds_one_file_and_the_genesis(tmp_path: Path) -> None:
    paths = make_paths(tmp_path)
    dock = Docklock(Path(paths.state))
    record(paths, make_id(1), count=12)
    with DevnetProcess(dock, tmp_path / "net") as devnet:
        height = anchor(devnet, paths, tmp_path / "tx")
        chain = devnet.directory("v1")
        file, final = str(tmp_path / "proof"), str(tmp_path / "final")
        done = dock("prove", "web", "7", "--final", "--chain", chain, "-o", file)
        assert f"final in block {height}" in done.stdout
        evidence = str(tmp_path / "evidence")
        dock("evidence", "web", "-o", evidence, "--final", final, "--chain", chain)
        genesis = f"{chain}/genesis.toml"
        host = ensure_host_key(paths).host.hex()
        assert Path(file).stat().st_size <= FINAL_LIMIT_BYTES
        code, text = verify_alone(file, "--genesis", genesis, "--host-key", host, "--json")
        shown = json.loads(text)
        assert (code, shown["height"], len(shown["signers"])) == (0, height, 3)
        assert shown["receipt"]["index"] == "7"
        done = dock("verify", evidence, "--final", final, "--genesis", genesis)
        assert "run 0: final through index 11" in done.stdout
        other = devnet.directory("v2")
        again = dock("prove", "web", "7", "--final", "--chain", other, "-o", file)
        assert f"final in block {height}" in again.stdout, "any node serves"
