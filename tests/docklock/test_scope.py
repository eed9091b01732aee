"""The call for a scope, against a manager that answers: its bytes, its retry, its silence."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from docklock.supervisor import scope
from docklock.supervisor.loop import Loop

ID = "a" * 64


def read_string(data: bytes, at: int) -> tuple[str, int]:
    at = (at + 3) // 4 * 4
    (size,) = struct.unpack_from("<I", data, at)
    return data[at + 4 : at + 4 + size].decode(), at + 5 + size


def make_message(kind: int, text: bytes = b"") -> bytes:
    fields = text + bytes(-len(text) % 8)
    return struct.pack("<cBBBIII", b"l", kind, 0, 1, 4, 9, len(text)) + fields + b"body"


def test_the_call_is_a_whole_message_whose_lengths_agree() -> None:
    call = scope.encode_call("docklock-x.scope", ID, (4711,))
    assert call[:4] == b"l\1\0\1"
    body_bytes, serial, fields_bytes = struct.unpack_from("<III", call, 4)
    body_at = (16 + fields_bytes + 7) // 8 * 8
    assert (len(call), serial) == (body_at + body_bytes, 1)
    unit, at = read_string(call[body_at:], 0)
    mode, at = read_string(call[body_at:], at)
    assert (unit, mode) == ("docklock-x.scope", "fail")
    (properties_bytes,) = struct.unpack_from("<I", call[body_at:], (at + 3) // 4 * 4)
    assert b"PIDs\0\2au\0" in call and struct.pack("<II", 4, 4711) in call
    # After the properties comes the empty array of units beside it: its length, and padding to 8.
    begin = ((at + 3) // 4 * 4 + 4 + 7) // 8 * 8
    end = (begin + properties_bytes + 3) // 4 * 4 + 4
    assert body_bytes == (end + 7) // 8 * 8


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_signals_before_the_answer_and_half_an_answer_are_waited_out(cut: int) -> None:
    signal, error = make_message(4, b"JobNew"), make_message(3, b"UnitExists")
    whole = b"OK 0123\r\n" + signal + error + b"rest"
    assert scope.find_answer(whole) == (error, b"rest")
    if cut:
        assert scope.find_answer(whole[: -cut - 4]) == (b"", b"")


class Manager:
    """systemd's private socket: takes one client, and answers what it is told to."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "private")
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listening.bind(self.path)
        self.listening.listen(1)

    def accept(self) -> socket.socket:
        channel, _ = self.listening.accept()
        channel.settimeout(5)
        return channel


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    monkeypatch.setattr(scope, "MANAGER_SOCKET", manager.path)
    (tmp_path / "unified").touch()
    monkeypatch.setattr(scope, "UNIFIED_MARK", str(tmp_path / "unified"))
    yield manager
    manager.listening.close()


def test_a_scope_that_is_there_is_met_with_another_name(manager: Manager) -> None:
    asked, loop = scope.ask_for_scope(ID, (os.getpid(),)), Loop()
    assert asked is not None
    asked.watch(loop)
    channel = manager.accept()
    assert f"docklock-{ID}.scope".encode() in channel.recv(4096)
    channel.send(b"OK 0\r\n" + make_message(3, b"UnitExists") + make_message(4)[:10])
    assert loop.run_once(5)
    assert f"docklock-{ID}-{os.getpid()}.scope".encode() in channel.recv(4096)
    channel.send(make_message(4)[10:] + make_message(2))
    assert loop.run_once(5)
    assert channel.recv(1) == b"", "the connection is closed once it is answered"
    channel.close()


def test_no_manager_and_another_hierarchy_are_no_error(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scope, "UNIFIED_MARK", "/nonexistent")
    assert scope.ask_for_scope(ID, (os.getpid(),)) is None
    monkeypatch.setattr(scope, "MANAGER_SOCKET", "/nonexistent")
    began = time.perf_counter()
    assert scope.ask_for_scope(ID, (os.getpid(),)) is None
    assert time.perf_counter() - began < 0.05


def test_a_manager_that_does_not_answer_keeps_nobody(manager: Manager) -> None:
    asked, loop = scope.ask_for_scope(ID, (os.getpid(),)), Loop()
    assert asked is not None
    asked.watch(loop)
    assert not loop.run_once(0.05)
    manager.accept().close()
    assert loop.run_once(5)
    assert not loop.run_once(0)
