"""What a client can do with a run: create, submit outputs, cancel, look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from .. import errors
from ..clock import Clock
from ..domain.drafts import EndRun, RunDraft, ThreadDraft, ToolOutput
from ..domain.records import Run, Thread
from ..domain.run_events import ObjectEvent, RunEvent
from ..store import run_cancellation, run_creation, run_story, runs, threads, tool_outputs, turn
from ..store.database import Database
from ..store.idempotency import UNREMEMBERED, Once
from ..store.run_creation import ThreadBusy
from ..store.run_endings import Outcome
from ..store.turn import Begun, Made
from . import announcements
from .event_log import EventLog, Followed
from .retelling import Beginning, Retelling
from .room import Place
from .waiting_lines import CallerLeft, WaitingLines
from .worker import Worker

P = ParamSpec("P")
M = TypeVar("M", bound=Made)

_LOOK_AGAIN_SECONDS = 0.25  # how often a waiting request looks for runs that another process ended


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run under way. ``run`` is as the creating answer shows it; ``log`` tells the rest."""

    run: Run
    log: Followed
    thread: Thread | None = None


class Runs:
    """``once``: where given, the store change is remembered with its answer (``idempotency``).

    Every method that takes it may also raise ``AlreadyAnswered``; then nothing was changed.
    """

    def __init__(self, *, database: Database, worker: Worker, clock: Clock) -> None:
        self._database = database
        self._worker = worker
        self._clock = clock
        self._lines = WaitingLines()

    async def create(
        self,
        project_id: str,
        thread_id: str,
        draft: RunDraft,
        *,
        once: Once = UNREMEMBERED,
        left: asyncio.Event | None = None,
    ) -> StartedRun:
        """Create a run on a thread and start it.

        Args:
            left: set when the caller is gone, which ends its waiting (``if_active="queue"``).

        Raises:
            ApiError: see ``store.run_creation.create``; or the project's limit is reached.
            CallerLeft: see ``left``.
        """
        with self._worker.admitted(project_id) as place:
            if draft.extensions.if_active != "queue":
                return await self._create(place, project_id, thread_id, draft, once)
            return await self._queue(place, project_id, thread_id, draft, once, left)

    async def _queue(
        self,
        place: Place,
        project_id: str,
        thread_id: str,
        draft: RunDraft,
        once: Once,
        left: asyncio.Event | None,
    ) -> StartedRun:
        """Create the run as soon as the thread is free."""
        left = left or asyncio.Event()
        async with self._lines.turn(thread_id, left):
            try:
                while not left.is_set():
                    self._worker.check_accepting()
                    freed = self._worker.freed(thread_id)
                    try:
                        return await self._create(place, project_id, thread_id, draft, once)
                    except ThreadBusy:
                        await self._wait(freed, left)
            finally:
                self._worker.free(thread_id)  # nobody else waits: the others stand behind us
        raise CallerLeft

    async def _create(
        self, place: Place, project_id: str, thread_id: str, draft: RunDraft, once: Once
    ) -> StartedRun:
        created, log = await self._launched(
            place,
            once(run_creation.create),
            lambda made: announcements.created(made.run),
            project_id,
            thread_id,
            draft,
            now=self._now(),
            claim=self._worker.claim(),
            unstored=self._worker.unstored,
        )
        self._worker.ended(created.ended)
        return StartedRun(created.run, log)

    async def create_with_thread(
        self, project_id: str, thread: ThreadDraft, draft: RunDraft, *, once: Once = UNREMEMBERED
    ) -> StartedRun:
        """Create a thread and its first run, and start it.

        Raises:
            ApiError: no such assistant, nothing to run on, or the project's limit is reached.
        """
        with self._worker.admitted(project_id) as place:
            created, log = await self._launched(
                place,
                once(run_creation.create_with_thread),
                lambda made: announcements.created(made.run, made.thread),
                project_id,
                thread,
                draft,
                now=self._now(),
                claim=self._worker.claim(),
            )
        return StartedRun(created.run, log, created.thread)

    async def submit(
        self,
        project_id: str,
        thread_id: str,
        run_id: str,
        outputs: Sequence[ToolOutput],
        *,
        once: Once = UNREMEMBERED,
    ) -> StartedRun:
        """Answer all pending calls; the run goes on in this process.

        Raises:
            ApiError: no such run, it does not wait for outputs, or not for these.
        """
        await self.get(project_id, thread_id, run_id)  # expires it if it is time
        with self._worker.admitted(project_id) as place:
            resumed, log = await self._launched(
                place,
                once(tool_outputs.submit),
                lambda made: announcements.resumed(made.run, [made.step]),
                project_id,
                thread_id,
                run_id,
                outputs,
                claim=self._worker.claim(),
                now=self._now(),
            )
            return StartedRun(resumed.run, log)

    async def cancel(
        self, project_id: str, thread_id: str, run_id: str, *, once: Once = UNREMEMBERED
    ) -> Run:
        """Ask the run to stop; the answer says ``cancelling``.

        Raises:
            ApiError: no such run, or it has ended or is being cancelled.
        """
        await self.get(project_id, thread_id, run_id)
        run, ending = await self._database.write(
            once(run_cancellation.cancel), project_id, thread_id, run_id, now=self._now()
        )
        if ending is not None:
            self._worker.ended([ending])
        else:
            self._worker.stop(run.id, Outcome(cause="stop"), run=run)
        return run

    async def follow(self, run_id: str, *, beginning: Beginning) -> StartedRun:
        """The run's events once more: live where this process executes it, otherwise as stored.

        Raises:
            NotFound: the run is gone with its thread.
        """
        run = await self._database.read(runs.by_id, run_id)
        if run is None:
            raise errors.no_run(run_id)
        log = self._worker.log(run_id)
        if log is not None and _begins(log) == beginning:
            return StartedRun(run, log)

        async def pause() -> None:
            await self._clock.sleep(_LOOK_AGAIN_SECONDS)

        read = partial(self._database.read, run_story.read, run_id)
        lifetime = self._worker.lifetime
        return StartedRun(run, Retelling(read, pause, beginning=beginning, lifetime=lifetime))

    async def get(self, project_id: str, thread_id: str, run_id: str) -> Run:
        """The run as it is now: one whose time is over expires before it is shown.

        Raises:
            NotFound: no such thread or run.
        """
        run = await self._database.read(runs.get, project_id, thread_id, run_id)
        if run.is_overdue(self._clock.now()):
            await self._worker.expire(run)
            run = await self._database.read(runs.get, project_id, thread_id, run_id)
        return run

    async def modify_thread(
        self,
        project_id: str,
        thread_id: str,
        changes: Mapping[str, Any],
        end_runs: Sequence[EndRun],
        *,
        once: Once = UNREMEMBERED,
    ) -> Thread:
        """End the runs that are named, and apply ``changes`` (record field names).

        Raises:
            NotFound: no such thread.
        """
        thread, ended = await self._database.write(
            once(threads.update),
            project_id,
            thread_id,
            changes,
            end_runs,
            now=self._now(),
            unstored=self._worker.unstored,
        )
        self._worker.ended(ended)
        return thread

    async def delete_thread(self, project_id: str, thread_id: str) -> None:
        """With everything in it; a run under way is dropped silently.

        Raises:
            NotFound: no such thread.
        """
        active = await self._database.write(threads.delete, project_id, thread_id)
        if active is not None:
            self._worker.deleted(active)
        self._worker.free(thread_id)

    async def abandon(self, run: Run) -> None:
        """The run's stream has lost its reader; cancels a run that was created to end then."""
        if not run.cancel_on_disconnect:
            return
        # Nobody is left to be told that it is being cancelled, so one transaction does.
        if self._worker.stop(run.id, Outcome(cause="end")):
            return
        try:
            await self.cancel(run.project_id, run.thread_id, run.id)
        except errors.ApiError:
            return  # it has ended, or is gone with its thread

    async def _wait(self, freed: asyncio.Event, left: asyncio.Event) -> None:
        waiting = [
            asyncio.ensure_future(freed.wait()),
            asyncio.ensure_future(left.wait()),
            asyncio.ensure_future(self._clock.sleep(_LOOK_AGAIN_SECONDS)),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _launched(
        self,
        place: Place,
        make: Callable[Concatenate[Connection, P], M],
        events_of: Callable[[M], list[RunEvent]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> tuple[M, EventLog]:
        """Store what makes a run, with the beginning of its turn, and execute it.

        The model is asked while the disk is still writing; whoever reads the log gets it from here,
        when it has written.
        """
        logs: list[EventLog] = []

        def launch(stored: tuple[M, Begun]) -> None:
            made, begun = stored
            logs.append(self._worker.launch(begun.run, events_of(made), begun, place))

        store = turn.made_and_read(make, self._worker.view)
        made, _ = await self._database.write_calling(launch, store, *args, **kwargs)
        return made, logs[0]

    def _now(self) -> int:
        return int(self._clock.now())


def _begins(log: EventLog) -> Beginning | None:
    """Which request this log answers."""
    first = log.first
    if not isinstance(first, ObjectEvent):
        return None
    names: dict[str, Beginning] = {
        "thread.created": "thread",
        "run.created": "run",
        "run.step.completed": "outputs",
    }
    return names.get(first.name)
