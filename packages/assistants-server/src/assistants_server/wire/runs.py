"""Runs: request bodies, the extensions of run creation, and the object.

The extensions are accepted where they are documented, on ``POST /threads/{thread_id}/runs`` (and
``end_runs`` on thread update); anywhere else they are unknown parameters.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from ..domain.drafts import CarriedOutput, RunDraft, RunExtensions, ThreadDraft, ToolOutput
from ..domain.records import Failure, JsonObject, Run, Usage
from ..domain.run_state import TERMINAL
from . import validation
from .assistants import ModelName, Temperature, TopP
from .end_runs import EndRuns, RunKey
from .messages import Content, CreateMessage, blocks
from .objects import FailureObject, RequiredActionObject, RunObject, UsageObject
from .parts import (
    LARGEST_ARRAY,
    LARGEST_INTEGER,
    Closed,
    Count,
    MetadataBody,
    ObjectId,
    ObjectIds,
    Text,
    ToolResources,
)
from .threads import CreateThread
from .tools import (
    ReasoningEffort,
    ResponseFormat,
    ToolChoice,
    Tools,
    response_format_record,
    tool_choice_record,
    tool_records,
)

CallId = Annotated[str, Field(min_length=1)]
"""The model's own; some gateways hide kilobytes of their state in it."""


class TruncationStrategy(Closed):
    type: Literal["auto", "last_messages"]
    last_messages: Count | None = None

    @model_validator(mode="after")
    def _a_window_has_a_size(self) -> Self:
        if self.type == "last_messages" and self.last_messages is None:
            raise validation.missing("last_messages")
        return self

    def record(self) -> JsonObject:
        return {"type": self.type, "last_messages": self.last_messages}


class _RunOptions(Closed):
    """What both ways of creating a run accept."""

    assistant_id: ObjectId
    model: ModelName | None = None
    instructions: Text | None = None
    tools: Tools | None = None
    metadata: MetadataBody | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    stream: bool | None = None
    max_prompt_tokens: Annotated[int, Field(ge=256, le=LARGEST_INTEGER)] | None = None
    max_completion_tokens: Count | None = None
    truncation_strategy: TruncationStrategy | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None

    def _draft(self, **more: Any) -> RunDraft:
        truncation = self.truncation_strategy
        return RunDraft(
            assistant_id=self.assistant_id,
            model=self.model,
            instructions=self.instructions,
            tools=tool_records(self.tools),
            metadata=self.metadata or {},
            temperature=self.temperature,
            top_p=self.top_p,
            max_prompt_tokens=self.max_prompt_tokens,
            max_completion_tokens=self.max_completion_tokens,
            truncation_strategy=None if truncation is None else truncation.record(),
            response_format=response_format_record(self.response_format),
            tool_choice=tool_choice_record(self.tool_choice),
            parallel_tool_calls=self.parallel_tool_calls is not False,
            **more,
        )


# --- extensions -----------------------------------------------------------------------------------


class CarriedOutputBody(Closed):
    tool_call_id: CallId
    output: str | None = None
    name: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    arguments: str | None = None

    def draft(self) -> CarriedOutput:
        return CarriedOutput(
            tool_call_id=self.tool_call_id,
            output=self.output or "",
            name=self.name,
            arguments=self.arguments,
        )


class EditMessage(Closed):
    id: ObjectId
    content: Content


class _Extensions(Closed):
    run_key: RunKey | None = None
    end_runs: EndRuns | None = None
    if_active: Literal["error", "queue", "supersede"] | None = None
    tool_outputs: Annotated[list[CarriedOutputBody], Field(max_length=LARGEST_ARRAY)] | None = None
    edit_messages: Annotated[list[EditMessage], Field(max_length=LARGEST_ARRAY)] | None = None
    delete_messages: ObjectIds | None = None
    exclude_messages: Annotated[list[CallId], Field(max_length=LARGEST_ARRAY)] | None = None
    on_disconnect: Literal["continue", "cancel"] | None = None

    def _extensions(self) -> RunExtensions:
        if not any(getattr(self, name) is not None for name in _Extensions.model_fields):
            return RunExtensions()
        return RunExtensions(
            run_key=self.run_key,
            end_runs=[end.draft() for end in self.end_runs or ()],
            if_active=self.if_active or "error",
            tool_outputs=[output.draft() for output in self.tool_outputs or ()],
            edit_messages={edit.id: blocks(edit.content) for edit in self.edit_messages or ()},
            delete_messages=self.delete_messages or (),
            exclude_messages=self.exclude_messages or (),
            on_disconnect=self.on_disconnect or "continue",
            used=True,
        )


