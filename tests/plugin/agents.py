"""Agents under test: an ``AssistantLLM`` whose requests are counted, and sessions in text mode."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

import httpx2
import openai
import pytest
from livekit.agents import Agent, AgentSession, APIConnectOptions
from livekit.agents.llm import ChatContext, ChatMessage
from livekit.agents.voice.agent_session import SessionConnectOptions
from tests.upstream import Answer, say
from typing_extensions import Self

from livekit.plugins.assistants import AssistantCreateOptions, AssistantLLM, AssistantOptions

Said = list[tuple[str, str]]

NIGHT = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
standard_by_night = pytest.mark.parametrize(
    "extensions",
    [None, False] if NIGHT else [None],
    ids=["extensions", "standard"] if NIGHT else ["extensions"],
)
"""Without the extensions only in the nightly profile: another scenario shows the difference."""


class CountingTransport(httpx2.AsyncBaseTransport):
    """Passes requests on and remembers them. ``before`` and ``after`` may spoil one (an answer of
    ``before`` is given instead of the server's), ``departing`` may hold one back on its way,
    ``answered`` the answer to one that the server has taken."""

    def __init__(self) -> None:
        self._inner = httpx2.AsyncHTTPTransport(verify=False)  # certificates take 30 ms to load
        self.requests: list[str] = []
        self.before: Callable[[httpx2.Request], httpx2.Response | None] | None = None
        self.after: Callable[[httpx2.Request, httpx2.Response], httpx2.Response] | None = None
        self.departing: Callable[[httpx2.Request], Awaitable[None]] | None = None
        self.answered: Callable[[httpx2.Request], Awaitable[None]] | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(f"{request.method} {_shape(request.url.path)}")
        if self.before is not None and (refusal := self.before(request)) is not None:
            return refusal
        if self.departing is not None:
            await self.departing(request)
        response = await self._inner.handle_async_request(request)
        if self.answered is not None:
            try:
                await self.answered(request)
            except BaseException:
                await response.aclose()
                raise
        return response if self.after is None else self.after(request, response)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _shape(path: str) -> str:
    return "/".join(
        "*" if part.startswith(("thread_", "run_", "msg_", "asst_", "file-")) else part
        for part in path.removeprefix("/v1/").split("/")
    )


class Reachable(Protocol):
    """A server, in this process or another."""

    @property
    def base_url(self) -> str: ...
    def http(self) -> httpx2.AsyncClient: ...


@dataclass
class Caller:
    """One ``AssistantLLM`` and what its requests did."""

    server: Reachable
    extensions: bool | None = None
    options: dict[str, Any] = field(default_factory=dict)
    wire: CountingTransport = field(default_factory=CountingTransport)

    async def __aenter__(self) -> Self:
        self.client = openai.AsyncOpenAI(
            api_key="test",
            base_url=self.server.base_url,
            http_client=httpx2.AsyncClient(transport=self.wire),
        )
        opts = self.options.pop("assistant_opts", None) or AssistantOptions(
            create_options=AssistantCreateOptions(
                name="Ana", instructions="Be brief.", model="gpt-4o"
            )
        )
        self.llm = AssistantLLM(
            assistant_opts=opts,
            client=self.client,
            extensions=self.extensions,
            **self.options,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.llm.aclose()
        await self.client.close()

    @asynccontextmanager
    async def session(
        self, agent: Agent | None = None, **options: Any
    ) -> AsyncIterator[AgentSession[None]]:
        """A session in text mode, of this LLM unless ``options`` name another one around it."""
        session: AgentSession[None] = AgentSession(
            vad=None,
            conn_options=SessionConnectOptions(
                llm_conn_options=APIConnectOptions(max_retry=2, retry_interval=0.0, timeout=10.0)
            ),
            **{"llm": self.llm, **options},
        )
        async with session:
            await session.start(agent or Agent(instructions="You are Ana."))
            await self.llm._conversation.ready()
            self.wire.requests.clear()
            yield session

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """The requests made inside the block."""
        start = len(self.wire.requests)
        made: list[str] = []
        yield made
        made.extend(self.wire.requests[start:])

    async def thread(self) -> Said:
        """What the thread holds, read past the plugin."""
        assert self.llm.thread_id is not None
        async with self.server.http() as http:
            answer = await http.get(
                f"/v1/threads/{self.llm.thread_id}/messages", params={"limit": 100, "order": "asc"}
            )
        answer.raise_for_status()
        return [(one["role"], _text(one)) for one in answer.json()["data"]]

    async def no_run_is_active(self) -> None:
        """Until none is any more, with nobody's doing but what is under way."""
        while any(
            run["status"] in ("queued", "in_progress", "cancelling") for run in await self.runs()
        ):
            await asyncio.sleep(0.001)

    async def runs(self) -> list[dict[str, Any]]:
        """The thread's runs, oldest first."""
        async with self.server.http() as http:
            answer = await http.get(
                f"/v1/threads/{self.llm.thread_id}/runs", params={"limit": 100, "order": "asc"}
            )
        found: list[dict[str, Any]] = answer.json()["data"]
        return found


class Entering(Agent):
    """An agent that can be waited for when it takes over."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._entered = asyncio.Event()

    async def on_enter(self) -> None:
        self._entered.set()

    async def takes_over(self, session: AgentSession[None]) -> None:
        self._entered.clear()
        session.update_agent(self)
        await self._entered.wait()


def parrot(body: dict[str, Any]) -> Answer:
    """A model that repeats the last user message."""
    words = next(_flat(m.get("content")) for m in body["messages"][::-1] if m["role"] == "user")
    first, *rest = words.split()
    return say(first, *(f" {word}" for word in rest))


def said(context: ChatContext) -> Said:
    """The words of a context, as the thread should have them."""
    return [
        (item.role, item.raw_text_content or "")
        for item in context.items
        if isinstance(item, ChatMessage)
        and item.role in ("user", "assistant")
        and (item.raw_text_content or "").strip()
    ]


def model_saw(request: Any) -> list[tuple[str, str]]:
    """The messages of a request to the model, apart from its instructions."""
    return [
        (message["role"], _flat(message.get("content")))
        for message in request.messages
        if message["role"] not in ("system", "developer")
    ]


def _text(message: dict[str, Any]) -> str:
    return "\n".join(
        block["text"]["value"] for block in message["content"] if block["type"] == "text"
    )


def _flat(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(part.get("text", "") for part in content)


async def speaking(session: AgentSession[None]) -> None:
    """Until the first words of a reply have reached whoever listens."""
    await settled(lambda: session.agent_state == "speaking")


async def settled(condition: Callable[[], bool], *, turns: int = 10_000) -> None:
    """Give the loop its way until the condition holds."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to that")


RUN = "POST threads/*/runs"
ADD = "POST threads/*/messages"
SUBMIT = "POST threads/*/runs/*/submit_tool_outputs"
