"""Sparse maps of GNU tar: where the data of a file with holes belongs.

Not here: reading them off the stream (tar), writing the file (unpack). Pure.
Invariants: segments are in order, do not overlap and lie within the file; their lengths add up to
the data that follows. A malformed map is a ValueError; tar makes it a SpecError with the place.
Source: GNU tar manual, "Storing Sparse Files" (old GNU, pax 0.0, 0.1 and 1.0).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

SEGMENTS_MAX = 65_536
OFFSET_MAX = 1 << 62


class SparseMap(NamedTuple):
    """`segments` are (offset, length); `size_bytes` is the length of the file with its holes."""

    segments: tuple[tuple[int, int], ...]
    size_bytes: int

    @property
    def data_bytes(self) -> int:
        return sum(length for _, length in self.segments)


def parse_map_text(numbers: list[bytes], pax: dict[bytes, bytes]) -> SparseMap:
    """pax 0.1 and 1.0: offset, length, offset, length, as decimal text."""
    values = [_parse_decimal(text) for text in numbers if text or len(numbers) > 1]
    if len(values) % 2:
        raise ValueError("an offset without a length")
    return _check_map(zip(values[::2], values[1::2], strict=True), _get_size(pax))


def parse_map_texts(records: dict[bytes, list[bytes]], pax: dict[bytes, bytes]) -> SparseMap:
    """pax 0.0: the records GNU.sparse.offset and GNU.sparse.numbytes repeat in turn."""
    offsets = [_parse_decimal(text) for text in records.get(b"GNU.sparse.offset", [])]
    lengths = [_parse_decimal(text) for text in records.get(b"GNU.sparse.numbytes", [])]
    if len(offsets) != len(lengths):
        raise ValueError("an offset without a length")
    return _check_map(zip(offsets, lengths, strict=True), _get_size(pax))


def parse_old_map(
    first: bytes, extensions: list[bytes], size_bytes: int, number: Callable[[bytes, str], int]
) -> SparseMap:
    """Old GNU: 12 + 12 byte numbers, 4 in the header and 21 in each extension block."""
    blocks = [first] + [block[:504] for block in extensions]
    fields = [
        (block[at : at + 12], block[at + 12 : at + 24])
        for block in blocks
        for at in range(0, len(block), 24)
    ]
    used = [(offset, length) for offset, length in fields if length.strip(b"\0")]
    return _check_map(
        ((number(offset, "offset"), number(length, "length")) for offset, length in used),
        size_bytes,
    )


def _get_size(pax: dict[bytes, bytes]) -> int:
    text = pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size")
    if text is None:
        raise ValueError("the size of the file is missing")
    return _parse_decimal(text)


def _parse_decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise ValueError(f"{text[:20]!r} is no number")
    return int(text)


def _check_map(segments: Iterable[tuple[int, int]], size_bytes: int) -> SparseMap:
    found = tuple(segments)
    end = 0
    for offset, length in found:
        if offset < end or offset + length > size_bytes:
            raise ValueError("segments overlap or reach past the end of the file")
        end = offset + length
    if len(found) > SEGMENTS_MAX or size_bytes > OFFSET_MAX:
        raise ValueError(f"more than {SEGMENTS_MAX} segments, or a file too large")
    return SparseMap(found, size_bytes)
