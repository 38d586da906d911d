"""A call: somebody speaks, LiveKit's real pipeline listens and answers, the model is scripted.

    async with Call(server, agent) as call:
        await call.speaks("hello there")
        await call.hears("Good morning")
        await call.speaks("one moment")
        await call.settled()
        await call.agrees()

``agrees()`` is the promise: the thread says what the session's history says, word for word, and
nothing is left to be brought.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Any

import httpx2
import openai
from livekit.agents import Agent, AgentSession
from livekit.agents.llm import LLM
from livekit.agents.voice.transcription import TranscriptSynchronizer
from tests.live_server import LiveServer
from tests.plugin.agents import RUN, SUBMIT, CountingTransport, Said, said
from tests.voice.audio import (
    Captions,
    Ears,
    Heard,
    Recogniser,
    Telephone,
    Utterance,
    Voice,
)
from tests.voice.virtual_time import Work, running_loop
from typing_extensions import Self

from livekit.plugins.assistants import (
    AssistantCreateOptions,
    AssistantLLM,
    AssistantLLMStream,
    AssistantOptions,
)

RECOGNITION = 0.2
"""Seconds after the last sound at which a transcript is final."""


class Wire(CountingTransport):
    """Counts requests, and tells the clock which are open."""

    def __init__(self) -> None:
        super().__init__()
        loop = running_loop()
        self._work = loop.work if loop is not None else Work()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._work.requests += 1
        try:
            response = await super().handle_async_request(request)
        except BaseException:
            self._work.requests -= 1
            raise
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _OpenStream(response.stream, self._work)
        return response


class _OpenStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, work: Work) -> None:
        self._stream = stream
        self._work = work
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            if self._open:
                self._open = False
                self._work.requests -= 1


class CountedLLM(AssistantLLM):
    """Knows how often it was asked."""

    asked = 0

    def chat(self, **arguments: Any) -> AssistantLLMStream:
        self.asked += 1
        return super().chat(**arguments)


class Call:
    """``options`` are the session's; ``llm`` are those of the ``AssistantLLM``; ``around`` puts the
    session's LLM around that one."""

    def __init__(
        self,
        server: LiveServer,
        agent: Agent | None = None,
        *,
        extensions: bool | None = None,
        llm: dict[str, Any] | None = None,
        turn_handling: dict[str, Any] | None = None,
        voice: Voice | None = None,
        around: Callable[[AssistantLLM], LLM[Any]] = lambda llm: llm,
        **options: Any,
    ) -> None:
        self.server = server
        self._voice = voice or Voice()
        self._around = around
        self.agent = agent or Agent(instructions="You are Ana.")
        self.extensions = extensions
        self._llm_options = llm or {}
        self._turn_handling: Any = {
            "turn_detection": "vad",
            "interruption": {"mode": "vad"},
            **(turn_handling or {}),
        }
        # The line has no echo to learn, during which LiveKit would be deaf.
        self._options = {"aec_warmup_duration": None, **options}

    async def __aenter__(self) -> Self:
        self.wire = Wire()
        self.client = openai.AsyncOpenAI(
            api_key="test",
            base_url=self.server.base_url,
            http_client=httpx2.AsyncClient(transport=self.wire),
        )
        definition = AssistantCreateOptions(name="Ana", instructions="Be brief.", model="gpt-4o")
        self.llm = CountedLLM(
            assistant_opts=AssistantOptions(create_options=definition),
            client=self.client,
            extensions=self.extensions,
            **self._llm_options,
        )
        self.line = Telephone()
        self.captions = Captions()
        self.session: AgentSession[None] = AgentSession(
            llm=self._around(self.llm),
            stt=Recogniser(self.line),
            vad=Ears(),
            tts=self._voice,
            turn_handling=self._turn_handling,
            **self._options,
        )
        self._synchronizer = TranscriptSynchronizer(
            next_in_chain_audio=self.line.loudspeaker, next_in_chain_text=self.captions
        )
        self.session.input.audio = self.line.microphone
        self.session.output.audio = self._synchronizer.audio_output
        self.session.output.transcription = self._synchronizer.text_output
        async with AsyncExitStack() as opened:
            opened.push_async_callback(self.client.close)
            opened.push_async_callback(self.llm.aclose)
            await opened.enter_async_context(self.line)
            opened.push_async_callback(self.hangs_up)
            await self.session.start(self.agent)
            await self.llm._conversation.ready()
            self._opened = opened.pop_all()
        self.wire.requests.clear()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._opened.aclose()

    # what the caller does -----------------------------------------------------------------------

    async def speaks(
        self, words: str, *, seconds: float = 1.0, heard: tuple[Heard, ...] | None = None
    ) -> None:
        """Say something, to its last sound. ``heard``: what is recognised when, if it is not all
        of it shortly after."""
        self.begins_to_speak(words, seconds=seconds, heard=heard)
        await self.line.quiet()

    def begins_to_speak(
        self, words: str, *, seconds: float = 1.0, heard: tuple[Heard, ...] | None = None
    ) -> None:
        if heard is None:
            heard = (Heard(seconds + RECOGNITION, words),)
        self.line.utter(Utterance(seconds, heard))

    async def hears(self, words: str, *, times: int = 1) -> None:
        """Until the agent has said this aloud."""
        await asyncio.wait_for(self.captions.shown(words, times=times), 120)

    async def waits(self, seconds: float) -> None:
        """Time goes by."""
        await asyncio.sleep(seconds)

    async def until(self, condition: Callable[[], bool], *, within: float = 120.0) -> None:
        deadline = asyncio.get_running_loop().time() + within
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, "it did not come to that"
            await asyncio.sleep(0.01)

    async def agent_speaks(self) -> None:
        """Until the first sound of the agent."""
        await self.until(lambda: self.session.agent_state == "speaking")

    async def turn(self, words: str) -> None:
        """Say something and listen to the answer."""
        await self.speaks(words)
        await self.settled()

    async def settled(self) -> None:
        """Until nobody speaks, thinks or works any more, and has not for two seconds: longer than
        a turn can take to end."""
        quiet = 0
        while quiet < 20:
            await asyncio.sleep(0.1)
            busy = (
                self.session.agent_state != "listening"
                or self.session.user_state == "speaking"
                or self.session.current_speech is not None
                or self.line.caller_speaks
            )
            quiet = 0 if busy else quiet + 1

    async def hangs_up(self) -> None:
        await self.session.aclose()
        await self._synchronizer.aclose()

    # what is to be seen -------------------------------------------------------------------------

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """The requests made inside the block; without the extensions those that run the model,
        which others may then have to prepare."""
        start = len(self.wire.requests)
        made: list[str] = []
        yield made
        made += [
            one
            for one in self.wire.requests[start:]
            if self.extensions is None or one in (RUN, SUBMIT)
        ]

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def history(self) -> Said:
        """What was said, as far as it was heard."""
        return said(self.session.history)

    async def thread(self) -> Said:
        """What the thread holds, read with the official SDK."""
        assert self.llm.thread_id is not None
        found: Said = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            async with self.server.client() as client:
                messages = client.beta.threads.messages.list(self.llm.thread_id, order="asc")
                async for message in messages:
                    words = [one.text.value for one in message.content if one.type == "text"]
                    found.append((message.role, "\n".join(words)))
        return found

    async def agrees(self) -> None:
        """The thread is the conversation, there is nothing left to bring, and a turn was never more
        than one request."""
        turns = [one for one in self.wire.requests if one in (RUN, SUBMIT)]
        assert len(turns) <= self.llm.asked
        assert await self.thread() == self.history
        with self.counted() as requests:
            await self.llm.sync(self.session.history)
        assert requests == []


Line = Callable[..., Call]
"""What a test calls to make a call."""
