"""A PoE bundle: what an app's notarised work in one billing window comes to, signed by the notary.

Not here: the arithmetic (poe_index), the LogBlocks it is made of (chainlite.logblock), files
(chainlite.notarised). Invariants: usage is the difference of two LogBlocks' totals, so of verified
segments only; a LogBlock is in the window that its time falls in, and in no other; Phi is the one
that usage and terms give, or the bytes are refused. Layout: README.md of this room.
"""

from __future__ import annotations

import struct

from chainlite import codec, domains, keys
from chainlite.codec import Reader
from chainlite.economy.poe_index import (
    COUNTERS,
    Ratio,
    Terms,
    cap_usage,
    check_terms,
    compute_gamma,
    compute_phi,
)
from chainlite.errors import SpecError, TamperError
from chainlite.lean import NamedTuple
from chainlite.logblock import (
    ZERO_HASH,
    ZERO_TOTALS,
    compute_block_hash,
    decode_block,
    encode_totals,
    read_totals,
)
from chainlite.receipt import APP_LIMIT

VERSION = 1
WINDOW_SECONDS = 3600
"""An epoch of the economy: one hour of block time."""
WINDOW_SECONDS_MAX = 366 * 24 * 3600
HOSTS_MAX = 4096
NUMBER_LIMIT_BYTES = 128
NS = 10**9
_PART = struct.Struct(">32sQQ32s32s")
_TERMS = struct.Struct(">5I5QQ")
_WINDOW = struct.Struct(">32sQI")
BUNDLE_LIMIT_BYTES = 1 << 20


class Window(NamedTuple):
    """A billing window: Unix seconds, from `start` on and before `start` + `seconds`."""

    start: int
    seconds: int = WINDOW_SECONDS

    @property
    def end(self) -> int:
        """The second after it."""
        return self.start + self.seconds

    def has(self, time: int) -> bool:
        """Whether a time in ns falls in it."""
        return self.start * NS <= time < (self.start + self.seconds) * NS


class Part(NamedTuple):
    """One host's LogBlocks in the window: heights, the hash before the first and of the last.

    `usage` is the totals of the last less those of the block before the first.
    """

    host: bytes
    first_height: int
    last_height: int
    before: bytes
    last: bytes
    usage: tuple[int, ...]


class PoeBundle(NamedTuple):
    """What a notary signs of one app and window; `parts` by host, ascending, only active ones.

    `phi` is what usage and terms give. `time` is when it was made, in ns.
    """

    notary: bytes
    window: Window
    terms: Terms
    phi: Ratio
    time: int
    parts: tuple[Part, ...]
    app: str

    @property
    def gamma(self) -> Ratio:
        """N/(N+D) of Phi."""
        return compute_gamma(self.phi)


