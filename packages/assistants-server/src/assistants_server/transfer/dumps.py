"""What an import may hold: our own export, or objects as people dumped them from OpenAI's API.

Lenient where live answers were: OpenAI's messages came without ``status``, with ``file_ids`` in
place of ``attachments`` (version 1 of the API), and with nulls. Strict where a wrong value would be
stored and break an answer later: ids, roles, times, tools and content.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)
from typing_extensions import Self

from ..domain.records import Assistant, File, JsonObject, Message, Thread

_REST = r"[A-Za-z0-9_-]*$"

Id = Annotated[str, Field(min_length=1, max_length=64, pattern="^" + _REST)]
# Paths know an object's kind by how its id begins; any other could never be asked for.
AssistantId = Annotated[str, Field(max_length=64, pattern="^asst" + _REST)]
ThreadId = Annotated[str, Field(max_length=64, pattern="^thread" + _REST)]
MessageId = Annotated[str, Field(max_length=64, pattern="^msg" + _REST)]
Moment = Annotated[int, Field(ge=0, le=2**53)]

_DEEPEST = 100


def unstorable(root: object) -> str | None:
    """Why a value cannot be kept: databases keep no NUL, and answers nest what they hold."""
    waiting: list[tuple[object, int]] = [(root, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            return f"nested more than {_DEEPEST} levels deep"
        if isinstance(value, str):
            if "\0" in value:
                return "text holds a NUL character"
        elif isinstance(value, dict):
            waiting += [(key, depth) for key in value]
            waiting += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            waiting += [(item, depth + 1) for item in value]
    return None


class _Dumped(BaseModel):
    """Unknown keys are passed over: the API grew them over time."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class DumpedObject(_Dumped):
    """Everything that stands in a line of its own."""

    object: str


class _OwnObject(DumpedObject):
    created_at: Moment
    metadata: (
        Annotated[
            Mapping[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
            Field(max_length=16),
        ]
        | None
    ) = None


def _tool(value: Any) -> Any:
    """Tools are kept as they are; what the server reads of them must be there."""
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    if kind == "retrieval":  # version 1's name
        return {"type": "file_search"}
    if kind == "function":
        function = value.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError("a function tool needs a function with a name")
    elif kind not in ("code_interpreter", "file_search"):
        raise ValueError("a tool's type is function, code_interpreter or file_search")
    return value


def _format(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") not in ("text", "json_object", "json_schema"):
        raise ValueError("its type is text, json_object or json_schema")
    return value


Tool = Annotated[dict[str, Any], BeforeValidator(_tool)]


class DumpedAssistant(_OwnObject):
    object: Literal["assistant"]
    id: AssistantId
    model: Annotated[str, Field(min_length=1)]
    name: str | None = None
    description: str | None = None
    instructions: str | None = None
    tools: list[Tool] | None = None
    tool_resources: dict[str, Any] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    response_format: Annotated[
        Literal["auto"] | dict[str, Any] | None, BeforeValidator(_format)
    ] = None
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
    id: ThreadId
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
    value: str
    annotations: list[dict[str, Any]] | None = None


def _bare_text(value: Any) -> Any:
    """As a request says it: ``{"type": "text", "text": "hello"}``."""
    return {"value": value} if isinstance(value, str) else value


class TextBlock(_Dumped):
    type: Literal["text"]
    text: Annotated[_TextValue, BeforeValidator(_bare_text)]

    def block(self) -> JsonObject:
        text = {"value": self.text.value, "annotations": self.text.annotations or []}
        return {"type": "text", "text": text}


Detail = Literal["auto", "low", "high"]


class _ImageFile(_Dumped):
    file_id: Id
    detail: Detail | None = None


class ImageFileBlock(_Dumped):
    type: Literal["image_file"]
    image_file: _ImageFile

    def block(self) -> JsonObject:
        image = self.image_file
        shown = {"file_id": image.file_id, "detail": image.detail or "auto"}
        return {"type": "image_file", "image_file": shown}


class _ImageUrl(_Dumped):
    url: str
    detail: Detail | None = None


class ImageUrlBlock(_Dumped):
    type: Literal["image_url"]
    image_url: _ImageUrl

    def block(self) -> JsonObject:
        image = self.image_url
        return {
            "type": "image_url",
            "image_url": {"url": image.url, "detail": image.detail or "auto"},
        }


class RefusalBlock(_Dumped):
    type: Literal["refusal"]
    refusal: str

    def block(self) -> JsonObject:
        return {"type": "refusal", "refusal": self.refusal}


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", "")
    return str(kind)


Block = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ImageFileBlock, Tag("image_file")]
    | Annotated[ImageUrlBlock, Tag("image_url")]
    | Annotated[RefusalBlock, Tag("refusal")],
    Discriminator(_kind),
]


def _bare_content(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


class _Attachment(_Dumped):
    file_id: Id | None = None
    tools: list[dict[str, Any]] | None = None


class _Incomplete(_Dumped):
    reason: str | None = None


_REASONS = ("content_filter", "max_tokens", "run_cancelled", "run_expired", "run_failed")


class DumpedMessage(_OwnObject):
    object: Literal["thread.message"]
    id: MessageId
    thread_id: ThreadId
    role: Literal["user", "assistant"]
    content: Annotated[list[Block], BeforeValidator(_bare_content)]
    attachments: list[_Attachment] | None = None
    file_ids: list[Id] | None = None
    assistant_id: Id | None = None
    run_id: Id | None = None
    status: Literal["in_progress", "incomplete", "completed"] | None = None
    incomplete_details: _Incomplete | None = None
    completed_at: Moment | None = None
    incomplete_at: Moment | None = None

    @model_validator(mode="after")
    def _users_refuse_nothing(self) -> Self:
        if self.role == "user" and any(block.type == "refusal" for block in self.content):
            raise ValueError("a user message holds no refusal")
        return self

    def record(self) -> Message:
        """No run will finish a message that was dumped half-written: it stays incomplete."""
        whole = self.status in (None, "completed")
        reason = self.incomplete_details.reason if self.incomplete_details else None
        if reason not in _REASONS:
            reason = "run_failed"
        return Message(
            id=self.id,
            thread_id=self.thread_id,
            created_at=self.created_at,
            role=self.role,
            content=[block.block() for block in self.content],
            attachments=self._attachments(),
            metadata=self.metadata or {},
            status="completed" if whole else "incomplete",
            incomplete_reason=None if whole else reason,
            completed_at=(self.completed_at or self.created_at) if whole else None,
            incomplete_at=None if whole else (self.incomplete_at or self.created_at),
            assistant_id=self.assistant_id,
            run_id=self.run_id,
        )

    def _attachments(self) -> Sequence[JsonObject]:
        if self.attachments:
            return [{"file_id": one.file_id, "tools": one.tools or []} for one in self.attachments]
        searched = [{"type": "file_search"}]
        return [{"file_id": file_id, "tools": searched} for file_id in self.file_ids or ()]


class DumpedFile(DumpedObject):
    object: Literal["file"]
    id: Id
    created_at: Moment
    filename: str
    bytes: Annotated[int, Field(ge=0, le=2**53)]
    purpose: Annotated[str, Field(max_length=32)]
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


class DumpedContent(DumpedObject):
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


DUMPS: Mapping[str, type[DumpedObject]] = {
    "assistant": DumpedAssistant,
    "thread": DumpedThread,
    "thread.message": DumpedMessage,
    "file": DumpedFile,
    "file.content": DumpedContent,
}
"""By the ``object`` that every line names."""
