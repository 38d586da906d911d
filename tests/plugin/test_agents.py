"""Several agents in one session: sub-tasks, handoffs with and without history and back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from livekit.agents import Agent, AgentTask, RunContext, function_tool
from livekit.agents.llm import ChatContext
from livekit.agents.types import NOT_GIVEN
from tests.plugin.agents import RUN, SUBMIT, Caller, Entering, model_saw, said, speaking
from tests.plugin.test_tools import tool_outputs
from tests.upstream import Upstream, call, say, stall


class AskName(AgentTask[str]):
    """Asks for a name; ends as soon as it has one."""

    def __init__(self, chat_ctx: ChatContext | None = None) -> None:
        super().__init__(instructions="Ask for the name.", chat_ctx=chat_ctx or NOT_GIVEN)
        self.entered = asyncio.Event()

    async def on_enter(self) -> None:
        self.session.generate_reply(instructions="Ask now.")
        self.entered.set()

    @function_tool
    async def name_is(self, name: str) -> None:
        """The name was said."""
        self.complete(name)


class Desk(Agent):
    """Registers guests with a sub-task, which knows what was said or not."""

    def __init__(self, *, history: bool) -> None:
        super().__init__(instructions="You keep a hotel.")
        self.history = history
        self.task: AskName | None = None
        self.registered: list[str] = []
        self.asking = asyncio.Event()

    @function_tool
    async def register(self) -> str:
        """Register the guest."""
        known = self.chat_ctx.copy(exclude_instructions=True) if self.history else None
        self.task = AskName(known)
        self.asking.set()
        name = await self.task
        self.registered.append(name)
        return f"{name} is registered"


@pytest.mark.parametrize("history", [True, False], ids=["with history", "without"])
async def test_a_task_within_a_tool_and_its_return(
    caller: Caller, upstream: Upstream, history: bool
) -> None:
    upstream.script(
        say("Good morning."),
        call("register"),
        say("What is your name?"),
        call("name_is", {"name": "Ben"}),
        say("Welcome, Ben."),
    )
    desk = Desk(history=history)
    async with caller.session(desk) as session:
        await session.run(user_input="good morning")
        first = session.generate_reply(user_input="a room please")
        await desk.asking.wait()
        assert desk.task is not None
        await desk.task.entered.wait()
        await _said_last(session, "What is your name?")
        await session.generate_reply(user_input="I am Ben")
        await first
        assert desk.registered == ["Ben"]
        with caller.counted() as requests:
            await session.run(user_input="thanks")
        assert requests.count(RUN) == 1
        if caller.extensions is None:
            assert requests == [RUN]
            asked = [text for _, text in model_saw(upstream.requests[3]) if text]
            assert ("good morning" in asked) == history
        assert sorted(await caller.thread()) == sorted(said(session.history))
        assert await caller.thread() == said(desk.chat_ctx)
        if caller.extensions is None:
            shown = [one for one in model_saw(upstream.requests[-1]) if one[0] != "tool" and one[1]]
            assert shown == said(desk.chat_ctx)[:-1]
            assert "Ben is registered" in tool_outputs(upstream.requests[-1])
    statuses = {run["status"] for run in await caller.runs()}
    assert statuses <= {"completed", "cancelled"}


async def test_a_task_interrupted_in_its_question(caller: Caller, upstream: Upstream) -> None:
    hold = stall()
    upstream.script(
        call("register"),
        say("What is ", hold, "your name?"),
        call("name_is", {"name": "Ben"}),
        say("Welcome, Ben."),
    )
    desk = Desk(history=False)
    async with caller.session(desk) as session:
        first = session.generate_reply(user_input="a room please")
        await hold.reached.wait()
        await speaking(session)
        await session.interrupt()
        hold.release()
        await session.generate_reply(user_input="I am Ben")
        await first
        assert desk.registered == ["Ben"]
        await session.run(user_input="thanks")
        assert await caller.thread() == said(desk.chat_ctx)
        assert "your name?" not in str(await caller.thread())


class Reception(Entering):
    """Hands over to the kitchen, which gets what was said, or not."""

    def __init__(self, kitchen: Agent) -> None:
        super().__init__(instructions="You receive.")
        self.kitchen = kitchen

    @function_tool
    async def to_the_kitchen(self, context: RunContext[Any]) -> tuple[Agent, str]:
        """Hand over."""
        return self.kitchen, "handed over"


@pytest.mark.parametrize("history", [True, False], ids=["with history", "without"])
async def test_a_tool_that_hands_over(caller: Caller, upstream: Upstream, history: bool) -> None:
    """The old agent has the last word, with tools switched off."""
    kitchen = Entering(instructions="You cook.")
    reception = Reception(kitchen)
    upstream.script(say("Good morning."), call("to_the_kitchen"), say("One moment."), say("Yes?"))
    async with caller.session(reception) as session:
        await session.run(user_input="hello")
        if history:
            await kitchen.update_chat_ctx(
                session.history.copy(exclude_instructions=True, exclude_function_call=True)
            )
        await session.run(user_input="the kitchen please")
        await kitchen._entered.wait()
        with caller.counted() as requests:
            await session.run(user_input="an egg")
        assert requests.count(RUN) == 1
        if caller.extensions is None:
            assert requests == [RUN]
            assert model_saw(upstream.requests[-1]) == said(kitchen.chat_ctx)[:-1]
        assert await caller.thread() == said(session.history)
        await reception.takes_over(session)
        with caller.counted() as requests:
            await session.run(user_input="are you back?")
        assert requests.count(RUN) == 1
        assert await caller.thread() == said(session.history)
        if caller.extensions is None:
            shown = [one for one in model_saw(upstream.requests[-1]) if one[0] != "tool" and one[1]]
            assert shown == said(reception.chat_ctx)[:-1]
        await caller.llm.sync(session.history)
        assert await caller.thread() == said(session.history)


async def test_a_handover_in_mid_reply(caller: Caller, upstream: Upstream) -> None:
    hold = stall()
    kitchen, reception = Entering(instructions="You cook."), Entering(instructions="You receive.")
    async with caller.session(reception) as session:
        upstream.script(say("Once upon ", hold, "a time"))
        speech = session.generate_reply(user_input="a story")
        await hold.reached.wait()
        await speaking(session)
        speech.interrupt()
        await kitchen.takes_over(session)
        hold.release()
        with caller.counted() as requests:
            await session.run(user_input="an egg")
        if caller.extensions is None:
            assert requests == [RUN]
        await caller.llm.sync(session.history)
        assert await caller.thread() == said(session.history)


@pytest.mark.parametrize("changed", ["tools", "instructions"])
async def test_a_tool_that_changes_what_comes_next(
    caller: Caller, upstream: Upstream, changed: str
) -> None:
    """The open run cannot learn it: a new one carries the output, in the same single request.
    Tools LiveKit itself changes only from the next turn on."""

    class Learner(Agent):
        @function_tool
        async def learn(self) -> str:
            """Learn."""
            if changed == "tools":
                await self.update_tools([*self.tools, juggle])
            else:
                await self.update_instructions("You juggle.")
            return "learned"

    @function_tool
    async def juggle() -> str:
        """Juggle."""
        return "three balls"

    upstream.script(call("learn"), say("I can juggle."))
    async with caller.session(Learner(instructions="You learn.")) as session:
        with caller.counted() as requests:
            await session.run(user_input="learn it")
        steps = [one for one in requests if one in (RUN, SUBMIT)]
        assert steps == ([RUN, RUN] if changed == "instructions" else [RUN, SUBMIT])
        if caller.extensions is None:
            assert requests == steps
            assert tool_outputs(upstream.requests[-1]) == ["learned"]
        await session.run(user_input="thanks")
        last = upstream.requests[-1]
        names = {one["function"]["name"] for one in last.body["tools"]}
        assert ("juggle" in names) == (changed == "tools")
        assert ("You juggle." in last.messages[0]["content"]) == (changed == "instructions")
        assert await caller.thread() == said(session.history)


async def _said_last(session: Any, words: str) -> None:
    for _ in range(3000):
        spoken = said(session.history)
        if spoken and spoken[-1] == ("assistant", words):
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"{words!r} was not said")
