"""What follows a session: between turns and at its end the thread gets what no turn has carried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from livekit.agents import APIError

from .conversation import CLOSING_PATIENCE
from .log import logger

if TYPE_CHECKING:
    from livekit.agents import AgentSession, ConversationItemAddedEvent

    from .llm import AssistantLLM


class Attachment:
    """Follows one session: a moment after something was said, and when it closes, the thread gets
    what no turn has carried. A turn that begins first carries it anyway, at no cost."""

    QUIET = 1.0  # seconds without news before the thread is brought up to date

    def __init__(
        self,
        owner: AssistantLLM,
        session: AgentSession[Any],
        *,
        ended: Callable[[Attachment], None],
    ) -> None:
        self.session = session
        self._owner = owner
        self._ended = ended
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        session.on("conversation_item_added", self._on_item)
        session.on("close", self._on_close)

    def _on_item(self, _: ConversationItemAddedEvent) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self.QUIET, self._sync)

    def _on_close(self, _: object) -> None:
        self._stop()
        self._sync()

    def _sync(self) -> None:
        self._timer = None
        self._owner._conversation.spawn(self._bring(), name="sync")

    async def _bring(self) -> None:
        try:
            await self._owner.sync(self.session.history)
        except APIError as error:
            logger.warning("the thread could not be brought up to date", exc_info=error)

    def _stop(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.session.off("conversation_item_added", self._on_item)
        self.session.off("close", self._on_close)
        self._ended(self)

    async def aclose(self) -> None:
        """The last word, unless the session's end has had it."""
        if self._closed:
            return
        self._stop()
        try:
            await asyncio.wait_for(self._bring(), CLOSING_PATIENCE)
        except asyncio.TimeoutError:
            logger.warning("closing without the session's last words")
