"""The SDK's event handler, for code that subclasses it as the old module allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import openai
from livekit.agents.llm import ChatChunk, ChatContext, ChoiceDelta, LLMStream
from livekit.agents.utils.aio import Chan
from openai import AsyncAssistantEventHandler, AsyncStream
from openai.types.beta import AssistantStreamEvent
from openai.types.beta.threads import Text, TextDelta
from typing_extensions import override

if TYPE_CHECKING:
    from livekit.agents.llm import LLM


class AssistantEvents(AsyncAssistantEventHandler):
    """What ``AssistantLLMStream.EventHandler`` is. A subclass sees every event of a turn as the SDK
    has it, and ``on_text_delta`` decides what is said. Tool calls, usage and errors are the
    stream's; ``fnc_ctx`` is kept for old signatures."""

    def __init__(
        self,
        llm: LLM[Any],
        llm_stream: LLMStream,
        event_ch: Chan[ChatChunk],
        chat_ctx: ChatContext,
        fnc_ctx: Any = None,
    ) -> None:
        super().__init__()
        self._llm = llm
        self._llm_stream = llm_stream
        self._event_ch = event_ch
        self._chat_ctx = chat_ctx
        self._fnc_ctx = fnc_ctx

    @override
    async def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
        assert self.current_run is not None
        self._event_ch.send_nowait(
            ChatChunk(
                id=self.current_run.id,
                delta=ChoiceDelta(role="assistant", content=delta.value),
            )
        )


async def typed_events(
    stream: AsyncStream[object], client: openai.AsyncClient, handler: AssistantEvents
) -> AsyncIterator[Mapping[str, Any]]:
    """The stream's events after the handler had them, as plain JSON."""
    typed: AsyncStream[AssistantStreamEvent] = AsyncStream(
        cast_to=cast(Any, AssistantStreamEvent), response=stream.response, client=client
    )
    handler._init(typed)
    async for event in handler:
        yield {"event": event.event, "data": event.data.to_dict()}
