"""Messages as the wire has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from livekit.agents.llm import ChatContext, ChatMessage, ImageContent
from livekit.agents.llm.chat_context import ChatContent

from .snapshot import Answer, Entry, Image, Text, stamp

ITEM_ID = "livekit_item_id"
"""Metadata key of every message we add: the id of its item."""

_METADATA_VALUE = 512
_FILE_ID = "assistants_file_id"
_LOST_IMAGE = "[an image that could not be read]"


def wire_message(entry: Entry, files: Mapping[str, str]) -> dict[str, Any]:
    """A message to add. ``files``: image key -> id of the uploaded file."""
    return {
        "role": entry.role,
        "content": wire_content(entry, files),
        "metadata": {ITEM_ID: entry.item_id[:_METADATA_VALUE]},
    }


def wire_content(entry: Entry, files: Mapping[str, str]) -> str | list[dict[str, Any]]:
    """Text alone stays a string; with images it becomes parts, in their order."""
    if all(isinstance(part, Text) for part in entry.parts):
        return entry.text
    parts: list[dict[str, Any]] = []
    for part in entry.parts:
        if isinstance(part, Text):
            if part.value.strip():
                parts.append({"type": "text", "text": part.value})
        elif (image := _wire_image(part, files)) is not None:
            parts.append(image)
    return parts or _LOST_IMAGE


def _wire_image(image: Image, files: Mapping[str, str]) -> dict[str, Any] | None:
    if image.url is not None:
        return {"type": "image_url", "image_url": {"url": image.url, "detail": image.detail}}
    file_id = files.get(image.key)
    if file_id is None:
        return None
    return {"type": "image_file", "image_file": {"file_id": file_id, "detail": image.detail}}


def remember_file(image: ImageContent, file_id: str) -> None:
    """Keep the file's id on the image, for ``build_oai_message``."""
    image._cache[_FILE_ID] = file_id


def build_oai_message(msg: ChatMessage) -> dict[str, Any]:
    """A chat message in OpenAI's shape, as the old module built it.

    Images appear once they were uploaded; a single text stays a string. ``name``, ``tool_calls``
    and ``tool_call_id`` are used where the message has them (LiveKit 1.x keeps calls apart).
    """
    message: dict[str, Any] = {"role": msg.role}
    name = getattr(msg, "name", None)
    if name:
        message["name"] = name
    content = [part for part in msg.content if isinstance(part, str | ImageContent)]
    if len(content) == 1 and isinstance(content[0], str):
        message["content"] = content[0]
    elif content:
        message["content"] = [part for one in content if (part := _oai_part(one)) is not None]
    calls = getattr(msg, "tool_calls", None)
    if calls:
        message["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ]
    call_id = getattr(msg, "tool_call_id", None)
    if call_id:
        message["tool_call_id"] = call_id
    return message


def _oai_part(part: ChatContent) -> dict[str, Any] | None:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, ImageContent):
        return None
    if (file_id := part._cache.get(_FILE_ID)) is not None:
        return {
            "type": "image_file",
            "image_file": {"file_id": file_id, "detail": part.inference_detail},
        }
    if isinstance(part.image, str) and not part.image.startswith("data:"):
        return {
            "type": "image_url",
            "image_url": {"url": part.image, "detail": part.inference_detail},
        }
    return None


def parts_of(message: Mapping[str, Any]) -> tuple[Text | Image, ...]:
    """The content of a thread message in the terms of a snapshot."""
    parts: list[Text | Image] = []
    for block in message.get("content") or ():
        if block.get("type") == "text":
            parts.append(Text(block["text"]["value"]))
        elif block.get("type") == "image_url":
            url = block["image_url"]["url"]
            parts.append(Image(url, url=url))
        elif block.get("type") == "image_file":
            parts.append(Image(block["image_file"]["file_id"]))
    return tuple(parts)


def chat_context(thread_id: str, messages: Sequence[Mapping[str, Any]]) -> ChatContext:
    """A thread as a ``ChatContext``, oldest message first. Items keep their ids and are stamped, so
    that they are recognised as what they are when they come back. Uploaded images are not
    downloaded: the thread has them."""
    context = ChatContext.empty()
    for message in messages:
        content: list[ChatContent] = []
        for block in message.get("content") or ():
            if block.get("type") == "text" and block["text"]["value"].strip():
                content.append(block["text"]["value"])
            elif block.get("type") == "image_url":
                content.append(ImageContent(image=block["image_url"]["url"]))
        if not content:
            continue
        item_id = (message.get("metadata") or {}).get(ITEM_ID) or message["id"]
        context.items.append(
            ChatMessage(
                id=item_id,
                role=message["role"],
                content=content,
                interrupted=message.get("status") == "incomplete",
                created_at=float(message["created_at"]),
                extra=stamp(thread_id, message.get("run_id"), [message["id"]]),
            )
        )
    return context


def answers_as_text(answers: Sequence[Answer]) -> str:
    """Finished tool calls in words, for a server whose threads cannot take them."""
    lines = [
        f"{answer.name or 'a tool'}({answer.arguments or ''}) returned: {answer.output}"
        for answer in answers
    ]
    return "Tool calls made earlier in this conversation, with their results:\n" + "\n".join(lines)
