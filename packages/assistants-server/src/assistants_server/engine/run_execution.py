"""One run, from claimed to waiting or terminal: the only writer of its message, steps and outcome.

The order of things in a turn: begin it (mostly in the transaction that brought it about), read what
the model is to see unless that was short enough to come along, ask, fold the pieces, store, then
announce. Deltas run ahead of the store and are checkpointed once a second. No transaction is open
while the model works.

Whoever wants the execution to stop calls :meth:`RunExecution.stop`; it takes effect only while the
model is being waited for, so that no store operation is ever cut in two.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from ..clock import Clock
from ..domain import model_input
from ..domain.model_exchange import ModelRequest, Piece
from ..domain.records import Failure, Run, Usage
from ..domain.run_events import StreamFault
from ..domain.run_state import TERMINAL
from ..measurements import Measurements
from ..providers.contract import ModelProvider, ProviderError
from ..store import conversation, run_endings, turn
from ..store.conversation import Conversation, View
from ..store.database import Database, DatabaseError
from ..store.run_endings import Ending, Outcome, Unstored
from ..store.turn import Begun
from . import announcements
from .event_log import EventLog
from .model_names import ModelNames
from .model_question import question
from .turn_record import RunLost, TurnRecord

logger = logging.getLogger(__name__)

_CUT_OFF = "The server stopped working on this run; retrieve it to see what becomes of it."
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


class RunExecution:
    def __init__(
        self,
        run: Run,
        log: EventLog,
        *,
        database: Database,
        provider: ModelProvider,
        names: ModelNames,
        clock: Clock,
        view: View,
        measurements: Measurements,
        asked: float,
        begun: Begun | None = None,
    ) -> None:
        """``asked``: when the run was asked for. ``begun``: the turn, if it has begun already."""
        self.run = run
        self.log = log
        self._database = database
        self._provider = provider
        self._names = names
        self._clock = clock
        self._view = view
        self._measured = measurements
        self._asked = asked
        self._begun = begun
        self._record: TurnRecord | None = None
        self._stop: Stop | None = None
        self._waits_for_model = False
        self._task: asyncio.Task[None] | None = None

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

    def unstored(self) -> Unstored | None:
        """What has been announced and may not be stored yet. Safe from any thread."""
        record = self._record
        return None if record is None else record.unstored()

    @property
    def record(self) -> TurnRecord | None:
        """The turn under way, once the model has begun to answer."""
        return self._record

    async def _execute(self) -> None:
        try:
            await self._one_turn()
        except _Stopped:
            await self._obey()
        except RunLost:
            await self._give_up()
        except ProviderError as error:
            self._measured.upstream_errors[error.code] += 1
            await self._fail(Failure(code=error.code, message=error.message))
        except DatabaseError as error:
            # The run's state is what the store last took; the worker settles it when it can.
            self.log.append(StreamFault(error.message))
        except asyncio.CancelledError:
            # The process is being torn down; a stream that ended in order would belie the run.
            self.log.append(StreamFault(_CUT_OFF))
            raise
        except Exception:
            logger.exception("run failed", extra={"run_id": self.run.id})
            await self._fail(_OUR_FAULT)
        finally:
            self.log.close()

    async def _one_turn(self) -> None:
        """With function tools a run has one turn per claim: it ends, or waits for the client."""
        shown = await self._begin()
        if shown is None:
            shown = await self._database.read(conversation.read, self.run, self._view)
        bound = model_input.bound_met(self.run, shown.tokens)
        if bound is not None:
            await self._finish(Outcome(cause="bound", reason=bound))
            return
        model = self._names.resolve(self.run.project_id, self.run.model)
        request = question(self.run, shown, model=model)
        pieces = self._provider.stream(request)
        try:
            batch = await self._next(pieces)
            self._measured.first_token_seconds.add(time.perf_counter() - self._asked)
            record = self._record = TurnRecord(
                self.run, self.log, database=self._database, clock=self._clock
            )
            while batch is not None:
                await record.take(batch)
                batch = await self._next(pieces)
        finally:
            await pieces.aclose()
        await self._conclude(record, request)

    async def _begin(self) -> Conversation | None:
        begun = self._begun or await self._database.write(
            turn.begin, self.run, self._view, now=self._now()
        )
        if begun is None:
            raise RunLost
        self.run = begun.run
        self._measured.queue_seconds.add(time.perf_counter() - self._asked)
        self.log.append(announcements.run_is(self.run))
        return begun.shown

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

    async def _conclude(self, record: TurnRecord, request: ModelRequest) -> None:
        """The model is done: store what that makes of the run."""
        end = record.turn.end
        if end is None:
            raise ProviderError("The model's answer broke off.")
        usage = record.usage(request)
        self._measured.prompt_tokens += usage.prompt_tokens
        self._measured.completion_tokens += usage.completion_tokens
        if end.reason == "length":
            await self._finish(Outcome(cause="bound", reason="max_completion_tokens", usage=usage))
        elif end.reason == "content_filter":
            await self._finish(Outcome(cause="bound", reason="content_filter", usage=usage))
        elif record.turn.called_tools:
            await self._require_action(record, usage)
        else:
            await self._finish(Outcome(cause="complete", usage=usage))

    async def _require_action(self, record: TurnRecord, usage: Usage) -> None:
        assert record.step is not None, "a call opens its step"
        waiting = await self._database.write(
            turn.require_action,
            self.run,
            replace(record.step, tool_calls=record.turn.step_calls()),
            pending=record.turn.pending_calls(),
            usage=usage,
        )
        if waiting is None:
            raise _Stopped if self._stop is not None else RunLost
        self.run = waiting
        self.log.append(announcements.run_is(waiting))

    async def _finish(self, outcome: Outcome) -> None:
        ending = await self._end(outcome)
        if ending is None:
            raise _Stopped if self._stop is not None else RunLost
        self._announce(ending)

    async def _fail(self, failure: Failure) -> None:
        try:
            await self._finish(Outcome(cause="fail", failure=failure))
        except _Stopped:
            await self._obey()
        except RunLost:
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
                self.log.append(announcements.run_is(self.run))
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
            record = self._record
            try:
                ending = await self._database.read(
                    run_endings.read,
                    self.run.id,
                    message_id=record.message.id if record and record.message else None,
                    step_id=record.step.id if record and record.step else None,
                )
            except DatabaseError as error:
                self.log.append(StreamFault(error.message))
                return
        if ending is None:
            self.log.append(StreamFault("The thread of this run was deleted."))
        elif ending.run.status in TERMINAL:
            self._announce(ending)
        elif ending.run.status == "cancelling" and _claim(ending.run) == _claim(self.run):
            # The cancellation overtook our own write. Nobody else will end what is ours.
            self._stop = Stop(run=ending.run, outcome=Outcome(cause="stop"))
            await self._obey()
        else:
            self.log.append(StreamFault("Another process has taken this run over."))

    async def _end(self, outcome: Outcome) -> Ending | None:
        return await self._database.write(
            run_endings.end, self.run, outcome, now=self._now(), unstored=self.unstored()
        )

    def _announce(self, ending: Ending) -> None:
        self.run = ending.run
        self._measured.runs_ended[ending.run.status] += 1
        if ending.message is None and self._record is not None:
            # Deleted while it was being written: the stream has it open all the same.
            ending = replace(ending, message=self._record.last_words(ending.run))
        self.log.append(*announcements.ended(ending))

    def _now(self) -> int:
        return int(self._clock.now())


def _claim(run: Run) -> tuple[str | None, int]:
    """Who is to execute which turn of it."""
    return run.owner, run.turns
