"""One turn: the plan's request goes out, its events come back as chat chunks.

What the server says is noted in the ledger as it is said. However the stream ends, noting that
takes no time: interruptions wait for us, and a run that may still be active is named in the next
request.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import httpx2
import openai
from livekit.agents import APIConnectionError, APIConnectOptions, llm
from livekit.agents.llm import (
    ChatChunk,
    ChatContext,
    ChoiceDelta,
    CompletionUsage,
    FunctionToolCall,
    ImageContent,
    Tool,
)
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

from . import delivery
from .conversation import Conversation
from .errors import is_refusal, run_failed, to_livekit, translatable
from .event_handler import AssistantEvents, typed_events
from .ledger import Held
from .log import logger
from .plan import NewRun, Plan, Scratch, Submit, after_outputs_taken, after_run_created
from .snapshot import STAMP, Snapshot, Text, digest, stamp

if TYPE_CHECKING:
    from .llm import AssistantLLM

_RECOVERIES = 3
_ENDS = {
    "thread.run.failed",
    "thread.run.expired",
    "thread.run.cancelled",
    "thread.run.incomplete",
}


class AssistantLLMStream(llm.LLMStream):
    """The stream of one call of ``chat()``.

    A subclass may bring its own ``EventHandler``; then the SDK's typed events go through it, and
    the text chunks are those that its ``on_text_delta`` sends.
    """

    EventHandler: ClassVar[type[AssistantEvents]] = AssistantEvents

    def __init__(
        self,
        assistant_llm: AssistantLLM,
        *,
        conversation: Conversation,
        snapshot: Snapshot,
        images: Mapping[str, ImageContent],
        chat_ctx: ChatContext,
        tools: list[Tool],
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        idle_timeout: float = 30.0,
    ) -> None:
        super().__init__(assistant_llm, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)
        self._retry_on_chunk_sent = False
        self._conversation = conversation
        self._snapshot = snapshot
        self._images = images
        self._idle_timeout = idle_timeout
        self._keys: list[str] = []

    async def aclose(self) -> None:
        await super().aclose()
        self._conversation.stream_ended(self._snapshot.turn)

    async def _run(self) -> None:
        conversation = self._conversation
        try:
            async with conversation.lock:
                await conversation.ready()
                conversation.ledger = conversation.ledger.voided(self._keys)
                await self._turn()
        except Exception as error:
            if not translatable(error):
                raise
            raise to_livekit(error) from error
        finally:
            conversation.stream_ended(self._snapshot.turn)

    async def _turn(self) -> None:
        conversation = self._conversation
        for left in reversed(range(_RECOVERIES)):
            decided = conversation.plan(self._snapshot)
            attempt = _Attempt(self, decided)
            try:
                events = await attempt.start()
            except openai.APIStatusError as error:
                attempt.refused(error)
                if left and await conversation.recover(error, self._snapshot, attempt.plan):
                    continue
                raise
            await attempt.follow(events)
            return

    def _timeout(self) -> httpx2.Timeout:
        """A timeout that was asked for is kept. The default one is meant for connecting: a run may
        be silent for longer while it waits for another client's run or for a slow model."""
        asked = self._conn_options.timeout
        idle = self._idle_timeout if asked == DEFAULT_API_CONNECT_OPTIONS.timeout else asked
        return httpx2.Timeout(asked, read=idle)

    def _send(self, chunk: ChatChunk) -> None:
        self._event_ch.send_nowait(chunk)