# --- bodies ---------------------------------------------------------------------------------------


class CreateRun(_RunOptions, _Extensions):
    additional_instructions: Text | None = None
    additional_messages: Annotated[list[CreateMessage], Field(max_length=LARGEST_ARRAY)] | None = (
        None
    )
    reasoning_effort: ReasoningEffort | None = None

    def draft(self) -> RunDraft:
        return self._draft(
            additional_instructions=self.additional_instructions or None,
            additional_messages=[message.draft() for message in self.additional_messages or ()],
            reasoning_effort=self.reasoning_effort,
            extensions=self._extensions(),
        )


class CreateThreadAndRun(_RunOptions):
    thread: CreateThread | None = None
    tool_resources: ToolResources | None = None

    def draft(self) -> RunDraft:
        resources = self.tool_resources
        return self._draft(tool_resources=None if resources is None else resources.record())

    def thread_draft(self) -> ThreadDraft:
        return ThreadDraft() if self.thread is None else self.thread.draft()


class ModifyRun(Closed):
    metadata: MetadataBody | None = None


class ToolOutputBody(Closed):
    tool_call_id: CallId
    output: str | None = None


class SubmitToolOutputs(Closed):
    tool_outputs: Annotated[list[ToolOutputBody], Field(max_length=LARGEST_ARRAY)]
    stream: bool | None = None

    def outputs(self) -> list[ToolOutput]:
        return [
            ToolOutput(tool_call_id=given.tool_call_id, output=given.output or "")
            for given in self.tool_outputs
        ]


# --- the object -----------------------------------------------------------------------------------


def render(run: Run) -> RunObject:
    shown: RunObject = {
        "id": run.id,
        "object": "thread.run",
        "created_at": run.created_at,
        "assistant_id": run.assistant_id,
        "thread_id": run.thread_id,
        "status": run.status,
        "started_at": run.started_at,
        "expires_at": run.expires_at,
        "cancelled_at": run.cancelled_at,
        "failed_at": run.failed_at,
        "completed_at": run.completed_at,
        "required_action": _required_action(run),
        "last_error": failure(run.last_error),
        "model": run.model,
        "instructions": run.instructions,
        "tools": run.tools,
        "tool_resources": run.tool_resources,
        "metadata": run.metadata,
        "temperature": run.temperature,
        "top_p": run.top_p,
        "reasoning_effort": run.reasoning_effort,
        "max_completion_tokens": run.max_completion_tokens,
        "max_prompt_tokens": run.max_prompt_tokens,
        "truncation_strategy": run.truncation_strategy,
        "incomplete_details": (
            None if run.incomplete_reason is None else {"reason": run.incomplete_reason}
        ),
        "usage": usage(run.usage) if run.status in TERMINAL else None,
        "response_format": run.response_format,
        "tool_choice": run.tool_choice,
        "parallel_tool_calls": run.parallel_tool_calls,
    }
    if run.additional_message_ids is not None:
        shown["additional_message_ids"] = run.additional_message_ids
    return shown


def _required_action(run: Run) -> RequiredActionObject | None:
    if run.status != "requires_action":
        return None
    return {
        "type": "submit_tool_outputs",
        "submit_tool_outputs": {"tool_calls": run.pending_calls},
    }


def failure(value: Failure | None) -> FailureObject | None:
    return None if value is None else {"code": value.code, "message": value.message}


def usage(value: Usage) -> UsageObject:
    return {
        "prompt_tokens": value.prompt_tokens,
        "completion_tokens": value.completion_tokens,
        "total_tokens": value.total_tokens,
        "prompt_token_details": {"cached_tokens": value.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": value.reasoning_tokens},
    }
