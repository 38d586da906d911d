"""What a run says: its words so far, its calls and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from livekit.agents.llm import CompletionUsage, FunctionToolCall


class Reply:
    """The messages of this stream, which LiveKit hears as one."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.text: list[str] = []
        self.stamped = 0


def words_of(delta: Mapping[str, Any]) -> str:
    """The words of a ``thread.message.delta``."""
    words = ""
    for block in delta["delta"].get("content") or ():
        if block.get("type") == "text":
            words += (block.get("text") or {}).get("value") or ""
        elif block.get("type") == "refusal":
            words += block.get("refusal") or ""
    return words


def tool_calls(calls: Sequence[Mapping[str, Any]], extra: dict[str, Any]) -> list[FunctionToolCall]:
    return [
        FunctionToolCall(
            name=call["function"]["name"],
            arguments=call["function"]["arguments"],
            call_id=call["id"],
            extra=extra,
        )
        for call in calls
    ]


def usage_of(run: Mapping[str, Any]) -> CompletionUsage | None:
    usage = run.get("usage")
    if not usage:
        return None
    prompt_details = usage.get("prompt_token_details") or usage.get("prompt_tokens_details") or {}
    completion_details = usage.get("completion_tokens_details") or {}
    return CompletionUsage(
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        total_tokens=usage["total_tokens"],
        prompt_cached_tokens=prompt_details.get("cached_tokens") or 0,
        reasoning_tokens=completion_details.get("reasoning_tokens") or 0,
    )
