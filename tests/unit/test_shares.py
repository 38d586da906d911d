"""How what one process has is shared by its projects."""

from __future__ import annotations

import pytest

from assistants_server.engine.shares import Shares
from assistants_server.errors import TooManyRequests


def flood(shares: Shares, project: str) -> int:
    """Take until it is refused; how many it got."""
    for taken in range(1000):
        try:
            shares.take(project)
        except TooManyRequests:
            return taken
    raise AssertionError("there is no bound")


def test_a_project_that_is_alone_has_all_that_it_may_have() -> None:
    assert flood(Shares("things", most=50, total=100), "alone") == 50


def test_a_flood_of_one_leaves_as_much_as_it_took() -> None:
    shares = Shares("things", most=1000, total=100)
    assert flood(shares, "flooding") == 50
    for _ in range(25):
        shares.take("another")


def test_of_some_that_grow_together_each_has_as_much_as_is_left() -> None:
    shares = Shares("things", most=1000, total=100)
    refused: set[str] = set()
    taken = dict.fromkeys("abc", 0)
    while len(refused) < 3:
        for project in taken:
            try:
                shares.take(project)
            except TooManyRequests:
                refused.add(project)
            else:
                taken[project] += 1
    assert taken == {"a": 25, "b": 25, "c": 25}
    shares.take("newcomer")


def test_there_are_never_more_than_there_may_be_in_all() -> None:
    shares = Shares("things", most=1000, total=100)
    assert sum(flood(shares, f"project {number}") for number in range(200)) == 100


def test_the_refusal_says_which_bound_it_was() -> None:
    shares = Shares("things", most=2, total=4)
    flood(shares, "first")
    with pytest.raises(TooManyRequests, match="allows 2 for a project"):
        shares.take("first")
    flood(shares, "second")
    with pytest.raises(TooManyRequests, match="allows 4 in all and keeps room") as refused:
        shares.take("second")
    assert refused.value.headers == {"Retry-After": "1"}


def test_what_is_given_back_is_there_for_everybody() -> None:
    shares = Shares("things", most=1000, total=3)
    assert flood(shares, "first") == 2
    shares.take("second")
    with pytest.raises(TooManyRequests):
        shares.take("third")
    shares.give_back("first")
    shares.take("third")


def test_what_is_there_already_counts_though_there_is_no_room_for_it() -> None:
    shares = Shares("things", most=1, total=2)
    for _ in range(3):
        shares.add("taken over")
    with pytest.raises(TooManyRequests):
        shares.take("another")
    for _ in range(2):
        shares.give_back("taken over")
    shares.take("another")
