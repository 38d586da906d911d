"""Calls in which anything happens at any moment; a failure shrinks to the moments that it needs.

``HYPOTHESIS_PROFILE=nightly`` looks for longer. What the model says to which request is a part of
the script, as is the time at which each thing happens: virtual time, so a script is a call.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from livekit.agents import Agent, StopResponse, function_tool
from livekit.agents.llm import ChatContext, ChatMessage
from tests.plugin.agents import Said, model_saw, said
from tests.upstream import Answer, Upstream, say
from tests.upstream import call as tool_call
from tests.voice.audio import Heard
from tests.voice.call import RECOGNITION, Call, Line
from tests.voice.virtual_time import VirtualLoop, pause, running_loop, thinking

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
CALLS = int(os.environ.get("CALLS", "300" if NIGHTLY else "16"))

WORDS = "time tide waits for no man but the river by my house never hurries".split()  # noqa: SIM905

Kind = str
KINDS = (
    "speak",
    "in two",  # with a pause in the middle that may be taken for the end
    "rewritten",  # guessed at early, and recognised with other punctuation
    "ignored",  # the agent drops the turn with StopResponse
    "corrected",  # the agent rewrites it
    "cough",  # sound without words
    "interrupt",
    "say",
    "instruct",
    "text",
    "refused",  # the next turn's request does not leave
    "lost",  # its answer does not arrive
    "cut",  # nor more than the first piece of it
    "settle",
)


@dataclass(frozen=True)
class Move:
    """Something happens, ``words`` long or for ``seconds``; then time goes by."""

    kind: Kind
    words: int = 2
    seconds: float = 1.0
    rest: float = 0.0


@dataclass(frozen=True)
class Reply:
    """What the model answers to a request: after some thought, words with pauses between them, and
    perhaps a call of a tool that takes its time."""

    words: tuple[int, ...] = (5,)
    thought: float = 0.0
    pause: float = 0.0
    tool: float | None = None


moves = st.builds(
    Move,
    st.sampled_from(["speak"] * 4 + ["in two", *KINDS]),
    st.integers(1, 4),
    st.sampled_from([0.3, 0.7, 1.0, 2.0]),
    st.sampled_from([0.0, 0.3, 0.7, 1.2, 2.0, 3.5, 6.0]),
)
replies = st.builds(
    Reply,
    st.lists(st.integers(1, 12), max_size=3).map(tuple),
    st.sampled_from([0.0, 0.0, 0.1, 1.0, 2.5, 5.0]),
    st.sampled_from([0.0, 0.0, 0.2, 1.0, 4.0]),
    st.sampled_from([None, None, None, None, 0.0, 1.0, 4.0, 9.0]),
)


def words_of(conversation: Said) -> Said:
    """Without the blanks at the ends, for which nothing is deleted and sent again."""
    return [(role, text.strip()) for role, text in conversation]


class Anyone(Agent):
    """Ignores some turns, corrects others, and has a tool."""

    def __init__(self) -> None:
        super().__init__(instructions="You are Ana.")
        self.orders: list[str] = []

    @function_tool
    async def order(self, what: str, seconds: float) -> str:
        """Order something."""
        self.orders.append(what)
        await asyncio.sleep(seconds)
        return f"ordered {what}"

    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: ChatMessage) -> None:
        words = new_message.raw_text_content or ""
        if words.startswith("hm"):
            raise StopResponse()
        if words.startswith("well"):
            new_message.content = [words.replace("well", "Well,", 1)]


class Model:
    """Answers as the script says, and then plainly. No two answers are the same."""

    def __init__(self, script: list[Reply]) -> None:
        self._script = list(script)
        self._asked = 0

    def __call__(self, body: dict[str, Any]) -> Answer:
        self._asked += 1
        reply = self._script.pop(0) if self._script else Reply()
        pieces: list[Any] = []
        for count in reply.words:
            pieces += [f"{text(count, self._asked)} ", *([pause(reply.pause)] * bool(reply.pause))]
        spoken = say(*pieces)
        if reply.tool is not None and body["messages"][-1]["role"] != "tool" and body.get("tools"):
            arguments = {"what": f"tea {self._asked}", "seconds": reply.tool}
            spoken += tool_call("order", arguments)
        else:
            spoken += say(f"({self._asked})")
        return thinking(reply.thought) + spoken if reply.thought else spoken


def text(count: int, start: int) -> str:
    return " ".join(WORDS[(start + n) % len(WORDS)] for n in range(count))


async def make(call: Call, move: Move, number: int) -> None:
    words = text(move.words, number)
    if move.kind == "speak":
        await call.speaks(words, seconds=move.seconds)
    elif move.kind == "ignored":
        await call.speaks(f"hm {words}")
    elif move.kind == "corrected":
        await call.speaks(f"well {words}")
    elif move.kind == "in two":
        heard = (Heard(0.8, words), Heard(2.0 + RECOGNITION, "and so on"))
        await call.speaks("", seconds=2.0, heard=heard)
    elif move.kind == "rewritten":
        early = Heard(move.seconds / 2, words, "preflight")
        final = Heard(move.seconds + RECOGNITION, f"{words.capitalize()}!")
        await call.speaks("", seconds=move.seconds, heard=(early, final))
    elif move.kind == "cough":
        await call.speaks("", seconds=move.seconds, heard=())
    elif move.kind == "interrupt":
        call.session.interrupt()
    elif move.kind == "say":
        call.session.say(f"{words}.")
    elif move.kind == "instruct":
        call.session.generate_reply(instructions="Say something.")
    elif move.kind == "text":
        call.session.interrupt()
        call.session.generate_reply(user_input=words)
    elif move.kind == "settle":
        await call.settled()
    else:
        spoil(call, move.kind)


def spoil(call: Call, kind: Kind) -> None:
    """Let the next request that runs the model go wrong."""
    wire = call.wire

    def runs(request: httpx2.Request) -> bool:
        return request.method == "POST" and request.url.path.endswith("/runs")

    def refuse(request: httpx2.Request) -> None:
        if runs(request):
            wire.before = None
            raise httpx2.ConnectError("refused", request=request)

    def spoilt(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        if runs(request):
            wire.after = None
            if kind == "lost":
                response.status_code = 502
            else:
                assert isinstance(response.stream, httpx2.AsyncByteStream)
                response.stream = Broken(response.stream)
        return response

    if kind == "refused":
        wire.before = refuse
    else:
        wire.after = spoilt


class Broken(httpx2.AsyncByteStream):
    """A body that breaks off after its first piece."""

    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> Any:
        async for chunk in self._inner:
            yield chunk
            raise httpx2.ReadError("the line is dead")

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.mark.timeout(7200)
@settings(
    max_examples=CALLS,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(listed=st.lists(moves, min_size=1, max_size=9), answers=st.lists(replies, max_size=9))
async def test_the_thread_is_what_was_said(
    line: Line,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
    listed: list[Move],
    answers: list[Reply],
) -> None:
    loop = running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.begin()
    upstream.default = Model(answers)
    agent = Anyone()
    caplog.clear()
    async with line(agent) as call:
        for number, move in enumerate(listed):
            await make(call, move, number)
            await call.waits(move.rest)
        call.wire.before = call.wire.after = None
        await call.settled()
        await call.waits(12.0)  # tools in the background come to an end
        await call.settled()
        upstream.default = lambda body: say("Goodbye.")
        await call.turn("goodbye")
        conversation = words_of(said(agent.chat_ctx))
        assert sorted(conversation) == sorted(words_of(call.history))
        assert words_of(await call.thread()) == conversation
        shown = words_of(model_saw(upstream.requests[-1]))
        assert [one for one in shown if one[0] != "tool" and one[1]] == conversation[:-1]
        assert len(agent.orders) == len(set(agent.orders))
    slow = any(reply.tool is not None and reply.tool > 5 for reply in answers)
    if slow or any(move.kind in ("refused", "lost", "cut") for move in listed):
        caplog.clear()  # LiveKit calls it an error to let go of a slow tool, and a line that breaks
