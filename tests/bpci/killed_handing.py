"""Takes LogBlocks, then PoE bundles one by one, until it kills itself; says how many are held.

`killed_handing.py SERVER HOST FILE SIZE POINT`: the first SIZE bytes of the file are LogBlocks, the
rest bundles, as handed in. At the POINTth of killed_intake's steps it kills itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

from chainlite.bpci.billed import decode_bundles
from chainlite.bpci.handed import encode_handed
from chainlite.bpci.intake import KNOWN, TAKEN, HandedIn
from chainlite.bpci.verification import POE
from tests.bpci.killed_intake import die_at
from tests.bpci.servers import Server


def main(directory: str, host: bytes, data: bytes, size: int, point: int) -> None:
    bundles = decode_bundles(data[size:])
    with Server(Path(directory)) as server:
        die_at(point)
        assert server.intake.hand_in(HandedIn(host, data[:size])).kind in (TAKEN, KNOWN)
        for number, one in enumerate(bundles.blocks, 1):
            handed = HandedIn(host, encode_handed(bundles._replace(blocks=(one,))), POE)
            assert server.intake.hand_in(handed).kind in (TAKEN, KNOWN)
            print(number, flush=True)


if __name__ == "__main__":
    given = Path(sys.argv[3]).read_bytes()
    main(sys.argv[1], bytes.fromhex(sys.argv[2]), given, int(sys.argv[4]), int(sys.argv[5]))
