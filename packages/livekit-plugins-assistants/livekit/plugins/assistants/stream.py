"""``AssistantLLMStream``: one call of ``chat()``, as LiveKit drives it.

Turns of one conversation run one after another, in the order of their calls. A retry is a new
attempt from the same snapshot, whatever became of the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import httpx2
import openai
from livekit.agents import APIConnectOptions, llm
from livekit.agents.llm import ChatContext, ImageContent, Tool
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

from .conversation import Conversation
from .errors import to_livekit, translatable
from .event_handler import AssistantEvents
from .plan import Plan, Scratch, aside
from .snapshot import Snapshot
from .turn import Attempt, Call

if TYPE_CHECKING:
    from .llm import AssistantLLM

_RECOVERIES = 3


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
        custom = self.EventHandler is not AssistantEvents
        self._call = Call(
            conversation=conversation,
            snapshot=snapshot,
            images=images,
            timeout=_timeout(conn_options, idle_timeout),
            patience=conn_options.timeout,
            send=self._event_ch.send_nowait,
            handler=self._make_handler if custom else None,
        )

    @property
    def done(self) -> bool:
        return self._task.done()

    async def aclose(self) -> None:
        await super().aclose()
        self._conversation.turns.ended(self._call.snapshot.turn)

    async def _run(self) -> None:
        conversation = self._conversation
        try:
            conversation.check(turn=True)
            async with conversation.lock:
                await conversation.ready(patience=self._call.patience)
                conversation.ledger = conversation.ledger.voided(self._call.keys)
                scratch = aside(self._call.snapshot, conversation.ledger)
                if scratch is None:
                    await self._turn()
            if scratch is not None:  # on a thread of its own: the caller does not wait for it
                await self._turn(scratch)
        except Exception as error:
            if not translatable(error):
                raise
            raise to_livekit(error) from error
        finally:
            conversation.turns.ended(self._call.snapshot.turn)

    async def _next(self) -> Plan:
        await self._conversation.refresh(self._call.snapshot.entries, patience=self._call.patience)
        return self._conversation.plan(self._call.snapshot)

    async def _turn(self, scratch: Scratch | None = None) -> None:
        for left in reversed(range(_RECOVERIES)):
            attempt: Attempt | None = None
            try:
                attempt = Attempt(self._call, scratch or await self._next())
                events = await attempt.start()
            except openai.APIStatusError as error:
                decided = attempt.plan if attempt is not None else None
                if left and await self._conversation.recover(error, self._call.snapshot, decided):
                    continue
                raise
            await attempt.follow(events)
            return

    def _make_handler(self) -> AssistantEvents:
        return self.EventHandler(self._llm, self, self._event_ch, self._chat_ctx)


def _timeout(options: APIConnectOptions, idle: float) -> httpx2.Timeout:
    """A timeout that was asked for is kept. The default one is meant for connecting: a run may be
    silent for longer while it waits for another client's run or for a slow model."""
    default = options.timeout == DEFAULT_API_CONNECT_OPTIONS.timeout
    return httpx2.Timeout(options.timeout, read=idle if default else options.timeout)
