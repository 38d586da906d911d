"""Threads: request bodies and the object."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ..domain.drafts import ThreadDraft
from ..domain.records import Thread
from .end_runs import EndRuns
from .messages import CreateMessage
from .objects import ThreadObject
from .parts import (
    LARGEST_ARRAY,
    Closed,
    ListQuery,
    MetadataBody,
    NewToolResources,
    ToolResources,
)


class CreateThread(Closed):
    messages: Annotated[list[CreateMessage], Field(max_length=LARGEST_ARRAY)] | None = None
    tool_resources: NewToolResources | None = None
    metadata: MetadataBody | None = None

    def draft(self) -> ThreadDraft:
        return ThreadDraft(
            messages=[message.draft() for message in self.messages or ()],
            tool_resources=self.tool_resources.record() if self.tool_resources else {},
            metadata=self.metadata or {},
        )


class ModifyThread(Closed):
    """Absent keeps, null clears."""

    tool_resources: ToolResources | None = None
    metadata: MetadataBody | None = None
    end_runs: EndRuns | None = None  # an extension

    def changes(self) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if "tool_resources" in self.model_fields_set:
            changes["tool_resources"] = self.tool_resources.record() if self.tool_resources else {}
        if "metadata" in self.model_fields_set:
            changes["metadata"] = self.metadata or {}
        return changes


class ThreadsQuery(ListQuery):
    """Extension: threads can be listed, those that carry all of ``metadata``."""

    metadata: MetadataBody = Field(default_factory=dict)


def render(thread: Thread) -> ThreadObject:
    return {
        "id": thread.id,
        "object": "thread",
        "created_at": thread.created_at,
        "metadata": thread.metadata,
        "tool_resources": thread.tool_resources,
    }
