"""The `blockIO` section of a config.json: weights, and rates of devices. Pure.

Not here: the files of a cgroup (docklock.cgroup.limits), Docker's options (cli/block_options.py).
Source: OCI runtime-spec, config-linux.md, Block IO.
"""

from __future__ import annotations

from chainlite.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from docklock.document import Cursor

DEVICES_MAX = 1024
DEVICE_NUMBER_MAX = 2**20 - 1
RATE_MAX = 2**63 - 1
WEIGHT_MIN, WEIGHT_MAX = 10, 1000
WEIGHT = "weight"
# Kinds of limits: what the specification calls the list of each.
LISTS = {
    "read_bps": "throttleReadBpsDevice",
    "write_bps": "throttleWriteBpsDevice",
    "read_iops": "throttleReadIOPSDevice",
    "write_iops": "throttleWriteIOPSDevice",
}
_WEIGHTS = "weightDevice"
_LEAF_WEIGHT = "leafWeight"


class BlockLimit(NamedTuple):
    """A device's WEIGHT, or its rate in bytes or operations a second: a kind of LISTS."""

    kind: str
    major: int
    minor: int
    value: int


def parse_block_io(section: Cursor) -> tuple[int | None, tuple[BlockLimit, ...]]:
    """(the weight, the devices' limits). SpecError."""
    _refuse_leaf(section)
    weight = section.get(WEIGHT)
    limits = []
    for entry in section.get(_WEIGHTS).as_list():
        _refuse_leaf(entry)
        limits.append(_parse_limit(entry, WEIGHT, WEIGHT, WEIGHT_MIN, WEIGHT_MAX))
    for kind, name in LISTS.items():
        limits += [
            _parse_limit(entry, kind, "rate", 0, RATE_MAX) for entry in section.get(name).as_list()
        ]
    if len(limits) > DEVICES_MAX:
        raise section.error(f"{len(limits)} limits, at most {DEVICES_MAX} are read")
    value = weight.as_int(0, WEIGHT_MAX, 0)  # 0: none, as Docker writes it
    if 0 < value < WEIGHT_MIN:
        raise weight.error(f"expected an integer in {WEIGHT_MIN}..{WEIGHT_MAX}, got {value}")
    return value or None, tuple(limits)


def encode_block_io(weight: int | None, limits: tuple[BlockLimit, ...]) -> dict[str, object] | None:
    """The section; None for one that says nothing."""
    found: dict[str, object] = {} if weight is None else {WEIGHT: weight}
    for kind, name in ((WEIGHT, _WEIGHTS), *LISTS.items()):
        field = WEIGHT if kind == WEIGHT else "rate"
        entries = [
            {"major": one.major, "minor": one.minor, field: one.value}
            for one in limits
            if one.kind == kind
        ]
        if entries:
            found[name] = entries
    return found or None


def _parse_limit(entry: Cursor, kind: str, field: str, low: int, high: int) -> BlockLimit:
    major, minor = (
        entry.required(name).as_int(0, DEVICE_NUMBER_MAX) for name in ("major", "minor")
    )
    return BlockLimit(kind, major, minor, entry.required(field).as_int(low, high))


def _refuse_leaf(section: Cursor) -> None:
    if section.get(_LEAF_WEIGHT).value:
        raise section.get(_LEAF_WEIGHT).error("no kernel that docklock runs on has it; remove it")
