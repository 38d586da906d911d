"""Assistants: request bodies and the object."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .. import ids
from ..domain.records import Assistant
from .objects import AssistantObject
from .parts import Closed, MetadataBody, NewToolResources, Text, ToolResources
from .tools import (
    ReasoningEffort,
    ResponseFormat,
    Tools,
    response_format_record,
    tool_records,
)

ModelName = Annotated[str, Field(min_length=1, max_length=256)]
Temperature = Annotated[float, Field(ge=0.0, le=2.0)]
TopP = Annotated[float, Field(ge=0.0, le=1.0)]


class _Options(Closed):
    name: Annotated[str, Field(max_length=256)] | None = None
    description: Annotated[str, Field(max_length=512)] | None = None
    instructions: Text | None = None
    tools: Tools | None = None
    metadata: MetadataBody | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: ReasoningEffort | None = None


class CreateAssistant(_Options):
    model: ModelName
    tool_resources: NewToolResources | None = None

    def record(self, *, project_id: str, now: int) -> Assistant:
        return Assistant(
            id=ids.assistant_id(),
            project_id=project_id,
            created_at=now,
            model=self.model,
            name=self.name,
            description=self.description,
            instructions=self.instructions,
            tools=tool_records(self.tools) or (),
            tool_resources=self.tool_resources.record() if self.tool_resources else {},
            metadata=self.metadata or {},
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            response_format=response_format_record(self.response_format) or "auto",
            reasoning_effort=self.reasoning_effort,
        )


class ModifyAssistant(_Options):
    """Absent keeps, null clears. A model cannot be cleared, so its null keeps."""

    model: ModelName | None = None
    tool_resources: ToolResources | None = None

    def changes(self) -> dict[str, Any]:
        cleared_or_set: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "instructions": self.instructions,
            "tools": tool_records(self.tools) or [],
            "tool_resources": self.tool_resources.record() if self.tool_resources else {},
            "metadata": self.metadata or {},
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "response_format": response_format_record(self.response_format) or "auto",
            "reasoning_effort": self.reasoning_effort,
        }
        changes = {
            key: cleared_or_set[key] for key in cleared_or_set if key in self.model_fields_set
        }
        if self.model is not None:
            changes["model"] = self.model
        return changes


def render(assistant: Assistant) -> AssistantObject:
    resources = assistant.tool_resources
    if "code_interpreter" not in resources and any(
        tool["type"] == "code_interpreter" for tool in assistant.tools
    ):
        resources = {"code_interpreter": {"file_ids": []}, **resources}
    return {
        "id": assistant.id,
        "object": "assistant",
        "created_at": assistant.created_at,
        "name": assistant.name,
        "description": assistant.description,
        "model": assistant.model,
        "instructions": assistant.instructions,
        "tools": assistant.tools,
        "top_p": assistant.top_p,
        "temperature": assistant.temperature,
        "reasoning_effort": assistant.reasoning_effort,
        "tool_resources": resources,
        "metadata": assistant.metadata,
        "response_format": assistant.response_format,
    }
