"""The agents of the random sessions."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from livekit.agents import Agent, AgentTask, RunContext, StopResponse, function_tool
from livekit.agents.llm import ChatContext
from tests.plugin.agents import Entering

_orders = itertools.count(1)


class Survey(AgentTask[str]):
    """Asks one thing and hands the conversation back."""

    def __init__(self) -> None:
        super().__init__(instructions="You ask one thing.")
        self.entered = asyncio.Event()

    async def on_enter(self) -> None:
        self.entered.set()

    @function_tool
    async def finish(self) -> None:
        """Finish."""
        self.complete("asked")


class Clerk(Entering):
    """An agent with tools in all their moods and, if asked, a short memory."""

    def __init__(self, name: str, chat_ctx: ChatContext | None = None) -> None:
        super().__init__(instructions=f"You are {name}.", chat_ctx=chat_ctx)
        self.inherited = {item.id for item in chat_ctx.items} if chat_ctx is not None else set()
        self.window = 0
        self.ordered: list[str] = []
        self.working = asyncio.Event()
        self.finish = asyncio.Event()
        self.finish.set()
        self.surveying = asyncio.Event()
        self.reporting = 0
        self.reported = False

    async def llm_node(self, chat_ctx: ChatContext, tools: Any, model_settings: Any) -> Any:
        shown = chat_ctx.copy()
        if self.window:
            shown.truncate(max_items=self.window)
        async for chunk in Agent.default.llm_node(self, shown, tools, model_settings):
            yield chunk

    async def _work(self) -> None:
        self.working.set()
        await self.finish.wait()

    @function_tool
    async def order(self) -> str:
        """Order."""
        self.ordered.append(f"order {next(_orders)}")
        done = self.ordered[-1]
        await self._work()
        return done

    @function_tool
    async def note(self) -> None:
        """Note."""
        await self._work()

    @function_tool
    async def fails(self) -> str:
        """Fail."""
        await self._work()
        raise ValueError("no")

    @function_tool
    async def hush(self) -> str:
        """Hush."""
        await self._work()
        raise StopResponse()

    @function_tool
    async def says(self, context: RunContext[Any]) -> str:
        """Say something."""
        context.session.say("said in a tool")
        await self._work()
        return "said"

    @function_tool
    async def asks(self, context: RunContext[Any]) -> str:
        """Have something said."""
        await context.session.generate_reply(instructions="Tell them to wait.")
        await self._work()
        return "asked"

    @function_tool
    async def renames(self) -> str:
        """Rename."""
        await self.update_instructions(f"{self.instructions} Really.")
        await self._work()
        return "renamed"

    @function_tool
    async def retools(self) -> str:
        """Learn."""

        async def another() -> str:
            """Another."""
            return "another"

        name = f"another_{len(self.tools)}"
        await self.update_tools([*self.tools, function_tool(another, name=name)])
        await self._work()
        return "learned"

    @function_tool
    async def reports(self, context: RunContext[Any]) -> str:
        """Report."""
        self.reporting += 1
        self.reported = True
        try:
            await context.update("at it")
            await self._work()
            return "reported"
        finally:
            self.reporting -= 1

    @function_tool
    async def survey(self) -> str:
        """Survey."""
        task = Survey()
        waiting = asyncio.ensure_future(task.entered.wait())
        waiting.add_done_callback(lambda _: self.surveying.set())
        try:
            return await task
        finally:
            waiting.cancel()
            self.surveying.clear()
