"""A part is of what was asked for and goes on where the last one ended, or it gives no file."""

from __future__ import annotations

import pytest

from chainlite import bundle
from chainlite.errors import TamperError
from chainlite.export_frames import Scope
from docklock.auditor.exports import check_part
from tests.bpci.exports import export, make_server
from tests.bpci.servers import KEY
from tests.ledger.offered import make_host

WANTED = Scope(KEY.pair.public, KEY.log_keys[1].public, "")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    top = tmp_path_factory.mktemp("exports")
    with make_server(top / "server", make_host(top)) as server:
        data = export(server, fill_bytes=1)
    return [bundle.EXPORT_MAGIC + one for one in data.split(bundle.EXPORT_MAGIC)[1:]]


def test_parts_that_follow_each_other_are_taken(parts: list[bytes]) -> None:
    before = None
    for data in parts:
        before = check_part(data, before, WANTED)
    assert before is not None and before.after is None and len(parts) > 4


def test_an_answer_to_another_question_is_none(parts: list[bytes]) -> None:
    for asked in (
        {"host": b"\x01" * 32}, {"container": b"\x01" * 32}, {"app": "web"}, {"run": 0},
        {"first": 1}, {"time_to": 5}, {"public": b"\x01" * 32}, {"mldsa_public": b"\x01" * 1312},
    ):  # fmt: skip
        with pytest.raises(TamperError, match="of something else"):
            check_part(parts[0], None, WANTED._replace(**asked))  # type: ignore[arg-type]


def test_what_does_not_follow_or_hold_is_refused(parts: list[bytes]) -> None:
    first = check_part(parts[0], None, WANTED)
    spoilt = bytearray(parts[1])
    spoilt[-70] ^= 1
    for data, why in (
        (parts[0], "does not go on"), (parts[2], "does not go on"), (bytes(spoilt), "seal"),
        (parts[1] + parts[2], "more than one part"), (b"", "is empty"), (b"x" * 99, "not an"),
        (parts[1][:-1], "ends inside a frame"),
    ):  # fmt: skip
        with pytest.raises(TamperError, match=why):
            check_part(data, first, WANTED)
    assert check_part(parts[1], first, WANTED).after is not None
