"""Whom to trust of a chain, as options name it, and the program that checks one light proof.

Not here: the checks (light), what is said (light_report). Reads the clock, unless --now names the
time, and the files that the options name; nothing else.
"""

from __future__ import annotations

import json
import time

from chainlite import domains, trust
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING
from chainlite.ledger.genesis import GENESIS_LIMIT_BYTES, decode_genesis, parse_genesis
from chainlite.proofs.light import Final, check_finality, check_light
from chainlite.proofs.light_format import LIGHT_LIMIT_BYTES
from chainlite.proofs.light_report import describe_shown, render_shown
from chainlite.proofs.trusted import (
    CHECKPOINT_LIMIT_BYTES,
    Trusted,
    trust_checkpoint,
    trust_genesis,
)
from chainlite.report import (
    EXIT_NOT_EVIDENCE,
    EXIT_TAMPERED,
    EXIT_UNTRUSTED,
    EXIT_WHOLE,
    Trust,
    escape,
)

if TYPE_CHECKING:
    from argparse import Namespace

LIGHT_READ_BYTES = LIGHT_LIMIT_BYTES + 1


def trust_chain(known: Trust, options: Namespace) -> Trust:
    """The trust with what --genesis, --header-checkpoint, --now and --final say.

    SpecError where a file does not read or is stale; TamperError where one contradicts itself.
    """
    data = trust.read_file(options.genesis, GENESIS_LIMIT_BYTES + 1)
    is_binary = data.startswith(domains.CHAIN_GENESIS)
    genesis = decode_genesis(data) if is_binary else parse_genesis(data, options.genesis)
    chain = trust_genesis(genesis)
    now_ms = int(time.time() if options.now is None else options.now) * 1000
    if options.header_checkpoint:
        data = trust.read_file(options.header_checkpoint, CHECKPOINT_LIMIT_BYTES + 1)
        chain = trust_checkpoint(data, chain, known.witnesses, known.policy)
    finals = tuple([_read_final(path, chain, now_ms) for path in options.final])
    return known._replace(chain=chain, now_ms=now_ms, finals=finals)


def _read_final(path: str, chain: Trusted, now_ms: int) -> Final:
    data = trust.read_file(path, LIGHT_READ_BYTES)
    try:
        return check_finality(data, chain, now_ms)
    except (SpecError, TamperError) as error:
        raise type(error)(f"{path}: {error}") from None


def check_light_file(data: bytes, known: Trust, *, as_json: bool) -> tuple[str, int]:
    """What to print about the bytes of a light proof, and the exit code. SpecError: it is none."""
    if known.chain is None:
        raise SpecError("a light proof: name the chain's genesis file with --genesis")
    try:
        shown = check_light(data, known.chain, known.now_ms)
    except TamperError as error:
        bad = {"ok": False, "first_bad": {"why": str(error)}}
        text = json.dumps(bad) + "\n" if as_json else f"TAMPERED: {escape(str(error))}\n"
        return text, EXIT_TAMPERED
    # Evidence convicts by itself, whoever submitted it.
    is_trusted = shown.evidence is not None or known.is_named(shown.final.host.hex())
    code = EXIT_WHOLE if is_trusted else EXIT_UNTRUSTED
    if as_json:
        return json.dumps(describe_shown(shown, is_trusted=is_trusted)) + "\n", code
    return render_shown(shown, is_trusted=is_trusted), code


def run(argv: list[str] | None) -> int:
    """The program `python -m chainlite.proofs.light`."""
    import argparse
    import sys

    parser = argparse.ArgumentParser(
        prog="python -m chainlite.proofs.light",
        description="Check that a host's log, and a receipt in it, is final on a chain.",
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--json", action="store_true")
    trust.add_trust_options(parser)
    options = parser.parse_args(argv)
    try:
        known = trust.read_trust(options)
        data = trust.read_file(options.file, LIGHT_READ_BYTES)
        text, code = check_light_file(data, known, as_json=options.json)
    except TamperError as error:
        sys.stderr.write(f"light: {error}\n")
        return EXIT_TAMPERED
    except SpecError as error:
        sys.stderr.write(f"light: {error}\n")
        return EXIT_NOT_EVIDENCE
    sys.stdout.write(text)
    return code
