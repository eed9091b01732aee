"""Whom to trust, as the options of a program that verifies name it: keys, witnesses, checkpoints.

Not here: what a trust decides (report). Reads the files that the options name, and nothing else.
"""

from __future__ import annotations

import os

from chainlite import cosignature, keys
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from chainlite.note import NOTE_LIMIT_BYTES, parse_note
from chainlite.report import Trust

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

OPTION_LIMIT_BYTES = 16384
"""A key that an option names is read up to here."""


def add_trust_options(parser: ArgumentParser) -> None:
    """The options that say whom to trust and what to ask for."""
    parser.add_argument(
        "--host-key", metavar="FILE|FINGERPRINT", default="", help="the host that must have signed"
    )
    parser.add_argument(
        "--witness-key",
        metavar="FILE|KEY",
        action="append",
        default=[],
        help="a witness whose cosignatures count; may be given several times",
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", default="", help="the host's log must continue this one"
    )
    parser.add_argument(
        "--require-anchor", action="store_true", help="exit 3 on what no named witness cosigned"
    )


def read_trust(options: Namespace, fingerprint: str = "") -> Trust:
    """The trust that the options name; without --host-key, the host with this fingerprint.

    SpecError where an option or its file does not read.
    """
    if options.host_key:
        fingerprint = keys.parse_fingerprint(_read_option(options.host_key))
    if options.require_anchor and not options.witness_key:
        raise SpecError("--require-anchor: name the witnesses to believe with --witness-key")
    return Trust(
        fingerprint,
        tuple([cosignature.parse_witness(_read_option(text)) for text in options.witness_key]),
        read_note(options.checkpoint) if options.checkpoint else b"",
        options.require_anchor,
    )


def read_note(path: str) -> bytes:
    """The checkpoint in a file, as it lies there; SpecError if it is no signed note."""
    note = _read(path, NOTE_LIMIT_BYTES + 1)
    try:
        parse_note(note)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    return note


def _read_option(text: str) -> str:
    """The text of a file of this name, or the text itself."""
    if not os.path.exists(text):
        return text
    return _read(text, OPTION_LIMIT_BYTES).decode("ascii", errors="replace")


def _read(path: str, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(limit)
    except OSError as error:
        raise SpecError(f"{path}: cannot read it: {error.strerror}") from None
