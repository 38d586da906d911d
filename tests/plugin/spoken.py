"""What was said, with a mark for every picture: as contexts, threads and models have it."""

from __future__ import annotations

from typing import Any

from livekit.agents.llm import ChatContext, ChatMessage
from tests.plugin.agents import Said
from tests.upstream import Request

PICTURE = "[picture]"


def said(context: ChatContext) -> Said:
    """The words and pictures of a context, as the thread should have them."""
    return [
        (item.role, words_of([_block(part) for part in item.content]))
        for item in spoken_in(context)
    ]


def spoken_in(context: ChatContext) -> list[ChatMessage]:
    return [
        item
        for item in context.items
        if isinstance(item, ChatMessage)
        and item.role in ("user", "assistant")
        and any(not isinstance(part, str) or part.strip() for part in item.content)
    ]


def shown_to_the_model(request: Request) -> Said:
    shown = [(one["role"], words_of(one.get("content"))) for one in request.messages]
    return [(role, text) for role, text in shown if role in ("user", "assistant") and text.strip()]


def outputs(request: Request) -> list[str]:
    """What orders returned, as the model is shown it."""
    found = [str(one["content"]) for one in request.messages if one["role"] == "tool"]
    return [one for one in found if one.startswith("order ")]


def _block(part: Any) -> dict[str, Any]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}


def words_of(content: str | list[dict[str, Any]] | None) -> str:
    """A message's text, with a mark for each picture; of the API, of a model's or a context's."""
    if isinstance(content, str):
        return content
    parts: list[dict[str, Any]] = content or []
    texts = [one["text"] for one in parts if one["type"] == "text"]
    values = [one if isinstance(one, str) else str(one["value"]) for one in texts]
    return "\n".join(values) + PICTURE * (len(parts) - len(texts))
