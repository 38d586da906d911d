"""Calls in which anything happens at any moment. ``RANDOM_CALLS=500`` looks for longer.

A seed is a call: the same moves at the same moments. When one fails, ``-k "[17]"`` plays it again,
and the moves are in the failure's output.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from typing import Any

import pytest
from livekit.agents import Agent, StopResponse, function_tool
from livekit.agents.llm import ChatContext, ChatMessage
from tests.plugin.agents import Said, model_saw, said
from tests.upstream import Answer, Upstream, say
from tests.upstream import call as tool_call
from tests.voice.audio import Heard
from tests.voice.call import RECOGNITION, Call, Line
from tests.voice.virtual_time import pause, thinking

logger = logging.getLogger(__name__)

CALLS = int(os.environ.get("RANDOM_CALLS", "12"))

WORDS = "time tide waits for no man but the river by my house never hurries".split()  # noqa: SIM905


def words_of(conversation: Said) -> Said:
    """Without the blanks at the ends, for which nothing is deleted and sent again."""
    return [(role, text.strip()) for role, text in conversation]


class Anyone(Agent):
    """Ignores some turns, corrects others, and has a tool."""

    def __init__(self) -> None:
        super().__init__(instructions="You are Ana.")
        self.orders: list[str] = []
        self.slow = False  # a tool takes longer than LiveKit waits for an interrupted speech

    @function_tool
    async def order(self, what: str, seconds: float) -> str:
        """Order something."""
        self.orders.append(what)
        self.slow = self.slow or seconds > 5
        await asyncio.sleep(seconds)
        return f"ordered {what}"

    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: ChatMessage) -> None:
        words = new_message.raw_text_content or ""
        if words.startswith("hm"):
            raise StopResponse()
        if words.startswith("well"):
            new_message.content = [words.replace("well", "Well,", 1)]


class Dice:
    """Draws what caller and model do, and writes down what came up."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.asked = 0

    def words(self, most: int = 20) -> str:
        return " ".join(self.random.choices(WORDS, k=self.random.randint(1, most)))

    def model(self, body: dict[str, Any]) -> Answer:
        """A different answer each time, with pauses, sometimes a tool call."""
        self.asked += 1
        roll = self.random.random()
        if body["messages"][-1]["role"] != "tool" and body.get("tools") and roll < 0.2:
            arguments = {"what": f"tea {self.asked}", "seconds": self.random.choice([0, 1, 4, 9])}
            spoken = say(f"{self.words()}. ") if roll < 0.1 else Answer()
            return spoken + tool_call("order", arguments)
        pieces: list[Any] = []
        for _ in range(self.random.randint(1, 3)):
            pieces.append(f"{self.words(12)} ")
            if self.random.random() < 0.3:
                pieces.append(pause(self.random.uniform(0.1, 4.0)))
        answer = say(*pieces, f"({self.asked})")
        return thinking(self.random.uniform(0.1, 5.0)) + answer if roll > 0.7 else answer

    async def move(self, call: Call) -> None:
        name = self.random.choice(
            ["speak"] * 4 + ["in two"] * 2 + ["ignored", "corrected", "cough"]
            + ["interrupt", "say", "instruct", "text", "settle"]
        )  # fmt: skip
        rest = self.random.choice([0.0, 0.3, 0.7, 1.2, 2.0, 3.5, 6.0])
        words = self.words(4)
        logger.info("%8.2f %s %r, then %s s", call.now, name, words, rest)
        await self._make(call, name, words)
        await call.waits(rest)

    async def _make(self, call: Call, name: str, words: str) -> None:
        if name == "speak":
            await call.speaks(words, seconds=self.random.uniform(0.3, 2.0))
        elif name == "ignored":
            await call.speaks(f"hm {words}")
        elif name == "corrected":
            await call.speaks(f"well {words}")
        elif name == "in two":
            heard = (Heard(0.8, words), Heard(2.0 + RECOGNITION, "and so on"))
            await call.speaks("", seconds=2.0, heard=heard)
        elif name == "cough":
            await call.speaks("", seconds=self.random.uniform(0.1, 1.0), heard=())
        elif name == "interrupt":
            call.session.interrupt()
        elif name == "say":
            call.session.say(f"{words}.")
        elif name == "instruct":
            call.session.generate_reply(instructions="Say something.")
        elif name == "text":
            call.session.interrupt()
            call.session.generate_reply(user_input=words)
        else:
            await call.settled()


@pytest.mark.parametrize("seed", range(CALLS))
async def test_the_thread_is_what_was_said(
    line: Line, upstream: Upstream, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    caplog.set_level(logging.INFO, __name__)
    dice = Dice(seed)
    upstream.default = dice.model
    agent = Anyone()
    async with line(agent) as call:
        for _ in range(dice.random.randint(3, 9)):
            await dice.move(call)
        await call.settled()
        await call.waits(12.0)  # tools in the background come to an end
        await call.settled()
        upstream.default = lambda body: say("Goodbye.")
        await call.turn("goodbye")
        conversation = words_of(said(agent.chat_ctx))
        assert sorted(conversation) == sorted(words_of(call.history))
        assert words_of(await call.thread()) == conversation
        shown = words_of(model_saw(upstream.requests[-1]))
        assert [one for one in shown if one[0] != "tool" and one[1]] == conversation[:-1]
        assert len(agent.orders) == len(set(agent.orders))
    if agent.slow:
        caplog.clear()  # LiveKit calls it an error that it had to let go of a slow tool
