"""LiteLLM: its functions with ``api_base``; awaited and streamed too.

It has no function that submits tool outputs: those go through the OpenAI SDK, as they always did.

    python with_litellm.py http://127.0.0.1:8400/v1
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from typing import Any

import litellm
import openai

warnings.simplefilter("ignore")
BASE_URL = sys.argv[1]
called: list[str] = []

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}

server = {"custom_llm_provider": "openai", "api_base": BASE_URL, "api_key": "any"}

assistant = litellm.create_assistants(
    **server, model="gpt-4o", instructions="Answer in one sentence.", tools=[WEATHER]
)
thread = litellm.create_thread(**server)


def add(text: str) -> None:
    litellm.add_message(**server, thread_id=thread.id, role="user", content=text)


def answer() -> str:
    run = litellm.run_thread(**server, thread_id=thread.id, assistant_id=assistant.id)
    if run.required_action is not None:
        submit(run)
    return latest()


def latest() -> str:
    messages = litellm.get_messages(**server, thread_id=thread.id)
    return str(messages.data[0].content[0].text.value)


def submit(run: Any) -> None:
    client = openai.OpenAI(base_url=BASE_URL, api_key="any")
    outputs = []
    for call in run.required_action.submit_tool_outputs.tool_calls:
        called.append(json.loads(call.function.arguments)["city"])
        outputs.append({"tool_call_id": call.id, "output": "sunny"})
    runs: Any = client.beta.threads.runs
    runs.submit_tool_outputs_and_poll(run_id=run.id, thread_id=thread.id, tool_outputs=outputs)


def stream() -> list[str]:
    with litellm.run_thread_stream(
        **server, thread_id=thread.id, assistant_id=assistant.id
    ) as stream:
        return list(stream.text_deltas)


async def awaited(text: str) -> str:
    await litellm.a_add_message(**server, thread_id=thread.id, role="user", content=text)
    await litellm.arun_thread(**server, thread_id=thread.id, assistant_id=assistant.id)
    messages = await litellm.aget_messages(**server, thread_id=thread.id)
    return str(messages.data[0].content[0].text.value)


add("My name is Ana.")
replies = [answer()]
add("What is the weather in Lisbon?")
replies.append(answer())
add("What is my name?")
streamed = [stream()]
replies.append("".join(streamed[0]))
add("And in Porto?")
replies.append(answer())
replies.append(asyncio.run(awaited("Goodbye.")))

told = {"thread": thread.id, "replies": replies, "called": called, "streamed": streamed}
print(json.dumps(told))
