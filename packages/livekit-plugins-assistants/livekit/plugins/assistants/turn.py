"""One attempt at a turn: its request, and what each of its events means.

The ledger is changed as the server says things. However the stream ends, noting that takes no time,
and a run that may still be active is named in the next request.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import openai
from livekit.agents import APIConnectionError
from livekit.agents.llm import ChatChunk, ChoiceDelta, ImageContent

from . import delivery
from .conversation import Conversation
from .errors import is_refusal, run_failed, translatable
from .event_handler import AssistantEvents, typed_events
from .ledger import Held
from .log import logger
from .plan import (
    NewRun,
    Plan,
    Scratch,
    Submit,
    after_outputs_taken,
    after_run_created,
    open_run,
)
from .reply import Reply, tool_calls, usage_of, words_of
from .resources import Assistant
from .snapshot import STAMP, Entry, Snapshot, Text, digest, stamp

Events = AsyncGenerator[Mapping[str, Any], None]

_ENDS = {
    "thread.run.failed",
    "thread.run.expired",
    "thread.run.cancelled",
    "thread.run.incomplete",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one call of ``chat()`` brings to its attempts. ``send`` takes chunks; ``handler`` makes
    an event handler, where one is used."""

    conversation: Conversation
    snapshot: Snapshot
    images: Mapping[str, ImageContent]
    timeout: httpx2.Timeout
    patience: float
    send: Callable[[ChatChunk], None]
    handler: Callable[[], AssistantEvents] | None = None
    keys: list[str] = field(default_factory=list)


