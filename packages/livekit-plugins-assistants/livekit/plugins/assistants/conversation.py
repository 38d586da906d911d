"""One conversation on one thread: the ledger, one turn at a time, assistant and thread found once.

Everything that has to be known later is noted at once and without waiting; work that takes time
after a turn belongs to tasks that the conversation owns and ``aclose()`` waits for.
"""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import openai
from livekit.agents.llm import ChatContext, ImageContent

from . import delivery
from .errors import code_of, is_missing, translatable
from .images import ImageStore
from .ledger import Fates, Ledger, fates_of
from .log import logger
from .options import AssistantOptions, Conduct
from .plan import Changes, NewRun, Plan, Policy, Submit, plan, settle
from .resources import Assistant, LoadedThread, find_assistant, find_thread
from .server import Server
from .snapshot import Answer, Entry, EntryCache, Snapshot, project
from .voice import Speech, current_scene

if TYPE_CHECKING:
    from livekit.agents import AgentSession

CLOSING_PATIENCE = 5.0
"""Seconds that closing waits for what is under way."""


@dataclass(slots=True)
class Turn:
    """One call of ``chat()``. ``streaming`` until its stream ended, was closed or failed."""

    number: int
    speech: Speech | None
    session: int | None
    streaming: bool = True
    over: bool = False
    discarded: bool = False

    def look(self) -> None:
        """Note what has become of it, and let go of the speech once that is final."""
        if self.speech is None:
            self.over = self.over or not self.streaming
            return
        # A speculation that is not scheduled by the time it is interrupted never will be.
        if not self.speech.scheduled and (self.speech.interrupted or self.speech.done()):
            self.discarded = True
        if self.speech.done():
            self.over = True
            self.speech = None


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
        self.images = ImageStore(on_file_uploaded=conduct.on_file_uploaded)
        self.assistant: Assistant | None = None
        self.thread_id = thread_id
        self._connect = connect
        self._options = options
        self._conduct = conduct
        self._server: Server | None = None
        self._resolving: asyncio.Task[None] | None = None
        self._thread_was_there = False
        self._turns: dict[int, Turn] = {}
        self._last_turn = 0
        self._tokens: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._numbers = itertools.count(1)
        self._sessions: dict[int, weakref.ref[AgentSession[Any]]] = {}
        self._cache = EntryCache()
        self._tasks: set[asyncio.Task[None]] = set()
        self._files: dict[str, frozenset[str]] = {}  # message id -> files it shows

    # what chat() and the stream note, at once ---------------------------------------------------

    def take(
        self, context: ChatContext, settings: Mapping[str, Any]
    ) -> tuple[Snapshot, Mapping[str, ImageContent]]:
        """The picture of a context that ``chat()`` was called with; its turn begins."""
        scene = current_scene()
        picture = project(context, self._cache)
        self._last_turn += 1
        session = self._token(scene.session)
        if session is not None and session not in self._sessions and scene.session is not None:
            self._sessions[session] = weakref.ref(scene.session)
        open_turns = frozenset(
            turn.number
            for turn in self._looked_at()
            if not turn.over and (turn.speech is None or turn.speech is not scene.speech)
        )
        turn = Turn(self._last_turn, scene.speech, session)
        self._turns[turn.number] = turn
        body = dict(settings)
        if picture.instructions is not None:
            body["instructions"] = picture.instructions
        if picture.additional_instructions is not None:
            body["additional_instructions"] = picture.additional_instructions
        snapshot = Snapshot(
            turn=turn.number,
            view=self._token(scene.agent),
            session=session,
            open_turns=open_turns,
            entries=picture.entries,
            answers=picture.answers,
            calls=picture.calls,
            has_instructions=picture.has_instructions,
            instructions=picture.instructions,
            additional_instructions=picture.additional_instructions,
            settings=body,
        )
        return snapshot, picture.images

    def stream_ended(self, turn: int) -> None:
        if (known := self._turns.get(turn)) is not None:
            known.streaming = False

    def used_by_a_session(self) -> None:
        self.ledger = replace(self.ledger, in_use=True)

    # a turn, under the lock ---------------------------------------------------------------------

    @property
    def server(self) -> Server:
        assert self._server is not None, "ready() comes first"
        return self._server

    @property
    def policy(self) -> Policy:
        return Policy(edits=bool(self.server.extensions), full=self._conduct.interrupted == "full")

    def plan(self, snapshot: Snapshot) -> Plan:
        return plan(snapshot, self.ledger, self.fates(), self.policy)

    async def prepare(self, snapshot: Snapshot, decided: Plan, *, patience: float) -> Plan:
        """On a server without the extensions: everything a turn changes but the run itself.
        Returns the plan that is left, whose only move is the run."""
        if not isinstance(decided, NewRun):
            return decided
        items = frozenset(entry.item_id for entry in snapshot.entries)
        if self.ledger.runs:
            self.ledger = await delivery.end_runs(self.server, self.ledger, patience=patience)
            self.ledger = await delivery.reload(self.server, self.ledger, items)
            self.ledger = replace(self.ledger, runs=())
            decided = self.plan(snapshot)
            assert isinstance(decided, NewRun)
        changes = decided.changes
        await self._apply(decided, snapshot)
        return replace(
            decided,
            end_runs=(),
            changes=Changes(held=self.ledger.held, hidden=changes.hidden),
        )

    async def _apply(self, decided: NewRun, snapshot: Snapshot) -> None:
        try:
            self.ledger = await delivery.apply(
                self.server,
                self.ledger,
                decided.changes,
                files=self.images.files,
                turn=snapshot.turn,
                view=snapshot.view,
            )
        except openai.OpenAIError:
            # Which of the requests took effect is not known.
            items = frozenset(entry.item_id for entry in snapshot.entries)
            self.spawn(self._reload(items), name="reload")
            raise

    async def recover(self, error: Exception, snapshot: Snapshot, decided: Plan) -> bool:
        """After a refusal: put right what we had wrong. False: it is final."""
        if is_missing(error, "thread"):
            return await self._thread_is_gone(error)
        if is_missing(error, "assistant") and self._options.create_options is not None:
            self.assistant = await find_assistant(self.server, self._options)
            return True
        if isinstance(decided, Submit):
            self.ledger = self.ledger.with_run(replace(decided.run, state="cut"))
            return isinstance(error, openai.BadRequestError | openai.NotFoundError)
        if code_of(error) in ("message_not_found", "run_key_exists", "run_ended"):
            items = frozenset(entry.item_id for entry in snapshot.entries)
            self.ledger = await delivery.reload(self.server, self.ledger, items)
            return True
        return False

    async def _thread_is_gone(self, error: Exception) -> bool:
        """Deleted underneath: go on with a new thread, which gets what the context still has."""
        if not self._thread_was_there:
            return False
        logger.warning(
            "the conversation's thread is gone; going on with a new one",
            extra={"thread_id": self.thread_id},
        )
        thread = await find_thread(self.server, thread_id=None, thread_key=self._conduct.thread_key)
        self._adopt(thread)
        return True

    def note_files(self, message_id: str, entry: Entry) -> None:
        if files := self.images.of([entry]):
            self._files[message_id] = frozenset(files)

    def messages_deleted(self, message_ids: Iterable[str]) -> None:
        """Delete the files of these messages, if that was asked for and no other shows them."""
        if self._conduct.delete_files != "with_message":
            return
        gone = [self._files.pop(one) for one in message_ids if one in self._files]
        files = frozenset().union(*gone).difference(*self._files.values())
        for file_id in files:
            self.spawn(self._delete_file(file_id), name="delete_file")

    def fates(self) -> Fates:
        turns = list(self._looked_at())
        history: list[Entry] = []
        alive: set[int] = set()
        for token, reference in list(self._sessions.items()):
            session = reference()
            if session is None:
                del self._sessions[token]
                continue
            alive.add(token)
            history.extend(project(session.history, self._cache).entries)
        held = {one.turn for one in self.ledger.held}
        for turn in turns:
            if turn.over and turn.number not in held:
                del self._turns[turn.number]
        return fates_of(
            history,
            thread_id=self.ledger.thread_id,
            over=(turn.number for turn in turns if turn.over),
            discarded=(turn.number for turn in turns if turn.discarded),
            told=(turn.number for turn in turns if turn.session in alive),
        )

    # assistant and thread -----------------------------------------------------------------------

    async def ready(self) -> None:
        """Find assistant and thread, once; every caller gets the same result or failure."""
        if self._server is not None and self.assistant is not None and self.ledger.thread_id:
            return
        if self._resolving is None:
            self._resolving = asyncio.create_task(self._resolve(), name="assistants.resolve")
            self._resolving.add_done_callback(_take_notice)
        resolving = self._resolving
        try:
            await asyncio.shield(resolving)
        finally:
            if resolving.done() and self._resolving is resolving:
                self._resolving = None

    async def _resolve(self) -> None:
        if self._server is None:
            self._server = await self._connect()
        find = find_thread(
            self._server, thread_id=self.thread_id, thread_key=self._conduct.thread_key
        )
        self.assistant, thread = await gather_or_cancel(
            find_assistant(self._server, self._options), find
        )
        self._adopt(thread)

    def _adopt(self, thread: LoadedThread) -> None:
        self.ledger = Ledger(
            thread_id=thread.id,
            held=thread.base,
            complete=thread.complete,
            in_use=self.ledger.in_use,
        )
        self.thread_id = thread.id
        self._thread_was_there = True
        if self._options.load_options is not None:
            self._options.load_options.thread_id = thread.id

    # what no later turn carries -----------------------------------------------------------------

    async def sync(self, history: ChatContext) -> None:
        """Make the thread equal to ``history``."""
        async with self.lock:
            await self.ready()
            await self._sync(history)

    async def _sync(self, history: ChatContext | None, *, closing: bool = False) -> None:
        """Without a history only what is known to be unsaid goes."""
        picture = project(history, self._cache) if history is not None else None
        entries = picture.entries if picture is not None else None
        if self.ledger.runs:
            if self._waits_for_a_tool() and not closing:
                return  # its outputs are still to come, and a later turn or sync brings the rest
            answers = [*(picture.answers if picture is not None else ()), *self._told_answers()]
            ledger = await delivery.store_outputs(self.server, self.ledger, answers)
            ledger = await delivery.end_runs(self.server, ledger, patience=CLOSING_PATIENCE)
            items = frozenset(entry.item_id for entry in entries or ())
            self.ledger = await delivery.reload(self.server, ledger, items)
            self.ledger = replace(self.ledger, runs=())
        changes = settle(entries, self.ledger, self.fates(), self.policy)
        if changes.none:
            self.ledger = replace(self.ledger, held=changes.held)
            return
        touched = [*changes.messages, *(edit.entry for edit in changes.edits)]
        images = picture.images if picture is not None else {}
        await self.images.upload(self.server, touched, images)
        self.ledger = await delivery.apply(
            self.server,
            self.ledger,
            changes,
            files=self.images.files,
            turn=self._last_turn,
            view=None,
            committed=True,
        )
        self.messages_deleted(changes.deletes)

    def _told_answers(self) -> Iterator[Answer]:
        """Outputs that sessions have, whether or not a turn carried them."""
        for reference in self._sessions.values():
            if (session := reference()) is not None:
                yield from project(session.history, self._cache).answers

    def _waits_for_a_tool(self) -> bool:
        over = {turn.number for turn in self._looked_at() if turn.over}
        known = set(self._turns)
        return any(
            run.state == "waiting" and run.turn in known and run.turn not in over
            for run in self.ledger.runs
        )

    # tasks --------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Work that nobody waits for; its failure is logged, closing waits for it."""
        task = asyncio.create_task(work, name=f"assistants.{name}")
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("clean-up failed", extra={"task": task.get_name()}, exc_info=error)

    async def aclose(self) -> None:
        """Flush what is known, wait for what is under way, and free the server's objects."""
        for turn in self._turns.values():
            turn.streaming = turn.streaming and turn.speech is not None
            turn.over = turn.over or turn.speech is None
        try:
            if self._server is not None and self.ledger.thread_id:
                await asyncio.wait_for(self._flush(), CLOSING_PATIENCE)
        except Exception as error:
            if not translatable(error):
                raise
            logger.warning("closing without the last clean-up", exc_info=error)
        if self._resolving is not None:
            self._resolving.cancel()
            await asyncio.wait({self._resolving})
            self._resolving = None
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=CLOSING_PATIENCE)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        if self._conduct.delete_files == "on_close" and self._server is not None:
            await asyncio.gather(
                *(self._delete_file(one) for one in set(self.images.files.values()))
            )

    async def _flush(self) -> None:
        async with self.lock:
            await self._sync(None, closing=True)

    async def _reload(self, items: frozenset[str]) -> None:
        async with self.lock:
            self.ledger = await delivery.reload(self.server, self.ledger, items)

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

    async def cancel_run(self, run_id: str) -> None:
        """For servers that do not cancel a run whose stream was closed."""
        try:
            await self.server.request(
                "POST", f"/threads/{self.ledger.thread_id}/runs/{run_id}/cancel"
            )
        except (openai.BadRequestError, openai.NotFoundError):
            pass

    # --------------------------------------------------------------------------------------------

    def _looked_at(self) -> list[Turn]:
        for turn in self._turns.values():
            turn.look()
        return list(self._turns.values())

    def _token(self, thing: object | None) -> int | None:
        """A number for an agent or session that is never given to another one."""
        if thing is None:
            return None
        token = self._tokens.get(thing)
        if token is None:
            token = self._tokens[thing] = next(self._numbers)
        return token


def _take_notice(task: asyncio.Task[None]) -> None:
    """Whoever awaits it gets the failure; when nobody does, asyncio need not complain."""
    if not task.cancelled():
        task.exception()


async def gather_or_cancel(
    first: Coroutine[Any, Any, Assistant], second: Coroutine[Any, Any, LoadedThread]
) -> tuple[Assistant, LoadedThread]:
    """Both side by side; the failure of one ends the other."""
    one, two = asyncio.create_task(first), asyncio.create_task(second)
    try:
        return await one, await two
    finally:
        for task in (one, two):
            task.cancel()
        await asyncio.wait({one, two})
