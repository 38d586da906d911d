"""Tools of a real MCP server, in a process of its own, through LiveKit's MCP support."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from livekit.agents import Agent
from livekit.agents.llm.mcp import MCPServerStdio, MCPToolset
from tests.plugin.agents import RUN, SUBMIT, Caller, said
from tests.plugin.test_tools import tool_outputs
from tests.upstream import Upstream, call, calls, say


@pytest.mark.parametrize("extensions", [None], ids=["extensions"])
async def test_its_tools_are_offered_called_and_answered_and_missed(
    caller: Caller, upstream: Upstream, tmp_path: Path
) -> None:
    book = tmp_path / "orders"
    shop = MCPServerStdio(
        sys.executable,
        [str(Path(__file__).with_name("mcp_shop.py")), str(book)],
        client_session_timeout_seconds=60,  # a process has to start, perhaps on a busy machine
    )
    agent = Agent(instructions="You keep a shop.", tools=[MCPToolset(id="shop", mcp_server=shop)])
    upstream.script(
        calls(call("order", {"what": "tea", "cups": 2}), call("refund", {"what": "milk"})),
        say("Two cups of tea are coming."),
    )
    async with caller.session(agent) as session:
        with caller.counted() as requests:
            await session.run(user_input="two cups of tea, and my money back for the milk")
        assert requests == [RUN, SUBMIT]
        offered = {one["function"]["name"]: one for one in upstream.requests[0].body["tools"]}
        assert offered.keys() == {"order", "refund"}
        schema = offered["order"]["function"]["parameters"]
        assert schema["properties"]["cups"]["default"] == 1, "the server's own schema"
        assert book.read_text() == "2 tea\n"
        ordered, refused = tool_outputs(upstream.requests[1])
        assert "ordered 2 tea" in ordered
        assert "milk cannot be returned" in refused
        await session.run(user_input="thanks")
        assert tool_outputs(upstream.requests[-1]) == [ordered, refused]

        await shop.aclose()
        upstream.script(call("order", {"what": "milk"}), say("I am sorry."))
        with caller.counted() as requests:
            await session.run(user_input="and milk")
        assert requests == [RUN, SUBMIT]
        assert "unavailable" in tool_outputs(upstream.requests[-1])[-1]
        assert await caller.thread() == said(session.history)
