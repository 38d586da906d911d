"""One run, from claimed to waiting or terminal: the only writer of its message, steps and outcome.

The order of things in a turn: read what the model is to see, ask it, fold its pieces, store, then
announce. Deltas run ahead of the store and are checkpointed once a second. No transaction is open
while the model works.

Whoever wants the execution to stop calls :meth:`RunExecution.stop`; it takes effect only while the
model is being waited for, so that no store operation is ever cut in two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from .. import ids
from ..clock import Clock
from ..domain import model_input
from ..domain.model_exchange import ModelRequest, Piece
from ..domain.records import Failure, Message, Run, Step, Usage
from ..domain.run_events import CallDelta, CallOpened, RefusalDelta, StreamFault, TextDelta
from ..domain.run_state import TERMINAL
from ..domain.tokens import estimate, estimate_message
from ..domain.transcript import (
    CallBegins,
    CallGrows,
    CallsBegin,
    Change,
    MessageBegins,
    MessageEnds,
    RefusalGrows,
    TextGrows,
    Turn,
)
from ..providers.contract import ModelProvider, ProviderError
from ..store import conversation, run_endings, turn
from ..store.database import Database, DatabaseError
from ..store.run_endings import Ending, Outcome, Unstored
from . import announcements
from .event_log import EventLog
from .images import data_url

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 1.0

_OUR_FAULT = Failure(code="server_error", message="Sorry, something went wrong.")


@dataclass(frozen=True, slots=True)
class Stop:
    """Why an execution is to stop.

    Either there is an ``outcome`` to store (``run`` is then the run as it now stands), or the run
    was ended by somebody else, who closed what ``ending`` shows (nothing, if it was deleted).
    """

    run: Run | None = None
    outcome: Outcome | None = None
    ending: Ending | None = None


class _Stopped(Exception):
    """The execution was asked to stop."""


class _Lost(Exception):
    """The run is not ours to write for any more."""


class RunExecution:
    def __init__(
        self,
        run: Run,
        log: EventLog,
        *,
        database: Database,
        provider: ModelProvider,
        clock: Clock,
        tool_history: bool,
    ) -> None:
        self.run = run
        self.log = log
        self._database = database
        self._provider = provider
        self._clock = clock
        self._tool_history = tool_history
        self._turn = Turn()
        self._message: Message | None = None
        self._step: Step | None = None
        self._stop: Stop | None = None
        self._waits_for_model = False
        self._task: asyncio.Task[None] | None = None
        self._checkpoint_due = 0.0

    def begin(self) -> asyncio.Task[None]:
        """Start executing; the task ends when the run waits, is terminal, or was given up."""
        self._task = asyncio.create_task(self._execute(), name=f"run {self.run.id}")
        return self._task

    def stop(self, stop: Stop) -> None:
        """Close the model's request and end as told. The first call counts."""
        if self._stop is None:
            self._stop = stop
            if self._waits_for_model and self._task is not None:
                self._task.cancel()

    def unstored(self) -> Unstored:
        """What has been announced and may not be stored yet. Safe from any thread."""
        return Unstored(
            content=self._turn.content() if self._message is not None else (),
            tool_calls=self._turn.step_calls(),
        )

    async def _execute(self) -> None:
        try:
            await self._one_turn()
        except _Stopped:
            await self._obey()
        except _Lost:
            await self._give_up()
        except ProviderError as error:
            await self._fail(Failure(code=error.code, message=error.message))
        except DatabaseError as error:
            # The run's state is what the store last took; the worker settles it when it can.
            self.log.append(StreamFault(error.message))
        except Exception:
            logger.exception("run %s failed", self.run.id)
            await self._fail(_OUR_FAULT)
        finally:
            self.log.close()

    async def _one_turn(self) -> None:
        """With function tools a run has one turn per claim: it ends, or waits for the client."""
        starting = asyncio.create_task(self._start())
        try:
            request = await self._request()
            if request is None:
                await starting
                await self._finish(Outcome(cause="bound", reason="max_prompt_tokens"))
                return
            pieces = self._provider.stream(request)
            try:
                batch = await self._next(pieces)
                await starting
                while batch is not None:
                    for piece in batch:
                        for change in self._turn.feed(piece):
                            await self._apply(change)
                    await self._checkpoint()
                    batch = await self._next(pieces)
            finally:
                await pieces.aclose()
        finally:
            # Whatever went wrong meanwhile, the outcome must be written on top of the start.
            await asyncio.wait([starting])
            if not starting.cancelled():
                starting.exception()  # raised above already, or overtaken by what is raising
        await self._conclude(request)

    async def _start(self) -> None:
        run = await self._database.write(turn.start, self.run, now=self._now())
        if run is None:
            raise _Lost
        self.run = run
        self.log.append(announcements.started(run))

    async def _request(self) -> ModelRequest | None:
        """What to ask the model; ``None`` if the run's prompt bound leaves no room."""
        run = self.run
        budget = model_input.prompt_budget(run, window=self._provider.context_window(run.model))
        if run.max_prompt_tokens is not None and budget <= 0:
            return None
        shown = await self._database.read(
            conversation.read, run, tokens=budget, tool_history=self._tool_history
        )
        tools = model_input.function_tools(run)
        completion_left = None
        if run.max_completion_tokens is not None:
            completion_left = max(1, run.max_completion_tokens - run.usage.completion_tokens)
        return ModelRequest(
            model=run.model,
            messages=model_input.build(
                run,
                shown.messages,
                shown.turns,
                images={name: data_url(data) for name, data in shown.images.items()},
            ),
            tools=tools,
            tool_choice=model_input.tool_choice(run) if tools else None,
            parallel_tool_calls=False if tools and not run.parallel_tool_calls else None,
            temperature=run.temperature,
            top_p=run.top_p,
            response_format=model_input.response_format(run),
            reasoning_effort=run.reasoning_effort,
            max_completion_tokens=completion_left,
        )

    async def _next(self, pieces: AsyncGenerator[Sequence[Piece], None]) -> Sequence[Piece] | None:
        """The model's next batch, or ``None`` at its end."""
        if self._stop is not None:
            raise _Stopped
        self._waits_for_model = True
        try:
            return await anext(pieces, None)
        except asyncio.CancelledError:
            if self._stop is None:
                raise
            task = asyncio.current_task()
            if task is not None and hasattr(task, "uncancel"):  # Python 3.11
                task.uncancel()
            raise _Stopped from None
        finally:
            self._waits_for_model = False

    async def _apply(self, change: Change) -> None:
        if isinstance(change, TextGrows):
            if self._message is not None:
                self.log.append(
                    TextDelta(self._message.id, change.index, change.text, change.opens)
                )
        elif isinstance(change, CallGrows):
            if self._step is not None:
                self.log.append(CallDelta(self._step.id, change.index, change.arguments))
        elif isinstance(change, CallBegins):
            if self._step is not None:
                self.log.append(CallOpened(self._step.id, change.index, change.id, change.name))
        elif isinstance(change, RefusalGrows):
            if self._message is not None:
                self.log.append(RefusalDelta(self._message.id, change.index, change.text))
        elif isinstance(change, MessageBegins):
            await self._open_message()
        elif isinstance(change, MessageEnds):
            await self._close_message()
        elif isinstance(change, CallsBegin):
            await self._open_calls()

    async def _open_message(self) -> None:
        now = self._now()
        message = Message(
            id=ids.message_id(),
            thread_id=self.run.thread_id,
            created_at=now,
            role="assistant",
            content=(),
            status="in_progress",
            assistant_id=self.run.assistant_id,
            run_id=self.run.id,
        )
        step = replace(self._new_step(now), type="message_creation", message_id=message.id)
        opened = await self._database.write(turn.open_message, self.run, message, step)
        if opened is None:
            raise _Lost
        self._message, self._step = opened
        self._checkpoint_due = self._clock.now() + CHECKPOINT_SECONDS
        self.log.append(*announcements.message_opened(*opened))

    async def _close_message(self) -> None:
        if self._message is None or self._step is None:
            return
        now = self._now()
        closed = await self._database.write(
            turn.close_message,
            self.run,
            replace(
                self._message,
                content=self._turn.content(),
                status="completed",
                completed_at=now,
            ),
            replace(
                self._step, status="completed", completed_at=now, expires_at=None, usage=Usage()
            ),
        )
        if closed is None:
            raise _Lost
        self._message = self._step = None
        self.log.append(*announcements.message_closed(*closed))

    async def _open_calls(self) -> None:
        step = await self._database.write(turn.open_calls, self.run, self._new_step(self._now()))
        if step is None:
            raise _Lost
        self._step = step
        self.log.append(*announcements.step_opened(step))

    def _new_step(self, now: int) -> Step:
        return Step(
            id=ids.step_id(),
            run_id=self.run.id,
            thread_id=self.run.thread_id,
            assistant_id=self.run.assistant_id,
            created_at=now,
            type="tool_calls",
            expires_at=self.run.expires_at,
        )

    async def _checkpoint(self) -> None:
        if self._message is None or self._clock.now() < self._checkpoint_due:
            return
        self._checkpoint_due = self._clock.now() + CHECKPOINT_SECONDS
        self._message = replace(self._message, content=self._turn.content())
        if not await self._database.write(turn.checkpoint, self._message):
            raise _Lost

    async def _conclude(self, request: ModelRequest) -> None:
        """The model is done: store what that makes of the run."""
        end = self._turn.end
        if end is None:
            raise ProviderError("The model's answer broke off.")
        usage = self._usage(request)
        if end.reason == "length":
            await self._finish(Outcome(cause="bound", reason="max_completion_tokens", usage=usage))
        elif end.reason == "content_filter":
            await self._finish(Outcome(cause="bound", reason="content_filter", usage=usage))
        elif self._turn.called_tools and self._step is not None:
            await self._require_action(self._step, usage)
        else:
            await self._finish(Outcome(cause="complete", usage=usage))

    async def _require_action(self, step: Step, usage: Usage) -> None:
        waiting = await self._database.write(
            turn.require_action,
            self.run,
            replace(step, tool_calls=self._turn.step_calls()),
            pending=self._turn.pending_calls(),
            usage=usage,
        )
        if waiting is None:
            raise _Stopped if self._stop is not None else _Lost
        self.run = waiting
        self.log.append(announcements.waiting(waiting))

    async def _finish(self, outcome: Outcome) -> None:
        ending = await self._end(outcome)
        if ending is None:
            raise _Stopped if self._stop is not None else _Lost
        self._announce(ending)

    async def _fail(self, failure: Failure) -> None:
        try:
            await self._finish(Outcome(cause="fail", failure=failure))
        except _Stopped:
            await self._obey()
        except _Lost:
            await self._give_up()
        except DatabaseError as error:
            self.log.append(StreamFault(error.message))

    async def _obey(self) -> None:
        """End as whoever stopped us wants it."""
        stop = self._stop
        if stop is None or stop.outcome is None:
            await self._give_up()
            return
        if stop.run is not None:
            # What the stopper read may be older than our own last write, but for the status.
            self.run = replace(self.run, status=stop.run.status)
            if self.run.status == "cancelling":
                self.log.append(announcements.cancelling(self.run))
        try:
            ending = await self._end(stop.outcome)
        except DatabaseError as error:
            self.log.append(StreamFault(error.message))
            return
        if ending is None:
            await self._give_up()
        else:
            self._announce(ending)

    async def _give_up(self) -> None:
        """Somebody else ended the run, or deleted its thread: tell what is stored."""
        ending = self._stop.ending if self._stop is not None else None
        if ending is None:
            try:
                ending = await self._database.read(
                    run_endings.read,
                    self.run.id,
                    message_id=self._message.id if self._message else None,
                    step_id=self._step.id if self._step else None,
                )
            except DatabaseError as error:
                self.log.append(StreamFault(error.message))
                return
        if ending is not None and ending.run.status in TERMINAL:
            self._announce(ending)
        elif ending is None:
            self.log.append(StreamFault("The thread of this run was deleted."))

    async def _end(self, outcome: Outcome) -> Ending | None:
        return await self._database.write(
            run_endings.end, self.run, outcome, now=self._now(), unstored=self.unstored()
        )

    def _announce(self, ending: Ending) -> None:
        self.run = ending.run
        self.log.append(*announcements.ended(ending))

    def _usage(self, request: ModelRequest) -> Usage:
        """What the provider counted; estimated for one that does not count."""
        if self._turn.usage is not None:
            return self._turn.usage
        said = estimate_message(self._turn.content()) + estimate(str(self._turn.pending_calls()))
        return Usage(
            prompt_tokens=estimate(str(request.messages)),
            completion_tokens=said,
        )

    def _now(self) -> int:
        return int(self._clock.now())
