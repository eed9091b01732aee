"""A server that lost its disk has the same log again, or signs nothing."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from chainlite import checkpoint, cosignature
from chainlite.bpci import backup, restoring
from chainlite.bpci.handover import Place, Places, Shown
from chainlite.bpci.intake import BEHIND, KNOWN, Answer, Request
from chainlite.bpci.restoring import ALL, Mark
from chainlite.errors import SpecError, StateError, TamperError
from tests.bpci.batches import make_data
from tests.bpci.exports import export
from tests.bpci.restored import Host, put_key
from tests.bpci.servers import KEY, Server
from tests.ledger.offered import get_size

NO_MARK = Mark()


class Scene:
    """A server with a history, a backup from its midst, and the hosts that made it."""

    def __init__(self, directory: Path, rng: random.Random, hosts: int = 3) -> None:
        self.directory, self.rng = directory, rng
        self.top, self.copy = directory / "server", directory / "copy.db"
        put_key(self.top)
        self.hosts = [Host(directory, number) for number in range(1, hosts + 1)]
        self.late = self.hosts.pop()  # enrolled after the backup

    def play(self, lost: int = 1) -> checkpoint.Checkpoint:
        """Enrolments, batches, a backup, more of them, and `lost` last answers that never came."""
        rng = self.rng
        with Server(self.top) as server:
            for host in self.hosts:
                self.enrol(server, host)
            self.send(server, self.hosts, 6)
            backup.back_up(str(self.top), str(self.copy))
            self.enrol(server, self.late)
            everyone = [*self.hosts, self.late]
            self.send(server, everyone, 12)
            for host in rng.sample(everyone, lost):
                host.grow(rng)
                host.send(server, is_lost=True)
            assert server.audit() == []
            self.note = server.intake.log.note
            self.hosts = everyone
            self.see(self.note)
            return server.intake.log.state

    def enrol(self, server: Server, host: Host) -> None:
        server.enrol(host.paths)
        known = server.intake.find(host.host)
        assert known is not None
        host.hear(server.intake._acknowledge(known.row))

    def send(self, server: Server, hosts: list[Host], count: int) -> None:
        for _ in range(count):
            host = self.rng.choice(hosts)
            if self.rng.random() < 0.5:
                host.grow(self.rng)
            size = get_size(host.paths)
            end = min(size, host.size + self.rng.randint(1, 4))
            host.send(server, end, is_lost=self.rng.random() < 0.2)

    def lose(self, *checkpoints: bytes, mark: Mark = NO_MARK) -> None:
        """The disk, and put the copy back."""
        shutil.rmtree(self.top)
        put_key(self.top)
        backup.put_back(str(self.copy), str(self.top), mark, checkpoints)

    def see(self, note: bytes) -> None:
        """Somebody who reads the log has its newest checkpoint."""
        for host in self.hosts[:1]:
            host.notes[checkpoint.parse_claim(note).size] = note

    def help(self, server: Server) -> None:
        for _ in range(5):
            for host in self.rng.sample(self.hosts, len(self.hosts)):
                if server.intake.restore.is_on:
                    host.help(server)


def assert_whole(server: Server, scene: Scene, before: checkpoint.Checkpoint) -> None:
    """The log begins with what it was, and goes on."""
    log = server.intake.log
    assert not server.intake.restore.is_on, server.intake.restore.status.tell()
    assert log.state.size >= before.size and log.compute_root(before.size) == before.root
    for host in scene.hosts:
        for size, note in host.notes.items():
            assert log.compute_root(size) == checkpoint.parse_claim(note).root
        host.send(server)
        host.grow(scene.rng)
        host.send(server)
        assert host.size == get_size(host.paths)
    assert server.audit() == []


def test_a_restored_server_has_the_same_log_whoever_comes_first(
    tmp_path: Path, seed: int, full: bool
) -> None:
    for number in range(40 if full else 4):
        scene = Scene(tmp_path / str(number), random.Random(seed + number))
        before = scene.play(lost=number % 2)
        scene.lose()
        with Server(scene.top) as server:
            first = server.intake.log.state
            scene.help(server)
            assert first.size < before.size
            assert_whole(server, scene, before)
        with Server(scene.top) as server:
            assert_whole(server, scene, before)


def test_a_key_alone_is_enough(tmp_path: Path, seed: int) -> None:
    scene = Scene(tmp_path, random.Random(seed))
    before = scene.play(lost=0)
    shutil.rmtree(scene.top)
    put_key(scene.top)
    backup.begin_with_key(str(scene.top), Mark(hosts=3), ())
    with Server(scene.top) as server:
        assert server.intake.restore.is_on and server.intake.log.state.size == 0
        scene.help(server)
        assert_whole(server, scene, before)


def test_nothing_is_signed_or_acknowledged_before_it_is_whole(tmp_path: Path, seed: int) -> None:
    scene = Scene(tmp_path, random.Random(seed))
    scene.play(lost=0)
    scene.lose()
    with Server(scene.top) as server:
        old = server.intake.log.note
        for host in scene.hosts[:-1]:
            [answer] = server.intake.take(
                [Request(host.host, make_data(host.paths, host.size - 1))]
            )
            assert answer == Answer(BEHIND)
            host.help(server)
            state = cosignature.check_checkpoint(server.intake.log.note, KEY.log_keys)
            known = {size for one in scene.hosts for size in one.notes}
            assert server.intake.log.note == old or state.size in known  # as it was signed then
        assert server.intake.restore.is_on  # one has not come yet
        status = server.intake.restore.status
        assert "is in no host's list" in status.tell()
        with pytest.raises(StateError, match="is being restored"):
            server.enrol(scene.hosts[0].paths)
        assert server.store.find_log()[1] == server.intake.log.note


def test_it_waits_for_hosts_until_the_operator_says_not_to(tmp_path: Path, seed: int) -> None:
    scene = Scene(tmp_path, random.Random(seed), hosts=3)
    with Server(scene.top) as server:
        for host in scene.hosts:
            scene.enrol(server, host)
            host.send(server)
    backup.back_up(str(scene.top), str(scene.copy))
    first, second = scene.hosts
    with Server(scene.top) as server:
        first.grow(scene.rng)
        first.send(server)
        before = server.intake.log.state
    scene.hosts = [first]
    scene.lose()
    with Server(scene.top) as server:
        scene.help(server)
        assert server.intake.log.state == before
        assert server.intake.restore.status.waits == (second.host.hex(),)
        assert second.host.hex()[:16] in server.intake.restore.status.tell()
        restoring.write_mark(str(scene.top), Mark(frozenset({second.host.hex()})))
        assert server.intake.take([]) == []  # whoever calls next
        assert_whole(server, scene, before)


def test_a_store_that_was_put_back_under_its_checkpoint_is_in_restore(
    tmp_path: Path, seed: int
) -> None:
    scene = Scene(tmp_path, random.Random(seed))
    before = scene.play(lost=0)
    shutil.copy(scene.copy, scene.top / "bpci.db")
    for name in ("bpci.db-wal", "bpci.db-shm"):
        (scene.top / name).unlink(missing_ok=True)
    with Server(scene.top) as server:
        assert server.intake.restore.is_on and server.intake.log.goal == before
        scene.help(server)
        assert_whole(server, scene, before)


def test_a_server_that_does_not_know_that_it_was_put_back_is_told(
    tmp_path: Path, seed: int
) -> None:
    """A machine's snapshot: store and checkpoint are of one time, and nothing says which."""
    scene = Scene(tmp_path, random.Random(seed))
    with Server(scene.top) as server:
        for host in scene.hosts:
            scene.enrol(server, host)
            host.send(server)
    shutil.copytree(scene.top, tmp_path / "snapshot")
    first = scene.hosts[0]
    with Server(scene.top) as server:
        first.grow(scene.rng)
        first.send(server)
        before = server.intake.log.state
    shutil.rmtree(scene.top)
    shutil.copytree(tmp_path / "snapshot", scene.top)
    with Server(scene.top) as server:
        assert not server.intake.restore.is_on
        data = make_data(first.paths, first.size - 1)
        [answer] = server.intake.take([Request(first.host, data, seen=before.size)])
        assert answer.kind == BEHIND
        first.show(server)
        assert server.intake.restore.is_on
    with Server(scene.top) as server:
        assert server.intake.restore.is_on  # over a kill
        scene.help(server)
        assert_whole(server, scene, before)


