"""A server that reads a chain: `docklock bpci serve --genesis`, beside real validators."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from chainlite.codec import Reader
from chainlite.ledger.block import decode_block
from chainlite.ledger.header import read_seals
from chainlite.proofs.light import check_sealed
from chainlite.proofs.trusted import trust_genesis
from docklock.chain.directory import ChainDirectory, read_genesis_file
from docklock.chain.registering import read_settings
from docklock.chain.settings import format_address
from tests.e2e.chains import DevnetProcess
from tests.e2e.conftest import Docklock
from tests.outbox.servers import find_port

LIMIT_S = 30.0


def fetch(port: int, target: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{target}", timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
    except OSError:  # it does not listen yet
        return 0, {}


def test_a_server_shows_final_blocks_that_it_has_checked(tmp_path: Path) -> None:
    dock, server = Docklock(tmp_path / "root"), str(tmp_path / "server")
    dock("bpci", "init", server)
    dock("bpci", "serve", server, "--chain-node", "127.0.0.1:1", code=2)
    port = find_port()
    listen = ("--listen", f"127.0.0.1:{port}")
    with DevnetProcess(dock, tmp_path / "net") as devnet:
        genesis = f"{devnet.directory('v1')}/genesis.toml"
        introduce = read_settings(ChainDirectory(devnet.directory("v1"))).introduce
        assert introduce is not None
        place = format_address(introduce)
        chosen = ("--genesis", genesis, "--chain-node", place)
        process = dock.start("bpci", "serve", server, *listen, *chosen)
        try:
            dock.wait_for(lambda: fetch(port, "/v1/blocks/1")[0] == 200, LIMIT_S)
            _, shown = fetch(port, "/v1/blocks/1")
            chain = read_genesis_file(genesis)
            block = decode_block(base64.b64decode(shown["block"]))
            seals = read_seals(Reader(base64.b64decode(shown["seals"]), "seals"))
            now_ms = time.time_ns() // 1_000_000
            signers = check_sealed(block.header, seals, trust_genesis(chain.genesis), now_ms)
            assert [key.hex() for key in signers] == shown["signers"] and len(signers) == 3
            assert shown["chain"] == chain.id.hex() and shown["hash"] == block.hash.hex()
            known = devnet.ask("v2", "blocks", "1")
            assert known["hash"] == shown["hash"]
            codes = [fetch(port, f"/v1/blocks/{word}")[0] for word in ("0", "999999", "x", "-1")]
            assert codes == [404, 404, 400, 400]
        finally:
            process.terminate()
            _, said = process.communicate(timeout=20)
            assert process.returncode == 0, said
    process = dock.start("bpci", "serve", server, *listen)
    try:
        dock.wait_for(lambda: fetch(port, "/v1/blocks/1")[0] == 404, LIMIT_S)
        assert "reads no chain" in fetch(port, "/v1/blocks/1")[1]["detail"]
    finally:
        process.terminate()
        process.communicate(timeout=20)
