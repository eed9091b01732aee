"""Asking a source in threads, so that nothing it does can hold the screen.

A `Lane` is one part's thread: its calls come one after another, as docklock.console.source wants.
A `Reader` asks one call of a part again and again and posts each answer as `Facts`; it never has
two questions open. A call that does not come back blocks its own part alone and is told as
`Silence`. What a call raises is the answer's `error`, in words. Threads are daemons: one that
hangs in the kernel does not keep the program from ending.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
import traceback
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from tui.messages import Facts, Silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.message_pump import MessagePump
    from textual.timer import Timer

WAITING_MAX = 64
"""Calls that wait in a lane: a person's keys against a part that does not answer."""
SILENT_AFTER_S = 3.0
SHARE_MAX = 0.02
"""Of a core, for one reader: a call that took 20 ms of it is not asked again for a second."""
PAUSE_MAX_S = 10.0


class Call(NamedTuple):
    """A question to a part, and who is told the answer."""

    name: str
    ask: Callable[[], object]
    target: MessagePump
    is_once: bool
    is_long: bool
    context: contextvars.Context
    upon_end: Callable[[float], None]  # told the seconds of processor that it took


class Lane:
    """The thread of one part."""

    def __init__(self, part: str, clock: Callable[[], int] = time.time_ns) -> None:
        self.part = part
        self.current: Call | None = None
        self.open_calls = 0  # asked and not told yet; counted in the loop's thread and this one
        self._clock = clock
        self._calls: queue.Queue[Call | None] = queue.Queue(WAITING_MAX)
        self._thread: threading.Thread | None = None
        self._count = threading.Lock()
        self._is_closed = False

    def ask(
        self,
        name: str,
        ask: Callable[[], object],
        target: MessagePump,
        *,
        is_once: bool = True,
        is_long: bool = False,
        upon_end: Callable[[float], None] = lambda _cost_s: None,
    ) -> bool:
        """Have a call made; False where too many wait already. `is_long` may take its time."""
        if self._is_closed:
            return False
        if self._thread is None:
            name_of_thread = f"docklock-tui-{self.part}"
            self._thread = threading.Thread(target=self._run, name=name_of_thread, daemon=True)
            self._thread.start()
        context = contextvars.copy_context()
        try:
            self._calls.put_nowait(Call(name, ask, target, is_once, is_long, context, upon_end))
        except queue.Full:
            return False
        with self._count:
            self.open_calls += 1
        return True

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked and nothing waits."""
        return self.open_calls == 0

    def close(self) -> None:
        """Let the thread go once it has answered; nobody waits for it."""
        self._is_closed = True
        try:
            self._calls.put_nowait(None)
        except queue.Full:
            return  # it is wedged, and ends with the program

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._is_closed:
                return
            self.current = call
            began = time.thread_time()
            value, error = call.context.run(answer, call.ask)
            self.current = None
            call.upon_end(time.thread_time() - began)
            told = Facts(call.name, value, error, self._clock(), is_once=call.is_once)
            try:
                call.context.run(_tell, call, told)
            except RuntimeError:
                return  # the loop has ended, and with it all who could be told
            with self._count:
                self.open_calls -= 1


def _tell(call: Call, told: Facts) -> None:
    """Tell whoever asked; what a person asked for is told to the app where its screen has gone."""
    if not call.target.post_message(told) and call.is_once:
        call.target.app.post_message(told)


def answer(ask: Callable[[], object]) -> tuple[object, str]:
    """What a call returns, or the words of what it raises. The outermost frame of a part's call."""
    try:
        return ask(), ""
    except Exception as error:  # noqa: BLE001 -- a thread's outermost frame; the words are shown
        return None, tell_error(error)


def tell_error(error: BaseException) -> str:
    """Its own words where it is meant for people, else also its class and its place in the code."""
    words = str(error)
    if words and (hasattr(error, "exit_code") or isinstance(error, OSError)):
        return words
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}: {words}" if words else f"{type(error).__name__}{place}"


class Reader:
    """Asks one call of a part every so often, for as long as it is not stopped."""

    def __init__(
        self,
        lane: Lane,
        name: str,
        ask: Callable[[], object],
        target: MessagePump,
        every_s: float = 1.0,
    ) -> None:
        self.name = name
        self._lane = lane
        self._ask = ask
        self._target = target
        self._every_s = every_s
        self._timer: Timer | None = None
        self._asked_s = 0.0
        self._asked_ns = 0
        self._not_before_s = 0.0
        self._is_open = False

    def start(self) -> None:
        """Ask now and from now on."""
        if self._timer is None:
            self._timer = self._target.set_interval(self._every_s, self._tick)
            self._not_before_s = 0.0
            self._tick()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def ask_now(self) -> None:
        """Do not wait for the next turn: something was done that changes the answer."""
        self._not_before_s = 0.0
        if self._timer is not None:
            self._tick()

    def _tick(self) -> None:
        now_s = time.monotonic()
        if self._is_open:
            current = self._lane.current
            is_waiting_in_turn = current is not None and current.is_long
            if now_s - self._asked_s >= SILENT_AFTER_S and not is_waiting_in_turn:
                self._target.post_message(Silence(self.name, self._asked_ns))
        elif now_s >= self._not_before_s:
            self._is_open = True
            self._asked_s, self._asked_ns = now_s, time.time_ns()
            if not self._lane.ask(
                self.name, self._ask, self._target, is_once=False, upon_end=self._upon_end
            ):
                self._is_open = False

    def _upon_end(self, cost_s: float) -> None:
        """In the lane's thread: the answer is there."""
        self._not_before_s = time.monotonic() + min(cost_s / SHARE_MAX, PAUSE_MAX_S)
        self._is_open = False
