"""Agency Swarm before version 1: an agency of one agent; answered at once, and streamed.

It writes ``settings.json`` into the working folder and finds its assistant there again.

    python with_agency_swarm.py http://127.0.0.1:8400/v1
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import openai
from agency_swarm import Agency, AgencyEventHandler, Agent, BaseTool, set_openai_client

warnings.simplefilter("ignore")
BASE_URL = sys.argv[1]
called: list[str] = []
streamed: list[list[str]] = []


class Weather(BaseTool):
    """The weather in a city."""

    city: str

    def run(self) -> str:
        called.append(self.city)
        return "sunny"


class Pieces(AgencyEventHandler):
    def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        streamed[-1].append(delta.value)


set_openai_client(openai.OpenAI(base_url=BASE_URL, api_key="any"))


def agency(thread_id: str | None) -> Agency:
    agent = Agent(
        name="assistant",
        description="Answers Ana",
        instructions="Answer in one sentence.",
        tools=[Weather],
        model="gpt-4o",
    )
    kept = {"load": lambda: {"main_thread": thread_id}, "save": lambda threads: None}
    return Agency([agent], threads_callbacks=kept)


made = agency(None)
replies = [
    made.get_completion("My name is Ana."),
    made.get_completion("What is the weather in Lisbon?"),
]
for text in ("What is my name?", "And in Porto?"):
    streamed.append([])
    made.get_completion_stream(text, Pieces)
    replies.append("".join(streamed[-1]))

thread_id = made.main_thread.id
replies.append(agency(thread_id).get_completion("Goodbye."))

told = {"thread": thread_id, "replies": replies, "called": called, "streamed": streamed}
print(json.dumps(told))
