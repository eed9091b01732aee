"""Hosts that fork, skip, forge, flood, replay and tell the future, at the served process.

Each is set aside with its proof, the honest part is kept, and another host goes on beside it.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainlite import hostlog, keys, note
from chainlite.bpci import at_rest, batch, ingest
from chainlite.bpci.acknowledgement import Held, verify_acknowledgement
from chainlite.bpci.alert import decode_evidence
from chainlite.bpci.at_rest import Vault
from chainlite.bpci.batch import encode_batch
from chainlite.bpci.handover import EVERYTHING, Place, Places, Shown, encode_places, encode_shown
from chainlite.bpci.serving import load_server_key
from chainlite.bpci.sqlite_store import SqliteStore
from chainlite.bpci.verification import Trouble
from chainlite.cage.client import Answer, Caller
from chainlite.fork import check_fork
from docklock.evidence import keyring
from docklock.evidence.host_log import HostLog
from docklock.paths import Paths
from tests.bpci.batches import make_batch, make_data
from tests.bpci.callers import make_keyid
from tests.bpci.test_served import NAME, NONCES, Process, run
from tests.bpci.test_verification import find_kind, resign, spoil_body
from tests.chainlite.samples import make_key
from tests.evidence.recording import make_id, make_paths, record
from tests.evidence.test_key_changes import load_key
from tests.ledger.offered import get_size

FLOOD_MAX = 1500


class Scene:
    """A served server, a host that is honest, and one that is not."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.top = directory, directory / "bpci"
        made = run("bpci", "init", str(self.top))
        self.server = tuple(note.parse_vkey(line, "key") for line in made.stdout.splitlines())
        self.process = Process(self.top)
        self.paths, self.other = make_paths(directory / "bad"), make_paths(directory / "honest")
        record(self.other, make_id(1), count=3)
        for number in range(1, 5):
            record(self.paths, make_id(number), count=4)
        self.caller, self.honest = self.enrol(self.paths), self.enrol(self.other)
        self.host = keys.compute_host_id(keyring.ensure_host_key(self.paths).enrolled)

    def enrol(self, paths: Paths) -> Caller:
        enrolled = keyring.ensure_host_key(paths).enrolled
        grant = self.directory / f"{enrolled.hex()}.grant"
        words = (str(self.top), keys.encode_verifier("h", enrolled), str(grant))
        assert run("bpci", "grant", "--tenant", "acme", *words).returncode == 0
        assert self.process.ask("POST", "/v1/enrol", grant.read_bytes())[0] == 200
        key = load_key(paths)
        keyid = make_keyid(keys.compute_host_id(enrolled), key.public)
        return Caller(key, keyid, self.server[0].public, self.server[0].name)

    def call(self, method: str, target: str, body: bytes = b"", **fields: str) -> Answer:
        prepared = self.caller.prepare(
            method, f"http://{NAME}{target}", body, fields, created_s=int(time.time()),
            nonce=next(NONCES),
        )  # fmt: skip
        reply = self.process.ask(method, prepared.target, body, dict(prepared.fields))
        answer = self.caller.check(prepared, *reply)
        assert answer.status == 200, answer.body
        return answer

    def get_held(self, answer: Answer) -> Held:
        data = answer.body
        if answer.status != 200:
            data = ingest.decode_refused(answer.body)[2]
        return verify_acknowledgement(data, self.server, self.host).held

    def assert_held(self, answer: Answer, size: int) -> None:
        with HostLog(self.paths, None) as log:
            assert self.get_held(answer) == (self.host, size, log.compute_root(size))

    def refuse(self, data: bytes, kind: str) -> Answer:
        """Send what does not hold: it is refused, with this alert."""
        answer = self.process.post(self.caller, data)
        assert (answer.status, ingest.decode_refused(answer.body)[1]) == (422, kind), answer.body
        return answer

    def list_alerts(self) -> list[str]:
        shown = json.loads(self.call("GET", f"/v1/hosts/{self.host.hex()}").body)
        return [one["kind"] for one in shown["alerts"]]

    def read_alert(self, kind: str) -> Trouble:
        """The alert as it is kept, with its proof."""
        key = load_server_key(str(self.top))
        with SqliteStore(str(self.top), is_writer=False) as store:
            [tenant] = store.read_tenants()
            opened = Vault(key).open_tenant_key(tenant.name, tenant.sealed_key)
            [alert] = [one for one in store.read_alerts(self.host, 0, 99) if one.kind == kind]
            label = at_rest.label_alert(tenant.name, *alert[:4])
            return decode_evidence(at_rest.unseal(alert.box, opened, label)).trouble

    def assert_others_go_on(self) -> None:
        record(self.other, make_id(get_size(self.other)), count=2)
        answer = self.process.post(self.honest, make_data(self.other, 0))
        if answer.status == 200:
            host = keys.compute_host_id(keyring.ensure_host_key(self.other).enrolled)
            held = verify_acknowledgement(answer.body, self.server, host).held
            if held.size < get_size(self.other):
                answer = self.process.post(self.honest, make_data(self.other, held.size))
        assert answer.status == 200
        done = run("bpci", "audit", str(self.top))
        assert done.returncode == 0, done.stdout


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with made.process:
        yield made


