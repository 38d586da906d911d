"""What every object of the wire looks like, and what its status says of its dates.

Written from OpenAI's document and recorded traffic, not from the server's own models.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from tests.wire_rules.parts import (
    AssistantId,
    CallId,
    Exact,
    FileId,
    MessageId,
    Metadata,
    ReasoningEffort,
    ResponseFormat,
    RunError,
    RunId,
    StepError,
    StepId,
    Temperature,
    ThreadId,
    Time,
    ToolResources,
    Tools,
    TopP,
    Usage,
    dates_of,
)
from typing_extensions import Self

RUN_ENDS = ("completed", "failed", "cancelled", "incomplete", "expired")


class Assistant(Exact):
    id: AssistantId
    object: Literal["assistant"]
    created_at: Time
    name: Annotated[str, Field(max_length=256)] | None
    description: Annotated[str, Field(max_length=512)] | None
    model: Annotated[str, Field(min_length=1)]
    instructions: Annotated[str, Field(max_length=256_000)] | None
    tools: Tools
    top_p: TopP
    temperature: Temperature
    reasoning_effort: ReasoningEffort
    tool_resources: ToolResources
    metadata: Metadata
    response_format: ResponseFormat


class Thread(Exact):
    id: ThreadId
    object: Literal["thread"]
    created_at: Time
    metadata: Metadata
    tool_resources: ToolResources


class Text(Exact):
    value: str
    annotations: list[dict[str, Any]]


class TextBlock(Exact):
    type: Literal["text"]
    text: Text


class ImageFile(Exact):
    file_id: FileId
    detail: Literal["auto", "low", "high"]


class ImageFileBlock(Exact):
    type: Literal["image_file"]
    image_file: ImageFile


class ImageUrl(Exact):
    url: str
    detail: Literal["auto", "low", "high"]


class ImageUrlBlock(Exact):
    type: Literal["image_url"]
    image_url: ImageUrl


class RefusalBlock(Exact):
    type: Literal["refusal"]
    refusal: str


class AttachmentTool(Exact):
    type: Literal["code_interpreter", "file_search"]


class Attachment(Exact):
    file_id: FileId
    tools: list[AttachmentTool]


class MessageIncomplete(Exact):
    reason: Literal["content_filter", "max_tokens", "run_cancelled", "run_expired", "run_failed"]


class Message(Exact):
    id: MessageId
    object: Literal["thread.message"]
    created_at: Time
    assistant_id: AssistantId | None
    thread_id: ThreadId
    run_id: RunId | None
    status: Literal["in_progress", "incomplete", "completed"]
    incomplete_details: MessageIncomplete | None
    incomplete_at: Time | None
    completed_at: Time | None
    role: Literal["user", "assistant"]
    content: list[TextBlock | ImageFileBlock | ImageUrlBlock | RefusalBlock]
    attachments: Annotated[list[Attachment], Field(max_length=10)]
    metadata: Metadata

    @model_validator(mode="after")
    def _agrees_with_its_status(self) -> Self:
        dates_of(
            self,
            self.status,
            {
                "completed_at": ("completed",),
                "incomplete_at": ("incomplete",),
                "incomplete_details": ("incomplete",),
            },
        )
        if (self.run_id is None) is not (self.assistant_id is None):
            raise ValueError("run_id and assistant_id are set together")
        if self.run_id is None and self.status != "completed":
            raise ValueError("a client's message is completed from the start")
        if self.run_id is not None and self.role != "assistant":
            raise ValueError("runs write as the assistant")
        if self.status != "in_progress" and not self.content:
            raise ValueError("a finished message has content")
        return self


class CallFunction(Exact):
    name: str
    arguments: str


class PendingCall(Exact):
    id: CallId
    type: Literal["function"]
    function: CallFunction


class PendingCalls(Exact):
    tool_calls: Annotated[list[PendingCall], Field(min_length=1)]


class RequiredAction(Exact):
    type: Literal["submit_tool_outputs"]
    submit_tool_outputs: PendingCalls


class TruncationStrategy(Exact):
    type: Literal["auto", "last_messages"]
    last_messages: Annotated[int, Field(ge=1)] | None


class RunIncomplete(Exact):
    # content_filter is ours: the SDK's type lacks it, what happens has no other name.
    reason: Literal["max_completion_tokens", "max_prompt_tokens", "content_filter"]


class ChosenFunction(Exact):
    name: str


class FunctionChoice(Exact):
    type: Literal["function"]
    function: ChosenFunction


class HostedChoice(Exact):
    type: Literal["code_interpreter", "file_search"]


class Run(Exact):
    OPTIONAL = frozenset({"additional_message_ids"})

    id: RunId
    object: Literal["thread.run"]
    created_at: Time
    assistant_id: AssistantId
    thread_id: ThreadId
    status: Literal[
        "queued",
        "in_progress",
        "requires_action",
        "cancelling",
        "cancelled",
        "failed",
        "completed",
        "incomplete",
        "expired",
    ]
    started_at: Time | None
    expires_at: Time | None
    cancelled_at: Time | None
    failed_at: Time | None
    completed_at: Time | None
    required_action: RequiredAction | None
    last_error: RunError | None
    model: Annotated[str, Field(min_length=1)]
    instructions: str | None
    tools: Tools
    tool_resources: ToolResources
    metadata: Metadata
    temperature: Temperature
    top_p: TopP
    reasoning_effort: ReasoningEffort
    max_completion_tokens: Annotated[int, Field(ge=1)] | None
    max_prompt_tokens: Annotated[int, Field(ge=256)] | None
    truncation_strategy: TruncationStrategy
    incomplete_details: RunIncomplete | None
    usage: Usage | None
    response_format: ResponseFormat
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | HostedChoice
    parallel_tool_calls: bool
    additional_message_ids: list[MessageId] | None = None

    @model_validator(mode="after")
    def _agrees_with_its_status(self) -> Self:
        dates_of(
            self,
            self.status,
            {
                "cancelled_at": ("cancelled",),
                "failed_at": ("failed",),
                "last_error": ("failed",),
                "completed_at": ("completed", "incomplete"),
                "incomplete_details": ("incomplete",),
                "required_action": ("requires_action",),
                "usage": RUN_ENDS,
                "expires_at": ("queued", "in_progress", "requires_action", "cancelling", "expired"),
            },
        )
        begun = self.status in ("in_progress", "requires_action", "completed")
        if begun and self.started_at is None:
            raise ValueError(f"{self.status} without started_at")
        return self

    @field_validator("additional_message_ids")
    @classmethod
    def _absent_rather_than_null(cls, value: list[str] | None) -> list[str]:
        if value is None:
            raise ValueError("absent where the extensions were not used, never null")
        return value


class MessageCreation(Exact):
    message_id: MessageId


class MessageStep(Exact):
    type: Literal["message_creation"]
    message_creation: MessageCreation


class AnsweredFunction(Exact):
    name: str
    arguments: str
    output: str | None


class StepCall(Exact):
    id: CallId
    type: Literal["function"]
    function: AnsweredFunction


class CallStep(Exact):
    type: Literal["tool_calls"]
    tool_calls: list[StepCall]


class Step(Exact):
    id: StepId
    object: Literal["thread.run.step"]
    created_at: Time
    run_id: RunId
    assistant_id: AssistantId
    thread_id: ThreadId
    type: Literal["message_creation", "tool_calls"]
    status: Literal["in_progress", "cancelled", "failed", "completed", "expired"]
    cancelled_at: Time | None
    completed_at: Time | None
    expires_at: Time | None
    expired_at: Time | None
    failed_at: Time | None
    last_error: StepError | None
    step_details: MessageStep | CallStep
    usage: Usage | None
    metadata: Metadata

    @model_validator(mode="after")
    def _agrees_with_its_status(self) -> Self:
        dates_of(
            self,
            self.status,
            {
                "cancelled_at": ("cancelled",),
                "completed_at": ("completed",),
                "expired_at": ("expired",),
                "failed_at": ("failed",),
                "last_error": ("failed",),
                "usage": ("cancelled", "completed", "expired", "failed"),
                "expires_at": ("in_progress",),
            },
        )
        if self.step_details.type != self.type:
            raise ValueError("step_details are of another type than the step")
        if self.status == "completed" and isinstance(self.step_details, CallStep):
            if not self.step_details.tool_calls:
                raise ValueError("a completed tool step has calls")
            if any(call.function.output is None for call in self.step_details.tool_calls):
                raise ValueError("a completed tool step has every output")
        return self


class File(Exact):
    object: Literal["file"]
    id: FileId
    purpose: Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
    filename: Annotated[str, Field(min_length=1)]
    bytes: Annotated[int, Field(ge=0)]
    created_at: Time
    expires_at: Time | None
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None


class Model(Exact):
    id: Annotated[str, Field(min_length=1)]
    object: Literal["model"]
    created: int
    owned_by: str


class Deletion(Exact):
    ANY_ORDER = True
    id: str
    object: Literal["assistant.deleted", "thread.deleted", "thread.message.deleted", "file"]
    deleted: Literal[True]


class Error(Exact):
    message: Annotated[str, Field(min_length=1)]
    type: Literal["invalid_request_error", "rate_limit_error", "insufficient_quota", "server_error"]
    param: str | None
    code: str | None


class ErrorEnvelope(Exact):
    error: Error


class StreamError(Exact):
    """Both shapes in one: the SDK's helpers read the inner one, raw iteration the bare keys."""

    error: Error
    message: str
    type: str
    param: str | None
    code: str | None

    @model_validator(mode="after")
    def _says_the_same_twice(self) -> Self:
        if self.error.model_dump() != self.model_dump(exclude={"error"}):
            raise ValueError("the bare keys say something else than the error")
        return self
