"""The stage on which scripts of moves are played: a real server, a session, a scripted model.

Nothing here knows what the right thread is: ``committed`` only asks LiveKit. What the model answers
depends on the question alone, so that a retry meets the same model as the first attempt.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from livekit.agents import AgentSession, APIConnectOptions
from livekit.agents.llm import ChatContext, FunctionTool, Tool
from livekit.agents.voice.agent_session import SessionConnectOptions
from tests.live_server import LiveServer
from tests.plugin.agents import Caller, Said
from tests.plugin.clerks import Clerk
from tests.plugin.faults import FaultyWire
from tests.plugin.host import Host
from tests.plugin.moves import Turn
from tests.plugin.spoken import outputs, said, shown_to_the_model, spoken_in, words_of
from tests.upstream import Answer, Stall, Upstream, call, calls, empty, say

from livekit.plugins.assistants.options import DeleteFiles, Interrupted

PREAMBLE = "One moment. "
OVER = {"completed", "cancelled", "failed", "expired", "incomplete"}


class AtOnce(APIConnectOptions):
    """Retries do not wait."""

    def _interval_for_retry(self, num_retries: int) -> float:
        return 0.0


@dataclass
class Question:
    """What the model answers to it."""

    turn: Turn = field(default_factory=Turn)
    hold: Stall | None = None
    words_first: int = 0  # before the hold
    calls: tuple[str, ...] = ()
    given: int = 0  # how often the calls were given out


@dataclass
class Stage:
    """One caller, two agents, one thread."""

    host: Host
    upstream: Upstream
    extensions: bool | None
    interrupted: Interrupted = "heard"
    delete_files: DeleteFiles = "never"
    caller: Caller = field(init=False)
    wire: FaultyWire = field(init=False)
    session: AgentSession[None] = field(init=False)
    agents: list[Clerk] = field(default_factory=list)
    past: Said = field(default_factory=list)
    elsewhere: Said = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
    questions: dict[str, Question] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)  # by item, before it was cut
    answers: list[str] = field(default_factory=list)  # whole, whatever became of them
    counter: int = 0
    orderly: bool = True  # no context lacks what was said, so the thread has its order
    attached: bool = False
    gone: bool = False  # the thread was deleted, and no turn has passed since

    @property
    def server(self) -> LiveServer:
        return self.host.server

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        self.upstream.requests.clear()
        self.upstream.default = self._model
        key = {"thread_key": uuid.uuid4().hex} if self.extensions is None else {}
        await self.open(key)
        try:
            yield
        finally:
            await self.close()

    async def open(self, options: dict[str, Any]) -> None:
        self._stack = AsyncExitStack()
        options |= {"interrupted": self.interrupted, "delete_files": self.delete_files}
        self.wire = FaultyWire()
        self.wire.happenings = {
            "restart": self.host.restart,
            "thread deleted": self.delete_thread,
        }
        self.caller = await self._stack.enter_async_context(
            Caller(self.server, self.extensions, options=options, wire=self.wire)
        )
        self.agents = [Clerk("Ana"), Clerk("Bob")]
        self.attached = False
        self.session = await self._stack.enter_async_context(self.session_of(self.agents[0]))

    @asynccontextmanager
    async def session_of(self, agent: Clerk) -> AsyncIterator[AgentSession[None]]:
        patience = AtOnce(max_retry=2, timeout=10.0)
        async with AgentSession[None](
            llm=self.caller.llm,
            vad=None,
            conn_options=SessionConnectOptions(
                llm_conn_options=patience, max_unrecoverable_errors=1000
            ),
        ) as session:
            await session.start(agent)
            await self.caller.llm._conversation.ready()
            yield session

    async def close(self) -> None:
        await self._stack.aclose()
        await self.deliver_late()

    @property
    def agent(self) -> Clerk:
        agent = self.session.current_agent
        assert isinstance(agent, Clerk)
        return agent

    @property
    def tools(self) -> list[Tool]:
        return [one for one in self.agent.tools if isinstance(one, FunctionTool)]

    # what must hold -----------------------------------------------------------------------------

    def committed(self, found: Said) -> Said:
        """What LiveKit says was said, on this thread, and not taken out again."""
        return [*self.past, *self.kept(self.history(), found)]

    def history(self) -> ChatContext:
        history = self.session.history.copy()
        history.items = [item for item in history.items if item.id not in self.removed]
        return history

    def kept(self, context: ChatContext, found: Said) -> Said:
        """What is to be kept of a context. Of an interrupted reply, with ``interrupted="full"``,
        that is what is found, if it goes on from what had arrived as the model did; but one that
        was sent again, as may happen without the extensions, is as it was heard."""
        whole = [answer.split() for answer in self.answers]
        kept: Said = []
        for item in spoken_in(context):
            ((role, text),) = said(ChatContext([item]))
            if self.interrupted == "full" and item.interrupted:
                if self.extensions is None:
                    text = self.written.get(item.id, text)
                sent = text.split()
                for _, words in found:
                    written = words.split()
                    goes_on = written[: len(sent)] == sent
                    if goes_on and any(one[: len(written)] == written for one in whole):
                        text = words
            kept.append((role, text))
        return kept

    async def thread(self) -> Said:
        """What the thread holds, but for what others brought."""
        async with self.server.http() as http:
            path = f"/v1/threads/{self.caller.llm.thread_id}/messages"
            answer = await http.get(path, params={"limit": 100, "order": "asc"})
            files = await http.get("/v1/files", params={"limit": 10_000})
        answer.raise_for_status()
        there = {one["id"] for one in files.json()["data"]}
        shown = {
            part["image_file"]["file_id"]
            for one in answer.json()["data"]
            for part in one["content"]
            if part["type"] == "image_file"
        }
        assert shown <= there, "no file is deleted while a message shows it"
        found = [(one["role"], words_of(one["content"])) for one in answer.json()["data"]]
        others = [one for one in found if one in self.elsewhere]
        assert sorted(others) == sorted(self.elsewhere), "what others brought is untouched"
        return [one for one in found if one not in self.elsewhere]

    async def check(self) -> None:
        """After a turn in which nothing happened."""
        self.gone = False
        thread = await self.thread()
        committed = self.committed(thread)
        if self.orderly:
            assert thread == committed, f"{thread} is not {committed}"
        else:
            # What no context shows (any more), and its order, is sync()'s business.
            unsaid = Counter(thread) - Counter(committed)
            assert not unsaid, f"{thread} is not of {committed}"
        request = self.upstream.requests[-1]
        (system,) = [one for one in request.messages if one["role"] == "system"]
        assert self.agent.instructions in system["content"]
        if self.agent.window:
            return
        if self.extensions is None or self.orderly:
            shown = [one for one in shown_to_the_model(request) if one not in self.elsewhere]
            assert shown == [*self.past, *self.kept(self.agent.chat_ctx, thread)][:-1]
        if self.extensions is None and self.orderly:
            assert not Counter(self.agent.ordered) - Counter(outputs(request))
            assert max(Counter(outputs(request)).values(), default=1) == 1

    async def sync(self) -> None:
        """Bring what no turn has carried: all that was said, but what was taken out."""
        await self.caller.llm.sync(self.history())
        thread = await self.thread()
        committed = self.committed(thread)
        assert thread == committed, f"{thread} is not {committed}"

    async def runs_are_over(self) -> bool:
        return all(run["status"] in OVER for run in await self.caller.runs())

    # the model ----------------------------------------------------------------------------------

    def _model(self, body: dict[str, Any]) -> Answer:
        asked = max(n for n, one in enumerate(body["messages"]) if one["role"] != "assistant")
        users = [n for n, one in enumerate(body["messages"]) if one["role"] == "user"]
        last = users[-1] if users else asked
        question = self.questions.get(words_of(body["messages"][last].get("content")), Question())
        steps = sum(bool(one.get("tool_calls")) for one in body["messages"][last:])
        may_call = body.get("tools") and body.get("tool_choice") != "none"
        words = [self.word("r"), *(f" {self.word('r')}" for _ in range(2))]
        begun = "".join(words[: question.words_first]) if question.hold is not None else ""
        preamble = f"{begun and ' '}{PREAMBLE}"
        self.answers += ["".join(words), begun + preamble]
        head: Answer | Stall = empty()
        if question.hold is not None:
            head = say(*words[: question.words_first], question.hold)
            question.hold = None
        turn = question.turn
        # Without the extensions finished calls are told in words: one must not call for ever.
        if may_call and question.calls and max(steps, question.given - 1) < turn.steps:
            question.given += 1
            wanted = calls(*(call(name) for name in question.calls))
            return head + (say(preamble) + wanted if turn.preamble else wanted)
        if turn.spoken == "words":
            return head + say(*words[question.words_first :])
        return head + (say(" ", "\n") if turn.spoken == "blanks" else empty())

    def word(self, what: str = "q") -> str:
        self.counter += 1
        return f"{what}{self.counter}"

    def ask(self, question: Question | None = None) -> str:
        text = self.word()
        self.questions[text] = question or Question()
        return text

    # what any move may need -------------------------------------------------------------------

    async def delete_thread(self) -> None:
        async with self.server.http() as http:
            await http.delete(f"/v1/threads/{self.caller.llm.thread_id}")
        # The new one gets what a context still has.
        self.past, self.elsewhere, self.orderly, self.gone = [], [], False, True
        self.written.clear()

    async def quiet(self) -> None:
        """Until nobody speaks any more and tools in the background have said what they had to."""
        quiet = 0
        while quiet < (10 if self.agent.reported else 1):
            busy = self.session.current_speech is not None or self.agent.reporting
            quiet = 0 if busy else quiet + 1
            await asyncio.sleep(0.001 if busy or self.agent.reported else 0)
        self.agent.reported = False

    async def deliver_late(self) -> None:
        """The requests that were held up arrive now."""
        while self.wire.late:
            send = self.wire.late.pop(0)
            async with httpx2.AsyncClient(timeout=30, verify=False) as client:
                await send(client)
