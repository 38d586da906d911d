"""LangChain: ``OpenAIAssistantRunnable`` alone and in an ``AgentExecutor``, and V2, also awaited.

``ainvoke`` of the first fails in LangChain itself (it iterates over a page that it did not await);
V2's works.

    python with_langchain.py http://127.0.0.1:8400/v1
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings

import openai
from langchain_classic.agents import AgentExecutor
from langchain_classic.agents.openai_assistant import OpenAIAssistantRunnable
from langchain_community.agents.openai_assistant import OpenAIAssistantV2Runnable
from langchain_core.tools import tool

warnings.simplefilter("ignore")
BASE_URL = sys.argv[1]
called: list[str] = []


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    called.append(city)
    return "sunny"


client = openai.OpenAI(base_url=BASE_URL, api_key="any")
async_client = openai.AsyncOpenAI(base_url=BASE_URL, api_key="any")

agent = OpenAIAssistantRunnable.create_assistant(
    name="assistant",
    instructions="Answer in one sentence.",
    tools=[weather],
    model="gpt-4o",
    client=client,
    async_client=async_client,
    as_agent=True,
    check_every_ms=100,
)
first = agent.invoke({"content": "My name is Ana."})

executor = AgentExecutor(agent=agent, tools=[weather])
second = executor.invoke(
    {"content": "What is the weather in Lisbon?", "thread_id": first.thread_id}
)
third = agent.invoke({"content": "What is my name?", "thread_id": first.thread_id})

resumed = OpenAIAssistantV2Runnable(
    assistant_id=agent.assistant_id,
    client=client,
    async_client=async_client,
    as_agent=True,
    check_every_ms=100,
)
actions = resumed.invoke({"content": "And in Porto?", "thread_id": first.thread_id})
outputs = [
    {"tool_call_id": action.tool_call_id, "output": weather.invoke(action.tool_input)}
    for action in actions
]
fourth = resumed.invoke(
    {"tool_outputs": outputs, "run_id": actions[0].run_id, "thread_id": first.thread_id}
)
fifth = asyncio.run(resumed.ainvoke({"content": "Goodbye.", "thread_id": first.thread_id}))

answers = [first, third, fourth, fifth]
replies = [answer.return_values["output"] for answer in answers]
replies.insert(1, second["output"])
print(json.dumps({"thread": first.thread_id, "replies": replies, "called": called}))
