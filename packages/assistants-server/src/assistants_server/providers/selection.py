"""From a model's name to who answers for it.

The maps of names have been asked before (``engine.model_names``). The name ``local`` is the model
in this process, and every other name is the upstream's; without an upstream the local model answers
for all of them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence

from ..domain.model_exchange import ModelRequest, Piece
from ..settings import Settings
from .chat_completions import ChatCompletions
from .contract import ModelInfo
from .local import LocalModel

LOCAL = "local"


def select_provider(settings: Settings) -> Selection:
    """The provider that the settings, or OpenAI's own environment variables, ask for."""
    url = settings.upstream_url or os.environ.get("OPENAI_BASE_URL")
    key = settings.upstream_key or os.environ.get("OPENAI_API_KEY")
    upstream = None
    if url or key:
        upstream = ChatCompletions(
            base_url=url, api_key=key, context_window=settings.context_tokens
        )
    local = LocalModel(settings.local_model, data=settings.data)
    return Selection(upstream=upstream, local=local, usual=settings.models.get("*"))


class Selection:
    """All the models of one server. Use it in one event loop and close it.

    ``usual``: the model that the settings put in place of any name.
    """

    def __init__(
        self, *, upstream: ChatCompletions | None, local: LocalModel, usual: str | None
    ) -> None:
        self._upstream = upstream
        self._local = local
        self._usual = usual

    def _choose(self, model: str | None) -> ChatCompletions | LocalModel:
        return self._local if model == LOCAL or self._upstream is None else self._upstream

    def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Piece], None]:
        return self._choose(request.model).stream(request)

    def context_window(self, model: str) -> int:
        return self._choose(model).context_window(model)

    async def models(self) -> Sequence[ModelInfo]:
        """Of whoever answers for a name that no map mentions."""
        return await (self._upstream or self._local).models()

    def describe(self) -> str:
        """Who answers for a name that no map mentions: ``qwen3:8b at http://…/v1``."""
        provider = self._choose(self._usual)
        if isinstance(provider, LocalModel):
            return f"{provider.title}, on this machine"
        return f"{self._usual or 'models'} at {provider.base_url}"

    def lacks(self) -> str | None:
        """What keeps that one from answering, where it shows before it is asked."""
        provider = self._choose(self._usual)
        return provider.lacks() if isinstance(provider, LocalModel) else None

    async def prewarm(self) -> None:
        """Load the local model if somebody asked that it answers for every name, so that the first
        turn is quick.

        Raises:
            ProviderError: the local model cannot run here.
        """
        if self._usual == LOCAL:
            await self._local.prewarm()

    async def aclose(self) -> None:
        try:
            await self._local.aclose()
        finally:
            if self._upstream is not None:
                await self._upstream.aclose()
