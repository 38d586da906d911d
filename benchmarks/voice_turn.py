"""What a voice turn costs: an ``AssistantLLM`` beside LiveKit's stateless OpenAI plugin.

    python -m benchmarks.voice_turn --rounds 60

Every session is a real ``AgentSession`` in text mode. A round is three turns: one that is spoken to
its end, one that is interrupted at its first word, and the one after that. The three kinds of LLM
take their rounds in turn, so that whatever disturbs the machine disturbs all of them; all have the
same model, which answers at once, so that what is measured is overhead. Model and remote server
have a process each; the embedded server shares ours. It prints the table of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, Agent, AgentSession
from livekit.agents.llm import LLM, ChatContext

from assistants_server.embedded import EmbeddedServer
from assistants_server.settings import Settings
from livekit.plugins import openai as livekit_openai
from livekit.plugins.assistants import AssistantCreateOptions, AssistantLLM, AssistantOptions

from .deployments import server_of
from .measure import child, machine, percentile
from .scripted_model import SLOWLY

WORDS = 100
WARM_UP = 3
DEFINITION = AssistantOptions(
    create_options=AssistantCreateOptions(name="Ana", instructions="Be brief.", model="gpt-4o")
)

AnyLLM = LLM[Any]
Samples = dict[str, list[float]]


@dataclass
class Kind:
    """A way to answer. ``process``: who works for it beside us."""

    name: str
    llm: Callable[[], AnyLLM]
    client: openai.AsyncOpenAI
    process: int | None = None
    requests: int = 0
    taken: dict[int, Samples] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def count(self) -> None:
        async def another(_: object) -> None:
            self.requests += 1

        self.client._client.event_hooks["request"].append(another)


class Timed(Agent):
    """Takes the time to a reply's first word, and of closing its stream."""

    def __init__(self, history: ChatContext) -> None:
        super().__init__(instructions="You are Ana.", chat_ctx=history)
        self.first: float | None = None
        self.closing = 0.0
        self.spoke = asyncio.Event()

    async def llm_node(self, chat_ctx: ChatContext, tools: Any, model_settings: Any) -> Any:
        assert isinstance(self.session.llm, LLM)
        self.first = None
        self.spoke.clear()
        began = time.perf_counter()
        stream = self.session.llm.chat(
            chat_ctx=chat_ctx, tools=tools, conn_options=DEFAULT_API_CONNECT_OPTIONS
        )
        try:
            async for chunk in stream:
                if self.first is None and chunk.delta is not None and chunk.delta.content:
                    self.first = time.perf_counter() - began
                    self.spoke.set()
                yield chunk
        finally:
            left = time.perf_counter()
            await stream.aclose()
            self.closing = time.perf_counter() - left


def history_of(messages: int) -> ChatContext:
    context = ChatContext.empty()
    for number in range(messages):
        role = "assistant" if number % 2 else "user"
        context.add_message(role=role, content=f"This is what was said as number {number}.")  # type: ignore[arg-type] # mypy does not narrow to the literals
    return context


@asynccontextmanager
async def session_of(kind: Kind, messages: int) -> AsyncIterator[AgentSession[None]]:
    history = history_of(messages)
    async with AsyncExitStack() as opened:
        llm = kind.llm()
        opened.push_async_callback(llm.aclose)
        if isinstance(llm, AssistantLLM):
            await llm.sync(history)
        session: AgentSession[None] = AgentSession(llm=llm, vad=None)
        await opened.enter_async_context(session)
        await session.start(Timed(history))
        for _ in range(WARM_UP):
            await session.generate_reply(user_input="Say something.")
        yield session


def busy(process: int | None) -> float:
    """Seconds of CPU that a process has taken, all threads of it."""
    if process is None:
        return time.process_time()
    ran = [
        int((task / "schedstat").read_text().split()[0])
        for task in Path(f"/proc/{process}/task").iterdir()
    ]
    return sum(ran) / 1e9


