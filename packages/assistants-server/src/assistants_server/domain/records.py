"""What the store hands out: frozen values, one class a noun.

Leaf parts (message content, tools, tool resources, response formats) are kept in the wire's own
JSON shape, so that no field is written three times. Times are whole Unix seconds. ``position`` is
the place in the thread: a number that grows with every message of the server, never reused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .run_state import ACTIVE, MessageStatus, RunStatus, StepStatus

JsonObject = Mapping[str, Any]
Metadata = Mapping[str, str]
Role = Literal["user", "assistant"]
StepType = Literal["message_creation", "tool_calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one model turn, a step or a run. Details are part of the two sums."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """``last_error`` of a run or step: ``server_error``, ``rate_limit_exceeded``, …"""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    id: str
    project_id: str
    created_at: int
    model: str
    name: str | None = None
    description: str | None = None
    instructions: str | None = None
    tools: Sequence[JsonObject] = ()
    tool_resources: JsonObject = field(default_factory=dict)
    metadata: Metadata = field(default_factory=dict)
    temperature: float = 1.0
    top_p: float = 1.0
    response_format: str | JsonObject = "auto"
    reasoning_effort: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    id: str
    project_id: str
    created_at: int
    tool_resources: JsonObject = field(default_factory=dict)
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A thread message.

    ``content`` holds the wire's output blocks. ``run_id`` and ``assistant_id`` are set only on
    messages that a run wrote; ``added_by_run_id`` on those that came as a run's
    ``additional_messages`` (the wire shows null for both of these messages' ids).
    """

    id: str
    thread_id: str
    created_at: int
    position: int = 0
    role: Role
    content: Sequence[JsonObject]
    attachments: Sequence[JsonObject] = ()
    metadata: Metadata = field(default_factory=dict)
    status: MessageStatus = "completed"
    incomplete_reason: str | None = None
    completed_at: int | None = None
    incomplete_at: int | None = None
    assistant_id: str | None = None
    run_id: str | None = None
    added_by_run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run with its effective values: what it inherited is copied at creation.

    ``usage`` is the sum of the finished turns so far; the wire shows it at the end only. The fields
    below ``additional_message_ids`` belong to the extensions; ``owner`` names the process that
    executes the run, until ``lease_until`` (Unix seconds) unless renewed.
    """

    id: str
    project_id: str
    thread_id: str
    assistant_id: str
    created_at: int
    status: RunStatus
    started_at: int | None = None
    expires_at: int | None = None
    cancelled_at: int | None = None
    failed_at: int | None = None
    completed_at: int | None = None
    last_error: Failure | None = None
    incomplete_reason: str | None = None
    model: str
    instructions: str | None = None
    tools: Sequence[JsonObject] = ()
    tool_resources: JsonObject = field(default_factory=dict)
    metadata: Metadata = field(default_factory=dict)
    temperature: float = 1.0
    top_p: float = 1.0
    reasoning_effort: str | None = None
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    truncation_strategy: JsonObject = field(
        default_factory=lambda: {"type": "auto", "last_messages": None}
    )
    response_format: str | JsonObject = "auto"
    tool_choice: str | JsonObject = "auto"
    parallel_tool_calls: bool = True
    usage: Usage = field(default_factory=Usage)
    turns: int = 0  # model turns finished so far
    pending_calls: Sequence[JsonObject] = ()  # {id, type: function, function: {name, arguments}}
    run_key: str | None = None
    additional_message_ids: Sequence[str] | None = None  # None: the extension was not used
    excluded_ids: Sequence[str] = ()
    first_position: int = 0  # messages before this place are not shown (last_messages)
    cancel_on_disconnect: bool = False
    owner: str | None = None
    lease_until: float | None = None
    taken_over: bool = False  # this turn was begun by another process, which has died

    def is_overdue(self, now: float) -> bool:
        """Whether its time is over, though it is yet to be ended."""
        return self.status in ACTIVE and self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One model turn's message or tool calls.

    ``tool_calls`` holds the wire's entries (``{id, type, function: {name, arguments, output}}``).
    ``after_position`` is the thread position behind which the turn stands. ``usage`` is known as
    soon as the turn ended, and shown once the step is finished.
    """

    id: str
    run_id: str
    thread_id: str
    assistant_id: str
    created_at: int
    type: StepType
    status: StepStatus = "in_progress"
    message_id: str | None = None
    tool_calls: Sequence[JsonObject] = ()
    usage: Usage | None = None
    last_error: Failure | None = None
    cancelled_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    expires_at: int | None = None
    after_position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    id: str
    project_id: str
    created_at: int
    filename: str
    bytes: int
    purpose: str
    expires_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key of a project, without the key: ``hint`` is its last characters."""

    id: str
    project_id: str
    created_at: int
    name: str
    hint: str
    revoked_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a list request asks for. ``order`` is by creation; cursors are object ids."""

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None
