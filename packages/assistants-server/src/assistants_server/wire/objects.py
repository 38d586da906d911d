"""The objects of answers, key by key in their recorded order.

The renderers return these, so the type checker holds the code against them, and the OpenAPI
document shows them. Leaf parts (tools, tool resources, formats, content) are kept as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, WithJsonSchema, with_config
from typing_extensions import NotRequired, TypedDict

from ..domain.records import JsonObject, Metadata, Role, StepType
from ..domain.run_state import MessageStatus, RunStatus, StepStatus

_exact = with_config(ConfigDict(extra="forbid"))


def _one_of(*words: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(words)})


Time = Annotated[int, Field(ge=0, description="Unix time in seconds.")]
Tools = Annotated[Sequence[JsonObject], Field(max_length=128)]


@_exact
class AssistantObject(TypedDict):
    id: str
    object: Literal["assistant"]
    created_at: Time
    name: str | None
    description: str | None
    model: str
    instructions: str | None
    tools: Tools
    top_p: float
    temperature: float
    reasoning_effort: str | None
    tool_resources: JsonObject
    metadata: Metadata
    response_format: str | JsonObject


@_exact
class ThreadObject(TypedDict):
    id: str
    object: Literal["thread"]
    created_at: Time
    metadata: Metadata
    tool_resources: JsonObject


@_exact
class MessageIncompleteObject(TypedDict):
    reason: Annotated[
        str,
        _one_of("content_filter", "max_tokens", "run_cancelled", "run_expired", "run_failed"),
    ]


@_exact
class MessageObject(TypedDict):
    id: str
    object: Literal["thread.message"]
    created_at: Time
    assistant_id: str | None
    thread_id: str
    run_id: str | None
    status: MessageStatus
    incomplete_details: MessageIncompleteObject | None
    incomplete_at: Time | None
    completed_at: Time | None
    role: Role
    content: Sequence[JsonObject]
    attachments: Sequence[JsonObject]
    metadata: Metadata


@_exact
class CachedTokensObject(TypedDict):
    cached_tokens: int


@_exact
class ReasoningTokensObject(TypedDict):
    reasoning_tokens: int


@_exact
class UsageObject(TypedDict):
    """Mind the wire's own spelling: *prompt_token_details* beside *completion_tokens_details*."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_token_details: CachedTokensObject
    completion_tokens_details: ReasoningTokensObject


@_exact
class FailureObject(TypedDict):
    code: Annotated[str, _one_of("server_error", "rate_limit_exceeded", "invalid_prompt")]
    message: str


@_exact
class PendingCallsObject(TypedDict):
    tool_calls: Sequence[JsonObject]


@_exact
class RequiredActionObject(TypedDict):
    type: Literal["submit_tool_outputs"]
    submit_tool_outputs: PendingCallsObject


@_exact
class RunIncompleteObject(TypedDict):
    reason: Annotated[str, _one_of("max_completion_tokens", "max_prompt_tokens", "content_filter")]


@_exact
class RunObject(TypedDict):
    id: str
    object: Literal["thread.run"]
    created_at: Time
    assistant_id: str
    thread_id: str
    status: RunStatus
    started_at: Time | None
    expires_at: Time | None
    cancelled_at: Time | None
    failed_at: Time | None
    completed_at: Time | None
    required_action: RequiredActionObject | None
    last_error: FailureObject | None
    model: str
    instructions: str | None
    tools: Tools
    tool_resources: JsonObject
    metadata: Metadata
    temperature: float
    top_p: float
    reasoning_effort: str | None
    max_completion_tokens: int | None
    max_prompt_tokens: int | None
    truncation_strategy: JsonObject
    incomplete_details: RunIncompleteObject | None
    usage: UsageObject | None
    response_format: str | JsonObject
    tool_choice: str | JsonObject
    parallel_tool_calls: bool
    additional_message_ids: NotRequired[Sequence[str]]


@_exact
class CreatedMessageObject(TypedDict):
    message_id: str | None


@_exact
class MessageDetailsObject(TypedDict):
    type: Literal["message_creation"]
    message_creation: CreatedMessageObject


@_exact
class CallDetailsObject(TypedDict):
    type: Literal["tool_calls"]
    tool_calls: Sequence[JsonObject]


@_exact
class StepObject(TypedDict):
    """Live answers name ``expires_at``, OpenAI's document ``expired_at``: clients read either."""

    id: str
    object: Literal["thread.run.step"]
    created_at: Time
    run_id: str
    assistant_id: str
    thread_id: str
    type: StepType
    status: StepStatus
    cancelled_at: Time | None
    completed_at: Time | None
    expires_at: Time | None
    expired_at: Time | None
    failed_at: Time | None
    last_error: FailureObject | None
    step_details: MessageDetailsObject | CallDetailsObject
    usage: UsageObject | None
    metadata: Metadata


@_exact
class FileObject(TypedDict):
    object: Literal["file"]
    id: str
    purpose: str
    filename: str
    bytes: int
    created_at: Time
    expires_at: Time | None
    status: Literal["processed"]
    status_details: None


@_exact
class ModelObject(TypedDict):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


@_exact
class ModelsObject(TypedDict):
    """All of them: no pages."""

    object: Literal["list"]
    data: Sequence[ModelObject]


@_exact
class DeletionObject(TypedDict):
    """``object`` is the noun's own with ``.deleted``; for files it is ``file``."""

    id: str
    object: str
    deleted: Literal[True]


@_exact
class HealthObject(TypedDict):
    status: Literal["ok"]
