"""Owns every run this process executes: launches, limits, renews leases, sweeps, drains.

The database is the only coordination between processes. A run carries its owner and a lease; the
owner renews while it works, and learns from the same statement which of its runs others have
ended. What no process renews any more is settled by whoever looks first: a turn that has said
nothing yet is asked again, once; one that was half said fails with a plain reason, a run that was
being cancelled is cancelled. Overdue runs expire. So every run ends, whatever happens to its
process.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from .. import errors
from ..clock import Clock
from ..domain.records import Failure, Run
from ..domain.run_events import RunEvent
from ..log import run_id as logged_run
from ..measurements import Measurements
from ..providers.contract import ModelProvider
from ..settings import Settings
from ..store import files, idempotency, run_endings, runs, steps, turn
from ..store.conversation import View
from ..store.database import Database, DatabaseError
from ..store.run_creation import Claim
from ..store.run_endings import Ending, Outcome, Unstored
from ..store.turn import Begun
from .event_log import EventLog
from .model_names import ModelNames
from .room import Place, Room
from .run_execution import RunExecution, Stop

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 1.0
_SWEEPS_PER_LEASE = 5  # a lease survives four sweeps that fail or come late
_RENEWALS_PER_LEASE = 4  # over a connection that fell silent one is given up, in time for another
SWEEP_SECONDS = 5.0  # at least so often, however long the lease: commands change model names
_SWEEP_LIMIT = 100  # runs settled in one sweep, so that a sweep stays short
_CLEARING_SECONDS = 60
_UPLOAD_SECONDS = 3600  # an upload that has not finished by then has broken off

DIED = Failure(
    code="server_error",
    message="The server that was working on this run stopped before the run was done.",
)
SHUT_DOWN = Failure(
    code="server_error", message="The server was shut down before the run was done."
)


class Worker:
    def __init__(
        self,
        *,
        database: Database,
        provider: ModelProvider,
        names: ModelNames,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self.id = f"worker_{secrets.token_hex(8)}"
        self._database = database
        self._provider = provider
        self._names = names
        self._clock = clock
        self._settings = settings
        self.view = View(self._window, settings.tool_history)
        self.measurements = Measurements()
        self._executions: dict[str, RunExecution] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._freed: dict[str, asyncio.Event] = {}
        self._unclaimed: set[str] = set()  # ours in the store at the last sweep, yet not running
        self._clearing_due = 0
        self._side_tasks: list[asyncio.Task[None]] = []
        self._busy = asyncio.Event()  # something is being executed
        self._room = Room(most=settings.max_active_runs, total=settings.active_runs_in_all)
        self._draining = False

    def _window(self, run: Run) -> int:
        model = self._names.resolve(run.project_id, run.model)
        return self._provider.context_window(model)

    # Life

    async def start(self) -> None:
        """Settle what earlier processes left, then keep doing so."""
        self._database.presence.enter(self.id)
        await self._sweep()
        listener = self._database.listen(self._touched)
        self._side_tasks = [
            asyncio.create_task(self._keep_sweeping(), name="run sweeper"),
            asyncio.create_task(self._keep_checkpointing(), name="text checkpoints"),
            *([] if listener is None else [listener]),
        ]

    async def drain(self, grace: float) -> None:
        """Refuse new runs, let running ones end for ``grace`` seconds, then fail the rest."""
        self._draining = True
        await self._room.created(timeout=grace)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for execution in list(self._executions.values()):
            execution.stop(Stop(outcome=Outcome(cause="fail", failure=SHUT_DOWN)))
        if self._tasks:
            await asyncio.wait(self._tasks)
        for task in self._side_tasks:
            task.cancel()
        if self._side_tasks:
            await asyncio.wait(self._side_tasks)
        self._database.presence.leave(self.id)

    # Executing

    def check_accepting(self) -> None:
        """Raises:
        Unavailable: the server is shutting down.
        """
        if self._draining:
            raise errors.Unavailable("The server is shutting down.")

    def admitted(self, project_id: str) -> AbstractContextManager[Place]:
        """Room for one more run while it is being created; :meth:`launch` takes the place over.

        Raises:
            Unavailable: the server is shutting down.
            TooManyRequests: the project has as many runs under way, or being created, as it may.
        """
        self.check_accepting()
        return self._room.admitted(project_id)

    def claim(self) -> Claim:
        """What a transaction writes on a run that this process is going to execute."""
        now = self._clock.now()
        return Claim(
            owner=self.id,
            lease_until=now + self._settings.lease,
            expires_at=int(now + self._settings.run_expiry),
        )

    @property
    def lifetime(self) -> int:
        """Seconds that a run gets."""
        return int(self._settings.run_expiry)

    def launch(
        self,
        run: Run,
        first_events: Sequence[RunEvent] = (),
        begun: Begun | None = None,
        place: Place | None = None,
    ) -> EventLog:
        """Execute a run that is claimed for this process, and may have begun; returns its log."""
        kept = self._room.launched(place, run.project_id)
        log = EventLog()
        log.append(*first_events)
        execution = RunExecution(
            run,
            log,
            database=self._database,
            provider=self._provider,
            names=self._names,
            clock=self._clock,
            view=self.view,
            measurements=self.measurements,
            asked=kept.asked,
            begun=begun,
        )
        lost = self._executions.get(run.id)
        if lost is not None:  # on its last step, or of a turn that another process took over
            lost.stop(Stop())
        self._executions[run.id] = execution
        self._busy.set()
        task = self._begin(execution)
        self._tasks.add(task)

        def over(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._room.leave(kept)
            # The same run may have been resumed while this task was on its last step.
            if self._executions.get(run.id) is execution:
                del self._executions[run.id]
            self.free(run.thread_id)

        task.add_done_callback(over)
        return log

    def _begin(self, execution: RunExecution) -> asyncio.Task[None]:
        token = logged_run.set(execution.run.id)  # for the lines of the execution's task
        try:
            return execution.begin()
        finally:
            logged_run.reset(token)

    def log(self, run_id: str) -> EventLog | None:
        """The events of a run that this process executes now."""
        execution = self._executions.get(run_id)
        return None if execution is None else execution.log

    def unstored(self, run_id: str) -> Unstored | None:
        """What this process holds of a run beyond the store. Safe from any thread."""
        execution = self._executions.get(run_id)
        return None if execution is None else execution.unstored()

    def stop(self, run_id: str, outcome: Outcome, *, run: Run | None = None) -> bool:
        """Have this process's execution of the run end so; ``False`` if it has none.

        ``run``: as it now stands, if it has changed without the execution.
        """
        execution = self._executions.get(run_id)
        if execution is None:
            return False
        execution.stop(Stop(run=run, outcome=outcome))
        return True

    def ended(self, endings: Iterable[Ending]) -> None:
        """Runs were ended in the store by another request: stop their work, tell their streams."""
        for ending in endings:
            execution = self._executions.get(ending.run.id)
            if execution is not None:
                execution.stop(Stop(ending=ending))
            self.free(ending.run.thread_id)

    def deleted(self, run_id: str) -> None:
        """The run's thread is gone: stop the work, there is nothing to store."""
        execution = self._executions.get(run_id)
        if execution is not None:
            execution.stop(Stop())

    # Waiting for a thread

    def free(self, thread_id: str) -> None:
        """Something ended on the thread: whoever waits for it may look again."""
        event = self._freed.pop(thread_id, None)
        if event is not None:
            event.set()

    def freed(self, thread_id: str) -> asyncio.Event:
        """Set when a run of the thread ends in this process. Take it before looking."""
        return self._freed.setdefault(thread_id, asyncio.Event())

    # Checkpoints

    async def _keep_checkpointing(self) -> None:
        """Text that was announced is stored a second later at the latest, also if none follows."""
        while True:
            await self._busy.wait()
            await self._clock.sleep(CHECKPOINT_SECONDS)
            if not self._executions:
                self._busy.clear()
            records = [one.record for one in self._executions.values() if one.record is not None]
            grown = [(one, growth) for one in records if (growth := one.growth()) is not None]
            if not grown:
                continue
            try:
                await self._database.progress(turn.checkpoint, [growth for _, growth in grown])
            except DatabaseError as error:
                logger.warning("checkpoint failed: %s", error.message)
                continue
            for record, growth in grown:
                record.checkpointed(growth)

    # Sweeping

    async def _keep_sweeping(self) -> None:
        while True:
            pause = self._settings.lease / _SWEEPS_PER_LEASE
            await self._clock.sleep(min(pause, SWEEP_SECONDS))
            try:
                await self._sweep()
            except DatabaseError as error:
                logger.warning("sweep failed: %s", error.message)
            except Exception:
                logger.exception("sweep failed")

    async def _sweep(self) -> None:
        await self._renew()
        await self._settle_orphans()
        await self._expire_overdue()
        await self._names.refresh()
        now = int(self._clock.now())
        if now >= self._clearing_due:
            self._clearing_due = now + _CLEARING_SECONDS
            await self._database.write(
                files.sweep, now=now, unfinished_before=now - _UPLOAD_SECONDS
            )
            await self._database.write(idempotency.sweep, now=now)

    async def _renew(self) -> None:
        executing = dict(self._executions)
        renewing = asyncio.ensure_future(self._renewed())
        try:  # not wait_for: before Python 3.12 it may lose the cancellation that ends the sweeping
            await asyncio.wait({renewing}, timeout=self._settings.lease / _RENEWALS_PER_LEASE)
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})
        if renewing.cancelled():
            logger.warning("leases were not renewed in time")
            return
        mine = renewing.result()
        for run_id, execution in executing.items():
            if run_id not in mine and self._executions.get(run_id) is execution:
                await self._heed(run_id, execution)
        # Ours, but nobody works on it: the store failed us between two steps. Seen twice, because
        # a run is committed an instant before it is launched.
        idle = mine - executing.keys() - self._executions.keys()
        for run_id in idle & self._unclaimed:
            run = await self._database.read(runs.by_id, run_id)
            if run is not None:
                await self._end(run, Outcome(cause="fail", failure=DIED))
        self._unclaimed = idle

    async def _renewed(self) -> set[str]:
        """The runs that are ours to execute, their leases prolonged."""
        if self._executions:
            lease_until = self._clock.now() + self._settings.lease
            await self._database.write(runs.renew, self.id, lease_until=lease_until)
        return await self._database.read(runs.held, self.id)

    def _touched(self, run_id: str) -> None:
        """A signal of another process (or our own: then the execution has been told already)."""
        execution = self._executions.get(run_id)
        if execution is not None:
            task = asyncio.create_task(self._heed(run_id, execution), name=f"heed {run_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _heed(self, run_id: str, execution: RunExecution) -> None:
        """Another process touched our run: it was cancelled, ended, or deleted."""
        try:
            run = await self._database.read(runs.by_id, run_id)
        except DatabaseError:
            return  # the next renewal looks again
        if run is not None and run.owner == self.id and run.status in ("queued", "in_progress"):
            return  # begun after the renewal looked
        if run is not None and run.status == "cancelling":
            execution.stop(Stop(run=run, outcome=Outcome(cause="stop")))
        else:
            execution.stop(Stop())

    async def _settle_orphans(self) -> None:
        now = self._clock.now()
        dead = await self._dead()
        for run in await self._database.read(runs.orphans, now=now, dead=dead, limit=_SWEEP_LIMIT):
            if run.id in self._executions:
                continue
            if run.status == "cancelling":
                await self._end(run, Outcome(cause="stop"))
                continue
            claim = self.claim()
            taken = await self._database.write(
                runs.claim, run, owner=claim.owner, lease_until=claim.lease_until
            )
            if taken is None:
                continue
            logger.info("taking over a run", extra={"run_id": run.id, "status": run.status})
            if await self._can_still_be_told(taken):
                self.launch(taken)
            else:
                await self._end(taken, Outcome(cause="fail", failure=DIED))

    async def _can_still_be_told(self, run: Run) -> bool:
        """Whether a dead process's run may be executed as if nothing had happened: its turn has
        said nothing yet, its client has not gone with the process, and it was not taken over
        before. A run that kills whoever executes it must not kill them all, one by one."""
        if run.cancel_on_disconnect or run.taken_over:
            return False
        return not await self._database.read(steps.in_progress, run.id)

    async def _dead(self) -> Sequence[str]:
        """Processes of this host that hold runs and are gone: nobody need wait for their leases."""
        presence = self._database.presence
        if not presence.watches:
            return ()
        return [one for one in await self._database.read(runs.owners) if presence.has_gone(one)]

    async def _expire_overdue(self) -> None:
        now = self._clock.now()
        for run in await self._database.read(runs.overdue, now=now, limit=_SWEEP_LIMIT):
            await self.expire(run)

    async def expire(self, run: Run) -> None:
        """The run's time is over."""
        outcome = Outcome(cause="stop" if run.status == "cancelling" else "expire")
        if not self.stop(run.id, outcome, run=run):
            await self._end(run, outcome)

    async def _end(self, run: Run, outcome: Outcome) -> None:
        ending = await self._database.write(
            run_endings.end, run, outcome, now=int(self._clock.now()), unstored=None
        )
        if ending is not None:
            self.measurements.runs_ended[ending.run.status] += 1
            self.ended([ending])