async def round_of(kind: Kind, session: AgentSession[None], samples: Samples) -> None:
    agent = session.current_agent
    assert isinstance(agent, Timed)
    requests, ours = kind.requests, busy(None)
    theirs = busy(kind.process) if kind.process is not None else 0.0
    await session.generate_reply(user_input="Say something.")
    samples["CPU a token, agent's process, µs"].append((busy(None) - ours) * 1e6 / WORDS)
    if kind.process is not None:
        spent = busy(kind.process) - theirs
        samples["CPU a token, server's process, µs"].append(spent * 1e6 / WORDS)
    assert agent.first is not None
    samples["first token, ms"].append(agent.first * 1e3)

    agent.spoke.clear()
    speech = session.generate_reply(user_input=f"Say something, {SLOWLY}.")
    await agent.spoke.wait()
    speech.interrupt()
    await speech
    samples["`aclose()` of an interrupted stream, ms"].append(agent.closing * 1e3)

    await session.generate_reply(user_input="Say something else.")
    samples["first token after an interruption, ms"].append(agent.first * 1e3)
    samples["requests a turn"].append((kind.requests - requests) / 3)


async def measure(rounds: int, histories: list[int], folder: Path) -> dict[str, Kind]:
    scripted = ("-m", "benchmarks.scripted_model", "--words", str(WORDS))
    serve = ("-m", "assistants_server", "serve", "--port", "0", "--data", str(folder / "http"))
    async with AsyncExitStack() as opened:
        url = await opened.enter_async_context(child(*scripted, says=r"(http://\S+)"))
        upstream = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
        address = await opened.enter_async_context(
            child(*serve, says=r"(http://[^\s,]+)", environment=upstream)
        )
        settings = Settings(data=folder / "embedded", upstream_url=url, upstream_key="none")
        embedded = await opened.enter_async_context(EmbeddedServer(settings))
        clients = [
            openai.AsyncOpenAI(base_url=url, api_key="none"),
            openai.AsyncOpenAI(base_url=address, api_key="none"),
            embedded.client(),
        ]
        for client in clients:
            await opened.enter_async_context(client)

        def assistant(client: openai.AsyncOpenAI) -> Callable[[], AnyLLM]:
            return lambda: AssistantLLM(assistant_opts=DEFINITION, client=client)

        def stateless() -> AnyLLM:
            return livekit_openai.LLM(model="gpt-4o", client=clients[0])

        kinds = [
            Kind("stateless", stateless, clients[0]),
            Kind("remote", assistant(clients[1]), clients[1], server_of(address)),
            Kind("embedded", assistant(clients[2]), clients[2]),
        ]
        for kind in kinds:
            kind.count()
        for messages in histories:
            await take_turns(kinds, messages, rounds)
        return {kind.name: kind for kind in kinds}


async def take_turns(kinds: list[Kind], messages: int, rounds: int) -> None:
    """Rounds on sessions that begin with so many messages and end before they have doubled."""
    a_session = max(1, messages // 10)
    order = list(kinds)
    while rounds > 0:
        async with AsyncExitStack() as opened:
            sessions = {
                kind.name: await opened.enter_async_context(session_of(kind, messages))
                for kind in kinds
            }
            for _ in range(min(a_session, rounds)):
                for kind in order:
                    await round_of(kind, sessions[kind.name], kind.taken[messages])
                order.append(order.pop(0))  # nobody always comes first
        rounds -= a_session


def report(kinds: Mapping[str, Kind], histories: list[int]) -> str:
    names = {
        "stateless": "`openai.LLM`, stateless",
        "remote": "`AssistantLLM`, remote",
        "embedded": "`AssistantLLM`, embedded",
    }
    lines = [
        f"| messages of history | | {' | '.join(names[name] for name in kinds)} |",
        "|---|---|" + "---|" * len(kinds),
    ]
    for messages in histories:
        measures = dict.fromkeys(m for kind in kinds.values() for m in kind.taken[messages])
        for name in measures:
            cells = [cell(kind.taken[messages].get(name, [])) for kind in kinds.values()]
            lines.append(f"| {messages:,} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(samples: list[float]) -> str:
    if not samples:
        return ""
    if min(samples) == max(samples):
        return f"{samples[0]:g}"
    median, low, high, late = (percentile(samples, part) for part in (0.5, 0.25, 0.75, 0.95))
    return f"**{median:.2f}** ({low:.2f} to {high:.2f}; p95 {late:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="What a voice turn costs.")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument(
        "--histories", default="10,1000", help="messages that a session begins with"
    )
    given = parser.parse_args()
    histories = [int(one) for one in given.histories.split(",")]
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.disable(logging.WARNING)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        os.environ.pop(name, None)
    print(f"Voice turns, {given.rounds} rounds of each kind; {machine()}.\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        kinds = asyncio.run(measure(given.rounds, histories, Path(folder)))
    print(report(kinds, histories))


if __name__ == "__main__":
    main()
