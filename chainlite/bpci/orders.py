"""What is asked of a server about who may do what: orders, and their JSON. Pure.

The operator's command hands them to the process that serves, an admin sends them over HTTP; both
read them here. Not here: who may ask (office), how they come (members, order_socket).
Invariant: an object with a name too many, one too few or a value of another kind is refused.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from chainlite.bpci.grant import check_tenant
from chainlite.bpci.quota import NAMES, UNLIMITED
from chainlite.bpci.rows import INTEGER_MAX
from chainlite.errors import SpecError

ORDER_LIMIT_BYTES = 4096
DAYS_MAX = 36_500


class Revoke(NamedTuple):
    """Of a member or of a host, by its id."""

    name: bytes


class SetQuota(NamedTuple):
    """Values of quota.NAMES in place of those that were set before by the same; others stay."""

    tenant: str
    values: dict[str, int]


class SetRetention(NamedTuple):
    """Days; 0: for ever. `is_forced`: also fewer than hosts keep what was acknowledged."""

    tenant: str
    days: int
    is_forced: bool = False


class Erase(NamedTuple):
    """Erase now what is due, of one tenant or ("") of all."""

    tenant: str


Order = Revoke | SetQuota | SetRetention | Erase
_NAMES: dict[str, type[Order]] = {
    "revoke": Revoke, "quota": SetQuota, "retention": SetRetention, "erase": Erase,
}  # fmt: skip


def encode_order(order: Order) -> bytes:
    """One line."""
    kind = next(name for name, one in _NAMES.items() if isinstance(order, one))
    fields: dict[str, object] = {"order": kind}
    if isinstance(order, Revoke):
        fields["name"] = order.name.hex()
    else:
        fields["tenant"] = order.tenant
    if isinstance(order, SetQuota):
        fields |= {name: show_limit(value) for name, value in order.values.items()}
    elif isinstance(order, SetRetention):
        fields |= {"days": order.days, "force": order.is_forced}
    return json.dumps(fields).encode() + b"\n"


def decode_order(data: bytes) -> Order:
    """The order of a line; SpecError for any other bytes."""
    fields = parse_fields(data)
    kind = fields.pop("order", None)
    if kind == "revoke":
        return read_revoke(fields)
    tenant = fields.pop("tenant", None)
    if not isinstance(tenant, str):
        raise SpecError("order: tenant: want a name")
    if tenant or kind != "erase":
        check_tenant(tenant)
    if kind == "quota":
        return read_quota(fields, tenant)
    if kind == "retention":
        is_forced = fields.pop("force", False)
        return read_retention(fields, tenant)._replace(is_forced=is_forced is True)
    if kind != "erase" or fields:
        raise SpecError("order: there is no such order")
    return Erase(tenant)


def parse_fields(data: bytes) -> dict[str, object]:
    """A JSON object in which no name is there twice; SpecError for anything else."""
    if len(data) > ORDER_LIMIT_BYTES:
        raise SpecError(f"more than {ORDER_LIMIT_BYTES} bytes")
    try:
        found = json.loads(data, object_pairs_hook=_make_fields)
    except (ValueError, RecursionError):
        raise SpecError("want one JSON object") from None
    if not isinstance(found, dict):
        raise SpecError("want one JSON object")
    return found


def _make_fields(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError
    return fields


def check_names(fields: dict[str, object], *names: str) -> None:
    """SpecError where others are there."""
    for name in fields:
        if name not in names:
            raise SpecError(f"want only {', '.join(names)}")


def read_revoke(fields: dict[str, object]) -> Revoke:
    """`name`: 64 hexadecimal digits."""
    check_names(fields, "name")
    return Revoke(parse_name(fields.get("name")))


def parse_name(value: object) -> bytes:
    """The id of a member or host in hex; SpecError for anything else."""
    try:
        name = bytes.fromhex(value) if isinstance(value, str) and value.isalnum() else b""
    except ValueError:
        name = b""
    if len(name) != 32:
        raise SpecError("name: want an id of 64 hexadecimal digits")
    return name


def read_quota(fields: dict[str, object], tenant: str) -> SetQuota:
    """Any of quota.NAMES: a number, or null for no limit."""
    check_names(fields, *NAMES)
    values = dict[str, int]()
    for name, value in fields.items():
        values[name] = UNLIMITED if value is None else _read_number(value, name, INTEGER_MAX)
    return SetQuota(tenant, values)


def read_retention(fields: dict[str, object], tenant: str) -> SetRetention:
    """`days`: a number, or null for ever."""
    check_names(fields, "days")
    if "days" not in fields:
        raise SpecError("days: want a number, or null")
    value = fields["days"]
    days = 0 if value is None else _read_number(value, "days", DAYS_MAX)
    return SetRetention(tenant, days)


def _read_number(value: object, name: str, limit: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise SpecError(f"{name}: want a number from 0 to {limit}, or null")
    return value


def show_limit(value: int) -> int | None:
    """As JSON has it."""
    return None if value == UNLIMITED else value
