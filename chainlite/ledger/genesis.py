"""Where a chain begins: its name, time, first validators and parameters, and the id they make.

Not here: reading the file, the state that follows (state), who is asked to join. Invariants: the
same chain has the same bytes, so the same id: members ascend by key, every parameter stands;
what `decode_genesis` accepts is canonical. Pure. Layout: README.md of this room, "Genesis".
"""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from typing import Any

from chainlite import domains
from chainlite.codec import Reader, encode_head, encode_text, encode_u64
from chainlite.consensus.validators import VALIDATORS_MAX
from chainlite.errors import SpecError
from chainlite.keys import PUBLIC_BYTES
from chainlite.lean import NamedTuple
from chainlite.ledger.operations import ADDRESS_LIMIT, OPERATOR_LIMIT, is_operator
from chainlite.quorum_file import Wrong, locate
from chainlite.toml_lines import parse_document

VERSION = 1
GENESIS_LIMIT_BYTES = 1 << 17
TOP_KEYS = ("name", "time_ms", "parameters", "validator")
MEMBER_KEYS = ("key", "operator", "address", "certificate")
DAY_MS = 86_400_000
HOUR_BLOCKS = 3_600_000
"""So many blocks of a millisecond are an hour, the shortest."""


class Parameters(NamedTuple):
    """What validators can change by vote; the place here is a vote's `parameter`.

    A host may anchor once in `anchor_interval_blocks`; a proposal waits `vote_blocks` for votes;
    an empty block is due after `block_interval_ms`; `base_timeout_ms` is the least of round 0; a
    verifier that was away for `trust_period_ms` needs a checkpoint from elsewhere.
    """

    anchor_interval_blocks: int = 1
    registrations_per_block: int = 64
    vote_blocks: int = 1_000_000
    block_interval_ms: int = 1_000
    base_timeout_ms: int = 250
    trust_period_ms: int = 21 * DAY_MS


PARAMETER_LIMITS = (
    (1, HOUR_BLOCKS),
    (1, 4_096),
    (10, 1_000 * HOUR_BLOCKS),
    (10, 60_000),
    (10, 60_000),
    (DAY_MS, 365 * DAY_MS),
)
"""The least and the most that each may be, in the order of Parameters."""


class Member(NamedTuple):
    """A validator or an archive: its key, who runs it, where it is, its certificate's SHA-256."""

    public: bytes
    operator: str
    address: str
    certificate: bytes


class Genesis(NamedTuple):
    """`members` are the first validators, ascending by key. `time_ms` is Unix time in ms."""

    name: str
    time_ms: int
    parameters: Parameters
    members: tuple[Member, ...]


def check_parameter(number: int, value: int) -> None:
    """SpecError unless there is such a parameter and it may have this value."""
    if not 0 <= number < len(PARAMETER_LIMITS):
        raise SpecError(f"parameter {number} is not known")
    least, most = PARAMETER_LIMITS[number]
    if not least <= value <= most:
        raise SpecError(f"{Parameters._fields[number]}: {value} is not {least} to {most}")


def check_genesis(genesis: Genesis) -> None:
    """SpecError unless a chain can begin so."""
    if not is_operator(genesis.name):
        raise SpecError(f"name: want 1 to {OPERATOR_LIMIT} plain characters, no spaces")
    for number, value in enumerate(genesis.parameters):
        check_parameter(number, value)
    if not 1 <= len(genesis.members) <= VALIDATORS_MAX:
        raise SpecError(f"validator: {len(genesis.members)}, not 1 to {VALIDATORS_MAX}")
    for member in genesis.members:
        if not is_operator(member.operator) or not is_address(member.address):
            raise SpecError("validator: want an operator and HOST:PORT")
    if any(not one.public < other.public for one, other in pairwise(genesis.members)):
        raise SpecError("validator: keys do not ascend, or one comes twice")


def encode_genesis(genesis: Genesis) -> bytes:
    """The canonical bytes of a genesis, which is checked first."""
    check_genesis(genesis)
    parts = [
        encode_head(domains.CHAIN_GENESIS, VERSION),
        encode_text(genesis.name),
        encode_u64(genesis.time_ms),
        *[encode_u64(value) for value in genesis.parameters],
        len(genesis.members).to_bytes(2, "big"),
        *map(encode_member, genesis.members),
    ]
    return b"".join(parts)


def decode_genesis(data: bytes) -> Genesis:
    """The genesis that these bytes are; SpecError for any other bytes."""
    if len(data) > GENESIS_LIMIT_BYTES:
        raise SpecError(f"genesis: {len(data)} bytes, above {GENESIS_LIMIT_BYTES}")
    r = Reader(data, "genesis")
    r.read_head(domains.CHAIN_GENESIS, VERSION)
    name, time_ms = r.read_text(OPERATOR_LIMIT), r.read_u64()
    parameters = read_parameters(r)
    members = tuple([read_member(r) for _ in range(r.read_u16(limit=VALIDATORS_MAX))])
    r.finish()
    genesis = Genesis(name, time_ms, parameters, members)
    check_genesis(genesis)
    return genesis


