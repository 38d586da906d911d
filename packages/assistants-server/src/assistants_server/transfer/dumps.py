"""What an import may hold: our own export, or objects as people dumped them from OpenAI's API.

Lenient where live answers were: OpenAI's messages came without ``status``, with ``file_ids`` in
place of ``attachments``, and with nulls. Strict where a wrong value would be stored: ids, roles,
times and content.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from ..domain.records import Assistant, File, Message, Thread

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Moment = Annotated[int, Field(ge=0, le=2**53)]
Text = Annotated[str, BeforeValidator(lambda value: _without_nul(value))]


def _without_nul(value: Any) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("text must not hold NUL characters")
    return value


class _Dumped(BaseModel):
    """Unknown keys are passed over: the API grew them over time."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _OwnObject(_Dumped):
    id: Id
    created_at: Moment
    metadata: (
        Annotated[
            Mapping[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
            Field(max_length=16),
        ]
        | None
    ) = None


class DumpedAssistant(_OwnObject):
    object: Literal["assistant"]
    model: Annotated[str, Field(min_length=1)]
    name: str | None = None
    description: str | None = None
    instructions: Text | None = None
    tools: list[dict[str, Any]] | None = None
    tool_resources: dict[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    response_format: str | dict[str, Any] | None = None
    reasoning_effort: str | None = None

    def record(self, project_id: str) -> Assistant:
        return Assistant(
            id=self.id,
            project_id=project_id,
            created_at=self.created_at,
            model=self.model,
            name=self.name,
            description=self.description,
            instructions=self.instructions,
            tools=self.tools or [],
            tool_resources=self.tool_resources or {},
            metadata=self.metadata or {},
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            response_format=self.response_format or "auto",
            reasoning_effort=self.reasoning_effort,
        )


class DumpedThread(_OwnObject):
    object: Literal["thread"]
    tool_resources: dict[str, Any] | None = None

    def record(self, project_id: str) -> Thread:
        return Thread(
            id=self.id,
            project_id=project_id,
            created_at=self.created_at,
            tool_resources=self.tool_resources or {},
            metadata=self.metadata or {},
        )


class _TextValue(_Dumped):
    value: Text
    annotations: list[dict[str, Any]] = Field(default_factory=list)


class TextBlock(_Dumped):
    type: Literal["text"]
    text: _TextValue


class _ImageFile(_Dumped):
    file_id: Id
    detail: Literal["auto", "low", "high"] = "auto"


class ImageFileBlock(_Dumped):
    type: Literal["image_file"]
    image_file: _ImageFile


class _ImageUrl(_Dumped):
    url: Text
    detail: Literal["auto", "low", "high"] = "auto"


class ImageUrlBlock(_Dumped):
    type: Literal["image_url"]
    image_url: _ImageUrl


class RefusalBlock(_Dumped):
    type: Literal["refusal"]
    refusal: Text


def _kind(value: Any) -> str:
    return str(value.get("type")) if isinstance(value, dict) else ""


Block = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ImageFileBlock, Tag("image_file")]
    | Annotated[ImageUrlBlock, Tag("image_url")]
    | Annotated[RefusalBlock, Tag("refusal")],
    Discriminator(_kind),
]


class _Incomplete(_Dumped):
    reason: str


class DumpedMessage(_OwnObject):
    object: Literal["thread.message"]
    thread_id: Id
    role: Literal["user", "assistant"]
    content: list[Block]
    attachments: list[dict[str, Any]] | None = None
    assistant_id: Id | None = None
    run_id: Id | None = None
    status: Literal["in_progress", "incomplete", "completed"] | None = None
    incomplete_details: _Incomplete | None = None
    completed_at: Moment | None = None
    incomplete_at: Moment | None = None

    def record(self) -> Message:
        """No run will finish a message that was dumped half-written: it stays incomplete."""
        whole = self.status in (None, "completed")
        reason = self.incomplete_details.reason if self.incomplete_details else "run_failed"
        return Message(
            id=self.id,
            thread_id=self.thread_id,
            created_at=self.created_at,
            role=self.role,
            content=[block.model_dump() for block in self.content],
            attachments=self.attachments or [],
            metadata=self.metadata or {},
            status="completed" if whole else "incomplete",
            incomplete_reason=None if whole else reason,
            completed_at=(self.completed_at or self.created_at) if whole else None,
            incomplete_at=None if whole else (self.incomplete_at or self.created_at),
            assistant_id=self.assistant_id,
            run_id=self.run_id,
        )


class DumpedFile(_Dumped):
    object: Literal["file"]
    id: Id
    created_at: Moment
    filename: Text
    bytes: Annotated[int, Field(ge=0)]
    purpose: str
    expires_at: Moment | None = None

    def record(self, project_id: str) -> File:
        return File(
            id=self.id,
            project_id=project_id,
            created_at=self.created_at,
            filename=self.filename,
            bytes=self.bytes,
            purpose=self.purpose,
            expires_at=self.expires_at,
        )


class DumpedContent(_Dumped):
    object: Literal["file.content"]
    file_id: Id
    number: Annotated[int, Field(ge=0)]
    data: str

    def decoded(self) -> bytes:
        """Raises:
        ValueError: the data is not base64.
        """
        try:
            return b64decode(self.data, validate=True)
        except Base64Error:
            raise ValueError("data is not base64") from None


DUMPS: Mapping[str, type[_Dumped]] = {
    "assistant": DumpedAssistant,
    "thread": DumpedThread,
    "thread.message": DumpedMessage,
    "file": DumpedFile,
    "file.content": DumpedContent,
}
"""By the ``object`` that every line names."""
