"""Random conversations as scripts: moves, and the stage that plays them for real.

A script is a list of plain values, so that a failure shrinks to something one can read. Nothing
here knows what the right thread is; ``Stage.committed`` only asks LiveKit.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2
from hypothesis import strategies as st
from livekit.agents import Agent, AgentSession, StopResponse, function_tool
from livekit.agents.llm import ChatContext, ChatMessage
from tests.live_server import LiveServer
from tests.plugin.agents import Caller, Entering, Said, model_saw, said
from tests.upstream import Answer, Stall, Upstream, call, calls, empty, say, stall

Tool = Literal["order", "note", "fails", "hush", "nonsense"]


@dataclass(frozen=True)
class Turn:
    """The user says something and is answered. ``fault``: what happens to its first request."""

    fault: Literal["", "refused", "lost", "late", "cut"] = ""
    at: str = ""


@dataclass(frozen=True)
class Interrupted:
    """The user is answered and interrupts after ``words`` (none: while the model thinks), some
    turns of the loop later. ``follow``: the next question comes at the same moment."""

    words: int = 0
    ticks: int = 0
    follow: bool = False


@dataclass(frozen=True)
class Tools:
    """The model calls these at once; ``words`` before them or not; ``interrupt`` while they run."""

    names: tuple[Tool, ...] = ("order",)
    words: bool = False
    interrupt: bool = False


@dataclass(frozen=True)
class Say:
    ticks: int = 0


@dataclass(frozen=True)
class Queued:
    """Two questions at once."""


@dataclass(frozen=True)
class Guess:
    """An answer that is thrown away, whole or after its first word."""

    whole: bool = True


@dataclass(frozen=True)
class Judge:
    """A context that is another conversation."""


@dataclass(frozen=True)
class Remove:
    place: int = 0


@dataclass(frozen=True)
class Edit:
    place: int = 0


@dataclass(frozen=True)
class Prompted:
    """A reply that nobody asked for, with instructions of its own."""


@dataclass(frozen=True)
class Window:
    """From now on the agent's model is shown so many items, 0: all."""

    items: int = 0


@dataclass(frozen=True)
class Handoff:
    """The other agent takes over, knowing what was said or not."""

    history: bool = False


@dataclass(frozen=True)
class Sync:
    pass


@dataclass(frozen=True)
class Restart:
    """The agent's process ends and another one takes the thread up."""


Move = (
    Turn
    | Interrupted
    | Tools
    | Say
    | Queued
    | Guess
    | Judge
    | Remove
    | Edit
    | Prompted
    | Window
    | Handoff
    | Sync
    | Restart
)

EVENTS = (
    "thread.run.created",
    "thread.run.in_progress",
    "thread.message.created",
    "thread.message.delta",
    "thread.message.completed",
    "thread.run.completed",
    "done",
)

_places = st.integers(0, 5)
_ticks = st.integers(0, 12)