class Attempt:
    """One request and its event stream. ``key`` names the run, ours from before it exists."""

    def __init__(self, call: Call, decided: Plan) -> None:
        self.plan = decided
        self.key = uuid.uuid4().hex
        self.run_id = ""
        self.thread_id = call.conversation.ledger.thread_id
        self._call = call
        self._conversation = call.conversation
        self._snapshot = call.snapshot
        self._reply = Reply()
        self._handler: AssistantEvents | None = None
        self._settled = False
        self._abandoned = False
        self._first: Mapping[str, Any] | None = None

    # sending ------------------------------------------------------------------------------------

    async def start(self) -> Events:
        """Send the request; its events are for ``follow``."""
        try:
            return await self._start()
        except BaseException as error:
            if not self._abandoned:
                self._failed(error)
            raise

    async def _start(self) -> Events:
        if isinstance(self.plan, Submit):
            request = self._submission(self.plan)
        elif isinstance(self.plan, Scratch):
            return await self._begun(await self._scratch(self.plan))
        else:
            self._call.keys.append(self.key)
            if not self._conversation.server.extensions:
                return await self._start_by_steps(self.plan)
            changes = self.plan.changes
            await self._upload([*changes.messages, *(edit.entry for edit in changes.edits)])
            request = self._creation(self.plan)
        return await self._send(request)

    def _submission(self, plan: Submit) -> delivery.Request:
        self.key = plan.run.key
        self.run_id = plan.run.run_id or ""
        run = replace(plan.run, state="sent", deletes=frozenset())
        self._conversation.ledger = self._conversation.ledger.sending(run)
        return delivery.submission(self.thread_id, plan)

    async def _scratch(self, plan: Scratch) -> delivery.Request:
        await self._upload(plan.entries)
        return delivery.scratch(
            plan,
            self._snapshot,
            assistant=self._assistant,
            files=self._conversation.images.files,
        )

    def _creation(self, plan: NewRun) -> delivery.Request:
        changes = plan.changes
        note = open_run(self.key, self._snapshot, excluded=plan.hides, deletes=changes.deletes)
        self._conversation.ledger = self._conversation.ledger.sending(
            note, [edit.message_id for edit in changes.edits]
        )
        return delivery.creation(
            self.thread_id,
            plan,
            self._snapshot,
            key=self.key,
            assistant=self._assistant,
            files=self._conversation.images.files,
        )

    async def _start_by_steps(self, plan: NewRun) -> Events:
        """On a server without the extensions: first the changes, then the run."""
        conversation, call = self._conversation, self._call
        prepared = await conversation.prepare(
            self._snapshot, plan, call.images, patience=call.patience
        )
        request = delivery.standard_creation(
            self.thread_id, prepared, self._snapshot, key=self.key, assistant=self._assistant
        )
        # Its calls are told in words, each time anew: the thread does not have them.
        self.plan = replace(prepared, answers=())
        note = open_run(self.key, self._snapshot, excluded=prepared.hides)
        conversation.ledger = conversation.ledger.sending(note)
        send = functools.partial(self._begun, request)
        return await delivery.when_free(send, patience=call.patience)

    async def _send(self, request: delivery.Request) -> Events:
        stream = await self._conversation.server.stream(
            request.path, request.body, timeout=self._call.timeout
        )
        return self._events(stream)

    async def _begun(self, request: delivery.Request) -> Events:
        """The events of a request that goes on until it has told what it made, also when nobody
        listens any more: a run or thread that nobody knows would stay."""
        beginning = asyncio.create_task(self._begin(request), name="assistants.begin")
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            self._abandoned = True
            self._conversation.abandon(self.key, self._abandon(beginning))
            raise

    async def _begin(self, request: delivery.Request) -> Events:
        events = await self._send(request)
        self._first = first = await anext(events, None)
        if first is not None and first["event"] == "thread.created":
            self.thread_id = first["data"]["id"]
        elif first is not None and first["event"] == "thread.run.created":
            self.run_id = first["data"]["id"]
        return events

    async def _abandon(self, beginning: asyncio.Task[Events]) -> None:
        try:
            await (await beginning).aclose()
        except Exception as error:
            if not translatable(error):
                raise
            self._failed(error)
        else:
            self._cut()

    async def _upload(self, entries: Sequence[Entry]) -> None:
        await self._conversation.images.upload(
            self._conversation.server, entries, self._call.images
        )

    @property
    def _assistant(self) -> Assistant:
        assert self._conversation.assistant is not None, "ready() comes first"
        return self._conversation.assistant

    def _failed(self, error: BaseException) -> None:
        """No event came. A server that said no did nothing, and nothing of it will arrive late."""
        if not is_refusal(error):
            self._cut()
        elif isinstance(self.plan, NewRun):
            self._conversation.ledger = self._conversation.ledger.without_runs([self.key])

    # receiving ----------------------------------------------------------------------------------

    async def _events(self, stream: openai.AsyncStream[object]) -> Events:
        try:
            if self._call.handler is None:
                async for event in stream:
                    if isinstance(event, Mapping) and "event" in event:
                        yield event
                return
            self._handler = self._call.handler()
            client = self._conversation.server.client
            async for event in typed_events(stream, client, self._handler):
                yield event
        finally:
            await stream.close()

    async def follow(self, events: Events) -> None:
        try:
            async with contextlib.aclosing(events):
                if self._first is not None:
                    self._take(self._first["event"], self._first["data"])
                async for event in events:
                    self._take(event["event"], event["data"])
        finally:
            if not self._settled:
                self._cut()
        if not self._settled:
            raise APIConnectionError("The server broke off its answer.")

    def _take(self, name: str, data: Mapping[str, Any]) -> None:
        if name == "thread.message.delta":
            self._text(data)
        elif name == "thread.message.created":
            self._message_created(data)
        elif name in ("thread.message.completed", "thread.message.incomplete"):
            self._message_ended()
        elif name == "thread.created":
            self.thread_id = data["id"]
        elif name == "thread.run.created":
            self._run_created(data)
        elif name == "thread.run.requires_action":
            self._calls(data)
        elif name == "thread.run.completed":
            self._completed(data)
        elif name in _ENDS:
            self._ended(data)
        if isinstance(self.plan, Submit) and self._state() == "sent":
            self._outputs_taken()

    def _run_created(self, run: Mapping[str, Any]) -> None:
        self.run_id = run["id"]
        if not isinstance(self.plan, NewRun):
            return
        conversation = self._conversation
        note = conversation.ledger.run(self.key)
        assert note is not None
        added: Sequence[str] = run.get("additional_message_ids") or ()
        conversation.ledger = after_run_created(
            conversation.ledger,
            self.plan,
            self._snapshot,
            run=replace(note, state="streaming", run_id=self.run_id, deletes=frozenset()),
            message_ids=added,
        )
        conversation.note_files(self.plan.changes, added)

    def _outputs_taken(self) -> None:
        assert isinstance(self.plan, Submit)
        ledger = after_outputs_taken(self._conversation.ledger, self.plan, self._snapshot)
        self._conversation.ledger = ledger

    def _message_created(self, message: Mapping[str, Any]) -> None:
        self._reply.ids.append(message["id"])
        self._note_reply(loose=True)
        if self._handler is not None:
            self._call.send(
                ChatChunk(id=self.run_id, delta=ChoiceDelta(role="assistant", extra=self._stamp()))
            )

    def _text(self, delta: Mapping[str, Any]) -> None:
        words = words_of(delta)
        if not words:
            return
        self._reply.text.append(words)
        if self._handler is not None:
            return  # it has sent its own chunk
        extra = None
        if self._reply.stamped != len(self._reply.ids):
            extra = self._stamp()
        self._call.send(
            ChatChunk(
                id=self.run_id, delta=ChoiceDelta(role="assistant", content=words, extra=extra)
            )
        )

    def _message_ended(self) -> None:
        self._note_reply(loose=False)

    def _calls(self, run: Mapping[str, Any]) -> None:
        """The run waits for outputs. Calls are passed on whole, and only now: LiveKit starts a tool
        as soon as it reads its call."""
        calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        self._settled = True
        if isinstance(self.plan, Scratch):
            self._leave_scratch()
        elif (note := self._conversation.ledger.run(self.key)) is not None:
            pending = tuple(call["id"] for call in calls)
            self._conversation.ledger = self._conversation.ledger.with_run(
                replace(note, state="waiting", pending=pending)
            )
        extra = {STAMP: {"thread_id": self.thread_id, "run_id": self.run_id}}
        tools = tool_calls(calls, extra)
        self._call.send(
            ChatChunk(id=self.run_id, delta=ChoiceDelta(role="assistant", tool_calls=tools))
        )

    def _completed(self, run: Mapping[str, Any]) -> None:
        self._over()
        if (usage := usage_of(run)) is not None:
            self._call.send(ChatChunk(id=self.run_id, usage=usage))

    def _ended(self, run: Mapping[str, Any]) -> None:
        """Failed, expired, cancelled by somebody, or cut off by a token bound."""
        self._over()
        if run.get("status") == "incomplete" and self._reply.text:
            logger.warning(
                "reply cut off by a bound",
                extra={"reason": (run.get("incomplete_details") or {}).get("reason")},
            )
            if (usage := usage_of(run)) is not None:
                self._call.send(ChatChunk(id=self.run_id, usage=usage))
            return
        raise run_failed(run)

    def _over(self) -> None:
        self._settled = True
        if isinstance(self.plan, Scratch):
            self._leave_scratch()
        else:
            self._conversation.ledger = self._conversation.ledger.without_runs([self.key])

    def _cut(self) -> None:
        """Closed or broken before its end. No waiting here: who interrupts waits for us."""
        conversation = self._conversation
        if isinstance(self.plan, Scratch):
            self._leave_scratch()
            return
        if self._reply.ids:
            self._note_reply(loose=True)
        conversation.ledger = conversation.ledger.cut(self.key)
        sent = self.run_id or conversation.ledger.run(self.key) is not None
        if sent and not conversation.server.extensions:
            conversation.spawn(conversation.cancel_run(self.run_id, self.key), name="cancel_run")

    def _leave_scratch(self) -> None:
        ours = self._conversation.ledger.thread_id
        scratch, self.thread_id = self.thread_id, ours
        if scratch and scratch != ours:
            self._conversation.spawn(
                self._conversation.delete_thread(scratch), name="delete_scratch"
            )

    def _note_reply(self, *, loose: bool) -> None:
        if isinstance(self.plan, Scratch) or not self._reply.ids:
            return
        text = "".join(self._reply.text)
        self._conversation.ledger = self._conversation.ledger.with_held(
            Held(
                message_id=self._reply.ids[0],
                also=tuple(self._reply.ids[1:]),
                role="assistant",
                digest=digest([Text(text)]),
                text=text,
                turn=self._snapshot.turn,
                view=self._snapshot.view,
                run_key=self.key,
                written=True,
                loose=loose,
            )
        )

    def _stamp(self) -> dict[str, Any]:
        self._reply.stamped = len(self._reply.ids)
        return stamp(self.thread_id, self.run_id, self._reply.ids or [self.run_id])

    def _state(self) -> str | None:
        note = self._conversation.ledger.run(self.key)
        return note.state if note is not None else None
