"""One conversation on one thread: the ledger, one turn at a time, assistant and thread found once.

Everything that has to be known later is noted at once and without waiting; work that takes time
after a turn belongs to tasks that the conversation owns and ``aclose()`` waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

import openai
from livekit.agents.llm import ChatContext, ImageContent

from . import delivery
from .errors import AssistantError, code_of, is_missing, to_livekit, translatable
from .images import ImageStore
from .ledger import Ledger
from .log import logger
from .matching import Policy
from .options import AssistantOptions, Conduct
from .plan import Changes, NewRun, Plan, Submit, plan, settle
from .resources import Assistant, LoadedThread, find_assistant, find_thread
from .server import Server, side_by_side
from .snapshot import Entry, Snapshot
from .turns import Turns

CLOSING_PATIENCE = 5.0
"""Seconds that closing waits for what is under way."""


class Conversation:
    def __init__(
        self,
        *,
        connect: Callable[[], Awaitable[Server]],
        options: AssistantOptions,
        thread_id: str | None,
        conduct: Conduct,
    ) -> None:
        self.ledger = Ledger()
        self.lock = asyncio.Lock()
        self.turns = Turns()
        self.images = ImageStore(on_file_uploaded=conduct.on_file_uploaded)
        self.assistant: Assistant | None = None
        self.thread_id = thread_id
        self._connect = connect
        self._options = options
        self._conduct = conduct
        self._server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closing = False  # no more turns
        self._closed = False
        self._resolving: asyncio.Task[None] | None = None
        self._thread_was_there = False
        self._stale = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._abandoned: dict[str, asyncio.Task[None]] = {}  # by the keys of their runs
        self._files: dict[str, frozenset[str]] = {}  # message id -> files it shows

    def used_by_a_session(self) -> None:
        self.ledger = replace(self.ledger, in_use=True)

    # a turn, under the lock ---------------------------------------------------------------------

    @property
    def server(self) -> Server:
        assert self._server is not None, "ready() comes first"
        return self._server

    @property
    def policy(self) -> Policy:
        return Policy(
            extensions=bool(self.server.extensions), full=self._conduct.interrupted == "full"
        )

    def plan(self, snapshot: Snapshot) -> Plan:
        return plan(snapshot, self.ledger, self.turns.fates(self.ledger), self.policy)

    async def refresh(self, entries: Sequence[Entry], *, patience: float) -> None:
        """Read the thread again, if changes to it broke off half-way."""
        if not self._stale:
            return
        try:
            if self.server.extensions:
                async for ledger in delivery.confirm(self.server, self.ledger, patience=patience):
                    self.ledger = ledger
            await self._reload(entries)
        except openai.NotFoundError as error:
            if not await self._thread_is_gone(error):
                raise

    async def prepare(
        self,
        snapshot: Snapshot,
        decided: NewRun,
        images: Mapping[str, ImageContent],
        *,
        patience: float,
    ) -> NewRun:
        """On a server without the extensions: everything a turn changes but the run itself.
        Returns the plan that is left, whose only move is the run."""
        if self.ledger.runs:
            await self._answered(patience)
            self.ledger = await delivery.end_runs(self.server, self.ledger, patience=patience)
            await self._reload(snapshot.entries)
            self.ledger = replace(self.ledger, runs=())
            again = self.plan(snapshot)
            assert isinstance(again, NewRun), "no run is left to submit to"
            decided = again
        changes = decided.changes
        await self._apply(
            changes, images, turn=snapshot.turn, view=snapshot.view, patience=patience
        )
        return replace(
            decided, end_runs=(), changes=Changes(held=self.ledger.held, hidden=changes.hidden)
        )

    async def _apply(
        self,
        changes: Changes,
        images: Mapping[str, ImageContent],
        *,
        turn: int,
        view: int | None = None,
        patience: float,
        committed: bool = False,
    ) -> None:
        shown = [*changes.messages, *(edit.entry for edit in changes.edits)]
        await self.images.upload(self.server, shown, images)
        self._stale = True  # until the last request has taken effect
        async for ledger in delivery.apply(
            self.server,
            self.ledger,
            changes,
            files=self.images.files,
            turn=turn,
            view=view,
            committed=committed,
            patience=patience,
        ):
            self.ledger = ledger
        self._stale = False
        ids = {one.item_id: one.message_id for one in self.ledger.held}
        self.note_files(changes, [ids[entry.item_id] for entry in changes.messages])

    async def _reload(self, entries: Sequence[Entry]) -> None:
        items = frozenset(entry.item_id for entry in entries)
        self.ledger = await delivery.reload(self.server, self.ledger, items)
        self._stale = False
        shown = {entry.item_id: entry for entry in entries}
        for one in self.ledger.held:
            if one.item_id in shown:
                self._shows(one.message_id, shown[one.item_id])

    async def recover(self, error: Exception, snapshot: Snapshot, decided: Plan | None) -> bool:
        """After a refusal: put right what we had wrong. False: it is final."""
        if await self._thread_is_gone(error):
            return True
        if is_missing(error, "assistant") and self._options.create_options is not None:
            self.assistant = await find_assistant(self.server, self._options)
            return True
        if isinstance(decided, Submit):
            self.ledger = self.ledger.with_run(replace(decided.run, state="cut"))
            return isinstance(error, openai.BadRequestError | openai.NotFoundError)
        if code_of(error) in ("message_not_found", "run_key_exists", "run_ended"):
            await self._reload(snapshot.entries)
            return True
        return False

    async def _thread_is_gone(self, error: Exception) -> bool:
        """Deleted underneath: go on with a new thread, which gets what the context still has."""
        if not is_missing(error, "thread") or not self._thread_was_there:
            return False
        logger.warning(
            "the conversation's thread is gone; going on with a new one",
            extra={"thread_id": self.thread_id},
        )
        thread = await find_thread(self.server, thread_id=None, thread_key=self._conduct.thread_key)
        self._adopt(thread)
        return True

    def note_files(self, changes: Changes, message_ids: Sequence[str]) -> None:
        """Changes were made, ``message_ids`` are those of their new messages: delete the files that
        no message shows any more, if that was asked for."""
        edits = {edit.message_id: edit.entry for edit in changes.edits}
        left = [self._files.pop(one, frozenset()) for one in (*edits, *changes.deletes)]
        added = zip(message_ids, changes.messages, strict=False)
        for message_id, entry in (*edits.items(), *added):
            self._shows(message_id, entry)
        if self._conduct.delete_files == "with_message":
            for file_id in frozenset().union(*left).difference(*self._files.values()):
                self.spawn(self._delete_file(file_id), name="delete_file")

    def _shows(self, message_id: str, entry: Entry) -> None:
        if files := self.images.of([entry]):
            self._files[message_id] = frozenset(files)

    # assistant and thread -----------------------------------------------------------------------

    def check(self, *, turn: bool = False) -> None:
        """Refuse what cannot work, before anything waits: locks and connections are one loop's."""
        if self._closed or (turn and self.closing):
            raise AssistantError("This AssistantLLM is closed.")
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise AssistantError(
                "This AssistantLLM has been used on another event loop. Make one for each loop."
            )

    async def ready(self, *, patience: float | None = None) -> None:
        """Find assistant and thread, once; every caller gets the same result or failure. Finding
        goes on when one of them has no more patience."""
        self.check()
        if self._server is not None and self.assistant is not None and self.ledger.thread_id:
            return
        if self._resolving is None or self._resolving.done():
            self._resolving = asyncio.create_task(self._resolve(), name="assistants.resolve")
            self._resolving.add_done_callback(_take_notice)
        resolving = self._resolving
        try:
            await asyncio.wait_for(asyncio.shield(resolving), patience)
        finally:
            if resolving.done() and self._resolving is resolving:
                self._resolving = None

    async def _resolve(self) -> None:
        if self._server is None:
            self._server = await self._connect()
        find = find_thread(
            self._server, thread_id=self.thread_id, thread_key=self._conduct.thread_key
        )
        self.assistant, thread = await side_by_side(
            find_assistant(self._server, self._options), find
        )
        self._adopt(thread)

    def _adopt(self, thread: LoadedThread) -> None:
        self.ledger = Ledger(
            thread_id=thread.id,
            held=thread.base,
            complete=thread.complete,
            removed=self.ledger.removed,
            in_use=self.ledger.in_use,
        )
        self.thread_id = thread.id
        self._thread_was_there = True
        self._stale = False
        # As the old module did. A key's thread is found by its key: the options may be shared.
        if self._options.load_options is not None and self._conduct.thread_key is None:
            self._options.load_options.thread_id = thread.id

    # what no later turn carries -----------------------------------------------------------------

    async def sync(self, history: ChatContext) -> None:
        """Make the thread equal to ``history``."""
        self.check()
        async with self.lock:
            await self.ready()
            try:
                await self._sync(history)
            except openai.NotFoundError as error:
                if not await self._thread_is_gone(error):
                    raise
                await self._sync(history)

    async def _sync(self, history: ChatContext | None, *, closing: bool = False) -> None:
        """Without a history only what is known to be unsaid goes."""
        picture = self.turns.picture(history) if history is not None else None
        entries = picture.entries if picture is not None else None
        await self.refresh(entries or (), patience=CLOSING_PATIENCE)
        if self.ledger.runs:
            if self.turns.wait_for_a_tool(self.ledger) and not closing:
                return  # its outputs are still to come, and a later turn or sync brings the rest
            answers = [*(picture.answers if picture is not None else ()), *self.turns.answers()]
            await self._answered(CLOSING_PATIENCE)
            ledger = await delivery.store_outputs(self.server, self.ledger, answers)
            ledger = await delivery.end_runs(self.server, ledger, patience=CLOSING_PATIENCE)
            self.ledger = ledger
            await self._reload(entries or ())
            self.ledger = replace(self.ledger, runs=())
        changes = settle(entries, self.ledger, self.turns.fates(self.ledger), self.policy)
        if changes.none:
            self.ledger = replace(self.ledger, held=changes.held)
        else:
            images = picture.images if picture is not None else {}
            await self._apply(
                changes, images, turn=self.turns.last, patience=CLOSING_PATIENCE, committed=True
            )
        contexts = list(self.turns.contexts())
        for view, items in contexts:
            self.ledger = self.ledger.claimed(view, items).shown(view, items)
        if not contexts and entries is not None:
            self.ledger = self.ledger.shown(None, [entry.item_id for entry in entries])

    # tasks --------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Work that nobody waits for; its failure is logged, closing waits for it."""
        task = asyncio.create_task(work, name=f"assistants.{name}")
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def abandon(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """The rest of a request that makes the run of this key, or a thread of its own. Only when
        it is over can be said whether there is a run to end."""
        self._abandoned[key] = task = self.spawn(work, name="abandon")
        task.add_done_callback(lambda _: self._abandoned.pop(key))

    async def _answered(self, patience: float) -> None:
        keys = {run.key for run in self.ledger.runs} & set(self._abandoned)
        if keys:
            await asyncio.wait([self._abandoned[key] for key in keys], timeout=patience)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("clean-up failed", extra={"task": task.get_name()}, exc_info=error)

    async def aclose(self) -> None:
        """Flush what is known, wait for what is under way, and free the server's objects."""
        self.closing = True
        self.turns.close()
        try:
            if self._server is not None and self.ledger.thread_id:
                await asyncio.wait_for(self._flush(), CLOSING_PATIENCE)
        except Exception as error:
            if not translatable(error):
                raise
            logger.warning("closing without the last clean-up: %s", to_livekit(error))
        if self._resolving is not None:
            self._resolving.cancel()
            await asyncio.wait({self._resolving})
            self._resolving = None
        while self._tasks:  # one may begin another
            _, late = await asyncio.wait(set(self._tasks), timeout=CLOSING_PATIENCE)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        self._closed = True
        if self._conduct.delete_files == "on_close" and self._server is not None:
            await side_by_side(*(self._delete_file(one) for one in set(self.images.files.values())))

    async def _flush(self) -> None:
        async with self.lock:
            await self._sync(None, closing=True)

    async def _delete_file(self, file_id: str) -> None:
        self.images.forget([file_id])
        try:
            await self.server.delete_file(file_id)
        except openai.NotFoundError:
            pass

    async def delete_thread(self, thread_id: str) -> None:
        try:
            await self.server.request("DELETE", f"/threads/{thread_id}")
        except openai.NotFoundError:
            pass

    async def cancel_run(self, run_id: str | None, key: str) -> None:
        """For servers that do not cancel a run whose stream was closed, be it before it told the
        run's id. What fails here the next turn does."""
        thread = f"/threads/{self.ledger.thread_id}"
        try:
            run_id = run_id or await delivery.run_of_key(self.server, thread, key)
            if run_id is not None:
                await self.server.request("POST", f"{thread}/runs/{run_id}/cancel")
        except Exception as error:
            if not translatable(error):
                raise
            logger.debug("run not cancelled", exc_info=True, extra={"run_id": run_id})


def _take_notice(task: asyncio.Task[None]) -> None:
    """Whoever awaits it gets the failure; when nobody does, asyncio need not complain."""
    if not task.cancelled():
        task.exception()
