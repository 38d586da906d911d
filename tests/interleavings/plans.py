"""What the scripted model does in a run: a plan, drawn by the test and played turn by turn.

A run names its plan as its model, so the plan is found whichever process asks and however often. A
``hold`` in a plan stops the model until the test lets it go on.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import strategies as st
from tests.upstream import Answer, Stall, call, content_filter, cut, fail, length, say, stall

Ending = Literal["stop", "length", "filter", "break off", "refuse", "call", "two calls"]

TOOLS = [{"type": "function", "function": {"name": "look_up"}}]


@dataclass(frozen=True)
class TurnPlan:
    """``pieces``: words to say, ``None`` for a hold. Then the ending."""

    pieces: Sequence[str | None]
    ending: Ending

    def answer(self, holds: list[Stall]) -> Answer:
        answer = Answer()
        for piece in self.pieces:
            if piece is None:
                holds.append(stall())
                answer = answer + holds[-1]
            else:
                answer = answer + say(piece)
        return answer + self._end(holds)

    def _end(self, holds: list[Stall]) -> Answer:
        if self.ending == "length":
            return length()
        if self.ending == "filter":
            return content_filter()
        if self.ending == "break off":
            return cut()
        if self.ending == "refuse":
            # A refusal is a status, so nothing was said; the holds still come before it.
            return fail(400, message="No such model", code="model_not_found")
        if self.ending == "call":
            return call("look_up", {"what": "weather"})
        if self.ending == "two calls":
            hold = stall()
            holds.append(hold)
            return call("look_up", {"n": 1}) + hold + call("look_up", {"n": 2})
        return say()


@st.composite
def turn_plans(draw: st.DrawFn) -> TurnPlan:
    ending: Ending = draw(
        st.sampled_from(
            ("stop", "call", "two calls", "stop", "call", "length", "filter", "break off", "refuse")
        )
    )
    pieces = draw(st.lists(st.sampled_from(("Hel", "lo ", None, None)), max_size=4))
    if ending == "refuse":
        pieces = [None for piece in pieces if piece is None]
    return TurnPlan(pieces, ending)


PLANS = st.lists(turn_plans(), min_size=1, max_size=3)


@dataclass
class Plan:
    name: str
    turns: list[TurnPlan]
    asked: int = 0
    holds: list[Stall] = field(default_factory=list)
    released: int = 0

    @property
    def holding(self) -> bool:
        """The model stands still, or will: the test has not let it go through yet."""
        return self.released < len(self.holds)

    def release(self) -> None:
        self.holds[self.released].release()
        self.released += 1


class Model:
    """Answers every request by the plan that it names; a plan that is over ends in order."""

    def __init__(self) -> None:
        self._plans: dict[str, Plan] = {}
        self._numbers = itertools.count()

    def plan(self, turns: Sequence[TurnPlan]) -> Plan:
        name = f"plan-{next(self._numbers)}"
        self._plans[name] = Plan(name, list(turns))
        return self._plans[name]

    def __getitem__(self, name: str) -> Plan:
        return self._plans[name]

    def __call__(self, body: dict[str, Any]) -> Answer:
        plan = self._plans[body["model"]]
        # What an earlier request held went away with its connection.
        for hold in plan.holds[plan.released :]:
            hold.release()
        plan.released = len(plan.holds)
        turn = plan.turns[plan.asked] if plan.asked < len(plan.turns) else TurnPlan(("ok",), "stop")
        plan.asked += 1
        return turn.answer(plan.holds)
