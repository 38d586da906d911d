"""LlamaIndex: ``OpenAIAssistantAgent``, also awaited. It does not stream.

python with_llama_index.py http://127.0.0.1:8400/v1
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import warnings

from llama_index.agent.openai import OpenAIAssistantAgent
from llama_index.core.tools import FunctionTool

warnings.simplefilter("ignore")
BASE_URL = sys.argv[1]
called: list[str] = []


def weather(city: str) -> str:
    """The weather in a city."""
    called.append(city)
    return "sunny"


os.environ["OPENAI_BASE_URL"] = BASE_URL
os.environ["OPENAI_API_KEY"] = "any"

agent = OpenAIAssistantAgent.from_new(
    name="assistant",
    instructions="Answer in one sentence.",
    tools=[FunctionTool.from_defaults(weather)],
    model="gpt-4o",
)
answers = [
    agent.chat("My name is Ana."),
    agent.chat("What is the weather in Lisbon?"),
    agent.chat("What is my name?"),
    asyncio.run(agent.achat("And in Porto?")),
]

resumed = OpenAIAssistantAgent.from_existing(
    assistant_id=agent.assistant.id, thread_id=agent.thread_id
)
answers.append(resumed.chat("Goodbye."))

replies = [answer.response for answer in answers]
print(json.dumps({"thread": agent.thread_id, "replies": replies, "called": called}))
