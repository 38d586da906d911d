"""The agent of the examples: its order book, and which words ask for a tool."""

from __future__ import annotations

from typing import Any

import pytest
from examples.coffee_shop import CoffeeShop, wished
from livekit.agents import ToolError, llm


@pytest.mark.parametrize(
    ("said", "tool"),
    [
        ("Hello, my name is Ana.", None),
        ("What is my name?", None),
        ("What time is it?", "get_time"),
        ("Two espressos please.", "place_order"),
        ("I would like three teas.", "place_order"),
        ("What is in order 101?", "look_up_order"),
    ],
)
def test_the_words_of_the_user_choose_the_tool(said: str, tool: str | None) -> None:
    context = llm.ChatContext()
    context.add_message(role="user", content="What time is it?")
    context.add_message(role="assistant", content="Noon. Would you like to order?")
    context.add_message(role="user", content=said)
    assert wished(context) == tool


async def test_an_order_can_be_looked_up() -> None:
    shop: Any = CoffeeShop()  # decorated methods are called by the framework
    assert "Order 101: 2 x tea" in await shop.place_order("tea", 2)
    assert await shop.look_up_order(101) == "Order 101: 2 x tea."


async def test_nonsense_is_refused_in_words() -> None:
    shop: Any = CoffeeShop()  # decorated methods are called by the framework
    with pytest.raises(ToolError, match="no order 7"):
        await shop.look_up_order(7)
    with pytest.raises(ToolError, match="at least one"):
        await shop.place_order("tea", 0)
