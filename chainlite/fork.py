"""A fork, proven: two checkpoints that one log has signed and that cannot both be true.

Of one size they have two roots. Of two sizes the larger tree is shown not to begin with the
smaller one: a consistency proof leads from another root of that size to the larger tree.
Not here: how a fork is met (docklock.witness) and who signed beside the log. Pure.
Invariants: a file convicts by itself, with the log's public key alone: the id of a host's enrolled
key is its log's origin; every other key counts only if a key record leads to it, or if the
verifier names it. A log that has not signed both cannot be accused.
Layout: README.md of this room, "Fork".
"""

from __future__ import annotations

from chainlite import bundle, checkpoint, codec, hostkeys, hostlog, keys, merkle, note
from chainlite.checkpoint import Checkpoint
from chainlite.errors import SpecError, TamperError
from chainlite.lean import TYPE_CHECKING, NamedTuple
from chainlite.report import EXIT_TAMPERED, escape

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from chainlite.report import Trust

MAGIC = b"DOCKLOCK-FORK\0\0\x01"
PUBLICS_MAX = 64
"""A chain may have more; its verifier knows them from elsewhere."""
RECORDS_MAX = hostkeys.KEYS_MAX
RECORD_LIMIT_BYTES = 1024
FORK_LIMIT_BYTES = 8_388_608


class Fork(NamedTuple):
    """Two notes of one origin, the smaller tree first, and what shows that they do not agree.

    `publics` are Ed25519 keys of the log, the enrolled one first where it is known; `records` the
    leaves of its later keys. `old_root` and `proof` are empty where the sizes are the same.
    """

    publics: tuple[bytes, ...]
    records: tuple[bytes, ...]
    first: bytes
    second: bytes
    old_root: bytes = b""
    proof: tuple[bytes, ...] = ()


class Forked(NamedTuple):
    """What a file proves: both states, and the host whose log it is ("" if it is no host's)."""

    host: str
    first: Checkpoint
    second: Checkpoint


def make_fork(
    publics: tuple[bytes, ...],
    notes: tuple[bytes, bytes],
    old_root: bytes = b"",
    proof: tuple[bytes, ...] = (),
    records: tuple[bytes, ...] = (),
) -> Fork | None:
    """The fork that two notes are, or None if they are not shown to be one. The log's key signed.

    For two sizes `proof` leads from `old_root`, of the smaller size, to the larger tree's root.
    """
    first, second = sorted(notes, key=lambda data: checkpoint.parse_claim(data).size)
    fork = Fork(publics[:PUBLICS_MAX], records, first, second, old_root, proof)
    if checkpoint.parse_claim(first).size == checkpoint.parse_claim(second).size:
        fork = fork._replace(old_root=b"", proof=())
    return fork if _is_shown(fork) else None


def find_submitted_fork(
    publics: tuple[bytes, ...],
    seen_note: bytes,
    data: bytes,
    proof: tuple[bytes, ...],
) -> Fork | None:
    """The fork that a refused submission itself proves: its proof begins at another tree."""
    old, new = checkpoint.parse_claim(seen_note), checkpoint.parse_claim(data)
    if old.size == new.size:
        return make_fork(publics, (seen_note, data))
    if not 0 < old.size < new.size:
        return None
    roots = merkle.compute_proven_roots(old.size, new.size, proof, old.root)
    if roots is None:
        return None
    return make_fork(publics, (seen_note, data), roots[0], proof)


def find_served_fork(
    publics: tuple[bytes, ...],
    seen_note: bytes,
    served: bytes,
    read: Callable[[int, int], bytes],
    records: tuple[bytes, ...] = (),
) -> Fork | None:
    """The fork between a checkpoint that was seen and what its log serves: `served` and its tree.

    `read(level, number)` gives the hashes of the tree under `served`. None where they agree, or
    where the log serves less than was seen. SpecError where the hashes are not those of `served`.
    """
    seen, state = checkpoint.parse_claim(seen_note), checkpoint.parse_claim(served)
    if seen.size > state.size or not seen.size:
        return None
    old_root = merkle.compute_tree_root(seen.size, read)
    if seen.size == state.size:
        if old_root != state.root:
            raise SpecError("the log serves other hashes than its checkpoint is over")
        return make_fork(publics, (seen_note, served), records=records)
    proof = merkle.compute_consistency(seen.size, state.size, read)
    if not merkle.is_consistent(seen.size, state.size, proof, old_root, state.root):
        raise SpecError("the log serves other hashes than its checkpoint is over")
    return make_fork(publics, (seen_note, served), old_root, proof, records)


def encode_fork(fork: Fork) -> bytes:
    """The bytes of a fork's file."""
    return b"".join(
        (
            MAGIC,
            codec.encode_u8(len(fork.publics)),
            *fork.publics,
            codec.encode_u32(len(fork.records)),
            *[codec.encode_bytes(leaf) for leaf in fork.records],
            codec.encode_bytes(fork.first),
            codec.encode_bytes(fork.second),
            codec.encode_bytes(fork.old_root),
            bundle.encode_proof(fork.proof),
        )
    )


