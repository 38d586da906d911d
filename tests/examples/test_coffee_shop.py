"""The agent of the examples: its order book."""

from __future__ import annotations

from typing import Any

import pytest
from examples.coffee_shop import CoffeeShop
from livekit.agents import ToolError


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
