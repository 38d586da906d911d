"""Several agents in one call: sub-tasks and handoffs, with the caller talking over all of them."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.agents import Agent, AgentTask, RunContext, function_tool
from livekit.agents.llm import ChatContext
from livekit.agents.types import NOT_GIVEN
from tests.plugin.agents import RUN, model_saw, said
from tests.upstream import Upstream, say
from tests.upstream import call as tool_call
from tests.voice.call import Line
from tests.voice.test_tools import outputs, words

QUESTION = "What is your name please, and how is it spelled, letter by letter?"


class AskName(AgentTask[str]):
    def __init__(self, chat_ctx: ChatContext | None) -> None:
        super().__init__(instructions="Ask for the name.", chat_ctx=chat_ctx or NOT_GIVEN)

    async def on_enter(self) -> None:
        self.session.generate_reply(instructions="Ask now.")

    @function_tool
    async def name_is(self, name: str) -> None:
        """The name was said."""
        self.complete(name)


class Desk(Agent):
    def __init__(self, *, history: bool) -> None:
        super().__init__(instructions="You keep a hotel.")
        self.history = history
        self.registered: list[str] = []

    @function_tool
    async def register(self) -> str:
        """Register the guest."""
        known = self.chat_ctx.copy(exclude_instructions=True) if self.history else None
        name = await AskName(known)
        self.registered.append(name)
        return f"{name} is registered"


@pytest.mark.parametrize("history", [True, False], ids=["with history", "without"])
async def test_a_task_within_a_tool_talked_over(
    line: Line, upstream: Upstream, history: bool
) -> None:
    upstream.script(
        tool_call("register"),
        say(QUESTION),
        tool_call("name_is", {"name": "Ben"}),
        say("Welcome, Ben."),
        say("Bye."),
    )
    desk = Desk(history=history)
    async with line(desk) as call:
        await call.speaks("a room please")
        await call.hears("your name please,")
        with call.counted() as requests:
            await call.speaks("I am Ben")
            await call.hears("Welcome, Ben.")
            await call.settled()
        assert len(requests) == 2
        assert desk.registered == ["Ben"]
        assert QUESTION not in str(call.history)
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert words(upstream.requests[-1]) == said(desk.chat_ctx)[:-1]
        assert outputs(upstream.requests[-1])[-1] == "Ben is registered"
        await call.agrees()


class Reception(Agent):
    def __init__(self, kitchen: Agent, *, history: bool) -> None:
        super().__init__(instructions="You receive.")
        self.kitchen = kitchen
        self.history = history

    @function_tool
    async def to_the_kitchen(self, context: RunContext[Any]) -> tuple[Agent, str]:
        """Hand over."""
        if self.history:
            known = self.chat_ctx.copy(exclude_instructions=True, exclude_function_call=True)
            await self.kitchen.update_chat_ctx(known)
        return self.kitchen, "handed over"


@pytest.mark.parametrize("history", [True, False], ids=["with history", "without"])
async def test_a_handover_talked_over(line: Line, upstream: Upstream, history: bool) -> None:
    """The old agent's last words, for which it has no tools, are cut; the new one answers."""
    upstream.script(
        say("Good morning."),
        tool_call("to_the_kitchen"),
        say("One moment please, I am going to hand you over to the kitchen now."),
        say("An egg it is."),
        say("Bye."),
    )
    kitchen = Agent(instructions="You cook.")
    async with line(Reception(kitchen, history=history)) as call:
        await call.turn("hello")
        with call.counted() as requests:
            await call.speaks("the kitchen please")
            await call.hears("moment please")
            await call.turn("wait")  # LiveKit does not hear it: its ears are handed over, too
            await call.turn("an egg")
        assert requests == [RUN, RUN, RUN]
        assert call.session.current_agent is kitchen
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        if call.extensions is None:
            shown = words(upstream.requests[-1])
            assert shown == said(kitchen.chat_ctx)[:-1]
            assert (("user", "hello") in shown) == history
        assert "kitchen now" not in str(call.history)
        await call.llm.sync(call.session.history)
        await call.agrees()


async def test_a_handover_in_mid_sentence_and_back(line: Line, upstream: Upstream) -> None:
    upstream.script(
        say("Once upon a time there was a king who had three daughters."),
        say("An egg it is."),
        say("Where were we?"),
    )
    cook, teller = Agent(instructions="You cook."), Agent(instructions="You tell stories.")
    async with line(teller) as call:
        await call.speaks("a story please")
        await call.hears("a king")
        call.session.interrupt()
        call.session.update_agent(cook)
        await call.settled()
        await call.turn("an egg")
        call.session.update_agent(teller)
        await call.settled()
        with call.counted() as requests:
            await call.turn("and the king")
        assert requests == [RUN]
        if call.extensions is None:
            assert model_saw(upstream.requests[-1]) == said(teller.chat_ctx)[:-1]
        assert "daughters" not in str(call.history)
        await call.llm.sync(call.session.history)
        await call.agrees()
