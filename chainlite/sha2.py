"""SHA-256 from Python's own C module: hashlib loads OpenSSL first, which takes 3 ms and 5 MB.

Up to some 100 bytes both take the same time; of long inputs OpenSSL hashes three times as many a
second, so whoever hashes much (events, image layers, a busy recorder) imports hashlib. Invariant:
tests/chainlite/test_lean.py compares the two.
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha256 import sha256
    except ImportError:  # 3.12 put both sizes into one module
        from _sha2 import sha256

__all__ = ["sha256"]
