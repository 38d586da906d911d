"""The SDK against a server, and the room agent as far as it goes without a room."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from livekit.agents import AgentServer
from tests.live_server import live_server
from tests.upstream import Upstream, call, say

ROOT = Path(__file__).parents[2]


async def test_the_sdk_client_answers_a_tool_call(tmp_path: Path) -> None:
    async with Upstream() as model:
        model.script(call("get_time"), say("It is ", "noon."))
        async with live_server(data=tmp_path, upstream_url=model.base_url) as server:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "examples.sdk_client"),
                cwd=ROOT,
                env={"ASSISTANTS_BASE_URL": server.base_url, "PATH": ""},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    lines = output.decode().splitlines()
    assert any(line.startswith("get_time({}) -> ") for line in lines), lines
    assert "It is noon." in lines
    assert lines[-3].startswith("run completed ")
    assert lines[-2:] == ["user | What time is it?", "assistant | It is noon."]
    tools = [message["role"] for message in model.requests[-1].messages]
    assert tools[-2:] == ["assistant", "tool"]


def test_the_voice_agent_answers_rooms() -> None:
    from examples import voice_agent

    assert isinstance(voice_agent.server, AgentServer)
    assert callable(voice_agent.answer)
