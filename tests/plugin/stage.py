"""The stage on which scripts of moves are played: a real server, real sessions, a scripted model.

Nothing here knows what the right thread is: ``committed`` only asks LiveKit. What the model answers
depends on the question alone, so that a retry meets the same model as the first attempt.
"""

from __future__ import annotations

import asyncio
import base64
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from livekit.agents import AgentSession, APIConnectOptions
from livekit.agents.llm import ChatContext, ChatMessage, FunctionTool, ImageContent, Tool
from livekit.agents.voice import SpeechHandle
from livekit.agents.voice.agent_session import SessionConnectOptions
from tests.live_server import LiveServer, live_server
from tests.plugin.agents import Caller, Said
from tests.plugin.clerks import Clerk, Survey
from tests.plugin.faults import FaultyWire
from tests.plugin.moves import (
    Attach,
    Edit,
    Elsewhere,
    Fault,
    Foreign,
    Guess,
    Handoff,
    Insert,
    Instruct,
    Interrupt,
    Lost,
    Meanwhile,
    Move,
    Prompted,
    Queued,
    Remove,
    Restart,
    Say,
    Second,
    Sync,
    Task,
    Truncate,
    Turn,
    Window,
)
from tests.upstream import Answer, Request, Stall, Upstream, call, calls, empty, say, stall

from livekit import rtc

PICTURE = "[picture]"
OVER = {"completed", "cancelled", "failed", "expired", "incomplete"}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


class AtOnce(APIConnectOptions):
    """Retries do not wait."""

    def _interval_for_retry(self, num_retries: int) -> float:
        return 0.0