def compute_chain_id(genesis: bytes) -> bytes:
    """What every signature on a chain names it by: SHA-256 of a tag and the genesis's bytes."""
    return sha256(domains.CHAIN_ID + genesis).digest()


def encode_member(member: Member) -> bytes:
    """Key, operator, address, certificate."""
    texts = encode_text(member.operator) + encode_text(member.address)
    return member.public + texts + member.certificate


def read_member(reader: Reader) -> Member:
    """The member that comes next."""
    public = reader.read_fixed(PUBLIC_BYTES)
    texts = reader.read_text(OPERATOR_LIMIT), reader.read_text(ADDRESS_LIMIT)
    return Member(public, *texts, reader.read_fixed(32))


def read_parameters(reader: Reader) -> Parameters:
    """The parameters that come next, each a u64."""
    return Parameters._make([reader.read_u64() for _ in PARAMETER_LIMITS])


def parse_genesis(data: bytes, file: str) -> Genesis:
    """The genesis of a TOML file's bytes; SpecError names `file`, line and key."""
    document, text = parse_document(data, file)
    try:
        genesis = _read(document)
        try:
            check_genesis(genesis)
        except SpecError as error:
            key, _, why = str(error).partition(": ")
            if key not in TOP_KEYS:
                key, why = "parameters", str(error)
            raise Wrong(why, key) from None
    except Wrong as why:
        raise locate(why, document, text, file, "validator") from None
    return genesis


def parse_members(data: bytes, file: str) -> tuple[Member, ...]:
    """The `[[validator]]` entries of a file that has nothing else; SpecError as `parse_genesis`."""
    document, text = parse_document(data, file)
    try:
        for key in document:
            if key != "validator":
                raise Wrong("an entry has [[validator]] and nothing else", key)
        return _read_members(document)
    except Wrong as why:
        raise locate(why, document, text, file, "validator") from None


def format_genesis(genesis: Genesis) -> str:
    """The TOML file of a genesis; `parse_genesis` reads the same back."""
    lines = [f'name = "{genesis.name}"', f"time_ms = {genesis.time_ms}", "", "[parameters]"]
    lines += [f"{key} = {value}" for key, value in genesis.parameters._asdict().items()]
    entries = [format_member(member) for member in genesis.members]
    return "\n".join([*lines, ""]) + "\n".join(["", *entries])


def format_member(member: Member) -> str:
    """The `[[validator]]` entry of a genesis file."""
    return (
        f'[[validator]]\nkey = "{member.public.hex()}"\noperator = "{member.operator}"\n'
        f'address = "{member.address}"\ncertificate = "{member.certificate.hex()}"\n'
    )


def _read(document: dict[str, Any]) -> Genesis:
    for key in document:
        if key not in TOP_KEYS:
            raise Wrong(f"unknown key; known are {', '.join(TOP_KEYS)}", key)
    name = document.get("name")
    if not isinstance(name, str):
        raise Wrong("want a text", "name")
    members = sorted(_read_members(document))
    time_ms = _read_number(document.get("time_ms"), "time_ms")
    return Genesis(name, time_ms, _read_parameters(document), tuple(members))


def _read_members(document: dict[str, Any]) -> tuple[Member, ...]:
    tables = document.get("validator")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise Wrong("want tables [[validator]]", "validator")
    return tuple([_read_member(table, index) for index, table in enumerate(tables)])


def _read_parameters(document: dict[str, Any]) -> Parameters:
    table = document.get("parameters", {})
    if not isinstance(table, dict):
        raise Wrong("want a table [parameters]", "parameters")
    for key, value in table.items():
        if key not in Parameters._fields:
            known = ", ".join(Parameters._fields)
            raise Wrong(f"{key} is not known; known are {known}", "parameters")
        _read_number(value, "parameters")
    return Parameters(**table)


def _read_number(value: object, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise Wrong("want a whole number", key)
    return value


def _read_member(table: dict[str, Any], index: int) -> Member:
    for key in table:
        if key not in MEMBER_KEYS:
            raise Wrong(f"unknown key; known are {', '.join(MEMBER_KEYS)}", key, index)
    operator, address = table.get("operator"), table.get("address", "")
    if not isinstance(operator, str) or not is_operator(operator):
        raise Wrong(f"want 1 to {OPERATOR_LIMIT} plain characters, no spaces", "operator", index)
    if not isinstance(address, str) or not is_address(address):
        raise Wrong("want HOST:PORT", "address", index)
    return Member(_read_hash(table, "key", index), operator, address,
                  _read_hash(table, "certificate", index))  # fmt: skip


def is_address(text: str) -> bool:
    """Whether it is HOST:PORT, short enough, and plain enough for a file."""
    plain = text.isascii() and text.isprintable() and not set(text) & set('"\\ /@')
    return plain and 0 < len(text) <= ADDRESS_LIMIT and text.rpartition(":")[2].isdigit()


def _read_hash(table: dict[str, Any], key: str, index: int) -> bytes:
    text = table.get(key)
    try:
        found = bytes.fromhex(text) if isinstance(text, str) and len(text) == 64 else b""
    except ValueError:
        found = b""
    if len(found) != 32:
        raise Wrong("want 64 hex digits", key, index)
    return found
