"""Whom to trust, as the options of a program that verifies name it: keys, witnesses, checkpoints.

Not here: what a trust decides (report). Reads the files that the options name, and nothing else.
"""

from __future__ import annotations

import os

from chainlite import cosignature, keys, logblock, note
from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from chainlite.report import Trust

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from chainlite.note import VerifierKey
    from chainlite.quorum import Quorum

OPTION_LIMIT_BYTES = 16384
"""A key that an option names is read up to here."""


def add_trust_options(parser: ArgumentParser) -> None:
    """The options that say whom to trust and what to ask for."""
    parser.add_argument(
        "--host-key",
        metavar="FILE|FINGERPRINT",
        action="append",
        default=[],
        help="a host that must have signed; may be given several times, for a server's export",
    )
    parser.add_argument(
        "--witness-key",
        metavar="FILE|KEY",
        action="append",
        default=[],
        help="a witness whose cosignatures count; may be given several times",
    )
    parser.add_argument(
        "--notary-key",
        metavar="FILE|FINGERPRINT",
        default="",
        help="the notary that must have signed LogBlocks and PoE bundles",
    )
    parser.add_argument(
        "--witness-policy",
        metavar="FILE",
        default="",
        help="which witnesses must have cosigned, and who runs them",
    )
    parser.add_argument(
        "--log-key",
        metavar="FILE|KEY",
        action="append",
        default=[],
        help="a key of the log that a tlog-proof is of, or of the server that an export is of; "
        "both are needed, of types 1 and 6",
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", default="", help="the host's log must continue this one"
    )
    _add_chain_options(parser)
    parser.add_argument(
        "--require-anchor", action="store_true", help="exit 3 on what no named witness cosigned"
    )


def _add_chain_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--genesis", metavar="FILE", default="", help="the chain's genesis file, for light proofs"
    )
    parser.add_argument(
        "--header-checkpoint",
        metavar="FILE",
        default="",
        help="a header of the chain that your witnesses have cosigned lately",
    )
    parser.add_argument(
        "--final",
        metavar="FILE",
        action="append",
        default=[],
        help="a light proof of the host's log: say which receipts of FILE are final",
    )
    parser.add_argument(
        "--now", metavar="SECONDS", type=int, default=None, help="the time, if not the clock's"
    )


def read_trust(options: Namespace, fingerprint: str = "", notary: str = "") -> Trust:
    """The trust that the options name; without --host-key and --notary-key, these fingerprints.

    SpecError where an option or its file does not read.
    """
    hosts = [keys.parse_fingerprint(_read_option(text)) for text in options.host_key]
    if options.notary_key:
        notary = keys.parse_fingerprint(
            _read_option(options.notary_key), "--notary-key", logblock.compute_notary_id
        )
    if options.require_anchor and not options.witness_key and not options.witness_policy:
        raise SpecError(
            "--require-anchor: name the witnesses to believe with --witness-key or --witness-policy"
        )
    policy = read_policy(options.witness_policy) if options.witness_policy else None
    named = read_witness_keys(options.witness_key)
    known = Trust(
        hosts[0] if hosts else fingerprint,
        tuple(dict.fromkeys((*named, *(policy.keys if policy else ())))),
        read_note(options.checkpoint) if options.checkpoint else b"",
        options.require_anchor,
        parse_log_keys([_read_option(text) for text in options.log_key]),
        policy,
        notary,
        others=tuple(hosts[1:]),
    )
    if not options.genesis:
        if options.final or options.header_checkpoint:
            raise SpecError("--final, --header-checkpoint: name the chain's file with --genesis")
        return known
    from chainlite.proofs.light_program import trust_chain

    return trust_chain(known, options)


def read_witness_keys(words: list[str]) -> tuple[VerifierKey, ...]:
    """The witnesses' keys that are named, each as itself or by a file of some; SpecError."""
    texts = [_read_option(word) for word in words]
    return tuple(
        [cosignature.parse_witness(line) for text in texts for line in text.splitlines() or [text]]
    )


def read_policy(path: str) -> Quorum:
    """The policy in a file; SpecError names file, line and key."""
    from chainlite import quorum_file, toml_lines

    return quorum_file.parse_quorum(read_file(path, toml_lines.FILE_BYTES_MAX + 1), path)


def parse_log_keys(texts: list[str]) -> tuple[VerifierKey, ...]:
    """Both keys of one log, or none; SpecError for one alone, or for keys of two logs.

    Each text may have several keys, a line each.
    """
    found = {note.parse_vkey(line, "--log-key") for text in texts for line in text.splitlines()}
    known = sorted(found, key=lambda key: key.kind)
    if known and [key.kind for key in known] != [note.ED25519, note.COSIGNED_MLDSA44]:
        raise SpecError("--log-key: name both keys of the log: of type 1 and of type 6")
    if len({key.name for key in known}) > 1:
        raise SpecError("--log-key: the two keys are of two logs")
    return tuple(known)


def read_note(path: str) -> bytes:
    """The checkpoint in a file, as it lies there; SpecError if it is no signed note."""
    data = read_file(path, note.NOTE_LIMIT_BYTES + 1)
    try:
        note.parse_note(data)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    return data


def _read_option(text: str) -> str:
    """The text of a file of this name, or the text itself."""
    if not os.path.exists(text):
        return text
    return read_file(text, OPTION_LIMIT_BYTES).decode("ascii", errors="replace")


def read_file(path: str, limit: int) -> bytes:
    """The file's first bytes, at most `limit`; SpecError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(limit)
    except OSError as error:
        raise SpecError(f"{path}: cannot read it: {error.strerror}") from None
