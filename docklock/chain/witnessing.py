"""Have the newest header of a chain cosigned by witnesses, as a file that a verifier trusts.

The node, if one runs, has it signed by f + 1 validators (checkpoints); without one the key here
signs alone, which is enough for up to three validators. Not here: the exchange with a witness, and
forks (docklock.witness.submit); the file's bytes and who believes it (chainlite.proofs.trusted).
Invariants: the file is written only where as many witnesses have cosigned as were asked for, whole
or not at all; every line in it holds; what is written has passed the check that a stranger makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chainlite import checkpoint, cosignature, note, quorum, witness
from chainlite.errors import SpecError, StateError
from chainlite.proofs import trusted
from chainlite.quorum import Member
from chainlite.quorum_file import is_url
from docklock.chain.checkpoints import get_vkey, sign_history
from docklock.chain.client import ask_node
from docklock.chain.directory import find_process, read_chain, say_start, write_whole
from docklock.chain.node_key import load_node_key
from docklock.chain.reading import open_to_read, query, query_node
from docklock.witness.client import Client, PeerError
from docklock.witness.submit import submit_to_all, tell_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chainlite.cosignature import Cosignature
    from chainlite.note import VerifierKey
    from chainlite.proofs.trusted import HeaderCheckpoint
    from chainlite.quorum import Quorum, Standing
    from docklock.chain.directory import ChainDirectory
    from docklock.paths import Paths

WITNESSES_MAX = 32
GATHER_MAX_S = 15.0


class Wanted(NamedTuple):
    """Who is to cosign: all of `members`, or as many as the policy asks for if there is one."""

    members: tuple[Member, ...]
    keys: tuple[VerifierKey, ...]
    policy: Quorum | None


class Witnessed(NamedTuple):
    """What came of it. `why` is why it is not enough, or ""; `problems` what each other said."""

    made: HeaderCheckpoint
    by: tuple[Cosignature, ...]
    standing: Standing | None
    problems: tuple[str, ...]
    why: str


def make_wanted(
    urls: Sequence[str], keys: tuple[VerifierKey, ...], policy: Quorum | None
) -> Wanted:
    """The witnesses at these URLs, under any of the keys, and those of the policy that have one.

    SpecError where nobody is named, or nobody's keys.
    """
    known = tuple(dict.fromkeys((*keys, *(policy.keys if policy else ()))))
    members = [member for member in (policy.members if policy else ()) if member.url]
    for url in dict.fromkeys(url.rstrip("/") for url in urls):
        if not is_url(url):
            raise SpecError(f"--witness {url}: want http://HOST:PORT, or a path below it")
        if url not in [member.url for member in members]:
            members.append(Member(url, "", url, known))
    if not members:
        raise SpecError("name who is to cosign: --witness URL, or --witness-policy FILE with a url")
    if not known:
        raise SpecError(
            "--witness: name its keys with --witness-key: `docklock witness key` prints them there"
        )
    if len(members) > WITNESSES_MAX:
        raise SpecError(f"{len(members)} witnesses, above the limit of {WITNESSES_MAX}")
    return Wanted(tuple(members), known, policy)


class ChainLog:
    """A chain's log of block hashes as a witness is to be shown it."""

    records: tuple[bytes, ...] = ()

    def __init__(self, directory: ChainDirectory, made: HeaderCheckpoint) -> None:
        self._directory = directory
        self.note = made.note
        self.state = checkpoint.parse_claim(made.note)
        self.publics = made.validators.keys
        self.vkeys = tuple([get_vkey(self.state.origin, key) for key in made.validators.keys])

    def is_signed(self, data: bytes) -> bool:
        """Whether it is a checkpoint of this chain that f + 1 of its validators have signed."""
        try:
            signed = note.parse_note(data)
            origin = checkpoint.parse_body(signed.text).origin
        except SpecError:
            return False
        return origin == self.state.origin and witness.is_signed_by_log(signed, self.vkeys)

    def find_size(self, _: Member) -> int:
        """Nothing is remembered: the witness says its size."""
        return 0

    def tell_behind(self, who: str, size: int) -> str:
        """Others make a chain grow: its witness may well have seen more of it than this node."""
        raise PeerError(
            f"{who}: has seen {size} blocks, and {self.state.size} are here: "
            "ask again once this node has them, or ask for a later block"
        )

    async def compute_root(self, size: int) -> bytes:
        """The root over the first `size` block hashes."""
        return bytes.fromhex((await self._ask(size))["root"])

    async def get_consistency(self, old_size: int) -> tuple[bytes, ...]:
        """The proof that the checkpoint goes on from the first `old_size` blocks."""
        return tuple([bytes.fromhex(one) for one in (await self._ask(old_size))["proof"]])

    async def _ask(self, old_size: int) -> dict[str, str]:
        found = await query_node(self._directory, f"/history/{old_size}/{self.state.size}")
        return dict(found)


