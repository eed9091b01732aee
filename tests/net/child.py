"""A node in a process of its own: prints its port, echoes requests on SYNC, until it is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from chainlite.net.registration import decode_registration
from chainlite.net.transport import Channel, PeerId
from tests.net.nodes import MAKERS, NETWORK, Identity


async def echo(peer: PeerId, channel: Channel, payload: bytes) -> bytes:
    return payload


async def main(kind: str, directory: Path, number: int) -> None:
    transport = MAKERS[kind](Identity(directory, number), 0)
    transport.listen(Channel.SYNC, None, echo)
    for known in (directory / f"known-{number}").iterdir():
        transport.add_peer(decode_registration(known.read_bytes(), NETWORK))
    await transport.start()
    print(transport.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
