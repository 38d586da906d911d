"""A loop whose time moves by itself, but never while somebody is really working.

LiveKit measures speech in seconds: endpointing, false interruptions, playback, the pace of
transcripts. On this loop those seconds cost nothing: when all that is left to do is to wait for a
timer, the clock jumps to it. Such a clock is wrong as soon as something real is under way. Here a
model, a server and a database really work, and a timeout of ten seconds must not fire because a
transaction took two milliseconds. So before it jumps the loop makes sure that nothing moves:

- Nothing is ready. Server, scripted model and agent live on this one loop, so a computation of
  theirs is a ready callback or a readable socket, never somewhere else.
- No thread works for the loop: calls in executors and database transactions are counted
  (``Work.threads``) from their start until the loop has heard of their end.
- While a request is open (counted at the transport, ``Work.requests``), nothing arrives for
  ``GRACE`` seconds of real time: on the loopback what was written is readable at once, save for
  what the kernel puts off.

What may then still be open is a request whose model holds back, by a stall or by a pause in
virtual time, which is what a conversation is made of.

``time.time()`` and its like follow the loop in code that runs on it; other threads, and tests on
other loops, keep the machine's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import pytest
from livekit.agents.llm import chat_context
from livekit.agents.voice import events
from pydantic import BaseModel
from tests.upstream import Answer

from assistants_server.store.database import Database

GRACE = 0.001
LONGEST = 3600.0
"""Virtual seconds after which a test waits for what will not come."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Work:
    """What is really under way."""

    threads: int = 0
    requests: int = 0

    @contextmanager
    def thread(self) -> Iterator[None]:
        self.threads += 1
        try:
            yield
        finally:
            self.threads -= 1


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module's docstring."""

    def __init__(self) -> None:
        self.work = Work()
        self._now = 0.0
        self._epoch = _time()
        self._last = 0.0
        self._until = LONGEST
        super().__init__(_Selector(self))

    def begin(self) -> None:
        """What follows may take as long as a test."""
        self._until = self._now + LONGEST

    def time(self) -> float:
        return self._now

    def clock(self) -> float:
        """Seconds for ``time.time()``: no moment is seen twice, as on a real machine, so that what
        happened later also says so, and nothing takes no time at all."""
        self._last = max(self._epoch + self._now, self._last + 1e-6)
        return self._last

    def jump(self, seconds: float) -> None:
        self._now += seconds
        if self._now > self._until:
            raise RuntimeError("an hour has passed; what the test waits for will not come")

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Counted until the thread is done with it and the loop has heard of it: whoever waited may
        have been cancelled, while what it holds, a lock or a core, is still held."""
        begun, ended = threading.Event(), threading.Event()
        counted = [True]

        def settle(_: object = None) -> None:
            over = ended.is_set() or not begun.is_set()
            if counted and over and future.done():
                self.work.threads -= counted.pop()

        def work() -> T:
            begun.set()
            try:
                return func(*args)
            finally:
                ended.set()
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self.call_soon_threadsafe(settle)

        self.work.threads += 1
        future = super().run_in_executor(executor, work)
        future.add_done_callback(settle)
        return future


class _Selector(selectors.DefaultSelector):
    """Waits for sockets really and for timers by moving the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        work = self._loop.work
        if work.threads:
            return list(super().select(0.05))  # a thread that is done wakes us
        if work.requests:
            ready = super().select(GRACE)
            if ready:
                return ready
        if timeout is None:
            return list(super().select(None))
        self._loop.jump(timeout)
        return ready


def running_loop() -> VirtualLoop | None:
    """The virtual loop this code runs on, if it does."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop if isinstance(loop, VirtualLoop) else None


def pause(seconds: float) -> Callable[[], Awaitable[None]]:
    """A part of a scripted answer: the model takes its time."""

    async def hold() -> None:
        await asyncio.sleep(seconds)

    return hold


def thinking(seconds: float) -> Answer:
    """The model takes its time before its first word: ``thinking(2.0) + say("Well…")``."""
    return Answer((pause(seconds),))


# What else has to follow the loop -----------------------------------------------------------

_time, _time_ns, _perf_counter = time.time, time.time_ns, time.perf_counter


def _virtual_time() -> float:
    loop = running_loop()
    return loop.clock() if loop is not None else _time()


def _virtual_time_ns() -> int:
    loop = running_loop()
    return int(loop.clock() * 1e9) if loop is not None else _time_ns()


def _virtual_perf_counter() -> float:
    loop = running_loop()
    return loop.clock() if loop is not None else _perf_counter()


@pytest.fixture
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """``time.time()`` follows the virtual loop, and so do the models that were made with it."""
    _look_up_clocks_late()
    monkeypatch.setattr(time, "time", _virtual_time)
    monkeypatch.setattr(time, "time_ns", _virtual_time_ns)
    monkeypatch.setattr(time, "perf_counter", _virtual_perf_counter)


@pytest.fixture
def counted_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions run in threads of the database's own, which the loop does not see."""
    monkeypatch.setattr(Database, "_timed", _as_thread(Database._timed))


def _as_thread(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    @wraps(method)
    async def counted(*args: P.args, **kwargs: P.kwargs) -> T:
        loop = running_loop()
        with (loop.work if loop is not None else Work()).thread():
            return await method(*args, **kwargs)

    return counted


def _look_up_clocks_late() -> None:
    """``Field(default_factory=time.time)`` holds the function of the import; have it looked up at
    each use instead, which is the same unless somebody replaces it."""
    for module in (chat_context, events):
        for model in vars(module).values():
            if not (isinstance(model, type) and issubclass(model, BaseModel)):
                continue
            late = [
                field for field in model.model_fields.values() if field.default_factory is _time
            ]
            for field in late:
                field.default_factory = _now
            if late:
                model.model_rebuild(force=True)


def _now() -> float:
    return time.time()
