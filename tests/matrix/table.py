"""The table of scenarios, the model that plays its part in them, and the clients that play them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.manual_clock import ManualClock
from tests.upstream import Answer, call, calls, cut, fail, length, refusal, say, stall

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
BUILT = ROOT / ".environments"
BUILD = "scripts/sdk-environments"


@lru_cache(maxsize=1)
def scenarios() -> list[dict[str, Any]]:
    """Each has a name, what the model does turn by turn, and steps with what follows from them."""
    table: list[dict[str, Any]] = json.loads((HERE / "scenarios.json").read_text())
    return table


# The model ----------------------------------------------------------------------------------------


class ScriptedModel:
    """Plays the turns of the scenario that the request names as its model.

    In a turn with ``pass`` so many seconds go by before it says anything.
    """

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._turns = {scenario["name"]: list(scenario["model"]) for scenario in scenarios()}

    def __call__(self, body: dict[str, Any]) -> Answer:
        turn = self._turns[body["model"]].pop(0)
        self._clock.advance(turn.get("pass", 0))
        return answer(turn)

    @property
    def left(self) -> dict[str, list[Any]]:
        """Turns that nobody asked for."""
        return {name: turns for name, turns in self._turns.items() if turns}


def answer(turn: dict[str, Any]) -> Answer:
    """``null`` among the pieces holds the model there for good."""
    if "fail" in turn:
        return fail(turn["fail"], message="No such model", code="model_not_found")
    made = Answer()
    for key, makes in (("say", say), ("length", length), ("cut", cut), ("refusal", refusal)):
        if key in turn:
            made = made + makes(*(stall() if piece is None else piece for piece in turn[key]))
    asked = [turn["call"]] if "call" in turn else turn.get("calls", [])
    made = made + calls(*(call(one["name"], one["arguments"], id=one["id"]) for one in asked))
    return made.usage(*turn["usage"]) if "usage" in turn else made


# The clients --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Client:
    """An SDK in an environment of its own."""

    name: str
    language: str
    command: Sequence[str]
    needs: Sequence[Path]
    arguments: Sequence[str] = ()  # behind the server's URL

    @property
    def missing(self) -> str | None:
        """Why it cannot play, and what to do about it."""
        if self.language == "node" and shutil.which("node") is None:
            return f"{self.name}: Node is not installed; install it and run {BUILD}"
        if not all(path.exists() for path in self.needs):
            return f"{self.name} is not built: run {BUILD}"
        return None


def clients() -> list[Client]:
    """The SDK of this project's own environment is always there."""
    found = [Client("python-3", "python", (sys.executable, str(HERE / "runner.py")), ())]
    for file in sorted((HERE / "environments").glob("python-*.txt")):
        python = BUILT / file.stem / "bin/python"
        command = (str(python), str(HERE / "runner.py"))
        found.append(Client(file.stem, "python", command, (python,)))
    for folder in sorted((HERE / "environments").glob("node-*")):
        modules = BUILT / folder.name / "node_modules/openai"
        runner = HERE / "runner.mjs"
        found.append(
            Client(
                folder.name,
                "node",
                ("node", str(runner)),
                (modules,),
                arguments=(str(BUILT / folder.name),),
            )
        )
    return found


# What they saw ------------------------------------------------------------------------------------

_ID = re.compile(r"\b(asst|thread|msg|run|step|file)[_-][A-Za-z0-9]{22,24}\b")


def normalised(transcript: Any) -> Any:
    """With ids numbered by their kind in the order in which they appear."""
    numbers: dict[str, str] = {}
    counts: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        if match[0] not in numbers:
            counts[match[1]] = counts.get(match[1], 0) + 1
            numbers[match[0]] = f"<{match[1]} {counts[match[1]]}>"
        return numbers[match[0]]

    return json.loads(_ID.sub(numbered, json.dumps(transcript)))


def expected(step: dict[str, Any], client: Client) -> Any:
    """What follows from a step: ``then``, or ``then`` of this client where its SDK differs.

    One difference is everywhere: Node raises ``message_delta`` before the ``text_delta`` in it.
    """
    then = step.get(f"then {client.name}", step.get("then", {"value": {}}))
    if client.language == "node" and "callbacks" in then:
        names = ",".join(then["callbacks"])
        swapped = names.replace("text_delta,message_delta", "message_delta,text_delta")
        then = {**then, "callbacks": swapped.split(",")}
    return then
