"""What a client asks to be made: validated values that have no id yet.

``None`` means "not given": a run inherits that field from its assistant. An empty sequence means
what it says (``tools=()`` on a run: no tools).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .records import JsonObject, Metadata, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDraft:
    """``content`` already in the wire's output blocks (a bare string became one text block)."""

    role: Role
    content: Sequence[JsonObject]
    attachments: Sequence[JsonObject] = ()
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadDraft:
    messages: Sequence[MessageDraft] = ()
    tool_resources: JsonObject = field(default_factory=dict)
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRun:
    """Extension: end the run of this name. ``keep=None`` keeps all it brought and wrote; a
    sequence keeps these message ids alone."""

    run_key: str
    keep: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedOutput:
    """Extension: a tool output that reaches the thread outside ``submit_tool_outputs``."""

    tool_call_id: str
    output: str
    name: str | None = None
    arguments: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunExtensions:
    """The extensions of run creation; their defaults are OpenAI's behaviour.

    ``edit_messages`` maps message ids to their new content blocks, in the order given.
    """

    run_key: str | None = None
    end_runs: Sequence[EndRun] = ()
    if_active: Literal["error", "queue", "supersede"] = "error"
    tool_outputs: Sequence[CarriedOutput] = ()
    edit_messages: Mapping[str, Sequence[JsonObject]] = field(default_factory=dict)
    delete_messages: Sequence[str] = ()
    exclude_messages: Sequence[str] = ()
    on_disconnect: Literal["continue", "cancel"] = "continue"
    used: bool = False  # any of them was in the request


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDraft:
    assistant_id: str
    model: str | None = None
    instructions: str | None = None
    additional_instructions: str | None = None
    additional_messages: Sequence[MessageDraft] = ()
    tools: Sequence[JsonObject] | None = None
    tool_resources: JsonObject | None = None
    metadata: Metadata = field(default_factory=dict)
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    truncation_strategy: JsonObject | None = None
    response_format: str | JsonObject | None = None
    tool_choice: str | JsonObject | None = None
    parallel_tool_calls: bool = True
    extensions: RunExtensions = field(default_factory=RunExtensions)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOutput:
    tool_call_id: str
    output: str