def test_one_that_forks_convicts_itself(scene: Scene, tmp_path: Path) -> None:
    shutil.copytree(scene.paths.state, tmp_path / "fork")
    forked = scene.paths._replace(state=str(tmp_path / "fork"))
    record(scene.paths, make_id(8), count=1)
    record(forked, make_id(6), count=2)
    record(forked, make_id(7), count=2)
    size = get_size(scene.paths)
    assert scene.process.post(scene.caller, make_data(scene.paths)).status == 200
    scene.assert_held(scene.refuse(make_data(forked), "fork"), size)
    assert scene.list_alerts() == ["fork"]
    assert check_fork(scene.read_alert("fork").proof).host == scene.host.hex()
    scene.assert_others_go_on()


def test_one_that_skips_keeps_what_it_did_send(scene: Scene) -> None:
    whole = make_batch(scene.paths)
    missing = find_kind(whole, hostlog.Segment)[1]
    items = [one for number, one in enumerate(whole.items) if number != missing]
    answer = scene.refuse(encode_batch(resign(scene.paths, whole, items)), "gap")
    assert 0 < scene.get_held(answer).size <= get_size(scene.paths)
    assert scene.list_alerts() == ["gap"]
    scene.assert_others_go_on()


def test_one_that_forges_a_receipt_keeps_what_came_before(scene: Scene) -> None:
    whole = make_batch(scene.paths)
    number = find_kind(whole, hostlog.Segment)[2]
    items = list(whole.items)
    items[number] = spoil_body(items[number])
    answer = scene.refuse(encode_batch(whole._replace(items=tuple(items))), "receipt")
    scene.assert_held(answer, number)
    assert scene.read_alert("receipt").leaf_index == number
    # nor may anybody speak for it, or it for another
    stranger = scene.caller._replace(key=make_key(9))
    for caller, paths in ((stranger, scene.paths), (scene.caller, scene.other)):
        prepared = caller.prepare(
            "POST", f"http://{NAME}/v1/receipts", batch.compress(make_data(paths)),
            {"content-encoding": "zstd"}, created_s=int(time.time()), nonce=next(NONCES),
        )  # fmt: skip
        asked = scene.process.ask("POST", prepared.target, prepared.body, dict(prepared.fields))
        assert asked[0] in (400, 401)
    scene.assert_others_go_on()


def test_one_that_floods_waits_and_no_other_does(scene: Scene) -> None:
    for number in range(FLOOD_MAX):
        answer = scene.process.post(scene.caller, b"no batch %d" % number)
        if answer.status == 429:
            break
        assert answer.status == 400
    assert answer.status == 429 and int(answer.fields["retry-after"]) > 0
    scene.assert_others_go_on()