def find_window(time: int, seconds: int = WINDOW_SECONDS) -> Window:
    """The window that a time in ns falls in; windows begin at multiples of their length."""
    return Window(time // NS // seconds * seconds, seconds)


class ChainPoint(NamedTuple):
    """What a window needs of a LogBlock."""

    height: int
    time: int
    hash: bytes
    totals: tuple[int, ...]
    log_size: int


BEFORE_ALL = ChainPoint(-1, -1, ZERO_HASH, ZERO_TOTALS, 0)


def make_point(block: bytes) -> ChainPoint:
    """The point of a chain at a LogBlock's bytes; SpecError if they are none."""
    b = decode_block(block)
    return ChainPoint(b.height, b.time, compute_block_hash(block), b.totals, b.log_size)


def make_part(host: bytes, before: ChainPoint, last: ChainPoint) -> Part:
    """The part of a host's blocks after `before` up to `last`."""
    usage = tuple([now - then for then, now in zip(before.totals, last.totals, strict=True)])
    return Part(host, before.height + 1, last.height, before.hash, last.hash, usage)


def sum_usage(parts: tuple[Part, ...], terms: Terms) -> tuple[int, ...]:
    """What counts of all hosts' usage: the cap is each host's."""
    capped = [cap_usage(part.usage, terms) for part in parts]
    return tuple([sum(column) for column in zip(*capped, strict=True)]) or (0,) * COUNTERS


def make_bundle(
    notary: bytes, app: str, window: Window, terms: Terms, parts: tuple[Part, ...], time: int
) -> PoeBundle:
    """The bundle of these parts, with its Phi; SpecError for terms that are none."""
    ordered = tuple(sorted(parts))
    phi = compute_phi(sum_usage(ordered, terms), terms, max(1, len(ordered)))
    return PoeBundle(notary, window, terms, phi, time, ordered, app)


def sign_bundle(bundle: bytes, key: keys.Signer) -> bytes:
    """The notary's signature over a bundle's bytes."""
    return keys.sign(key, domains.SIGN_POE_BUNDLE, bundle)


def check_bundle_signature(data: bytes, signature: bytes, public: bytes) -> None:
    """TamperError unless the notary with this key signed these bytes."""
    if not keys.is_signed(public, domains.SIGN_POE_BUNDLE, data, signature):
        raise TamperError("the PoE bundle is not signed by its notary")


def encode_bundle(bundle: PoeBundle) -> bytes:
    """The canonical bytes of a bundle."""
    b = bundle
    parts = [
        codec.encode_head(domains.POE_BUNDLE, VERSION),
        _WINDOW.pack(b.notary, *b.window),
        _TERMS.pack(*b.terms.weights_ppm, *b.terms.scales, b.terms.receipts_max),
        encode_number(b.phi.numerator),
        encode_number(b.phi.denominator),
        codec.encode_u64(b.time),
        codec.encode_text(b.app),
        codec.encode_u32(len(b.parts)),
    ]
    for part in b.parts:
        parts.append(_PART.pack(*part[:5]))
        parts.append(encode_totals(part.usage))
    return b"".join(parts)


def decode_bundle(data: bytes) -> PoeBundle:
    """The bundle of these bytes; SpecError if they are not its canonical form, or Phi is wrong."""
    bundle = read_bundle(data)
    if not is_phi_right(bundle):
        raise SpecError("PoE bundle: Phi is not what usage and terms give")
    return bundle


def is_phi_right(bundle: PoeBundle) -> bool:
    """Whether Phi is what usage and terms give."""
    b = bundle
    return make_bundle(b.notary, b.app, b.window, b.terms, b.parts, b.time).phi == b.phi


def read_bundle(data: bytes) -> PoeBundle:
    """As decode_bundle, whatever Phi is: for who tells a notary's lie from what does not read."""
    r = Reader(data, "PoE bundle")
    r.read_head(domains.POE_BUNDLE, VERSION)
    notary, start, seconds = _WINDOW.unpack(r.read_fixed(_WINDOW.size))
    numbers = _TERMS.unpack(r.read_fixed(_TERMS.size))
    terms = Terms(numbers[:COUNTERS], numbers[COUNTERS:-1], numbers[-1])
    phi = Ratio(read_number(r), read_number(r))
    time, app = r.read_u64(), r.read_text(APP_LIMIT)
    parts = tuple([_read_part(r) for _ in range(r.read_u32(limit=HOSTS_MAX))])
    r.finish()
    bundle = PoeBundle(notary, Window(start, seconds), terms, phi, time, parts, app)
    _check_bundle(bundle)
    return bundle


def _check_bundle(bundle: PoeBundle) -> None:
    window, parts = bundle.window, bundle.parts
    check_terms(bundle.terms)
    if not 1 <= window.seconds <= WINDOW_SECONDS_MAX or window.start % window.seconds:
        raise SpecError("PoE bundle: the window does not begin at a multiple of its length")
    hosts = [part.host for part in parts]
    if hosts != sorted(set(hosts)):
        raise SpecError("PoE bundle: the hosts are not in ascending order")
    if any(part.first_height > part.last_height for part in parts):
        raise SpecError("PoE bundle: a part has no LogBlock")


def _read_part(r: Reader) -> Part:
    fixed = _PART.unpack(r.read_fixed(_PART.size))
    return Part._make((*fixed, read_totals(r)))


def encode_number(value: int) -> bytes:
    """A number of any size: a u32 length and its bytes, without a leading zero."""
    return codec.encode_bytes(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def read_number(r: Reader) -> int:
    """The number that comes next, as `encode_number` writes it."""
    raw = r.read_bytes(NUMBER_LIMIT_BYTES)
    if raw[:1] == b"\0":
        r.refuse("a number has a leading zero")
    return int.from_bytes(raw, "big")
