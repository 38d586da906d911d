"""The agent of the terminal and the voice example: who it is and what it can do.

Nothing here knows how the conversation reaches the user, nor where it is stored.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable
from datetime import datetime
from typing import Any

from livekit.agents import Agent, FlushSentinel, ModelSettings, ToolError, function_tool, llm

NAME = "Coffee shop"

# Short, because a small model on a small machine reads this before its first word.
INSTRUCTIONS = (
    "You are a friendly assistant in a coffee shop. You remember what the user told you. "
    "Answer in one or two short sentences."
)


class CoffeeShop(Agent):
    """Tells the time and keeps an order book for as long as the process lives."""

    def __init__(self, *, chat_ctx: llm.ChatContext | None = None) -> None:
        super().__init__(instructions=INSTRUCTIONS, chat_ctx=chat_ctx)
        self._orders: dict[int, str] = {}

    @function_tool
    async def get_time(self) -> str:
        """The date and time now. Use it when the user asks what time or day it is."""
        return datetime.now().astimezone().strftime("%A %d %B %Y, %H:%M")

    @function_tool
    async def place_order(self, item: str, quantity: int) -> str:
        """Order coffee, tea or something to eat. Use it when the user orders something.

        Args:
            item: What is ordered, such as "espresso".
            quantity: How many.
        """
        if quantity < 1:
            raise ToolError("The quantity must be at least one.")
        number = 100 + len(self._orders) + 1
        self._orders[number] = f"{quantity} x {item}"
        return f"Order {number}: {self._orders[number]}, ready in five minutes."

    @function_tool
    async def look_up_order(self, number: int) -> str:
        """What an order holds. Use it when the user asks about an order.

        Args:
            number: The order's number, such as 101.
        """
        if number not in self._orders:
            raise ToolError(f"There is no order {number}.")
        return f"Order {number}: {self._orders[number]}."


# What a user says who wants a tool.
_WISHES = {
    "get_time": r"\b(time|clock|date)\b|what day",
    "look_up_order": r"\border (number )?\d+",
    "place_order": r"\b(order|please|i want|i would like|can i have)\b",
}


class CoffeeShopForSmallModels(CoffeeShop):
    """For a model too small to choose a tool: the words of the user choose it.

    Shown all tools, such a model takes orders from everybody who tells their name.
    """

    def llm_node(
        self, chat_ctx: llm.ChatContext, tools: list[llm.Tool], model_settings: ModelSettings
    ) -> AsyncIterable[llm.ChatChunk | str | FlushSentinel]:
        wish = wished(chat_ctx)
        shown: list[Any] = [tool for tool in tools if tool.id == wish]
        last = chat_ctx.items[-1]
        if shown and last.type == "message" and last.role == "user":
            model_settings = ModelSettings(
                tool_choice={"type": "function", "function": {"name": shown[0].id}}
            )
        return Agent.default.llm_node(self, chat_ctx, shown, model_settings)


def wished(chat_ctx: llm.ChatContext) -> str | None:
    """The tool that the last thing the user said asks for."""
    said = next((m.text_content or "" for m in chat_ctx.messages()[::-1] if m.role == "user"), "")
    for name, words in _WISHES.items():
        if re.search(words, said, re.IGNORECASE):
            return name
    return None