class _Attempt:
    """One request and its event stream. ``key`` names the run, ours from before it exists."""

    def __init__(self, stream: AssistantLLMStream, decided: Plan) -> None:
        self.plan = decided
        self.key = uuid.uuid4().hex
        self.run_id = ""
        self.thread_id = stream._conversation.ledger.thread_id
        self._stream = stream
        self._conversation = stream._conversation
        self._snapshot = stream._snapshot
        self._reply = _Reply()
        self._handler: AssistantEvents | None = None
        self._settled = False

    # sending ------------------------------------------------------------------------------------

    async def start(self) -> AsyncGenerator[Mapping[str, Any], None]:
        conversation, snapshot = self._conversation, self._snapshot
        assistant = conversation.assistant
        assert assistant is not None
        timeout = self._stream._timeout()
        patience = self._stream._conn_options.timeout
        server = conversation.server
        files = conversation.images.files

        if isinstance(self.plan, Submit):
            self.key = self.plan.run.key
            self.run_id = self.plan.run.run_id or ""
            request = delivery.submission(self.thread_id, self.plan)
            run = replace(self.plan.run, state="sent", touched=frozenset())
            conversation.ledger = conversation.ledger.sending(run)
        elif isinstance(self.plan, Scratch):
            await conversation.images.upload(server, self.plan.entries, self._stream._images)
            request = delivery.scratch(
                self.plan, snapshot, assistant=assistant, files=conversation.images.files
            )
        else:
            changes = self.plan.changes
            shown = [*changes.messages, *(edit.entry for edit in changes.edits)]
            await conversation.images.upload(server, shown, self._stream._images)
            files = conversation.images.files
            self._stream._keys.append(self.key)
            if not server.extensions:
                self.plan = await conversation.prepare(snapshot, self.plan, patience=patience)
                assert isinstance(self.plan, NewRun)
                request = delivery.standard_creation(
                    self.thread_id, self.plan, snapshot, key=self.key, assistant=assistant
                )
                self.plan = replace(self.plan, answers=())
                conversation.ledger = conversation.ledger.sending(self._note())
                return self._events(
                    await delivery.start_when_free(
                        server, request, timeout=timeout, patience=patience
                    )
                )
            request = delivery.creation(
                self.thread_id,
                self.plan,
                snapshot,
                key=self.key,
                assistant=assistant,
                files=files,
            )
            edited = [edit.message_id for edit in changes.edits]
            conversation.ledger = conversation.ledger.sending(self._note(), edited)
        return self._events(await server.stream(request.path, request.body, timeout=timeout))

    def refused(self, error: openai.APIStatusError) -> None:
        """The server said no: nothing was done, and nothing of it will arrive late."""
        if is_refusal(error) and isinstance(self.plan, NewRun):
            self._conversation.ledger = self._conversation.ledger.without_runs([self.key])
            self._settled = True

    def _note(self) -> Any:
        assert isinstance(self.plan, NewRun)
        changes = self.plan.changes
        return delivery.open_run(
            self.key,
            self._snapshot,
            excluded=self.plan.excludes or changes.hidden,
            touched=changes.deletes,
        )

    # receiving ----------------------------------------------------------------------------------

    async def _events(
        self, stream: openai.AsyncStream[object]
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        try:
            if self._stream.EventHandler is AssistantEvents:
                async for event in stream:
                    if isinstance(event, Mapping) and "event" in event:
                        yield event
                return
            handler = self._handler = self._stream.EventHandler(
                self._stream._llm, self._stream, self._stream._event_ch, self._stream._chat_ctx
            )
            client = self._conversation.server.client
            async for event in typed_events(stream, client, handler):
                yield event
        finally:
            await stream.close()

    async def follow(self, events: AsyncGenerator[Mapping[str, Any], None]) -> None:
        try:
            async with contextlib.aclosing(events):
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
            run=replace(note, state="streaming", run_id=self.run_id, touched=frozenset()),
            message_ids=added,
        )
        for message_id, entry in zip(added, self.plan.changes.messages, strict=False):
            conversation.note_files(message_id, entry)
        conversation.messages_deleted(self.plan.changes.deletes)

    def _outputs_taken(self) -> None:
        assert isinstance(self.plan, Submit)
        ledger = after_outputs_taken(self._conversation.ledger, self.plan, self._snapshot)
        self._conversation.ledger = ledger

    def _message_created(self, message: Mapping[str, Any]) -> None:
        self._reply.ids.append(message["id"])
        self._note_reply(loose=True)
        if self._handler is not None:
            self._stream._send(
                ChatChunk(id=self.run_id, delta=ChoiceDelta(role="assistant", extra=self._stamp()))
            )

    def _text(self, delta: Mapping[str, Any]) -> None:
        words = ""
        for block in delta["delta"].get("content") or ():
            if block.get("type") == "text":
                words += (block.get("text") or {}).get("value") or ""
            elif block.get("type") == "refusal":
                words += block.get("refusal") or ""
        if not words:
            return
        self._reply.text.append(words)
        if self._handler is not None:
            return  # it has sent its own chunk
        extra = None
        if self._reply.stamped != len(self._reply.ids):
            extra = self._stamp()
        self._stream._send(
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
        self._stream._send(
            ChatChunk(
                id=self.run_id,
                delta=ChoiceDelta(
                    role="assistant",
                    tool_calls=[
                        FunctionToolCall(
                            name=call["function"]["name"],
                            arguments=call["function"]["arguments"],
                            call_id=call["id"],
                            extra=extra,
                        )
                        for call in calls
                    ],
                ),
            )
        )

    def _completed(self, run: Mapping[str, Any]) -> None:
        self._over()
        if (usage := usage_of(run)) is not None:
            self._stream._send(ChatChunk(id=self.run_id, usage=usage))

    def _ended(self, run: Mapping[str, Any]) -> None:
        """Failed, expired, cancelled by somebody, or cut off by a token bound."""
        self._over()
        if run.get("status") == "incomplete" and self._reply.text:
            logger.warning(
                "reply cut off by a bound",
                extra={"reason": (run.get("incomplete_details") or {}).get("reason")},
            )
            if (usage := usage_of(run)) is not None:
                self._stream._send(ChatChunk(id=self.run_id, usage=usage))
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
        if not conversation.server.extensions and self.run_id:
            conversation.spawn(conversation.cancel_run(self.run_id), name="cancel_run")

    def _leave_scratch(self) -> None:
        if self.thread_id and self.thread_id != self._conversation.ledger.thread_id:
            self._conversation.spawn(
                self._conversation.delete_thread(self.thread_id), name="delete_scratch"
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


class _Reply:
    """The messages of this stream, which LiveKit hears as one."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.text: list[str] = []
        self.stamped = 0


def usage_of(run: Mapping[str, Any]) -> CompletionUsage | None:
    usage = run.get("usage")
    if not usage:
        return None
    prompt_details = usage.get("prompt_token_details") or usage.get("prompt_tokens_details") or {}
    completion_details = usage.get("completion_tokens_details") or {}
    return CompletionUsage(
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        total_tokens=usage["total_tokens"],
        prompt_cached_tokens=prompt_details.get("cached_tokens") or 0,
        reasoning_tokens=completion_details.get("reasoning_tokens") or 0,
    )