def decode_fork(data: bytes) -> Fork:
    """The fork of these bytes; SpecError if they are not one in canonical form."""
    if not is_fork(data):
        raise SpecError("not a fork: it does not start with DOCKLOCK-FORK")
    if not data.startswith(MAGIC):
        raise SpecError(f"fork version {data[len(MAGIC) - 2 : len(MAGIC)].hex()} is not known")
    r = codec.Reader(data[len(MAGIC) :], "fork")
    publics = tuple(r.read_fixed(keys.PUBLIC_BYTES) for _ in range(r.read_u8(limit=PUBLICS_MAX)))
    records = tuple(r.read_bytes(RECORD_LIMIT_BYTES) for _ in range(r.read_u32(limit=RECORDS_MAX)))
    first, second = r.read_bytes(note.NOTE_LIMIT_BYTES), r.read_bytes(note.NOTE_LIMIT_BYTES)
    old_root, proof = r.read_bytes(merkle.HASH_BYTES), bundle.read_proof(r)
    r.finish()
    return Fork(publics, records, first, second, old_root, proof)


def check_fork(data: bytes, named: tuple[bytes, ...] = (), needed: int = 1) -> Forked:
    """What a file proves; SpecError if it does not prove a fork.

    `named` are Ed25519 keys of the log that the verifier knows from elsewhere, and so many must
    have signed each checkpoint: more than one where the log has several owners.
    """
    fork = decode_fork(data)
    origin = checkpoint.parse_claim(fork.first).origin
    host, believed = _find_keys(fork, origin)
    believed += named
    if not believed:
        is_chain = origin.startswith(checkpoint.CHAIN_PREFIX)
        how = "chain's genesis with --genesis" if is_chain else "log's with --log-key"
        raise SpecError(f"not a proof: no key in it is of {origin}: name the {how}")
    first = checkpoint.parse_checkpoint(fork.first, *believed)
    second = checkpoint.parse_checkpoint(fork.second, *believed)
    for one in (fork.first, fork.second):
        if len(checkpoint.get_signers(one, *believed)) < needed:
            raise SpecError(f"not a proof: fewer than {needed} of {origin} have signed")
    if first.origin != second.origin:
        raise SpecError("not a proof of a fork: the checkpoints are of two logs")
    if not _is_shown(fork):
        raise SpecError("not a proof of a fork: both checkpoints can be of one history")
    return Forked(host, first, second)


def describe_fork(forked: Forked) -> dict[str, Any]:
    """The fork as JSON shows it."""
    states = [{"size": one.size, "root": one.root.hex()} for one in (forked.first, forked.second)]
    return {"ok": False, "forked": True, "origin": forked.first.origin, "host": forked.host,
            "checkpoints": states}  # fmt: skip


def render_fork(forked: Forked) -> str:
    """The fork for people."""
    lines = [f"FORKED: {escape(forked.first.origin)} has signed two histories"]
    lines += [f"  {one.size} leaves, root {one.root.hex()}" for one in forked[1:]]
    return "\n".join(lines) + "\n"


def is_fork(start: bytes) -> bool:
    """Whether a file that begins so is a fork's."""
    return start.startswith(MAGIC[:-2])


def show_fork(data: bytes, known: Trust, *, as_json: bool) -> tuple[str, int]:
    """What to print about a fork's file, and the exit code; SpecError if it proves none.

    Of a chain's log its validators are believed, f + 1 of them together.
    """
    import json

    chain, claimed = known.chain, checkpoint.parse_claim(decode_fork(data).first)
    if chain is not None and claimed.origin == checkpoint.get_chain_origin(chain.chain_id):
        from chainlite.proofs.trusted import check_fresh

        check_fresh(chain, known.now_ms)
        forked = check_fork(data, chain.validators.keys, chain.validators.weak_quorum)
    else:
        named = [key.public for key in known.log_keys if key.kind == note.ED25519]
        forked = check_fork(data, tuple(named))
    if as_json:
        return json.dumps(describe_fork(forked)) + "\n", EXIT_TAMPERED
    return render_fork(forked), EXIT_TAMPERED


def _find_keys(fork: Fork, origin: str) -> tuple[str, tuple[bytes, ...]]:
    """The host whose log this is and its keys, as far as the file shows that they are its."""
    for public in fork.publics:
        known = hostkeys.HostKeys(public)
        if checkpoint.get_origin(keys.compute_host_id(public)) != origin:
            continue
        try:
            for data in fork.records:
                leaf = hostlog.decode_leaf(data)
                if not isinstance(leaf, hostlog.Key | hostlog.Revocation):
                    raise SpecError("not a proof: a leaf in it is no key record")
                known.take(leaf)
        except TamperError as error:
            raise SpecError(f"not a proof: {error}") from None
        return known.host.hex(), known.publics
    return "", ()


def _is_shown(fork: Fork) -> bool:
    """Whether the two states cannot both be of one history, whoever signed them."""
    first, second = checkpoint.parse_claim(fork.first), checkpoint.parse_claim(fork.second)
    if first.origin != second.origin or first.size > second.size:
        return False
    if first.size == second.size:
        return first.root != second.root and not fork.proof and not fork.old_root
    return fork.old_root != first.root and merkle.is_consistent(
        first.size, second.size, fork.proof, fork.old_root, second.root
    )
