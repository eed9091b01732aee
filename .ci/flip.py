"""Flip one byte of an evidence file: python flip.py IN OUT.

Where a body is compressed a flipped byte may spoil a whole segment, and the verifier then names the
range. For the demo this takes the first byte from the middle on that spoils a single receipt.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from chainlite.verify import verify_file


def main() -> None:
    """Find the byte, write the copy, say where."""
    data = bytearray(Path(sys.argv[1]).read_bytes())
    for place in range(len(data) // 2, len(data)):
        data[place] ^= 1
        bad = verify_file(io.BytesIO(data).read).first_bad
        if bad is not None and bad.first == bad.last:
            Path(sys.argv[2]).write_bytes(data)
            print(f"byte {place} of {len(data)} flipped")
            return
        data[place] ^= 1
    raise SystemExit("no byte of this file spoils a single receipt")


main()
