"""The conversation that every framework holds, and the programs that hold it.

Each program is written as a user of that framework writes it, prints one line of JSON at its end,
and knows nothing of the test. ``docs/guides/migrate.md`` shows lines of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.programs import printed
from tests.upstream import Answer, call, say

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
BUILT = ROOT / ".environments"
BUILD = "make frameworks"


# What is said -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """What the user says and what the model answers, after a call of ``weather`` or at once."""

    user: str
    pieces: Sequence[str]
    city: str | None = None

    @property
    def reply(self) -> str:
        return "".join(self.pieces)


TURNS = (
    Turn("My name is Ana.", ("Hello, ", "Ana.")),
    Turn("What is the weather in Lisbon?", ("It is ", "sunny."), city="Lisbon"),
    Turn("What is my name?", ("You are ", "Ana.")),
    Turn("And in Porto?", ("Sunny ", "too."), city="Porto"),
    Turn("Goodbye.", ("Bye, ", "Ana.")),
)
STREAMED = TURNS[2:4]
"""Of frameworks that stream text; LiteLLM cannot go on streaming after a call."""


def script(tool: str) -> list[Answer]:
    """What the model says, request by request."""
    steps = []
    for turn in TURNS:
        if turn.city is not None:
            steps.append(call(tool, {"city": turn.city}))
        steps.append(say(*turn.pieces))
    return steps


def seen_by_the_model() -> list[tuple[str, str | None]]:
    """Role and text of all it is shown with the last request, without the instructions."""
    seen: list[tuple[str, str | None]] = []
    for turn in TURNS:
        seen.append(("user", turn.user))
        if turn.city is not None:
            seen += [("assistant", None), ("tool", "sunny")]
        seen.append(("assistant", turn.reply))
    return seen[:-1]


def kept_in_the_thread() -> list[tuple[str, str]]:
    return [pair for turn in TURNS for pair in (("user", turn.user), ("assistant", turn.reply))]


# Who says it --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Framework:
    name: str
    program: Path
    environment: Path
    tool: str = "weather"
    """What the framework makes of the function's name."""
    streams: bool = False

    @property
    def missing(self) -> str | None:
        """Why it cannot play, and what to do about it."""
        if self.program.suffix == ".mjs" and shutil.which("node") is None:
            return f"{self.name}: Node is not installed; install it and run {BUILD}"
        if not (self.environment / ".lock").exists():
            return f"{self.name} is not built: run {BUILD}"
        return None

    async def play(self, base_url: str, folder: Path) -> dict[str, Any]:
        """What the program printed last, run in this folder."""
        home = {"HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # no download
        if self.program.suffix == ".mjs":  # Node looks for packages where its input comes from
            command = ["node", "--input-type=module", "-", base_url]
            given, folder = self.program.read_text(), self.environment
        else:
            command = [str(self.environment / "bin/python"), str(self.program), base_url]
            given = ""
        output = await printed(command, given=given, cwd=folder, environment=home)
        told: dict[str, Any] = json.loads(output.splitlines()[-1])
        return told


def python(name: str, **differs: Any) -> Framework:
    program = HERE / "programs" / f"with_{name.replace('-', '_')}.py"
    return Framework(name, program, BUILT / name, **differs)


def node(name: str, **differs: Any) -> Framework:
    program = HERE / "programs" / f"with_{name.replace('-', '_')}.mjs"
    return Framework(name, program, BUILT / "node", **differs)


FRAMEWORKS = (
    node("node", streams=True),
    node("langchain-js"),
    python("langchain"),
    python("llama-index"),
    python("autogen"),
    python("semantic-kernel", tool="Weather-weather", streams=True),
    python("litellm", streams=True),
    python("agency-swarm", tool="Weather", streams=True),
    python("airflow"),
)
