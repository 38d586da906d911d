"""The agent of the terminal and the voice example: who it is and what it can do.

Nothing here knows how the conversation reaches the user, nor where it is stored.
"""

from __future__ import annotations

from datetime import datetime

from livekit.agents import Agent, ToolError, function_tool, llm

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
