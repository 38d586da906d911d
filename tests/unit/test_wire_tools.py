"""The tools of a turn as the wire has them; making a schema is work that is done once."""

from __future__ import annotations

from livekit.agents import Agent, function_tool

from livekit.plugins.assistants.tools import wire_tools


class Shop(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="You keep a shop.")

    @function_tool
    async def order(self, what: str) -> str:
        """Order something."""
        return what


@function_tool(
    raw_schema={
        "name": "raw",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    }
)
async def raw(raw_arguments: dict[str, object]) -> str:
    return ""


def test_a_schema_is_made_once_for_each_tool_and_kind() -> None:
    tools = [tool for tool in Shop().tools if tool.id == "order"]
    (strict,) = wire_tools(tools, strict=True)  # type: ignore[arg-type] # no Toolset among them
    (again,) = wire_tools(tools, strict=True)  # type: ignore[arg-type]
    assert again is strict
    assert strict["function"]["strict"] is True
    (loose,) = wire_tools(tools, strict=False)  # type: ignore[arg-type]
    assert "strict" not in loose["function"]


def test_a_tool_that_is_described_anew_has_a_new_schema() -> None:
    @function_tool
    async def order(what: str) -> str:
        """Order something."""
        return what

    assert wire_tools([order], strict=True)[0]["function"]["description"] == "Order something."
    order.info.description = "Order a drink."
    assert wire_tools([order], strict=True)[0]["function"]["description"] == "Order a drink."


def test_a_raw_schema_is_passed_as_it_is() -> None:
    (schema,) = wire_tools([raw], strict=True)
    assert schema == {"type": "function", "function": raw.info.raw_schema}