def test_what_the_operator_shows_counts_as_what_hosts_show(tmp_path: Path, seed: int) -> None:
    scene = Scene(tmp_path, random.Random(seed))
    before = scene.play(lost=0)
    scene.lose(scene.note, mark=Mark(frozenset({ALL})))
    with Server(scene.top) as server:
        assert server.intake.log.goal == before
        scene.help(server)
        assert_whole(server, scene, before)
    with pytest.raises(SpecError):
        backup.begin(str(scene.top), NO_MARK, (scene.note.replace(KEY.origin.encode(), b"x"),))


def test_what_a_host_says_falsely_fills_nothing_in(tmp_path: Path, seed: int) -> None:
    """Another's leaf claimed as its own: the true one is found, and the log is the same."""
    scene = Scene(tmp_path, random.Random(seed))
    before = scene.play(lost=0)
    scene.lose()
    liar = scene.hosts[0]
    with Server(scene.top) as server:
        first = server.intake.log.state.size
        liar.show(server)
        liar.send_again(server)
        true = dict(liar.places)
        free = [index for index in range(first, before.size) if index not in true]
        assert free
        liar.places[free[0]] = max(
            [size for index, size in true.items() if index < free[0]], default=0
        )
        lie = Places((Place(free[0], liar.places[free[0]]),), (), (), 0)
        server.intake.restore.take_places(liar.host, lie)
        liar.places = true
        scene.help(server)
        assert_whole(server, scene, before)


