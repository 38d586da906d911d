"""A conversation as the local model can be shown it.

Its chat template knows three roles and no tools, and llama.cpp does not enforce ``tool_choice``. So
whether a turn calls a function is decided apart (``local_tools``), and an answer is given in the
model's own words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..domain.model_exchange import ModelRequest
from ..domain.records import JsonObject

Message = dict[str, str]

_BLIND = "[An image. This model cannot see.]"


@dataclass(frozen=True, slots=True)
class Results:
    """What was asked, and each call it led to: name, arguments, result."""

    text: str
    calls: Sequence[tuple[str, JsonObject, str]]


def wants_tools(request: ModelRequest) -> bool:
    """Whether this turn may call a function. An answer to a tool's result is plain text."""
    if not request.tools or request.tool_choice == "none":
        return False
    return must_call(request) or request.messages[-1]["role"] != "tool"


def plain(messages: Sequence[dict[str, Any]]) -> list[Message]:
    """The conversation in the three roles that the template knows."""
    flat: list[Message] = []
    for message in messages:
        role, text = message["role"], _text(message.get("content"))
        if role == "tool":
            # Small models answer from what stands with the question, not from a message behind it.
            question = next((one for one in reversed(flat) if one["role"] == "user"), None)
            if question is None:
                flat.append({"role": "user", "content": f"Information: {text}"})
            else:
                question["content"] += f"\n\nUse this information to answer: {text}"
        elif text:
            flat.append({"role": role, "content": text})
    return flat


def must_call(request: ModelRequest) -> bool:
    return request.tool_choice not in (None, "auto")


def offered(request: ModelRequest) -> list[JsonObject]:
    """The functions that this turn may call: the named one, or all."""
    functions = [tool["function"] for tool in request.tools]
    if isinstance(request.tool_choice, dict):
        name = request.tool_choice["function"]["name"]
        return [function for function in functions if function["name"] == name] or functions
    return functions


def last_request(messages: Sequence[dict[str, Any]]) -> str:
    """The last thing that the user said."""
    said = (_text(m.get("content")) for m in reversed(messages) if m["role"] == "user")
    return next(said, "")


def results(messages: Sequence[dict[str, Any]]) -> Results | None:
    """The calls that wait to be talked about; ``None``: the last message is no result."""
    if not messages or messages[-1]["role"] != "tool":
        return None
    asked = max((n for n, m in enumerate(messages) if m["role"] == "user"), default=-1)
    functions = {
        call["id"]: call["function"]
        for message in messages[asked + 1 :]
        for call in message.get("tool_calls") or ()
    }
    calls = []
    for message in messages[asked + 1 :]:
        if message["role"] == "tool":
            function = functions.get(message.get("tool_call_id"), {})
            text = _text(message.get("content"))
            calls.append((function.get("name", ""), _arguments(function), text))
    return Results(last_request(messages), calls)


def _arguments(function: dict[str, Any]) -> JsonObject:
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except ValueError:
        return {}
    return arguments if isinstance(arguments, dict) else {}


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part["text"] if part["type"] == "text" else _BLIND for part in content)
