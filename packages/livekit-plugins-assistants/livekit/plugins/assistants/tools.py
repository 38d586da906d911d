"""Tools and tool choices of a turn, as the wire has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from livekit.agents.llm import FunctionTool, ProviderTool, Tool, ToolChoice, ToolContext

from .log import logger

_unknown: set[str] = set()
_schemas: WeakKeyDictionary[Tool, tuple[object, dict[str, Any]]] = WeakKeyDictionary()


class AssistantTool(ProviderTool):
    """A tool that the server runs itself: ``AssistantTool({"type": "file_search"})``."""

    def __init__(self, definition: Mapping[str, Any]) -> None:
        super().__init__(id=f"assistants_{definition['type']}")
        self._definition = dict(definition)

    def to_dict(self) -> dict[str, Any]:
        return dict(self._definition)


def wire_tools(tools: Sequence[Tool], *, strict: bool) -> list[dict[str, Any]]:
    """Function tools and those the server runs; other providers' tools mean nothing here."""
    found: list[dict[str, Any]] = []
    for tool in tools:
        if isinstance(tool, AssistantTool):
            found.append(tool.to_dict())
        elif isinstance(tool, ProviderTool) and tool.id not in _unknown:
            _unknown.add(tool.id)
            logger.warning("tool of another provider ignored", extra={"tool": tool.id})
    functions = [tool for tool in tools if not isinstance(tool, ProviderTool)]
    known = ToolContext(functions).function_tools.values()
    return [*(_schema(tool, strict=strict) for tool in known), *found]


def _schema(tool: Tool, *, strict: bool) -> dict[str, Any]:
    """Made once for each tool: it takes the better part of a millisecond, and every turn of a
    conversation has the same tools."""
    info = (strict, tool.info.name, tool.info.description) if isinstance(tool, FunctionTool) else ()
    known = _schemas.get(tool)
    if known is not None and info and known[0] == info:
        return known[1]
    (schema,) = ToolContext([tool]).parse_function_tools("openai", strict=strict)
    _schemas[tool] = (info, schema)
    return schema


def wire_tool_choice(choice: ToolChoice) -> str | dict[str, Any]:
    if isinstance(choice, str):
        return choice
    return {"type": "function", "function": {"name": choice["function"]["name"]}}


def merge_hosted(
    tools: Sequence[Mapping[str, Any]], assistant_tools: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """A run's tools replace the assistant's. The ones the server runs are meant to stay."""
    have = {tool["type"] for tool in tools}
    kept = [
        tool for tool in assistant_tools if tool["type"] != "function" and tool["type"] not in have
    ]
    return [*(dict(tool) for tool in tools), *(dict(tool) for tool in kept)]
