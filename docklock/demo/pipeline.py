"""The whole pipeline on one machine: chain, server, and a host whose agent sends to both.

Four validators (`chain devnet`), a server (`bpci serve`), and the agent of a host of its own with
notary, submitter and outbox: real processes of the command line on loopback, in one directory. Not
here: what is shown of it (stages), the directory (place). It is no way to run any of it: all keys
lie on one host.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from chainlite.errors import DocklockError
from docklock.chain.client import ask
from docklock.chain.devnet import HOST as LOOPBACK
from docklock.chain.devnet import hold_ports
from docklock.chain.directory import ChainDirectory, get_directory
from docklock.chain.registering import read_settings
from docklock.chain.settings import format_address
from docklock.demo.commands import Commands, adopt_orphans, remove_containers
from docklock.demo.place import HOST, ignore_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docklock.demo.place import Place
    from docklock.paths import Paths

VALIDATORS = 4
SERVER = "bpci"
"""What the host calls the server."""
TENANT = OPERATOR = "demo"
CONNECT_S = 1.0


class Pipeline(NamedTuple):
    """What runs: the host's commands and paths, its node of the chain, the server's files.

    `config` is the host's agent.toml; `server_keys` are the keys of the server's log, `port` is
    where it listens on loopback.
    """

    commands: Commands
    node: ChainDirectory
    genesis: str
    server: str
    server_keys: tuple[str, ...]
    config: str
    port: int

    @property
    def paths(self) -> Paths:
        """The host's."""
        return self.commands.paths


@contextmanager
def run_pipeline(place: Place, *parameters: str) -> Iterator[Pipeline]:
    """All of it, until the block ends; `parameters` are the chain's, as KEY=NUMBER.

    StateError where something does not come up; then nothing runs.
    """
    top = place.path
    host = f"{top}/{HOST}"
    os.makedirs(f"{host}/run", mode=0o700)
    commands = Commands(host, place.fd)
    with hold_ports(1) as [port], adopt_orphans():
        try:
            first = _start_chain(commands, top, parameters)
            commands.wait("the chain's first block", lambda: has_block(first))
            server_keys = _start_server(commands, top, port, first)
            config = _enrol(commands, top, port, server_keys)
            node = _join_chain(commands, first)
            commands.start("agent", f"{top}/agent.log", "agent", "--config", config)
            commands.wait("the host's node at the chain", lambda: has_block(node))
            yield Pipeline(
                commands, node, first.genesis_toml, f"{top}/server", server_keys, config, port
            )
        finally:
            with ignore_signals():
                remove_containers(commands)
                commands.end()


def has_block(node: ChainDirectory) -> bool:
    """Whether a node runs and has a block."""
    try:
        return int(ask(node, "GET", "/status")["height"]) > 0
    except DocklockError:  # not there yet
        return False


def _start_chain(commands: Commands, top: str, parameters: tuple[str, ...]) -> ChainDirectory:
    """Its validators; the directory of the first of them."""
    words = [word for one in parameters for word in ("--set", one)]
    where = f"{top}/chain"
    commands.start(
        "chain", f"{top}/chain.log", "chain", "devnet", "--validators", str(VALIDATORS),
        "--dir", where, "--keep", *words,
    )  # fmt: skip
    return ChainDirectory(f"{where}/v1")


def _start_server(
    commands: Commands, top: str, port: int, first: ChainDirectory
) -> tuple[str, ...]:
    """The server, listening, which reads the chain; the keys of its log."""
    directory = f"{top}/server"
    made = commands.run("bpci", "init", directory)
    commands.start(
        SERVER, f"{top}/server.log", "bpci", "serve", directory, "--listen", f"{LOOPBACK}:{port}",
        "--genesis", first.genesis_toml, "--chain-node", _get_introducer(first),
    )  # fmt: skip

    def is_listening() -> bool:
        try:
            socket.create_connection((LOOPBACK, port), CONNECT_S).close()
        except OSError:
            return False
        return True

    commands.wait("the server", is_listening)
    return tuple(made.split())


def _enrol(commands: Commands, top: str, port: int, server_keys: tuple[str, ...]) -> str:
    """The host has a key, its agent.toml, and is known to the server; the file's path."""
    commands.run("keys", "init")
    host_key = _read_word(f"{commands.paths.keys}/host.pub")
    grant, config = f"{top}/host.grant", f"{top}/agent.toml"
    commands.run("bpci", "grant", "--tenant", TENANT, f"{top}/server", host_key, grant)
    with open(config, "w", encoding="utf-8") as file:
        file.write(
            f'witnesses = "{top}/none.toml"\n'  # not those of this machine's own log
            f'[chain]\nrole = "submitter"\n\n[[server]]\nname = "{SERVER}"\n'
            f'url = "http://{LOOPBACK}:{port}"\nkeys = {json.dumps(server_keys)}\n'
        )
    commands.run("sync", "enrol", SERVER, grant, "--config", config)
    return config


def _join_chain(commands: Commands, first: ChainDirectory) -> ChainDirectory:
    """The host's node, made for the chain; the agent runs it."""
    commands.run(
        "chain", "init", "--genesis", first.genesis_toml, "--operator", OPERATOR,
        "--introducers", _get_introducer(first),
    )  # fmt: skip
    return get_directory(commands.paths, None)


def _get_introducer(first: ChainDirectory) -> str:
    introduce = read_settings(first).introduce
    assert introduce is not None, "the first validator of a devnet introduces"
    return format_address(introduce)


def _read_word(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()
