"""`docklock witness key|serve|ask`: cosign others' logs, and have one's own cosigned.

Not here: what a witness does (docklock/witness), what a policy means (chainlite.quorum). Exit of
`ask`: 0 the policy is met; 1 it is not; 3 a witness has seen another history of this host's log.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from chainlite.errors import SpecError
from chainlite.toml_lines import FILE_BYTES_MAX
from docklock.agent.config import POLICY_DEFAULT
from docklock.cli import options
from docklock.cli.options import Command, check_count, flag, listed, text

if TYPE_CHECKING:
    from docklock.paths import Paths
    from docklock.witness.config import Settings

KEY = Command(
    "witness key",
    "[OPTIONS]",
    "Print the keys of this host's witness (Ed25519, ML-DSA-44), made on first use.",
    (text("--name", help="the witness's name, for good; else one of its key", metavar="NAME"),),
    examples=("docklock witness key --name witness.example.org",),
)
SERVE = Command(
    "witness serve",
    "[OPTIONS]",
    "Cosign the checkpoints of the logs that are named, as C2SP tlog-witness.",
    (
        text("--config", help="read this file (/etc/docklock/witness.toml)", metavar="FILE"),
        text("--listen", help="where (127.0.0.1:7380); plain HTTP", metavar="ADDRESS:PORT"),
        listed("--log", help="a key of a log to cosign; may be given several times",
               metavar="FILE|VKEY"),
        text("--log-level", help="error, warning, info or debug (info)", metavar="LEVEL"),
        flag("--check-config", help="check the settings, say OK, and end"),
    ),
    examples=("docklock witness serve --log host.vkeys --listen 127.0.0.1:7380",),
)  # fmt: skip
ASK = Command(
    "witness ask",
    "[OPTIONS]",
    "Have this host's log cosigned by the witnesses of the policy, and keep what they signed.",
    (
        text("--config", help=f"the policy ({POLICY_DEFAULT})", metavar="FILE"),
        flag("--check-config", help="check the policy, say OK, and end"),
        flag("--json", help="one object, as --format json"),
        text("--format", help="json: one object", metavar="text|json"),
    ),
    examples=(
        "docklock witness ask --check-config",
        "docklock witness ask",
    ),
)
SUBCOMMANDS = {"key": KEY, "serve": SERVE, "ask": ASK}


def run_witness(argv: list[str], paths: Paths) -> int:
    """`docklock witness VERB`."""
    verb = options.choose_verb("witness", SUBCOMMANDS, argv)
    values, words = options.parse(SUBCOMMANDS[verb], argv[1:])
    check_count(SUBCOMMANDS[verb], words, 0, 0)
    return {"key": _run_key, "serve": _run_serve, "ask": _run_ask}[verb](values, paths)


def _run_key(values: dict[str, Any], paths: Paths) -> int:
    from chainlite.note import encode_vkey
    from docklock.witness.key import ensure_witness

    for key in ensure_witness(paths, values["name"] or ""):
        print(encode_vkey(key))
    return 0


def _run_serve(values: dict[str, Any], paths: Paths) -> int:
    settings = read_settings(values)
    level = values["log_level"] or "info"
    from docklock.agent.journal import PRIORITIES, Log, find_journal

    if level not in PRIORITIES:
        raise SpecError(f"docklock witness serve: --log-level takes one of {', '.join(PRIORITIES)}")
    if values["check_config"]:
        print("OK")
        return 0
    from docklock.witness.main import run_witness as serve

    gc.enable()  # it lives longer than a command
    log = Log(level, find_journal(dict(os.environ), sys.stderr.fileno()), "docklock witness")
    return serve(paths, settings, log, lambda url: print(f"serving on {url}", flush=True))


def read_settings(values: dict[str, Any]) -> Settings:
    """The file's settings, and over them the options. SpecError."""
    from docklock.witness import config

    path = values["config"] or config.FILE_DEFAULT
    settings = config.Settings()
    if values["config"] or os.path.exists(path):
        settings = config.parse_settings(_read(path), path)
    if values["listen"]:
        try:
            config.split_listen(values["listen"])
        except SpecError as error:
            raise SpecError(f"--listen {values['listen']}: {error}") from None
        settings = settings._replace(listen=values["listen"])
    texts = [line for word in values["log"] for line in _read_word(word).splitlines()]
    settings = config.add_logs(settings, texts)
    if not settings.logs:
        raise SpecError("docklock witness serve: name a log with --log, or in the file")
    return settings


def _run_ask(values: dict[str, Any], paths: Paths) -> int:
    from chainlite.trust import read_policy

    if values["format"] not in (None, "text", "json"):
        raise SpecError("docklock witness ask: --format takes json or text")
    policy = read_policy(values["config"] or POLICY_DEFAULT)
    if values["check_config"]:
        print("OK")
        return 0
    import asyncio

    from chainlite.quorum import describe_standing, render_standing
    from docklock.witness.ask import ask_witnesses

    asked = asyncio.run(ask_witnesses(paths, policy))
    for problem in asked.problems:
        print(f"docklock: {problem}", file=sys.stderr)
    if values["json"] or values["format"] == "json":
        shown = {"size": asked.size, "policy": describe_standing(asked.standing),
                 "problems": list(asked.problems), "submit_ms": round(asked.submit_ms, 3),
                 "took_ms": round(asked.took_ms, 3)}  # fmt: skip
        print(json.dumps(shown))
    else:
        print(f"{asked.size} leaves: {render_standing(asked.standing)}")
    return 0 if asked.standing.is_met else 1


def _read_word(word: str) -> str:
    """The text of a file of this name, or the word itself."""
    return _read(word).decode("ascii", errors="replace") if os.path.exists(word) else word


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SpecError(f"{path}: cannot read it: {error.strerror}") from None