moves: st.SearchStrategy[Move] = st.one_of(
    st.just(Turn()),
    st.builds(Turn, st.sampled_from(["refused", "lost", "late"])),
    st.builds(Turn, st.just("cut"), st.sampled_from(EVENTS)),
    st.builds(Interrupted, st.integers(0, 3), _ticks, st.booleans()),
    st.builds(
        Tools,
        st.lists(
            st.sampled_from(["order", "note", "fails", "hush", "nonsense"]), min_size=1, max_size=3
        ).map(tuple),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(Say, _ticks),
    st.just(Queued()),
    st.builds(Guess, st.booleans()),
    st.just(Judge()),
    st.builds(Remove, _places),
    st.builds(Edit, _places),
    st.just(Prompted()),
    st.builds(Window, st.sampled_from([0, 2, 4])),
    st.builds(Handoff, st.booleans()),
    st.just(Sync()),
    st.just(Restart()),
)


class Clerk(Entering):
    """An agent with tools and, if asked, a short memory."""

    def __init__(self, name: str, chat_ctx: ChatContext | None = None) -> None:
        super().__init__(instructions=f"You are {name}.", chat_ctx=chat_ctx)
        self.inherited = {item.id for item in chat_ctx.items} if chat_ctx is not None else set()
        self.window = 0
        self.orders = 0
        self.working = asyncio.Event()
        self.finish = asyncio.Event()
        self.finish.set()

    async def llm_node(self, chat_ctx: ChatContext, tools: Any, model_settings: Any) -> Any:
        shown = chat_ctx.copy()
        if self.window:
            shown.truncate(max_items=self.window)
        async for chunk in Agent.default.llm_node(self, shown, tools, model_settings):
            yield chunk

    async def _work(self) -> None:
        self.working.set()
        await self.finish.wait()

    @function_tool
    async def order(self) -> str:
        """Order."""
        self.orders += 1
        await self._work()
        return f"order {self.orders}"

    @function_tool
    async def note(self) -> None:
        """Note."""
        await self._work()

    @function_tool
    async def fails(self) -> str:
        """Fail."""
        await self._work()
        raise ValueError("no")

    @function_tool
    async def hush(self) -> str:
        """Hush."""
        await self._work()
        raise StopResponse()


@dataclass
class Stage:
    """Plays moves against a server; one caller, two agents."""

    server: LiveServer
    upstream: Upstream
    extensions: bool | None
    caller: Caller = field(init=False)
    session: AgentSession[None] = field(init=False)
    agents: list[Clerk] = field(default_factory=list)
    past: Said = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
    counter: int = 0
    late: list[functools.partial[Any]] = field(default_factory=list)

    async def open(self, thread_id: str | None = None) -> None:
        self._stack = AsyncExitStack()
        options = {"thread_id": thread_id}
        self.caller = await self._stack.enter_async_context(
            Caller(self.server, extensions=self.extensions, options=options)
        )
        self.agents = [Clerk("Ana"), Clerk("Bob")]
        self.session = await self._stack.enter_async_context(self.caller.session(self.agents[0]))

    async def close(self) -> None:
        await self._stack.aclose()
        await self._deliver_late()

    @property
    def agent(self) -> Clerk:
        agent = self.session.current_agent
        assert isinstance(agent, Clerk)
        return agent

    def committed(self) -> Said:
        """What LiveKit says was said, on this thread, and not taken out again."""
        history = self.session.history.copy()
        history.items = [item for item in history.items if item.id not in self.removed]
        return [*self.past, *said(history)]

    async def play(self, move: Move) -> None:
        await getattr(self, f"_{type(move).__name__.lower()}")(move)

    async def settle(self) -> None:
        """A turn in which nothing happens: afterwards the thread must be right."""
        await self._turn(Turn())

    # moves --------------------------------------------------------------------------------------

    def _words(self, what: str = "q") -> str:
        self.counter += 1
        return f"{what}{self.counter}"

    async def _turn(self, move: Turn) -> None:
        text = self._words()
        self._spoil(move)
        await self.session.generate_reply(user_input=text)
        self.caller.wire.before = self.caller.wire.after = None
        await self._deliver_late()

    async def _interrupted(self, move: Interrupted) -> None:
        hold = stall()
        words = [f"{self._words('w')} " for _ in range(move.words)]
        answer = say(*words, hold, "unheard") if words else hold + say("unheard")
        self.upstream.script(answer)
        speech = self.session.generate_reply(user_input=self._words())
        await hold.reached.wait()
        await ticks(move.ticks)
        speech.interrupt()
        if move.follow:
            await self.session.generate_reply(user_input=self._words())
        await speech
        hold.release()

    async def _tools(self, move: Tools) -> None:
        wanted: Answer | Stall = calls(*(call(name) for name in move.names))
        if move.words:
            wanted = say("One moment. ") + wanted
        self.upstream.script(wanted if isinstance(wanted, Answer) else wanted + empty())
        agent = self.agent
        agent.working.clear()
        if not move.interrupt or set(move.names) == {"nonsense"}:
            await self.session.generate_reply(user_input=self._words())
            return
        agent.finish.clear()
        speech = self.session.generate_reply(user_input=self._words())
        await agent.working.wait()
        speech.interrupt()
        agent.finish.set()
        await speech

    async def _say(self, move: Say) -> None:
        speech = self.session.say(self._words("s"))
        await ticks(move.ticks)
        await speech

    async def _queued(self, move: Queued) -> None:
        one = self.session.generate_reply(user_input=self._words())
        two = self.session.generate_reply(user_input=self._words())
        await one
        await two

    async def _guess(self, move: Guess) -> None:
        context = self.agent.chat_ctx.copy()
        context.add_message(role="user", content=self._words("guess"))
        if move.whole:
            await self.caller.llm.chat(chat_ctx=context).collect()
            return
        hold = stall()
        self.upstream.script(say("gue", hold, "ss"))
        async with self.caller.llm.chat(chat_ctx=context) as stream:
            await anext(aiter(stream))
        hold.release()

    async def _judge(self, move: Judge) -> None:
        context = ChatContext.empty()
        context.add_message(role="system", content="Judge.")
        context.add_message(role="user", content=self._words("judged"))
        await self.caller.llm.chat(chat_ctx=context).collect()

    async def _remove(self, move: Remove) -> None:
        context = self.agent.chat_ctx.copy()
        # What was another agent's turn is hidden by an agent that drops it, not deleted.
        own = [item for item in context.items if item.id not in self.agent.inherited]
        spoken = [item for item in own if said(ChatContext([item]))]
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
        spoken = [item for item in context.items if said(ChatContext([item]))]
        # Without the extensions nothing changes behind a short memory before sync().
        if spoken and not (self.agent.window and self.extensions is False):
            item = spoken[move.place % len(spoken)]
            assert isinstance(item, ChatMessage)
            item.content = [self._words("edited")]
            await self.agent.update_chat_ctx(context)
            if self.extensions is False:
                await self.settle()

    async def _prompted(self, move: Prompted) -> None:
        self.upstream.script(say(self._words("p")))
        await self.session.generate_reply(instructions="Say something.")

    async def _window(self, move: Window) -> None:
        self.agent.window = move.items

    async def _handoff(self, move: Handoff) -> None:
        other = next(one for one in self.agents if one is not self.agent)
        if move.history:
            known = self.agent.chat_ctx.copy(
                exclude_instructions=True, exclude_function_call=True, exclude_config_update=True
            )
            other = Clerk("Cyd", chat_ctx=known)
            self.agents = [self.agent, other]
        await other.takes_over(self.session)

    async def _sync(self, move: Sync) -> None:
        await self.sync()

    async def sync(self) -> None:
        """Bring what no turn has carried: all that was said, but what was taken out."""
        history = self.session.history.copy()
        history.items = [item for item in history.items if item.id not in self.removed]
        await self.caller.llm.sync(history)

    async def _restart(self, move: Restart) -> None:
        await self.settle()
        await self.sync()
        self.past = self.committed()
        self.removed = set()
        thread_id = self.caller.llm.thread_id
        await self.close()
        await self.open(thread_id)

    # faults -------------------------------------------------------------------------------------

    def _spoil(self, move: Turn) -> None:
        """Let the next run request go wrong once."""
        wire = self.caller.wire

        def is_run(request: httpx2.Request) -> bool:
            return request.method == "POST" and request.url.path.endswith("/runs")

        def refuse(request: httpx2.Request) -> None:
            if is_run(request):
                wire.before = None
                raise httpx2.ConnectError("refused", request=request)

        def delay(request: httpx2.Request) -> None:
            if is_run(request):
                wire.before = None
                self.late.append(
                    functools.partial(
                        httpx2.AsyncClient.request,
                        method=request.method,
                        url=str(request.url),
                        content=request.content,
                        headers={
                            name: value
                            for name, value in request.headers.items()
                            if name.lower() not in ("host", "content-length", "connection")
                        },
                    )
                )
                raise httpx2.ReadError("the line is dead", request=request)

        def lose(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
            if is_run(request):
                wire.after = None
                response.status_code = 502
            return response

        def cut(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
            if is_run(request):
                wire.after = None
                assert isinstance(response.stream, httpx2.AsyncByteStream)
                response.stream = BrokenOff(response.stream, f"event: {move.at}\n".encode())
            return response

        if move.fault == "refused":
            wire.before = refuse
        elif move.fault == "late" and self.extensions is None:
            # Without the extensions nothing keeps a late request from taking effect.
            wire.before = delay
        elif move.fault == "lost":
            wire.after = lose
        elif move.fault == "cut":
            wire.after = cut

    async def _deliver_late(self) -> None:
        """The requests that were held up arrive now."""
        while self.late:
            send = self.late.pop(0)
            async with httpx2.AsyncClient(timeout=30) as client:
                await send(client)


class BrokenOff(httpx2.AsyncByteStream):
    """A body that breaks off before it says ``until``."""

    def __init__(self, inner: httpx2.AsyncByteStream, until: bytes) -> None:
        self._inner = inner
        self._until = until

    async def __aiter__(self) -> Any:
        seen = b""
        async for chunk in self._inner:
            before = len(seen)
            seen += chunk
            place = seen.find(self._until)
            if place >= 0:
                yield chunk[: max(0, place - before)]
                raise httpx2.ReadError("the line is dead")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def shown_to_the_model(upstream: Upstream) -> Said:
    return [
        (role, text) for role, text in model_saw(upstream.requests[-1]) if role != "tool" and text
    ]


def script(listed: Sequence[Move]) -> str:
    return "\n".join(f"    {move}," for move in listed)
