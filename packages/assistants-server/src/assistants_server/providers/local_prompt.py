"""How the local model is asked, and how its answer is read.

Its chat template knows no tools and llama.cpp does not enforce ``tool_choice``. So a turn that may
call functions is first constrained to JSON: a call, or the beginning of ``{"answer": …}``. One
example turn a function is what makes a model of this size choose well. If it chooses to answer, it
is asked again without all that, because it talks better in its own words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ..domain.model_exchange import ModelRequest
from ..domain.records import JsonObject

Message = dict[str, str]

_CHAT = (
    ("Hello, I am Tom.", "Hello Tom, nice to meet you!"),
    ("Why do birds sing?", "They sing to find a mate."),
    ("Thank you!", "You are welcome."),
)
_BLIND = "[An image. This model cannot see.]"

_EXAMPLES: dict[str, Any] = {
    "integer": 7,
    "number": 7,
    "boolean": True,
    "array": [],
    "object": {},
    "null": None,
}


def wants_tools(request: ModelRequest) -> bool:
    """Whether this turn may call a function. An answer to a tool's result is plain text."""
    if not request.tools or request.tool_choice == "none":
        return False
    return request.tool_choice is not None or request.messages[-1]["role"] != "tool"


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


def with_tools(request: ModelRequest) -> tuple[list[Message], JsonObject]:
    """The messages and the JSON schema of the answer, for a turn that may call functions."""
    tools = [tool["function"] for tool in request.tools]
    choice = request.tool_choice
    if isinstance(choice, dict):
        named = choice["function"]["name"]
        tools = [tool for tool in tools if tool["name"] == named] or tools
    free = choice in (None, "auto")
    branches = [_branch(tool) for tool in tools]
    if free:
        branches.append(
            _object({"answer": {"type": "string"}}, required=["answer"]),
        )
    messages = plain(request.messages)
    listed = "; ".join(f"{tool['name']}: {tool.get('description') or ''}" for tool in tools)
    asked = f"Answer in JSON. Call a function only when it is asked for. Functions: {listed}"
    head = [{"role": "system", "content": asked}]
    if messages and messages[0]["role"] == "system":
        head[0]["content"] = f"{messages.pop(0)['content']}\n{asked}"
    for number, tool in enumerate(tools):
        if free and number < len(_CHAT):
            head += _turn(_CHAT[number][0], {"answer": _CHAT[number][1]})
        head += _example(tool)
    if free:
        for question, answer in _CHAT[len(tools) :]:
            head += _turn(question, {"answer": answer})
    return [*head, *messages], {"anyOf": branches}


def _branch(tool: JsonObject) -> JsonObject:
    parameters = tool.get("parameters") or {"type": "object", "properties": {}}
    return _object(
        {"name": {"const": tool["name"]}, "arguments": parameters}, required=["name", "arguments"]
    )


def _object(properties: JsonObject, *, required: list[str]) -> JsonObject:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _example(tool: JsonObject) -> list[Message]:
    properties = (tool.get("parameters") or {}).get("properties") or {}
    arguments = {name: _value(name, schema) for name, schema in properties.items()}
    wish = (tool.get("description") or tool["name"].replace("_", " ")).rstrip(".")
    given = " ".join(f"{name} {value}" for name, value in arguments.items())
    return _turn(
        f"Please: {wish} {given}".rstrip() + ".", {"name": tool["name"], "arguments": arguments}
    )


def _value(name: str, schema: JsonObject) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    kinds = schema.get("type", "string")
    kind = kinds if isinstance(kinds, str) else next(iter(kinds), "string")
    return _EXAMPLES.get(kind, "4321" if re.search("number|id|code", name) else "Lisbon")


def _turn(question: str, answer: JsonObject) -> list[Message]:
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": json.dumps(answer)},
    ]


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part["text"] if part["type"] == "text" else _BLIND for part in content)


_FIRST_KEY = re.compile(r'\s*\{\s*"(\w+)"')


class Choice:
    """Reads the constrained JSON as it comes: does the model call a function, or answer?"""

    def __init__(self) -> None:
        self._raw = ""

    def feed(self, piece: str) -> None:
        self._raw += piece

    @property
    def answers(self) -> bool:
        """Known as soon as the first key is: the text that follows is not worth waiting for."""
        key = _FIRST_KEY.match(self._raw)
        return key is not None and key[1] == "answer"

    def call(self) -> tuple[str, str] | None:
        """Name and arguments (JSON) of the function called; ``None`` if it was cut off."""
        try:
            value = json.loads(self._raw)
            return str(value["name"]), json.dumps(value["arguments"])
        except (ValueError, KeyError, TypeError):
            return None
