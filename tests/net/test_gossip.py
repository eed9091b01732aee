"""Anti-entropy: whatever is dropped, doubled, reordered or killed, all logs become alike."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import pytest

from chainlite import checkpoint, fork, merkle
from chainlite.errors import DocklockError, PeerError
from chainlite.net import gossip, tidings
from chainlite.net.gossip import Append, Ask, Blame, Effect, ForkSeen, Gossip, Tell
from chainlite.net.origins import Item, compute_root_after
from chainlite.net.tidings import HELD, SEEN, Entry, Range, Want
from chainlite.net.transport import PeerId
from tests.net.logs import Log, MemoryStore, Writer, make_item

RUNS, RUNS_SLICE = 1000, 15


def make_peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


class Event(NamedTuple):
    """Something on its way to a node, in one of its lives."""

    node: int
    life: int
    act: Callable[[], list[Effect]]


class Node:
    def __init__(self, writers: list[Writer]) -> None:
        self.store = MemoryStore(writers)
        self.life = 0
        self.core = Gossip(self.store)
        self.blamed: list[Blame] = []
        self.forks: list[ForkSeen] = []


class Net:
    """Nodes, and everything that is under way between them, delivered in any order."""

    def __init__(self, rng: random.Random, count: int, writers: list[Writer], loss: float) -> None:
        self.rng, self.loss, self.writers = rng, loss, writers
        self.nodes = [Node(writers) for _ in range(count)]
        self.events: list[Event] = []
        self.twist: Callable[[int, Want, bytes], bytes] = lambda _node, _want, answer: answer
        for number in range(count):
            self.meet(number)

    def meet(self, number: int) -> None:
        """A node is up; it and the others notice."""
        for other in range(len(self.nodes)):
            if other != number:
                self.do(number, self.nodes[number].core.upon_peer(make_peer(other)))
                self.do(other, self.nodes[other].core.upon_peer(make_peer(number)))

    def later(self, node: int, act: Callable[[], list[Effect]]) -> None:
        self.events.append(Event(node, self.nodes[node].life, act))

    def do(self, number: int, effects: list[Effect]) -> None:
        node = self.nodes[number]
        for effect in effects:
            if isinstance(effect, Tell):
                self.tell(number, effect)
            elif isinstance(effect, Ask):
                self.ask(number, effect)
            elif isinstance(effect, Append):
                self.later(number, lambda effect=effect: self.append(number, effect))
            elif isinstance(effect, Blame):
                node.blamed.append(effect)
            else:
                node.forks.append(effect)
                node.store.keep_fork(effect.data)

    def tell(self, sender: int, tell: Tell) -> None:
        for other in range(len(self.nodes)):
            if other == sender or tell.peer not in (None, make_peer(other)):
                continue
            for _ in range(self.rng.choice((1, 1, 1, 2)) if self.loss else 1):
                if self.rng.random() >= self.loss:
                    core = self.nodes[other].core
                    self.later(
                        other,
                        lambda core=core: core.upon_vector(make_peer(sender), tell.payload),
                    )

    def ask(self, asker: int, ask: Ask) -> None:
        server = ask.peer[0]
        core = self.nodes[asker].core

        def answer() -> list[Effect]:
            if self.rng.random() >= self.loss:
                data = tidings.encode_want(ask.want)
                try:
                    found = self.nodes[server].core.upon_want(data)
                except DocklockError:
                    return core.upon_unanswered(ask)
                if self.rng.random() >= self.loss:
                    return core.upon_range(ask, self.twist(server, ask.want, found))
            return core.upon_unanswered(ask)

        self.later(asker, answer)

    def append(self, number: int, effect: Append) -> list[Effect]:
        node = self.nodes[number]
        try:
            node.store.keep(effect.origin, effect.start, effect.items, effect.note)
        except PeerError as error:
            return node.core.upon_spoilt(effect, str(error))
        if self.rng.random() < self.loss:  # killed after it was durable, before it was told
            self.restart(number)
            return []
        return node.core.upon_appended(effect)

    def restart(self, number: int) -> None:
        node = self.nodes[number]
        node.life += 1
        node.core = Gossip(node.store)
        for other in range(len(self.nodes)):
            if other != number:
                self.do(other, self.nodes[other].core.upon_gone(make_peer(number)))
        self.meet(number)

    def step(self) -> None:
        event = self.events.pop(self.rng.randrange(len(self.events)))
        if event.life == self.nodes[event.node].life:
            self.do(event.node, event.act())

    def tick(self) -> None:
        for number, node in enumerate(self.nodes):
            self.do(number, node.core.upon_tick())

    def settle(self, ticks: int = 60) -> None:
        """Deliver all; after so many ticks nothing may be under way."""
        for _ in range(ticks):
            self.tick()
            while self.events:
                self.step()

    def write(self, node: int, writer: Writer, items: list[Item]) -> None:
        self.nodes[node].store.write(writer, items)
        self.do(node, self.nodes[node].core.upon_local(writer.origin))

    def assert_alike(self) -> None:
        for writer in self.writers:
            sizes = {len(node.store.logs[writer.origin].items) for node in self.nodes}
            roots = {
                node.store.logs[writer.origin].root(max(sizes))
                for node in self.nodes
                if len(node.store.logs[writer.origin].items) == max(sizes)
            }
            notes = {node.store.logs[writer.origin].note for node in self.nodes}
            assert (len(sizes), len(roots), len(notes)) == (1, 1, 1)
        for node in self.nodes:
            assert set(node.store.taken.values()) <= {1}
            assert node.core.is_idle()


def test_all_logs_become_alike_and_nothing_is_taken_twice(seed: int, full: bool) -> None:
    for run in range(RUNS if full else RUNS_SLICE):
        rng = random.Random(seed * 100_000 + run)
        writers = [Writer(number) for number in range(4)]
        net = Net(rng, 4, writers, loss=0.15)
        written = [0] * 4
        for _ in range(30):
            number = rng.randrange(4)
            count = rng.choice((1, 3, 40, 300))
            items = [make_item(written[number] + n) for n in range(count)]
            written[number] += count
            net.write(number, writers[number], items)
            for _ in range(rng.randrange(40)):
                if net.events:
                    net.step()
            if rng.random() < 0.2:
                # Who writes a log is its own source of it.
                net.restart(rng.randrange(4))
        for number in range(4):
            if writers[number].origin not in net.nodes[number].store.logs:
                net.write(number, writers[number], [make_item(0)])
                written[number] += 1
        net.loss = 0.0
        net.settle(ticks=8)
        net.assert_alike()
        for number, writer in enumerate(writers):
            for other, node in enumerate(net.nodes):
                assert len(node.store.logs[writer.origin].items) == written[number]
                if other != number:
                    taken = [node.store.taken[writer.origin, n] for n in range(written[number])]
                    assert taken == [1] * written[number]
            assert not net.nodes[number].forks
            assert not net.nodes[number].blamed


def make_pair(items: int = 0, writers: int = 1) -> tuple[Net, list[Writer]]:
    made = [Writer(number) for number in range(writers)]
    net = Net(random.Random(1), 2, made, loss=0.0)
    if items:
        net.write(0, made[0], [make_item(number) for number in range(items)])
    return net, made


def test_ranges_are_tiles_and_a_body_longer_than_a_part_comes_whole() -> None:
    net, (writer,) = make_pair()
    items = [make_item(number) for number in range(300)]
    items += [make_item(300, size=5 * 1024 * 1024 + 7), make_item(301), make_item(302, size=100)]
    wants = list[Want]()

    def note_wants(_node: int, want: Want, answer: bytes) -> bytes:
        wants.append(want)
        assert len(answer) <= tidings.RANGE_BYTES_MAX
        return answer

    net.twist = note_wants
    net.write(0, writer, items)
    net.settle(ticks=1)
    net.assert_alike()
    assert net.nodes[1].store.logs[writer.origin].items == items
    part = tidings.PART_BYTES_MAX
    places = [(0, 0), (256, 0), (300, 0), (300, part), (300, 2 * part), (301, 0)]
    assert [(want.start, want.offset) for want in wants] == places


def damage(found: Range, how: str) -> Range:
    first, *rest = found.items
    if how == "leaf":
        return found._replace(items=(first._replace(leaf=first.leaf + b"x"), *rest))
    if how == "body":
        wrong = first._replace(body=first.body[:-1] + bytes([first.body[-1] ^ 1]))
        return found._replace(items=(wrong, *rest))
    if how == "no body":
        return found._replace(items=(first._replace(body=b""), *rest))
    if how == "order":
        return found._replace(items=(*rest, first), total=len(first.body))
    if how == "fewer":
        return found._replace(items=found.items[:-1], total=len(found.items[-2].body))
    if how == "proof":
        return found._replace(end_proof=(*found.end_proof, bytes(32)))
    assert how == "total"
    return found._replace(total=found.total + 1)


@pytest.mark.parametrize(
    "how", ["leaf", "body", "no body", "order", "fewer", "proof", "total", "garbage"]
)
def test_a_peer_that_answers_wrong_is_blamed_and_another_is_asked(how: str) -> None:
    writer = Writer(0)
    net = Net(random.Random(2), 3, [writer], loss=0.0)
    items = [make_item(number) for number in range(260)]
    wrong = list[int]()

    def twist(node: int, want: Want, answer: bytes) -> bytes:
        if node != 0:
            return answer
        wrong.append(want.start)
        if how == "garbage":
            return b"garbage"
        return tidings.encode_range(damage(tidings.decode_range(answer), how))

    # Node 0 has it all, and lies; of two that serve as well it is asked first.
    net.twist = twist
    for number in range(2):
        net.nodes[number].store.write(writer, items)
        net.restart(number)
    net.settle(ticks=3)
    net.assert_alike()
    assert wrong
    assert [blame.peer for blame in net.nodes[2].blamed] == [make_peer(0)] * len(wrong)
    assert len(wrong) <= 3  # once a tick
    assert net.nodes[2].store.logs[writer.origin].items == items
    assert not net.nodes[2].forks


def test_nobody_makes_a_node_keep_what_the_log_has_not_signed() -> None:
    net, (writer,) = make_pair(5)
    net.settle(ticks=1)
    core, thief = net.nodes[1].core, Writer(99)
    log = Log()
    for number in range(20):
        log.add(make_item(number))
    unsigned = checkpoint.encode_body(checkpoint.Checkpoint(writer.origin, 20, log.root(20)))
    forged = checkpoint.sign_checkpoint(
        checkpoint.Checkpoint(writer.origin, 20, log.root(20)), thief.key
    )
    for note in (b"", b"text\n", unsigned, forged):
        effects = core.upon_vector(make_peer(0), tidings.encode_vector([Entry(HELD, note)]))
        assert [type(effect) for effect in effects] == [Blame]
    # A log that nobody registered is not followed, and is no misdeed.
    foreign = tidings.encode_vector([Entry(HELD, thief.sign(log))])
    assert core.upon_vector(make_peer(0), foreign) == []
    assert thief.origin not in net.nodes[1].store.logs


def test_a_wrong_entry_does_not_undo_what_came_before_it() -> None:
    net, (writer,) = make_pair()
    log = Log()
    log.add(make_item(0))
    data = tidings.encode_vector([Entry(HELD, writer.sign(log)), Entry(HELD, b"garbage")])
    effects = net.nodes[1].core.upon_vector(make_peer(0), data)
    assert [type(effect) for effect in effects] == [Blame, Ask]


def fork_at(writer: Writer, items: list[Item], at: int, size: int) -> MemoryStore:
    """Another history of the log: other items from `at` on."""
    store = MemoryStore([writer])
    other = [make_item(number, salt=b"other ") for number in range(at, size)]
    store.write(writer, items[:at] + other)
    return store


@pytest.mark.parametrize(("mine", "theirs"), [(40, 40), (40, 64), (64, 100), (64, 40), (33, 300)])
def test_two_histories_convict_the_log_and_the_first_is_kept(mine: int, theirs: int) -> None:
    writer = Writer(0)
    items = [make_item(number) for number in range(mine)]
    net = Net(random.Random(3), 2, [writer], loss=0.0)
    net.write(0, writer, items)
    net.settle(ticks=1)
    # The log's host shows node 1 another history from leaf 20 on.
    net.nodes[0].store = fork_at(writer, items, 20, theirs)
    net.restart(0)
    net.settle(ticks=2)
    node = net.nodes[1]
    assert node.store.logs[writer.origin].items == items
    assert len(node.forks) == len(node.store.forks) == 1
    forked = fork.check_fork(node.forks[0].data)
    assert sorted((forked.first.size, forked.second.size)) == sorted((mine, theirs))
    assert not node.blamed


def test_checkpoints_that_others_cosigned_show_a_fork_too() -> None:
    writer = Writer(0)
    items = [make_item(number) for number in range(50)]
    net = Net(random.Random(4), 3, [writer], loss=0.0)
    other = fork_at(writer, items, 10, 45).logs[writer.origin]
    net.write(0, writer, items[:30])
    # Node 2 has cosigned a larger tree of another history: nobody holds it yet.
    net.do(2, net.nodes[2].core.upon_cosigned(writer.sign(other)))
    net.settle(ticks=2)
    assert not net.nodes[1].forks
    net.write(0, writer, items[30:])
    net.settle(ticks=2)
    net.assert_alike()
    for node in (net.nodes[0], net.nodes[1]):
        assert len(node.forks) == 1
        assert {fork.check_fork(node.forks[0].data).first.size} == {45}


def test_two_larger_checkpoints_of_one_size_convict_at_once() -> None:
    net, (writer,) = make_pair()
    first, second = Log(), Log()
    for number in range(9):
        first.add(make_item(number))
        second.add(make_item(number, salt=b"other "))
    data = [tidings.encode_vector([Entry(SEEN, writer.sign(log))]) for log in (first, second)]
    core = net.nodes[1].core
    assert core.upon_vector(make_peer(0), data[0]) == []
    effects = core.upon_vector(make_peer(0), data[1])
    assert [type(effect) for effect in effects] == [ForkSeen]
    assert core.upon_vector(make_peer(0), data[1]) == []


def test_requests_are_bounded_for_each_peer_and_in_all() -> None:
    writers = [Writer(number) for number in range(60)]
    store = MemoryStore(writers)
    core = Gossip(MemoryStore(writers))
    for writer in writers:
        store.write(writer, [make_item(0)])
    data = tidings.encode_vector(
        [Entry(HELD, store.logs[writer.origin].note) for writer in writers]
    )
    effects = list[Effect]()
    for number in range(3):
        core.upon_peer(make_peer(number))
        effects += core.upon_vector(make_peer(number), data)
    asks = [effect for effect in effects if isinstance(effect, Ask)]
    assert len(asks) == 3 * gossip.WANTS_PER_PEER_MAX
    assert len({ask.want.origin for ask in asks}) == len(asks)
    # Each answer makes room for the next.
    for ask in asks:
        again = core.upon_unanswered(ask)
        assert len([one for one in again if isinstance(one, Ask)]) == 1


def test_one_peer_alone_is_asked_for_no_more_than_its_share() -> None:
    writers = [Writer(number) for number in range(60)]
    store = MemoryStore(writers)
    for writer in writers:
        store.write(writer, [make_item(0)])
    core = Gossip(MemoryStore(writers))
    core.upon_peer(make_peer(0))
    core.upon_peer(make_peer(1))  # it has nothing
    notes = [Entry(HELD, store.logs[writer.origin].note) for writer in writers]
    effects = core.upon_vector(make_peer(0), tidings.encode_vector(notes))
    assert len(effects) == gossip.WANTS_PER_PEER_MAX


def test_who_does_not_answer_is_asked_again_after_others_and_a_tick() -> None:
    writer = Writer(0)
    store = MemoryStore([writer])
    store.write(writer, [make_item(0)])
    core = Gossip(MemoryStore([writer]))
    data = tidings.encode_vector([Entry(HELD, store.logs[writer.origin].note)])
    core.upon_peer(make_peer(0))
    core.upon_peer(make_peer(1))
    (ask,) = core.upon_vector(make_peer(0), data)
    assert core.upon_vector(make_peer(1), data) == []
    assert isinstance(ask, Ask)
    (second,) = core.upon_unanswered(ask)
    assert isinstance(second, Ask)
    assert (ask.peer, second.peer) == (make_peer(0), make_peer(1))
    assert core.upon_unanswered(second) == []
    assert [type(effect) for effect in core.upon_tick()] == [Ask]


def test_what_a_store_cannot_keep_now_is_asked_for_after_a_tick() -> None:
    net, (writer,) = make_pair(5)
    note = net.nodes[0].store.logs[writer.origin].note
    core = net.nodes[1].core
    (ask,) = core.upon_vector(make_peer(0), tidings.encode_vector([Entry(HELD, note)]))
    assert isinstance(ask, Ask)
    answer = net.nodes[0].core.upon_want(tidings.encode_want(ask.want))
    (append,) = core.upon_range(ask, answer)
    assert isinstance(append, Append)
    assert core.upon_unkept(append) == []
    assert core.upon_tick() == [ask]


def test_what_came_here_by_another_way_meanwhile_is_not_taken_again() -> None:
    net, (writer,) = make_pair(5)
    core, store = net.nodes[1].core, net.nodes[1].store
    note = net.nodes[0].store.logs[writer.origin].note
    (ask,) = core.upon_vector(make_peer(0), tidings.encode_vector([Entry(HELD, note)]))
    assert ask == Ask(make_peer(0), Want(writer.origin, 5, 0, 0, 0))
    assert isinstance(ask, Ask)
    items = net.nodes[0].store.logs[writer.origin].items
    store.keep(writer.origin, 0, items[:2], b"")
    core.upon_local(writer.origin)
    late = net.nodes[0].core.upon_want(tidings.encode_want(ask.want))
    (again,) = core.upon_range(ask, late)
    assert again == Ask(make_peer(0), Want(writer.origin, 5, 2, 0, 0))


def test_what_has_been_fetched_is_told_to_all_at_once() -> None:
    net, (writer,) = make_pair(5)
    while net.events:
        net.step()
    held = net.nodes[1].store.logs[writer.origin]
    assert len(held.items) == 5
    append = Append(make_peer(0), writer.origin, 0, tuple(held.items), held.note)
    told = Tell(None, tidings.encode_vector([Entry(HELD, held.note)]))
    assert told in net.nodes[1].core.upon_appended(append)


def test_a_want_beyond_what_is_here_is_refused(seed: int) -> None:
    net, (writer,) = make_pair(5)
    core = net.nodes[0].core
    for want in (Want(writer.origin, 6, 0, 0, 0), Want("other", 1, 0, 0, 0)):
        with pytest.raises(DocklockError, match="leaves are here"):
            core.upon_want(tidings.encode_want(want))
    for want in (
        Want(writer.origin, 5, 5, 0, 0),
        Want(writer.origin, 5, 0, 5, 0),
        Want(writer.origin, 5, 0, 0, 10**6),
    ):
        with pytest.raises(PeerError):
            core.upon_want(tidings.encode_want(want))


def test_messages_have_one_form(seed: int, full: bool) -> None:
    rng = random.Random(seed)
    net, (writer,) = make_pair(5)
    want = Want(writer.origin, 5, 2, 1, 0)
    samples: list[tuple[bytes, Callable[[bytes], bytes]]] = [
        (
            tidings.encode_vector([Entry(HELD, b"note"), Entry(SEEN, b"other")]),
            lambda data: tidings.encode_vector(list(tidings.decode_vector(data))),
        ),
        (
            tidings.encode_want(want),
            lambda data: tidings.encode_want(tidings.decode_want(data)),
        ),
        (
            net.nodes[0].core.upon_want(tidings.encode_want(want)),
            lambda data: tidings.encode_range(tidings.decode_range(data)),
        ),
    ]
    for sample, again in samples:
        assert again(sample) == sample
        for size in range(len(sample)):
            with pytest.raises(PeerError):
                again(sample[:size])
        refused = 0
        for _ in range(34_000 if full else 1000):
            data = bytearray(sample)
            for _ in range(rng.randrange(1, 3)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            try:
                assert again(bytes(data)) == bytes(data)
            except PeerError:
                refused += 1
        assert refused > 100


def test_the_root_after_new_leaves_is_that_of_the_whole_log(seed: int) -> None:
    rng = random.Random(seed)
    log = Log()
    for number in range(700):
        log.add(make_item(number))
    for _ in range(100):
        end = rng.randrange(1, 701)
        start = rng.randrange(end)

        def read(level: int, number: int, start: int = start) -> bytes:
            assert number + 1 << level <= start, "a hash that is not there yet"
            return log.read(level, number)

        assert compute_root_after(start, log.levels[0][start:end], read) == log.root(end)
    assert compute_root_after(0, [], log.read) == merkle.EMPTY_ROOT
