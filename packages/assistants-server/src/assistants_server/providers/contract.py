"""What the engine needs of a model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..domain.model_exchange import ModelRequest, Piece


class ProviderError(Exception):
    """The model could not answer.

    ``code`` is the wire's ``last_error.code``: ``server_error`` (asking again may help),
    ``rate_limit_exceeded`` (also for an exhausted quota), or ``invalid_prompt``: what was asked
    cannot be answered, however often it is asked. The message is shown to the client, so it says
    what to do and holds no text of the conversation.
    """

    def __init__(self, message: str, *, code: str = "server_error") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A line of ``GET /models``."""

    id: str
    owned_by: str
    created: int = 0


class ModelProvider(Protocol):
    """One source of models. Implementations hold their own warm connections."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """The answer to one turn, in batches: whatever arrived together is given together.

        Ends after ``TurnEnd`` (and ``TurnUsage``, when the model tells its usage). Closing the
        generator closes the model's own request at once.

        Raises:
            ProviderError: the model refused, failed, or broke off.
        """

    def context_window(self, model: str) -> int:
        """How many tokens the model can read and write in one turn."""

    async def models(self) -> Sequence[ModelInfo]:
        """What can be asked of this provider.

        Raises:
            ProviderError: the list cannot be had.
        """

    async def aclose(self) -> None:
        """Close connections and free memory. Idempotent."""
