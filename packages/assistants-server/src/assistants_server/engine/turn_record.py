"""One model turn as it is written down: pieces become stored objects, then announced events.

Objects are stored before they are announced. Deltas run ahead of the store; the worker checkpoints
those of all its runs once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from .. import ids
from ..clock import Clock
from ..domain.model_exchange import ModelRequest, Piece
from ..domain.records import Message, Run, Step, Usage
from ..domain.run_events import CallDelta, CallOpened, RefusalDelta, TextDelta
from ..domain.tokens import estimate, estimate_message
from ..domain.transcript import (
    CallBegins,
    CallGrows,
    CallsBegin,
    Change,
    MessageBegins,
    RefusalGrows,
    TextGrows,
    Turn,
)
from ..store import turn
from ..store.database import Database
from ..store.run_endings import Unstored
from ..store.turn import Growth
from . import announcements
from .event_log import EventLog


class RunLost(Exception):
    """The run is not this process's to write for any more."""


class TurnRecord:
    """The turn of ``run``, which this process holds. ``message`` and ``step`` are what is open."""

    def __init__(self, run: Run, log: EventLog, *, database: Database, clock: Clock) -> None:
        self.turn = Turn()
        self.message: Message | None = None
        self.step: Step | None = None
        self._run = run
        self._log = log
        self._database = database
        self._clock = clock
        self._checkpointed = 0

    async def take(self, batch: Sequence[Piece]) -> None:
        """Write down what arrived together.

        Raises:
            RunLost: somebody else has ended the run; nothing more was written.
            DatabaseError: the store failed.
        """
        for piece in batch:
            for change in self.turn.feed(piece):
                await self._apply(change)

    def growth(self) -> Growth | None:
        """The open message as it reads now, if it has grown since it was checkpointed."""
        pieces = self.turn.pieces
        if self.message is None or pieces == self._checkpointed:
            return None
        return Growth(self.message.id, self.turn.content(), pieces)

    def checkpointed(self, growth: Growth) -> None:
        self._checkpointed = growth.pieces

    def unstored(self) -> Unstored:
        """What has been announced and may not be stored yet. Safe from any thread."""
        return Unstored(
            content=self.turn.content() if self.message is not None else (),
            tool_calls=self.turn.step_calls(),
        )

    def last_words(self, run: Run) -> Message | None:
        """The open message as it stands now that ``run`` has ended."""
        if self.message is None:
            return None
        message = replace(self.message, content=self.turn.content())
        now = self._now()
        if run.status == "completed":
            return replace(message, status="completed", completed_at=now)
        reason = "max_tokens" if run.status == "incomplete" else f"run_{run.status}"
        return replace(message, status="incomplete", incomplete_reason=reason, incomplete_at=now)

    def usage(self, request: ModelRequest) -> Usage:
        """What the provider counted; estimated for one that does not count."""
        if self.turn.usage is not None:
            return self.turn.usage
        said = estimate_message(self.turn.content()) + estimate(str(self.turn.pending_calls()))
        return Usage(
            prompt_tokens=estimate(str(request.messages)),
            completion_tokens=said,
        )

    async def _apply(self, change: Change) -> None:
        if isinstance(change, TextGrows):
            if self.message is not None:
                self._log.append(
                    TextDelta(self.message.id, change.index, change.text, change.opens)
                )
            if change.opens:  # the rest of a burst waits for the first words to be on their way
                for _ in range(2):  # the stream writes, a client in this process reads
                    await asyncio.sleep(0)
        elif isinstance(change, CallGrows):
            if self.step is not None:
                self._log.append(CallDelta(self.step.id, change.index, change.arguments))
        elif isinstance(change, CallBegins):
            if self.step is not None:
                self._log.append(CallOpened(self.step.id, change.index, change.id, change.name))
        elif isinstance(change, RefusalGrows):
            if self.message is not None:
                self._log.append(RefusalDelta(self.message.id, change.index, change.text))
        elif isinstance(change, MessageBegins):
            await self._open_message()
        elif isinstance(change, CallsBegin):
            await self._open_calls()

    async def _open_message(self) -> None:
        now = self._now()
        message = Message(
            id=ids.message_id(),
            thread_id=self._run.thread_id,
            created_at=now,
            role="assistant",
            # With its first words: whoever may have to end the run later must not leave a message
            # without content behind, because clients count its blocks.
            content=self.turn.content(),
            status="in_progress",
            assistant_id=self._run.assistant_id,
            run_id=self._run.id,
        )
        step = self._new_step(now, message)
        opened = await self._database.progress(turn.open_message, self._run, message, step)
        if opened is None:
            raise RunLost
        message, self.step = opened
        self.message = replace(message, content=())
        self._log.append(*announcements.message_opened(self.message, self.step))

    async def _open_calls(self) -> None:
        said = self._complete()
        step = await self._database.progress(
            turn.open_calls, self._run, self._new_step(self._now()), said=said
        )
        if step is None:
            raise RunLost
        if said is not None:
            self._log.append(*announcements.message_closed(*said))
        self.message, self.step = None, step
        self._log.append(*announcements.step_opened(step))

    def _complete(self) -> tuple[Message, Step] | None:
        """The message under way and its step as they are when the turn goes on with calls."""
        if self.message is None or self.step is None:
            return None
        now = self._now()
        return (
            replace(
                self.message,
                content=self.turn.content(),
                status="completed",
                completed_at=now,
            ),
            replace(
                self.step, status="completed", completed_at=now, expires_at=None, usage=Usage()
            ),
        )

    def _new_step(self, now: int, message: Message | None = None) -> Step:
        """The step that writes ``message``, or the one of the turn's calls."""
        return Step(
            id=ids.step_id(),
            run_id=self._run.id,
            thread_id=self._run.thread_id,
            assistant_id=self._run.assistant_id,
            created_at=now,
            type="message_creation" if message else "tool_calls",
            message_id=message.id if message else None,
            expires_at=self._run.expires_at,
        )

    def _now(self) -> int:
        return int(self._clock.now())