def test_what_is_not_the_servers_word_begins_nothing(tmp_path: Path, seed: int) -> None:
    scene = Scene(tmp_path, random.Random(seed))
    scene.play(lost=0)
    host = scene.hosts[0]
    newest = host.notes[max(host.notes)]
    with Server(scene.top) as server:
        restore = server.intake.restore
        for shown in (
            Shown(b"", b"no note", b""),
            Shown(b"", newest.replace(b"\n1", b"\n9", 1), b""),
            Shown(host.last[:-1], b"", b""),
            Shown(host.last[:40] + b"\x01" + host.last[41:], b"", b""),
        ):
            with pytest.raises((SpecError, TamperError)):
                restore.take_shown(shown)
        restore.take_shown(Shown(host.last, newest, host.grant))
        assert not restore.is_on and server.take(host.host, make_data(host.paths))[0].kind == KNOWN


def test_two_histories_under_one_key_stop_the_server(tmp_path: Path, seed: int) -> None:
    scene = Scene(tmp_path, random.Random(seed))
    with Server(scene.top) as server:
        for host in scene.hosts:
            scene.enrol(server, host)
    shutil.copytree(scene.top, tmp_path / "snapshot")
    first, second = scene.hosts
    with Server(scene.top) as server:
        first.send(server)
    with Server(tmp_path / "snapshot") as server:
        second.send(server)  # it does not know what it signed for the first
        first.show(server)
        restore = server.intake.restore
        assert restore.is_on and "two histories" in restore.status.tell()
        scene.help(server)
        assert restore.is_on
        [answer] = server.intake.take([Request(second.host, make_data(second.paths))])
        assert answer.kind == BEHIND
    with Server(tmp_path / "snapshot") as server:
        assert server.intake.restore.is_on


def test_a_backup_is_whole_of_one_moment_and_of_its_server(tmp_path: Path, seed: int) -> None:
    scene = Scene(tmp_path, random.Random(seed))
    before = scene.play(lost=0)
    other = tmp_path / "other.db"
    with Server(scene.top) as server:  # while it is served
        assert backup.back_up(str(scene.top), str(other)) == before
        assert server.audit() == []
    assert b"DOCKLOCK-BPCI-KEY" not in other.read_bytes()
    assert other.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StateError, match="is there already"):
        backup.back_up(str(scene.top), str(other))
    with pytest.raises(StateError, match="there is a store already"):
        backup.put_back(str(other), str(scene.top), NO_MARK, ())
    strange = tmp_path / "strange"
    backup_key = strange / backup.KEY_FILE
    put_key(strange)
    backup_key.write_bytes(backup_key.read_bytes()[:-1] + b"x")
    with pytest.raises(TamperError, match="not this server's"):
        backup.put_back(str(other), str(strange), NO_MARK, ())
    spoilt = bytearray(other.read_bytes())
    spoilt[: 1 << 10] = bytes(1 << 10)
    (tmp_path / "spoilt.db").write_bytes(spoilt)
    put_key(tmp_path / "empty")
    with pytest.raises((SpecError, StateError, TamperError)):
        backup.put_back(str(tmp_path / "spoilt.db"), str(tmp_path / "empty"), NO_MARK, ())
    assert not (tmp_path / "empty" / "bpci.db").exists()
    assert [path.name for path in tmp_path.glob("*.part")] == []


def test_on_the_way_the_goal_is_not_forgotten(tmp_path: Path, seed: int) -> None:
    """Some of the log is there again, and is an older state of it: nobody may take it for whole."""
    scene = Scene(tmp_path, random.Random(seed))
    with Server(scene.top) as server:
        for host in scene.hosts:
            scene.enrol(server, host)
            host.send(server)
    backup.back_up(str(scene.top), str(scene.copy))
    first, second = scene.hosts
    with Server(scene.top) as server:
        for host in (first, first, second, first):
            host.grow(scene.rng)
            host.send(server)
        before = server.intake.log.state
    scene.lose()
    with Server(scene.top) as server:
        size = server.intake.log.state.size
        first.show(server)
        first.send_again(server)
        first.place(server)
        assert size < server.intake.log.state.size < before.size
        assert server.intake.log.goal == before
        published = (scene.top / "checkpoint").read_bytes()
        assert checkpoint.parse_claim(published).size == before.size
    with Server(scene.top) as server:
        assert server.intake.log.goal == before
        scene.help(server)
        assert_whole(server, scene, before)


def test_nothing_is_exported_of_a_host_that_the_log_is_behind_of(tmp_path: Path, seed: int) -> None:
    """An export has the server's word on what it holds, and in a restore it gives none."""
    scene = Scene(tmp_path, random.Random(seed))
    before = scene.play(lost=0)
    scene.lose()
    with Server(scene.top) as server:
        scene.hosts[0].grow(scene.rng)
        scene.hosts[0].show(server)
        scene.hosts[0].send_again(server)
        with pytest.raises(StateError, match="is being restored"):
            export(server)
        scene.help(server)
        assert_whole(server, scene, before)
        assert export(server)
