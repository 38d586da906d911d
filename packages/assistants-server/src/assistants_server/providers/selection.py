"""From a model's name to who answers for it.

The map of the settings comes first: stored assistants name models that are gone. Then the name
``local`` is the model in this process, and every other name is the upstream's; without an upstream
the local model answers for all of them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

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
    return Selection(upstream=upstream, local=local, names=settings.models)


class Selection:
    """All the models of one server. Use it in one event loop and close it."""

    def __init__(
        self, *, upstream: ChatCompletions | None, local: LocalModel, names: dict[str, str]
    ) -> None:
        self._upstream = upstream
        self._local = local
        self._names = names

    def _choose(self, model: str) -> tuple[ChatCompletions | LocalModel, str]:
        name = self._names.get(model, self._names.get("*", model))
        if name == LOCAL or self._upstream is None:
            return self._local, name
        return self._upstream, name

    def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Piece], None]:
        provider, name = self._choose(request.model)
        return provider.stream(replace(request, model=name))

    def context_window(self, model: str) -> int:
        provider, name = self._choose(model)
        return provider.context_window(name)

    async def models(self) -> Sequence[ModelInfo]:
        """Of whoever answers for a name that no map mentions."""
        return await (self._upstream or self._local).models()

    def describe(self) -> str:
        """Who answers for a name that no map mentions: ``qwen3:8b at http://…/v1``."""
        provider, name = self._choose("*")
        if provider is self._local:
            return f"{self._local.title}, on this machine"
        assert self._upstream is not None
        return f"{'models' if name == '*' else name} at {self._upstream.base_url}"

    async def prewarm(self) -> None:
        """Open the connection, or load the model, that the first turn will use.

        Raises:
            ProviderError: the local model cannot run here.
        """
        provider, _ = self._choose("*")
        await provider.prewarm()

    async def aclose(self) -> None:
        try:
            await self._local.aclose()
        finally:
            if self._upstream is not None:
                await self._upstream.aclose()
