"""The registry of tags."""

from __future__ import annotations

from chainlite import domains


def test_no_two_tags_clash_and_none_begins_a_text() -> None:
    tags = [value for name, value in vars(domains).items() if name.isupper()]
    assert len(tags) == len(set(tags)) > 15
    assert all(len(tag) == 1 and (tag < b"\x40" or is_never_first(tag)) for tag in tags)


def is_never_first(tag: bytes) -> bool:
    """Whether no character in UTF-8 begins so, whatever follows."""
    return b"\x80" <= tag < b"\xc2" or tag >= b"\xf5"
