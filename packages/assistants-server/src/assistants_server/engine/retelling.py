"""A run's events told from what is stored, when nobody has its event log any more.

A stream that is asked for again is followed live if this process executes the run. Otherwise it is
told here: the same objects in the same order, each text as one delta, the end when it has come.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from ..domain.records import Message, Run, Step, Usage
from ..domain.run_events import (
    CallDelta,
    CallOpened,
    RefusalDelta,
    RunEvent,
    StreamFault,
    TextDelta,
)
from ..domain.run_state import TERMINAL
from ..store.run_story import RunStory
from . import announcements

Beginning = Literal["thread", "run", "outputs"]
"""What the request had made: a thread with its run, a run, or a run's tool outputs."""


class Retelling:
    """Follows a run in the store, from the beginning to the end."""

    def __init__(
        self,
        read: Callable[[], Awaitable[RunStory | None]],
        pause: Callable[[], Awaitable[None]],
        *,
        beginning: Beginning,
        lifetime: int,
    ) -> None:
        """``lifetime``: seconds until a run expires; one that has ended has forgotten when."""
        self._read = read
        self._pause = pause
        self._beginning = beginning
        self._lifetime = lifetime

    async def follow(self) -> AsyncIterator[Sequence[RunEvent]]:
        """What was made at once; the rest when the run waits for the client or has ended."""
        story = await self._read()
        if story is not None:
            yield list(_made(story, self._beginning, self._fresh(story.run)))
        while story is not None and not _stands(story.run):
            await self._pause()
            story = await self._read()
        if story is None:
            yield [StreamFault("The thread of this run was deleted.")]
        else:
            yield list(_became(story, self._beginning, self._fresh(story.run)))

    def _fresh(self, run: Run) -> Run:
        """The run before anything came of it."""
        return replace(
            run,
            status="queued",
            expires_at=run.expires_at or run.created_at + self._lifetime,
            pending_calls=(),
            usage=Usage(),
            last_error=None,
            incomplete_reason=None,
            cancelled_at=None,
            failed_at=None,
            completed_at=None,
        )


def _stands(run: Run) -> bool:
    """Nothing more will come of it by itself."""
    return run.status in TERMINAL or run.status == "requires_action"


def _made(story: RunStory, beginning: Beginning, fresh: Run) -> Iterator[RunEvent]:
    if beginning == "outputs":
        answered = (
            step for step in story.steps if step.type == "tool_calls" and step.status == "completed"
        )
        yield from announcements.resumed(fresh, answered)
    else:
        queued = replace(fresh, started_at=None)
        yield from announcements.created(queued, story.thread if beginning == "thread" else None)


def _became(story: RunStory, beginning: Beginning, fresh: Run) -> Iterator[RunEvent]:
    run = story.run
    if run.started_at is not None:
        yield announcements.run_is(replace(fresh, status="in_progress"))
    for step in story.steps:
        if beginning == "outputs" and step.type == "tool_calls" and step.status == "completed":
            continue
        yield from _step(step, story, expires_at=fresh.expires_at)
    yield announcements.run_is(run)


def _step(step: Step, story: RunStory, *, expires_at: int | None) -> Iterator[RunEvent]:
    message = story.messages.get(step.message_id or "")
    opened = replace(
        step,
        status="in_progress",
        expires_at=expires_at,
        tool_calls=(),
        usage=None,
        last_error=None,
        completed_at=None,
        cancelled_at=None,
        failed_at=None,
        expired_at=None,
    )
    if message is None:
        yield from announcements.step_opened(opened)
    else:
        yield from announcements.message_opened(_unwritten(message), opened)
        yield from _text(message)
        if message.status != "in_progress":
            yield announcements.message_is(message)
    for index, call in enumerate(step.tool_calls):
        yield CallOpened(step.id, index, call["id"], call["function"]["name"])
        yield CallDelta(step.id, index, call["function"]["arguments"])
    if step.status != "in_progress":
        yield announcements.step_is(step)


def _text(message: Message) -> Iterator[RunEvent]:
    for index, block in enumerate(message.content):
        if block["type"] == "text":
            yield TextDelta(message.id, index, block["text"]["value"], opens=True)
        elif block["type"] == "refusal":
            yield RefusalDelta(message.id, index, block["refusal"])


def _unwritten(message: Message) -> Message:
    return replace(
        message,
        content=(),
        status="in_progress",
        incomplete_reason=None,
        completed_at=None,
        incomplete_at=None,
    )
