"""AutoGen: ``OpenAIAssistantAgent``. Its stream is one of events of the agent, not of text.

python with_autogen.py http://127.0.0.1:8400/v1
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from typing import Any

from autogen_agentchat.messages import TextMessage
from autogen_core import CancellationToken
from autogen_ext.agents.openai import OpenAIAssistantAgent
from openai import AsyncOpenAI

warnings.simplefilter("ignore")
BASE_URL = sys.argv[1]
called: list[str] = []


async def weather(city: str) -> str:
    """The weather in a city."""
    called.append(city)
    return "sunny"


client = AsyncOpenAI(base_url=BASE_URL, api_key="any")

agent = OpenAIAssistantAgent(
    name="assistant",
    description="Answers Ana",
    instructions="Answer in one sentence.",
    client=client,
    model="gpt-4o",
    tools=[weather],
)


async def ask(agent: Any, text: str) -> str:
    message = TextMessage(source="user", content=text)
    response = await agent.on_messages([message], CancellationToken())
    return str(response.chat_message.content)


async def main() -> None:
    replies = [
        await ask(agent, "My name is Ana."),
        await ask(agent, "What is the weather in Lisbon?"),
        await ask(agent, "What is my name?"),
    ]
    events = [event async for event in agent.run_stream(task="And in Porto?")]
    replies.append(events[-1].messages[-1].content)

    state = await agent.save_state()
    resumed = OpenAIAssistantAgent(
        name="assistant",
        description="Answers Ana",
        instructions="",
        client=client,
        model="gpt-4o",
    )
    await resumed.load_state(state)
    replies.append(await ask(resumed, "Goodbye."))

    told = {"thread": state["thread_id"], "replies": replies, "called": called}
    print(json.dumps({**told, "events": [event.type for event in events[:-1]]}))


asyncio.run(main())