class Host:
    """The server, which may stop and start again under the same address."""

    def __init__(self, data: Path, upstream: Upstream) -> None:
        self._data = data
        self._upstream = upstream
        self._running: AsyncExitStack | None = None
        self._port = 0

    async def __aenter__(self) -> Host:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._running is not None
        await self._running.aclose()

    async def _start(self) -> None:
        self._running = AsyncExitStack()
        self.server: LiveServer = await self._running.enter_async_context(
            live_server(
                data=self._data,
                upstream_url=self._upstream.base_url,
                upstream_key="test",
                port=self._port,
                drain=0,
            )
        )
        self._port = int(self.server.origin.rpartition(":")[2])

    async def restart(self) -> None:
        assert self._running is not None
        await self._running.aclose()
        await self._start()


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
    """Plays moves against a server; one caller, two agents."""

    host: Host
    upstream: Upstream
    extensions: bool | None
    caller: Caller = field(init=False)
    wire: FaultyWire = field(init=False)
    session: AgentSession[None] = field(init=False)
    agents: list[Clerk] = field(default_factory=list)
    past: Said = field(default_factory=list)
    elsewhere: Said = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
    questions: dict[str, Question] = field(default_factory=dict)
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
        await self._open({"thread_key": f"caller {id(self)}"} if self.extensions is None else {})
        try:
            yield
        finally:
            await self._close()

    async def _open(self, options: dict[str, Any]) -> None:
        self._stack = AsyncExitStack()
        self.wire = FaultyWire()
        self.wire.happenings = {
            "restart": self.host.restart,
            "thread deleted": self._delete_thread,
        }
        self.caller = await self._stack.enter_async_context(
            Caller(self.server, self.extensions, options=options, wire=self.wire)
        )
        self.agents = [Clerk("Ana"), Clerk("Bob")]
        self.attached = False
        self.session = await self._stack.enter_async_context(self._session(self.agents[0]))

    @asynccontextmanager
    async def _session(self, agent: Clerk) -> AsyncIterator[AgentSession[None]]:
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

    async def _close(self) -> None:
        await self._stack.aclose()
        await self._deliver_late()

    @property
    def agent(self) -> Clerk:
        agent = self.session.current_agent
        assert isinstance(agent, Clerk)
        return agent

    @property
    def tools(self) -> list[Tool]:
        return [one for one in self.agent.tools if isinstance(one, FunctionTool)]

    async def play(self, move: Move) -> None:
        plays: dict[type, Callable[[Any], Awaitable[None]]] = {
            Turn: self._turn, Prompted: self._prompted, Say: self._say, Queued: self._queued,
            Meanwhile: self._meanwhile, Task: self._task, Guess: self._guess,
            Foreign: self._foreign, Remove: self._remove, Edit: self._edit, Insert: self._insert,
            Truncate: self._truncate, Window: self._window, Handoff: self._handoff,
            Instruct: self._instruct, Elsewhere: self._elsewhere, Second: self._second,
            Lost: self._lost, Sync: self._sync, Attach: self._attach, Restart: self._restart,
        }  # fmt: skip
        await plays[type(move)](move)

    # what must hold -----------------------------------------------------------------------------

    def committed(self) -> Said:
        """What LiveKit says was said, on this thread, and not taken out again."""
        history = self.session.history.copy()
        history.items = [item for item in history.items if item.id not in self.removed]
        return [*self.past, *said(history)]

    async def thread(self) -> Said:
        """What the thread holds, but for what others brought."""
        async with self.server.http() as http:
            path = f"/v1/threads/{self.caller.llm.thread_id}/messages"
            answer = await http.get(path, params={"limit": 100, "order": "asc"})
        answer.raise_for_status()
        found = [(one["role"], _words(one["content"])) for one in answer.json()["data"]]
        others = [one for one in found if one in self.elsewhere]
        assert sorted(others) == sorted(self.elsewhere), "what others brought is untouched"
        return [one for one in found if one not in self.elsewhere]

    async def check(self) -> None:
        """After a turn in which nothing happened."""
        self.gone = False
        thread, committed = await self.thread(), self.committed()
        if self.orderly:
            assert thread == committed
        else:
            # What no context shows (any more), and its order, is sync()'s business.
            assert not Counter(thread) - Counter(committed)
        request = self.upstream.requests[-1]
        (system,) = [one for one in request.messages if one["role"] == "system"]
        assert self.agent.instructions in system["content"]
        if self.agent.window:
            return
        if self.extensions is None or self.orderly:
            shown = [one for one in shown_to_the_model(request) if one not in self.elsewhere]
            assert shown == [*self.past, *said(self.agent.chat_ctx)][:-1]
        if self.extensions is None and self.orderly:
            assert not Counter(self.agent.ordered) - Counter(outputs(request))
            assert max(Counter(outputs(request)).values(), default=1) == 1

    async def settle(self) -> None:
        """A turn in which nothing happens: afterwards the thread must be right."""
        await self._turn(Turn())

    async def sync(self) -> None:
        """Bring what no turn has carried: all that was said, but what was taken out."""
        history = self.session.history.copy()
        history.items = [item for item in history.items if item.id not in self.removed]
        await self.caller.llm.sync(history)
        assert await self.thread() == self.committed()

    async def runs_are_over(self) -> bool:
        return all(run["status"] in OVER for run in await self.caller.runs())

    # the model ----------------------------------------------------------------------------------

    def _model(self, body: dict[str, Any]) -> Answer:
        asked = max(n for n, one in enumerate(body["messages"]) if one["role"] != "assistant")
        users = [n for n, one in enumerate(body["messages"]) if one["role"] == "user"]
        last = users[-1] if users else asked
        question = self.questions.get(_words(body["messages"][last].get("content")), Question())
        steps = sum(bool(one.get("tool_calls")) for one in body["messages"][last:])
        may_call = body.get("tools") and body.get("tool_choice") != "none"
        words = [self._word("r"), *(f" {self._word('r')}" for _ in range(2))]
        head: Answer | Stall = empty()
        if question.hold is not None:
            head = say(*words[: question.words_first], question.hold)
            question.hold = None
        turn = question.turn
        # Without the extensions finished calls are told in words: one must not call for ever.
        if may_call and question.calls and max(steps, question.given - 1) < turn.steps:
            question.given += 1
            wanted = calls(*(call(name) for name in question.calls))
            return head + (say("One moment. ") + wanted if turn.preamble else wanted)
        if turn.spoken == "words":
            return head + say(*words[question.words_first :])
        return head + (say(" ", "\n") if turn.spoken == "blanks" else empty())

    def _word(self, what: str = "q") -> str:
        self.counter += 1
        return f"{what}{self.counter}"

    def _ask(self, question: Question | None = None) -> str:
        text = self._word()
        self.questions[text] = question or Question()
        return text

    # turns --------------------------------------------------------------------------------------

    async def _turn(self, move: Turn) -> None:
        question = Question(turn=move, calls=move.tools)
        at = move.interrupt.at if move.interrupt is not None else ""
        hold = stall()
        if at == "thinking" or at.startswith("word"):
            question.hold = hold
            question.words_first = int(at.removeprefix("word")) if at != "thinking" else 0
        speech = self._begin(move, question)
        self.wire.arm(self._possible(move.fault))
        if move.interrupt is not None:
            await self._interrupt(speech, move.interrupt, hold)
        await speech
        await self._quiet()
        self.wire.disarm()
        hold.release()
        await self._deliver_late()
        if move == Turn():
            await self.check()

    def _begin(self, move: Turn, question: Question) -> SpeechHandle:
        text = self._ask(question)
        images: dict[str, rtc.VideoFrame | str] = {
            "frame": rtc.VideoFrame(4, 4, rtc.VideoBufferType.RGBA, b"\x80" * 64),
            "data url": "data:image/png;base64," + base64.b64encode(PNG).decode(),
            "url": f"https://images.test/{text}.png",
        }
        content: list[Any] = [text]
        if move.question == "image only":
            content = [ImageContent(image=images["data url"])]
            self.questions[PICTURE] = question
        elif move.question in images:
            content.append(ImageContent(image=images[move.question]))
            self.questions[text + PICTURE] = question
        elif move.question != "text":
            content = [" \n" if move.question == "blanks" else ""]
        item = ChatMessage(role="user", content=content)
        if move.instructions:
            return self.session.generate_reply(user_input=item, instructions="Be brief.")
        return self.session.generate_reply(user_input=item)

    def _possible(self, fault: Fault | None) -> Fault | None:
        # Without the extensions nothing keeps a late request from taking effect.
        late = fault is not None and fault.kind == "late" and self.extensions is False
        return None if late else fault

    async def _interrupt(self, speech: SpeechHandle, how: Interrupt, hold: Stall) -> None:
        follow: list[SpeechHandle] = []

        async def happen() -> None:
            await ticks(how.ticks)
            speech.interrupt()
            if how.follow:
                follow.append(self.session.generate_reply(user_input=self._ask()))

        if how.at.startswith("thread.") or how.at == "done":
            self.wire.at_event = (how.at, happen)
            await speech
        elif how.at == "tool":
            agent = self.agent
            agent.working.clear()
            agent.finish.clear()
            await first(agent.working.wait(), speech)
            await happen()
            agent.finish.set()
        else:
            await first(hold.reached.wait(), speech)
            await happen()
        for one in follow:
            await one

    async def _prompted(self, move: Prompted) -> None:
        await self.session.generate_reply(instructions="Say something.")

    async def _say(self, move: Say) -> None:
        speech = self.session.say(self._word("s"))
        if move.interrupted:
            speech.interrupt()
        await speech

    async def _queued(self, move: Queued) -> None:
        one = self.session.generate_reply(user_input=self._ask())
        two = self.session.generate_reply(user_input=self._ask())
        await one
        await two

    async def _meanwhile(self, move: Meanwhile) -> None:
        agent = self.agent
        agent.working.clear()
        agent.finish.clear()
        speech = self.session.generate_reply(user_input=self._ask(Question(calls=("order",))))
        await first(agent.working.wait(), speech)
        await self.session.generate_reply(user_input=self._ask(), tool_choice="none")
        agent.finish.set()
        await speech

    async def _task(self, move: Task) -> None:
        text = self._ask(Question(calls=("survey",)))
        speech = self.session.generate_reply(user_input=text)
        await first(self.agent.surveying.wait(), speech)
        if isinstance(self.session.current_agent, Survey):
            await self.session.generate_reply(user_input=self._ask(Question(calls=("finish",))))
        await speech

    async def _guess(self, move: Guess) -> None:
        context = self.agent.chat_ctx.copy()
        hold = stall()
        question = Question() if move.whole else Question(hold=hold, words_first=1)
        if not move.probe:
            context.add_message(role="user", content=self._ask(question))
        elif not move.whole and (asked := [t for r, t in said(context) if r == "user"]):
            self.questions[asked[-1]] = question
        async with self.caller.llm.chat(chat_ctx=context, tools=self.tools) as stream:
            async for chunk in stream:
                if not move.whole and chunk.delta is not None:
                    break
        hold.release()

    async def _foreign(self, move: Foreign) -> None:
        context = ChatContext.empty()
        if move.kind != "summary":
            context.add_message(role="system", content="Judge.")
        context.add_message(role="user", content=self._word("f"))
        options: dict[str, Any] = {}
        if move.kind == "detector":
            options = {"tools": self.tools, "tool_choice": "required"}
        await self.caller.llm.chat(chat_ctx=context, **options).collect()

    # contexts -----------------------------------------------------------------------------------

    async def _remove(self, move: Remove) -> None:
        context = self.agent.chat_ctx.copy()
        # What was another agent's turn is hidden by an agent that drops it, not deleted.
        spoken = [item for item in spoken_in(context) if item.id not in self.agent.inherited]
        # What stands first goes as out of a window, which is another move.
        # Out of sight of a short memory, nothing can be told to be gone.
        if len(spoken) > 1 and not self.agent.window:
            gone = spoken[1 + move.place % (len(spoken) - 1)]
            context.items.remove(gone)
            self.removed.add(gone.id)
            await self.agent.update_chat_ctx(context)
            # An agent's context is not the session's: only its next turn tells.
            await self.settle()

    async def _edit(self, move: Edit) -> None:
        context = self.agent.chat_ctx.copy()
        spoken = spoken_in(context)
        # Without the extensions nothing changes behind a short memory before sync().
        if spoken and not (self.agent.window and self.extensions is False):
            item = spoken[move.place % len(spoken)]
            item.content = [self._word("e")]
            await self.agent.update_chat_ctx(context)
            if self.extensions is False:
                await self.settle()

    async def _insert(self, move: Insert) -> None:
        context = self.agent.chat_ctx.copy()
        spoken = spoken_in(context)
        if len(spoken) > 1:
            behind = spoken[move.place % (len(spoken) - 1)]
            late = ChatMessage(
                role="assistant", content=[self._word("i")], created_at=behind.created_at
            )
            context.insert(late)
            self.session.history.insert(late)
            await self.agent.update_chat_ctx(context)

    async def _truncate(self, move: Truncate) -> None:
        self.orderly = False
        await self.agent.update_chat_ctx(self.agent.chat_ctx.copy().truncate(max_items=move.items))

    async def _window(self, move: Window) -> None:
        self.orderly = self.orderly and not move.items
        self.agent.window = move.items

    async def _handoff(self, move: Handoff) -> None:
        self.orderly = False
        other = next(one for one in self.agents if one is not self.agent)
        if move.history:
            known = self.agent.chat_ctx.copy(
                exclude_instructions=True, exclude_function_call=True, exclude_config_update=True
            )
            other = Clerk("Cyd", chat_ctx=known)
            self.agents = [self.agent, other]
        await other.takes_over(self.session)

    async def _instruct(self, move: Instruct) -> None:
        await self.agent.update_instructions(f"You are {self._word('n')}.")

    # others -------------------------------------------------------------------------------------

    async def _elsewhere(self, move: Elsewhere) -> None:
        text = self._word("x")
        await self._free()
        thread_id = self.caller.llm.thread_id
        if move.kind == "message":
            async with self.server.http() as http:
                body = {"role": "user", "content": text}
                answer = await http.post(f"/v1/threads/{thread_id}/messages", json=body)
            answer.raise_for_status()
            self.elsewhere.append(("user", text))
            return
        hold = stall()
        if move.kind == "busy":
            self.questions[text] = Question(hold=hold, words_first=1)
        context = ChatContext.empty()
        context.add_message(role="user", content=text)
        options = {"thread_id": thread_id}
        async with Caller(self.server, self.extensions, options=options) as other:
            stream = other.llm.chat(chat_ctx=context)
            if move.kind == "busy":
                await hold.reached.wait()
                self.wire.requests.clear()
                speech = self.session.generate_reply(user_input=self._ask())
                while not self.wire.requests:
                    await asyncio.sleep(0.001)
                hold.release()
            reply = await stream.collect()
            if move.kind == "busy":
                await speech
        self.elsewhere += [("user", text), ("assistant", reply.text)]

    async def _free(self) -> None:
        """A turn notices that the thread is gone, and ends a run that waits for outputs in vain."""
        if self.gone or not await self.runs_are_over():
            await self.settle()

    async def _second(self, move: Second) -> None:
        beside: list[SpeechHandle] = []
        async with self._session(Clerk("Dee")) as session:
            text = self._ask()
            if move.beside:
                beside.append(self.session.generate_reply(user_input=self._ask()))
            await session.generate_reply(user_input=text)
            for one in beside:
                await one
            self.elsewhere += said(session.history)
        del session
        gc.collect()  # it is really gone, and cannot be asked any more

    async def _lost(self, move: Lost) -> None:
        if move.noun == "thread":
            await self._delete_thread()
            await self._say(Say())  # something to bring: how else would one notice?
            return
        async with self.server.http() as http:
            await http.delete(f"/v1/assistants/{self.caller.llm.assistant_id}")

    async def _delete_thread(self) -> None:
        async with self.server.http() as http:
            await http.delete(f"/v1/threads/{self.caller.llm.thread_id}")
        # The new one gets what a context still has.
        self.past, self.elsewhere, self.orderly, self.gone = [], [], False, True

    # ends ---------------------------------------------------------------------------------------

    async def _sync(self, move: Sync) -> None:
        if self.gone:
            await self.settle()
        await self.sync()

    async def _attach(self, move: Attach) -> None:
        if not self.attached:
            self.attached = True
            self.caller.llm.attach(self.session)

    async def _restart(self, move: Restart) -> None:
        if move.how == "quiet":
            await self.settle()
        else:
            hold = stall()
            text = self._ask(Question(hold=hold, words_first=move.words))
            speech = self.session.generate_reply(user_input=text)
            await first(hold.reached.wait(), speech)
            self.wire.dead = move.how == "dies"
            hold.release()
        await self.session.aclose()
        if move.how != "dies" and not self.attached:
            await self.caller.llm.sync(self.session.history)
        await self.caller.llm.aclose()
        if move.how == "dies":
            while not await self.runs_are_over():
                await asyncio.sleep(0.001)
            self.past = await self.thread()
        else:
            assert await self.thread() == self.committed()
            self.past = self.committed()
        self.removed, self.orderly = set(), True
        key = self.caller.llm._conversation._conduct.thread_key
        by_key = move.by == "key" and key is not None
        options = {"thread_key": key} if by_key else {"thread_id": self.caller.llm.thread_id}
        await self._close()
        await self._open(options)

    async def _quiet(self) -> None:
        """Until nobody speaks any more and tools in the background have said what they had to."""
        quiet = 0
        while quiet < (10 if self.agent.reported else 1):
            busy = self.session.current_speech is not None or self.agent.reporting
            quiet = 0 if busy else quiet + 1
            await asyncio.sleep(0.001 if busy or self.agent.reported else 0)
        self.agent.reported = False

    async def _deliver_late(self) -> None:
        """The requests that were held up arrive now."""
        while self.wire.late:
            send = self.wire.late.pop(0)
            async with httpx2.AsyncClient(timeout=30, verify=False) as client:
                await send(client)


