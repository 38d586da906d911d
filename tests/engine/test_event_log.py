"""What a log keeps for its readers, and what happens to one that is too slow."""

from __future__ import annotations

import asyncio

from assistants_server.domain.run_events import RunEvent, TextDelta
from assistants_server.engine.event_log import MOST_EVENTS, MOST_TEXT, TOO_SLOW, EventLog


def delta(text: str) -> RunEvent:
    return TextDelta("msg_1", 0, text, opens=False)


async def read(log: EventLog) -> list[RunEvent]:
    return [event async for batch in log.follow() for event in batch]


async def test_an_ordinary_answer_is_read_from_its_beginning_at_any_time() -> None:
    log = EventLog()
    events = [delta(f"word{number} ") for number in range(10_000)]
    for event in events:
        log.append(event)
    log.close()
    assert await read(log) == events
    assert log.first is events[0]


async def test_nobody_reads_and_memory_is_bounded() -> None:
    log = EventLog()
    for _ in range(10 * MOST_EVENTS):
        log.append(delta("word "))
        assert len(log._events) <= MOST_EVENTS
    for _ in range(50):
        log.append(delta("x" * 1024 * 1024))  # 50 MB
        assert log._text <= MOST_TEXT
    assert log.first is None, "it has lost its beginning"


async def test_a_reader_that_fell_behind_is_told_and_ends() -> None:
    log = EventLog()
    log.append(delta("first"))
    slow = log.follow()
    assert await anext(slow) == [delta("first")]
    for _ in range(2 * MOST_EVENTS):
        log.append(delta("more"))
    assert await anext(slow) == [TOO_SLOW]
    assert await anext(slow, None) is None


async def test_a_reader_that_keeps_up_gets_everything_of_a_long_answer() -> None:
    log = EventLog()
    reading = asyncio.ensure_future(read(log))
    for number in range(3 * MOST_EVENTS):
        log.append(delta(str(number)))
        if number % 1000 == 0:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    log.close()
    events = await reading
    assert len(events) == 3 * MOST_EVENTS
    assert events[-1] == delta(str(3 * MOST_EVENTS - 1))


async def test_one_event_beyond_the_bound_is_kept_for_those_who_keep_up() -> None:
    log = EventLog()
    huge = delta("x" * (MOST_TEXT + 1))
    log.append(huge)
    log.close()
    assert await read(log) == [huge]
