"""Semantic Kernel: ``OpenAIAssistantAgent`` with a plugin; answered at once, and streamed.

python with_semantic_kernel.py http://127.0.0.1:8400/v1
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings

from semantic_kernel.agents import AssistantAgentThread, OpenAIAssistantAgent
from semantic_kernel.functions import kernel_function

warnings.simplefilter("ignore")
BASE_URL = sys.argv[1]
called: list[str] = []


class Weather:
    @kernel_function(description="The weather in a city.")
    def weather(self, city: str) -> str:
        called.append(city)
        return "sunny"


client = OpenAIAssistantAgent.create_client(ai_model_id="gpt-4o", api_key="any", base_url=BASE_URL)


async def main() -> None:
    definition = await client.beta.assistants.create(
        name="assistant", instructions="Answer in one sentence.", model="gpt-4o"
    )
    agent = OpenAIAssistantAgent(client=client, definition=definition, plugins=[Weather()])
    thread = AssistantAgentThread(client=client)

    async def ask(text: str) -> str:
        response = await agent.get_response(messages=text, thread=thread)
        return str(response.message.content)

    async def stream(text: str) -> list[str]:
        pieces = agent.invoke_stream(messages=text, thread=thread)
        return [piece.message.content async for piece in pieces]

    replies = [await ask("My name is Ana."), await ask("What is the weather in Lisbon?")]
    streamed = [await stream("What is my name?"), await stream("And in Porto?")]
    replies += ["".join(pieces) for pieces in streamed]

    thread = AssistantAgentThread(client=client, thread_id=thread.id)
    replies.append(await ask("Goodbye."))
    told = {"thread": thread.id, "replies": replies, "called": called, "streamed": streamed}
    print(json.dumps(told))


asyncio.run(main())