def list_log_keys(directory: ChainDirectory) -> tuple[str, ...]:
    """The keys of a chain's validators as those of its log, for its witnesses: NAME+ID+BASE64."""
    origin = checkpoint.get_chain_origin(read_chain(directory).id)
    listed = query(directory, "/validators")["validators"]
    return tuple([note.encode_vkey(get_vkey(origin, bytes.fromhex(one["key"]))) for one in listed])


async def have_cosigned(paths: Paths, directory: ChainDirectory, wanted: Wanted) -> Witnessed:
    """The newest header with all cosignatures that hold.

    StateError where no header is signed by enough validators; TamperError where a witness has seen
    another history of this chain, which is kept as proof.
    """
    made = await fetch_signed(directory)
    log = ChainLog(directory, made)
    clients = [Client(member.url) for member in wanted.members]
    try:
        asked = tuple(zip(wanted.members, clients, strict=True))
        answers = await submit_to_all(paths, log, asked)
        notes = [answer for answer in answers if isinstance(answer, bytes)]
        if notes:  # the witnesses' lines first: who reads it looks at them alone
            made = made._replace(note=witness.merge_lines(notes[0], [*notes[1:], made.note]))
            await tell_all(clients, made.note)
    finally:
        for client in clients:
            client.close()
    problems = tuple([str(answer) for answer in answers if isinstance(answer, PeerError)])
    by = cosignature.get_cosignatures(made.note, wanted.keys)
    if wanted.policy is None:
        why = f"{len(problems)} of {len(asked)} witnesses have not cosigned" if problems else ""
        return Witnessed(made, by, None, problems, why)
    standing = quorum.judge_quorum(wanted.policy, by)
    return Witnessed(made, by, standing, problems, standing.why)


async def fetch_signed(directory: ChainDirectory) -> HeaderCheckpoint:
    """The newest final header under a note that enough validators have signed. StateError."""
    read_chain(directory)
    if find_process(directory):
        told = await ask_node(directory, "POST", "/checkpoints", timeout_s=GATHER_MAX_S)
        return trusted.decode_header_checkpoint(bytes.fromhex(told["checkpoint"]))
    from chainlite.proofs.light_source import get_validators, make_header_checkpoint

    with open_to_read(directory) as store:
        validators = get_validators(store, store.height + 1)
        key = load_node_key(directory)
        try:
            if validators.weak_quorum > 1 or key.public not in validators:
                raise StateError(
                    f"{validators.weak_quorum} of {validators.size} validators must sign, and no "
                    f"node runs here that could ask them: {say_start(directory)}"
                )
            signed = sign_history(store, key, store.height)
        finally:
            key.erase()
        return make_header_checkpoint(store, signed, store.height)


def write_checkpoint(
    directory: ChainDirectory, wanted: Wanted, found: Witnessed, path: str
) -> bytes:
    """The file, once a stranger who names the same witnesses would believe it."""
    data = trusted.encode_header_checkpoint(found.made)
    start = trusted.trust_genesis(read_chain(directory).genesis)
    trusted.trust_checkpoint(data, start, wanted.keys, wanted.policy)
    try:
        write_whole(path, data, 0o644)
    except OSError as error:
        raise StateError(f"{path}: cannot write it: {error.strerror}") from None
    return data
