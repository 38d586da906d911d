"""Messages: request bodies, content parts in, content blocks out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from ..domain.drafts import MessageDraft
from ..domain.records import JsonObject, Message
from . import validation
from .objects import MessageObject
from .parts import LARGEST_ARRAY, Closed, Cursor, FileId, ListQuery, MetadataBody, Text
from .tools import tag_of, typed_object

Detail = Literal["auto", "low", "high"]


def _image_url(value: Any) -> Any:
    # ``data:`` URLs are everyday: autogen and the voice plugin send images so.
    if isinstance(value, str) and not value.startswith(("https://", "http://", "data:")):
        raise validation.not_valid(
            ". Expected a valid URL, but got a value with an invalid format."
        )
    return value


class TextPart(Closed):
    type: Literal["text"]
    text: Text

    def block(self) -> JsonObject:
        return {"type": "text", "text": {"value": self.text, "annotations": []}}


class ImageUrl(Closed):
    url: Annotated[str, BeforeValidator(_image_url)]
    detail: Detail | None = None


class ImageUrlPart(Closed):
    type: Literal["image_url"]
    image_url: ImageUrl

    def block(self) -> JsonObject:
        image = self.image_url
        return {
            "type": "image_url",
            "image_url": {"url": image.url, "detail": image.detail or "auto"},
        }


class ImageFile(Closed):
    file_id: FileId
    detail: Detail | None = None


class ImageFilePart(Closed):
    type: Literal["image_file"]
    image_file: ImageFile

    def block(self) -> JsonObject:
        image = self.image_file
        return {
            "type": "image_file",
            "image_file": {"file_id": image.file_id, "detail": image.detail or "auto"},
        }


Part = Annotated[
    Annotated[TextPart, Tag("\0text")]
    | Annotated[ImageUrlPart, Tag("\0image_url")]
    | Annotated[ImageFilePart, Tag("\0image_file")],
    Discriminator(tag_of),
    BeforeValidator(typed_object("text", "image_url", "image_file")),
]


def _text_or_parts(value: Any) -> Any:
    if not isinstance(value, str | list):
        raise validation.wrong_type("one of a string or array of objects")
    return value


def _content_tag(value: Any) -> str:
    return "\0string" if isinstance(value, str) else "\0parts"


Content = Annotated[
    Annotated[Text, Tag("\0string")]
    | Annotated[list[Part], Field(min_length=1, max_length=LARGEST_ARRAY), Tag("\0parts")],
    Discriminator(_content_tag),
    BeforeValidator(_text_or_parts),
]


def blocks(content: str | Sequence[Part]) -> list[JsonObject]:
    """Content as it is kept and shown: a bare string is one text block."""
    if isinstance(content, str):
        return [{"type": "text", "text": {"value": content, "annotations": []}}]
    return [part.block() for part in content]


class AttachmentTool(Closed):
    type: Literal["code_interpreter", "file_search"]


class Attachment(Closed):
    file_id: FileId
    tools: Annotated[list[AttachmentTool], Field(max_length=10)]

    def record(self) -> JsonObject:
        return {"file_id": self.file_id, "tools": [{"type": tool.type} for tool in self.tools]}


class CreateMessage(Closed):
    role: Literal["user", "assistant"]
    content: Content
    attachments: Annotated[list[Attachment], Field(max_length=10)] | None = None
    metadata: MetadataBody | None = None

    def draft(self) -> MessageDraft:
        return MessageDraft(
            role=self.role,
            content=blocks(self.content),
            attachments=[attachment.record() for attachment in self.attachments or ()],
            metadata=self.metadata or {},
        )


class ModifyMessage(Closed):
    """``content`` is an extension; OpenAI never edits it. Its null is "not given"."""

    metadata: MetadataBody | None = None
    content: Content | None = None

    def changes(self) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if "metadata" in self.model_fields_set:
            changes["metadata"] = self.metadata or {}
        if self.content is not None:
            changes["content"] = blocks(self.content)
        return changes


class MessagesQuery(ListQuery):
    run_id: Cursor = None


def render(message: Message) -> MessageObject:
    reason = message.incomplete_reason
    return {
        "id": message.id,
        "object": "thread.message",
        "created_at": message.created_at,
        "assistant_id": message.assistant_id,
        "thread_id": message.thread_id,
        "run_id": message.run_id,
        "status": message.status,
        "incomplete_details": None if reason is None else {"reason": reason},
        "incomplete_at": message.incomplete_at,
        "completed_at": message.completed_at,
        "role": message.role,
        "content": message.content,
        "attachments": message.attachments,
        "metadata": message.metadata,
    }
