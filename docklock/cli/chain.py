"""`docklock chain VERB`: make, run and ask a node of a chain of validators.

Not here: what a node does (docklock.chain), the texts for people (chain_text). Exit codes as for
all nouns: 0 done, 1 not now, 2 a wrong argument or file, 3 a chain that contradicts itself, or a
node that halted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from docklock.cli import chain_checkpoint, options
from docklock.cli.options import Command, UsageError, check_count, flag, listed, text
from docklock.cli.parent import read_parent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from docklock.cli.options import Option
    from docklock.paths import Paths

DIR = text("--dir", help="the node's directory (chain in the state directory)", metavar="DIR")
FORMAT = text("--format", help="json: one object", metavar="json")
NO_WAIT = flag("--no-wait", help="do not wait until a block has it")
SET = listed("--set", help="a parameter of the chain, as block_interval_ms=500",
             metavar="KEY=NUMBER")  # fmt: skip
LISTEN = text("--listen", help="where it listens; without, it only dials", metavar="HOST:PORT")
ADDRESS = text("--address", help="where others reach it, if not as it listens",
               metavar="HOST:PORT")  # fmt: skip


def _make(
    name: str, usage: str, summary: str, *more: Option, examples: tuple[str, ...] = ()
) -> Command:
    return Command(f"chain {name}", usage, summary, more, examples=examples)


COMMANDS = {
    "init": _make(
        "init", "[OPTIONS]",
        "Make a node: its key, certificate and settings; print its entry for a genesis file. "
        "With --genesis, join that chain.",
        DIR, LISTEN, ADDRESS,
        text("--operator", help="who runs it, in a word", metavar="NAME"),
        text("--introduce", help="where it introduces newcomers", metavar="HOST:PORT"),
        listed("--introducers", help="ask there to be introduced; may be given several times",
               metavar="HOST:PORT"),
        text("--admit", help="anybody: let in whoever asks; nobody: but those that the chain names",
             metavar="WHOM"),
        text("--begin", metavar="WITH",
             help="snapshot: a new store begins with the state that peers have; blocks: with all"),
        text("--genesis", help="the chain to join", metavar="FILE"),
        FORMAT,
        examples=("docklock chain init --listen 0.0.0.0:7371 --operator acme > acme.entry",),
    ),
    "genesis": _make(
        "genesis", "[OPTIONS] ENTRY...",
        "Write the genesis file of a new chain, of the entries that its validators' "
        "`chain init` printed.",
        text("--name", help="the chain's name", metavar="NAME"),
        SET,
        text("-o", "--output", help="write to this file (genesis.toml); - prints it",
             metavar="FILE"),
        examples=("docklock chain genesis --name testnet acme.entry globex.entry",),
    ),
    "start": _make(
        "start", "[OPTIONS]",
        "Run the node until SIGTERM or Ctrl-C.",
        DIR,
        flag("--follow", help="never vote, even if its key is a validator's"),
        flag("--repair", help="first check all blocks, and drop those from the first bad one on"),
        flag("--snapshot",
             help="where nothing is stored yet, take the state from peers instead of all blocks"),
        text("--header-checkpoint", metavar="FILE",
             help="with --snapshot: believe this header of the chain, and what follows from it"),
        listed("--witness-key", metavar="FILE|KEY",
               help="a witness whose cosignature of the header checkpoint counts"),
        text("--witness-policy", metavar="FILE", help="which witnesses must have cosigned it"),
        text("--log-level", help="error, warning, info or debug (info)", metavar="LEVEL"),
        text("--parent", help="end with this process", metavar="PID"),
        examples=("docklock chain start --follow",),
    ),
    "status": _make("status", "[OPTIONS]", "Show how the node and its chain stand.", DIR, FORMAT,
        examples=("docklock chain status", "docklock chain status --format json"),
    ),
    "blocks": _make(
        "blocks", "[OPTIONS] [HEIGHT]",
        "List the newest blocks, or show one.",
        DIR, text("--last", help="so many (10)", metavar="N"), FORMAT,
        examples=("docklock chain blocks --last 5", "docklock chain blocks 120"),
    ),
    "tx": _make(
        "tx", "[OPTIONS] HASH | submit FILE",
        "Show a transaction, or hand in a signed one from a file.",
        DIR, NO_WAIT, FORMAT,
        examples=("docklock chain tx submit signed.tx",),
    ),
    "validators": _make(
        "validators", "[OPTIONS] [HEIGHT | add ENTRY | remove KEY]",
        "Show who decides, what changes, and votes in progress; or vote that a node joins (by the "
        "entry that its `chain init` printed) or leaves (by its key, or the beginning of it).",
        DIR, flag("--archive", help="vote on an archive instead"), NO_WAIT, FORMAT,
        examples=("docklock chain validators", "docklock chain validators add globex.entry"),
    ),
    "proof": _make(
        "proof", "[OPTIONS] [HOST [LEAF]]",
        "Write the proof that a host's log, up to a leaf or the newest anchor, is final: for "
        "`verify --final`. `docklock prove --final` proves one receipt.",
        DIR,
        text("-o", "--output", help="write to this file (HOST-HEIGHT.final)", metavar="FILE"),
        text("--evidence", metavar="NAME",
             help="instead: that evidence is final: a removed validator's key, or a transaction"),
        text("--trusted-height", help="the reader trusts the header at this height (0)",
             metavar="HEIGHT"),
        examples=("docklock chain proof -o host.final",),
    ),
    "checkpoint": _make(
        "checkpoint", "[OPTIONS]",
        "Have the newest header cosigned by witnesses: for `verify --header-checkpoint`, once the "
        "genesis is older than the chain's trust period.",
        DIR, *chain_checkpoint.OPTIONS, FORMAT,
        examples=("docklock chain checkpoint --witness-policy witnesses.toml -o header.note",),
    ),
    "parameters": _make(
        "parameters", "[OPTIONS] [set KEY=NUMBER]",
        "Show the chain's parameters and votes on them in progress; or vote that one be so much.",
        DIR, NO_WAIT, FORMAT,
        examples=("docklock chain parameters set block_interval_ms=500",),
    ),
    "peers": _make(
        "peers", "[OPTIONS] [add FILE... | remove KEY]",
        "Show the nodes that this one knows beside the chain's validators; know another by its "
        "registration file, or no longer.",
        DIR, FORMAT,
        examples=("docklock chain peers add other.registration",),
    ),
    "submit": _make(
        "submit", "[OPTIONS]",
        "Anchor this host's log on the chain of the node that runs here, and offer its bodies "
        "(without values) to the validators.",
        DIR,
        flag("--follow", help="pass after pass, until a signal"),
        text("--parent", help="end with this process", metavar="PID"),
        FORMAT,
        examples=("docklock chain submit",),
    ),
    "devnet": _make(
        "devnet", "[OPTIONS]",
        "Try it: several validators on this host, until Ctrl-C.",
        text("--validators", help="how many (4)", metavar="N"),
        text("--dir", help="where (a new one in the temporary directory)", metavar="DIR"),
        flag("--keep", help="keep the directory; --dir goes on with it"),
        SET,
        examples=("docklock chain devnet --validators 4",),
    ),
}  # fmt: skip


def run_chain(argv: list[str], paths: Paths) -> int:
    """`docklock chain VERB`."""
    verb = options.choose_verb("chain", COMMANDS, argv)
    values, words = options.parse(COMMANDS[verb], argv[1:])
    if values.get("format") not in (None, "json", "text"):
        raise UsageError(f"docklock chain {verb}: --format takes json or text")
    verbs = {
        "init": _run_init,
        "genesis": _run_genesis,
        "start": _run_start,
        "status": _run_status,
        "blocks": _run_blocks,
        "tx": _run_tx,
        "validators": _run_validators,
        "proof": _run_proof,
        "checkpoint": _run_checkpoint,
        "parameters": _run_parameters,
        "peers": _run_peers,
        "submit": _run_submit,
        "devnet": _run_devnet,
    }
    return verbs[verb](values, words, paths)


def _run_init(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    check_count(COMMANDS["init"], words, 0, 0)
    from chainlite.errors import SpecError
    from docklock.chain.directory import get_directory, read_genesis_file
    from docklock.chain.settings import READERS
    from docklock.chain.setup import init_node

    wanted: dict[str, object] = {}
    for key, read in READERS.items():
        if values[key]:
            try:
                wanted[key] = read(values[key])
            except SpecError as error:
                raise SpecError(f"--{key} {values[key]}: {error}") from None
    chain = read_genesis_file(values["genesis"]) if values["genesis"] else None
    directory = get_directory(paths, values["dir"])
    made = init_node(directory, wanted, chain)
    from docklock.cli import chain_text

    if values["format"] == "json":
        return _print_json(chain_text.describe_made(made, directory))
    sys.stderr.write(chain_text.render_made(made, directory))
    if made.member is not None and made.chain is None:
        from chainlite.ledger.genesis import format_member

        sys.stdout.write(format_member(made.member))
    return 0


def _run_genesis(values: dict[str, Any], words: list[str], _paths: Paths) -> int:
    check_count(COMMANDS["genesis"], words, 1)
    if not values["name"]:
        raise UsageError("docklock chain genesis: --name NAME: a chain has a name")
    import time

    from chainlite.ledger.genesis import encode_genesis, format_genesis
    from docklock.chain import setup
    from docklock.chain.directory import make_chain, write_whole

    parameters = setup.parse_parameters(values["set"])
    members = setup.read_entries(words)
    now_ms = time.time_ns() // 1_000_000
    genesis = setup.make_genesis(values["name"], now_ms, members, parameters)
    output = values["output"] or "genesis.toml"
    if output == "-":
        sys.stdout.write(format_genesis(genesis))
        return 0
    setup.check_unused(output)
    write_whole(os.path.abspath(output), format_genesis(genesis).encode(), 0o644)
    chain = make_chain(encode_genesis(genesis))
    print(f"{output}: chain {genesis.name} ({chain.short_id}) of {len(members)} validators; each "
          f"joins with: docklock chain init --genesis {output}")  # fmt: skip
    return 0


def _run_start(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    check_count(COMMANDS["start"], words, 0, 0)
    import gc

    from docklock.agent.journal import PRIORITIES, Log, find_journal
    from docklock.chain.directory import get_directory

    level = values["log_level"] or "info"
    if level not in PRIORITIES:
        raise UsageError(f"docklock chain start: --log-level takes one of {', '.join(PRIORITIES)}")
    parent = read_parent(values["parent"], "chain")
    from docklock.chain.arriving import read_trusted
    from docklock.chain.process import Choices, run_node

    gc.enable()  # it lives longer than a command
    log = Log(level, find_journal(dict(os.environ), sys.stderr.fileno()), "docklock chain")
    directory = get_directory(paths, values["dir"])
    choices = Choices(
        parent, follow=values["follow"], repair=values["repair"], snapshot=values["snapshot"],
        trusted=read_trusted(
            directory, values["header_checkpoint"], values["witness_key"], values["witness_policy"]
        ),
    )  # fmt: skip
    return run_node(directory, choices, log)


def _run_status(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    check_count(COMMANDS["status"], words, 0, 0)
    from docklock.chain.directory import get_directory
    from docklock.chain.reading import read_status

    directory = get_directory(paths, values["dir"])
    status = read_status(directory)
    if values["format"] == "json":
        _print_json(status)
    else:
        from docklock.cli.chain_text import render_status

        sys.stdout.write(render_status(status))
    if not status["running"]:
        from docklock.chain.directory import say_start

        print(f"docklock: no node runs: {say_start(directory)}", file=sys.stderr)
        return 3 if status["halted"] else 1
    if status["halted"]:
        print(f"docklock: HALTED: {status['halted']}", file=sys.stderr)
        return 3
    return 0


def _run_blocks(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    check_count(COMMANDS["blocks"], words, 0, 1)
    from docklock.cli import chain_text

    if words and values["last"]:
        raise UsageError("docklock chain blocks: a HEIGHT or --last N, not both")
    if words:
        return _show(values, paths, f"/blocks/{words[0]}", chain_text.render_block)
    count = values["last"] or "10"
    return _show(values, paths, f"/blocks/last/{count}", chain_text.render_blocks)


def _show(values: dict[str, Any], paths: Paths, target: str, render: Any) -> int:
    from docklock.chain.directory import get_directory
    from docklock.chain.reading import query

    found = query(get_directory(paths, values["dir"]), target)
    if values["format"] == "json":
        return _print_json(found)
    sys.stdout.write(render(found))
    return 0


def _run_tx(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    check_count(COMMANDS["tx"], words, 1, 2)
    from docklock.cli import chain_text

    if len(words) == 1:
        return _show(values, paths, f"/transactions/{words[0]}", chain_text.render_tx)
    if words[0] != "submit":
        raise UsageError(f"docklock chain tx: {words[0]}: want HASH, or submit FILE")
    from chainlite.ledger.block import TRANSACTION_LIMIT_BYTES
    from chainlite.ledger.tx import decode_tx
    from docklock.chain.directory import read_bounded

    data = read_bounded(words[1], TRANSACTION_LIMIT_BYTES)
    decode_tx(data)
    return _hand_in(values, paths, "/transactions", data)


def _hand_in(values: dict[str, Any], paths: Paths, target: str, body: bytes) -> int:
    """Have the node take a transaction or a vote; wait until a block has it, and say so."""
    from docklock.chain.client import ask
    from docklock.chain.directory import get_directory
    from docklock.chain.submitting import check_taken, wait_until_in_block

    directory = get_directory(paths, values["dir"])
    told = ask(directory, "POST", target, body)
    check_taken(told)
    if not values["no_wait"]:
        told |= wait_until_in_block(directory, told["hash"])
    if values["format"] == "json":
        return _print_json(told)
    where = f"in block {told['height']}" if "height" in told else "waits for a block"
    print(f"{told['hash']} {where}")
    return 0


def _run_validators(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    check_count(COMMANDS["validators"], words, 0, 2)
    from docklock.cli import chain_text

    if len(words) < 2 and words[:1] not in (["add"], ["remove"]):
        target = "/".join(["/validators", *words])
        return _show(values, paths, target, chain_text.render_validators)
    if len(words) != 2 or words[0] not in ("add", "remove"):
        raise UsageError(
            "docklock chain validators: want nothing, HEIGHT, add ENTRY, or remove KEY"
        )
    from docklock.chain.directory import get_directory
    from docklock.chain.submitting import make_vote

    directory = get_directory(paths, values["dir"])
    vote = make_vote(directory, words[0], words[1], archive=values["archive"])
    code = _hand_in(values, paths, "/votes", vote)
    if values["format"] != "json" and not values["no_wait"]:
        sys.stdout.write("\n")
        _show(values, paths, "/validators", chain_text.render_validators)
    return code


def _run_proof(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    evidence, trusted_height = values["evidence"], values["trusted_height"] or "0"
    check_count(COMMANDS["proof"], words, 0 if evidence else 1, 0 if evidence else 2)
    from chainlite.proofs.light_format import encode_light
    from docklock.chain.directory import write_whole
    from docklock.chain.views import parse_hash
    from docklock.cli.prove import ask_evidence, ask_finality

    if evidence:
        about = parse_hash(evidence, "--evidence")
        made = ask_evidence(paths, values["dir"], about, trusted_height)
        what = "the evidence"
    else:
        about, leaf = parse_hash(words[0], "HOST"), words[1] if len(words) > 1 else "newest"
        made = ask_finality(paths, values["dir"], about, leaf, trusted_height)
        what = f"the log of {made.log_size} leaves"
    output = values["output"] or f"{about.hex()[:12]}-{made.header.height}.final"
    data = encode_light(made)
    write_whole(os.path.abspath(output), data, 0o644)
    print(f"{output}: {len(data)} bytes; {what} is final in block {made.header.height}")
    return 0


def _run_checkpoint(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    check_count(COMMANDS["checkpoint"], words, 0, 0)
    return chain_checkpoint.run_checkpoint(values, paths)


def _run_parameters(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    check_count(COMMANDS["parameters"], words, 0, 2)
    from docklock.cli import chain_text

    if not words:
        return _show(values, paths, "/parameters", chain_text.render_parameters)
    if len(words) != 2 or words[0] != "set":
        raise UsageError("docklock chain parameters: want nothing, or set KEY=NUMBER")
    from docklock.chain.submitting import make_parameter_vote

    return _hand_in(values, paths, "/votes", make_parameter_vote(words[1]))


def _run_peers(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    from docklock.chain import peers
    from docklock.chain.directory import get_directory
    from docklock.cli import chain_text

    directory = get_directory(paths, values["dir"])
    if not words:
        found = peers.list_peers(directory)
        if values["format"] == "json":
            return _print_json(found)
        sys.stdout.write(chain_text.render_peers(found))
        return 0
    if words[0] == "add" and len(words) > 1:
        for path in words[1:]:
            print(peers.add_peer(directory, path))
        return 0
    if words[0] == "remove" and len(words) == 2:
        print(peers.remove_peer(directory, words[1]))
        return 0
    raise UsageError("docklock chain peers: want nothing, add FILE..., or remove KEY")


def _run_submit(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    check_count(COMMANDS["submit"], words, 0, 0)
    import asyncio
    import signal

    from docklock.chain.directory import get_directory
    from docklock.chain.hosting import submit_always, submit_once
    from docklock.cli import chain_text

    directory = get_directory(paths, values["dir"])
    if not values["follow"]:
        done = asyncio.run(submit_once(paths, directory))
        shown = chain_text.describe_passed(done)
        if values["format"] == "json":
            _print_json(shown)
        else:
            sys.stdout.write(chain_text.render_passed(shown))
        return 1 if shown["due"] else 0
    parent = read_parent(values["parent"], "chain")
    said: list[str] = []

    def tell(lines: Iterable[str]) -> None:
        """What is wrong now, once for as long as it is so."""
        for line in lines:
            if line not in said:
                print(f"docklock: submitter: {line}", file=sys.stderr, flush=True)
        said[:] = lines

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    asyncio.run(
        submit_always(
            paths, directory, parent, lambda done: tell(done.troubles), lambda why: tell([why])
        )
    )
    return 0


def _run_devnet(values: dict[str, Any], words: list[str], paths: Paths) -> int:
    check_count(COMMANDS["devnet"], words, 0, 0)
    from docklock.chain.devnet import Devnet, run_devnet
    from docklock.chain.setup import parse_parameters
    from docklock.chain.views import parse_number

    count = parse_number(values["validators"] or "4", "--validators")
    wanted = Devnet(count, values["dir"] or "", values["keep"], parse_parameters(values["set"]))
    return run_devnet(paths, wanted, lambda line: print(line, flush=True))


def _print_json(value: object) -> int:
    from docklock.json_text import encode_json

    sys.stdout.write(encode_json(value) + "\n")
    return 0
