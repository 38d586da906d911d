"""What a run has said so far, and what it says of its cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from livekit.agents.llm import CompletionUsage


class Reply:
    """The messages of this stream, which LiveKit hears as one."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.text: list[str] = []
        self.stamped = 0


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
