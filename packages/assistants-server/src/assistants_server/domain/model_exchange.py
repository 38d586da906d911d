"""What we ask a model, and what it may answer with.

The shapes are those of Chat Completions, because every provider speaks it; nothing here knows how
the question travels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .records import JsonObject, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One model turn.

    ``messages`` are Chat Completions messages (``system``, ``user``, ``assistant`` with
    ``tool_calls``, ``tool``); ``tools`` are function tools only. ``None`` means "leave it out".
    ``headers`` go with the request if it travels at all (the context of a trace).
    """

    model: str
    messages: Sequence[dict[str, Any]]
    tools: Sequence[JsonObject] = ()
    tool_choice: str | JsonObject | None = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    response_format: JsonObject | None = None
    reasoning_effort: str | None = None
    max_completion_tokens: int | None = None
    user: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextPiece:
    text: str


@dataclass(frozen=True, slots=True)
class RefusalPiece:
    text: str


@dataclass(frozen=True, slots=True)
class CallPiece:
    """Part of a function call. The first piece of an index carries ``id`` and ``name``."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """The model's turn is over. ``length``: a token bound; ``content_filter``: withheld."""

    reason: Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class TurnUsage:
    usage: Usage


Piece = TextPiece | RefusalPiece | CallPiece | TurnEnd | TurnUsage