def test_what_is_replayed_is_refused_over_a_kill_too(scene: Scene) -> None:
    prepared = scene.caller.prepare(
        "POST", f"http://{NAME}/v1/receipts", batch.compress(make_data(scene.paths, 0, 2)),
        {"content-encoding": "zstd"}, created_s=int(time.time()), nonce=next(NONCES),
    )  # fmt: skip
    words = ("POST", prepared.target, prepared.body, dict(prepared.fields))
    assert scene.process.ask(*words)[0] == 200
    assert scene.process.ask(*words)[0] == 401
    scene.process.__exit__()
    scene.process = Process(scene.top)
    with scene.process:
        status, _, body = scene.process.ask(*words)
        assert status == 401 and b"replayed" in body
        answer = scene.process.post(scene.caller, make_data(scene.paths, 0, 2))  # signed anew
        scene.assert_held(answer, 2)
        scene.assert_others_go_on()


def test_duplicates_in_any_order_come_to_the_same(scene: Scene, seed: int) -> None:
    rng, size = random.Random(seed), get_size(scene.paths)
    cuts = [0, *sorted(rng.sample(range(1, size), 4)), size]
    pieces = [make_data(scene.paths, *cuts[at : at + 2]) for at in range(len(cuts) - 1)] * 2
    assert scene.process.post(scene.caller, pieces[0]).status == 200  # it brings the host's key
    sizes = [0]
    while sizes[-1] < size:
        rng.shuffle(pieces)
        for data in pieces:
            answer = scene.process.post(scene.caller, data)
            assert answer.status == 200
            sizes.append(scene.get_held(answer).size)
            scene.assert_held(answer, sizes[-1])
    assert sizes == sorted(sizes)
    assert scene.list_alerts() == []
    scene.assert_others_go_on()


def test_what_is_still_to_come_is_kept_with_an_alert(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: before() + 3600 * 10**9)
    record(scene.paths, make_id(77), count=2)
    monkeypatch.undo()
    answer = scene.process.post(scene.caller, make_data(scene.paths))
    scene.assert_held(answer, get_size(scene.paths))
    assert scene.list_alerts() == ["future"]
    scene.assert_others_go_on()


def test_a_whole_server_is_not_talked_into_a_restore(scene: Scene) -> None:
    """Nor does it take by that way what it has not acknowledged."""
    half = get_size(scene.paths) // 2
    taken = scene.process.post(scene.caller, make_data(scene.paths, 0, half))
    for shown, status in (
        (Shown(b"", b"no note", b""), 400), (Shown(taken.body[:-1], b"", b""), 400),
        (Shown(taken.body, b"", b"no grant"), 200), (Shown(b"", b"", b""), 200),
    ):  # fmt: skip
        reply = scene.process.ask("POST", "/v1/restore/show", encode_shown(shown))
        assert reply[0] == status, reply
    assert scene.process.ask("POST", "/v1/restore/show", b"\xff")[0] == 400
    places = encode_places(Places((Place(0, half),), (), (), EVERYTHING))
    for path in ("/v1/restore/places", "/v1/restore/bodies"):
        assert scene.process.ask("POST", path, places)[0] == 401  # nobody signed it
    assert json.loads(scene.call("POST", "/v1/restore/places", places).body)["state"] == "ready"
    rest = batch.compress(make_data(scene.paths, half))
    answer = scene.call("POST", "/v1/restore/bodies", rest, **{"content-encoding": "zstd"})
    assert json.loads(answer.body) == {
        "state": "ready", "size": "0", "goal": "0", "held": str(half), "detail": "",
    }  # fmt: skip
    assert scene.process.ask("GET", "/readyz")[0] == 200
    scene.assert_others_go_on()