def said(context: ChatContext) -> Said:
    """The words and pictures of a context, as the thread should have them."""
    return [
        (item.role, _words([_block(part) for part in item.content])) for item in spoken_in(context)
    ]


def spoken_in(context: ChatContext) -> list[ChatMessage]:
    return [
        item
        for item in context.items
        if isinstance(item, ChatMessage)
        and item.role in ("user", "assistant")
        and any(not isinstance(part, str) or part.strip() for part in item.content)
    ]


def shown_to_the_model(request: Request) -> Said:
    shown = [(one["role"], _words(one.get("content"))) for one in request.messages]
    return [(role, text) for role, text in shown if role in ("user", "assistant") and text.strip()]


def outputs(request: Request) -> list[str]:
    """What orders returned, as the model is shown it."""
    found = [str(one["content"]) for one in request.messages if one["role"] == "tool"]
    return [one for one in found if one.startswith("order ")]


def _block(part: Any) -> dict[str, Any]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}


def _words(content: str | list[dict[str, Any]] | None) -> str:
    """A message's text, with a mark for each picture; of the API, of a model's or a context's."""
    if isinstance(content, str):
        return content
    parts: list[dict[str, Any]] = content or []
    texts = [one["text"] for one in parts if one["type"] == "text"]
    values = [one if isinstance(one, str) else str(one["value"]) for one in texts]
    return "\n".join(values) + PICTURE * (len(parts) - len(texts))


async def first(event: Coroutine[Any, Any, Any], speech: SpeechHandle) -> None:
    """Until this happens, or the speech is over and it never will."""
    happening = asyncio.ensure_future(event)
    over = asyncio.ensure_future(speech.wait_for_playout())
    await asyncio.wait({happening, over}, return_when=asyncio.FIRST_COMPLETED)
    for task in (happening, over):
        task.cancel()
    await asyncio.wait({happening, over})


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
