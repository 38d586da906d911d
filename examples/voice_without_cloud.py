"""A voice call in one process: no cloud, no key, no microphone. The caller is software, too.

    uv sync --group voice --group demo
    python -m examples.voice_without_cloud --recording call.wav

Every part is a real one. espeak-ng speaks for both sides, LiveKit's Silero plugin notices that
somebody speaks, PocketSphinx recognises what is said, and LiveKit's ``AgentSession``
takes the turns. The model is the one you have, or the small local one. In the middle the caller
interrupts, and at the end you read the thread: it holds what was said aloud, and not a word more.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from livekit.agents import Agent, AgentSession, ConversationItemAddedEvent
from livekit.agents.llm import ChatMessage
from livekit.agents.voice import io
from livekit.agents.voice.transcription import TranscriptSynchronizer

from assistants_server.settings import Settings
from livekit.plugins.assistants import AssistantCreateOptions, AssistantLLM, AssistantOptions

from .local_voice.line import Line
from .local_voice.listening import PocketSphinxSTT
from .local_voice.speaking import EspeakTTS, synthesise
from .terminal.models import NoModel, choose_model

NAME = "Storyteller"
INSTRUCTIONS = "You tell stories to people who call. Tell at least five sentences."
MISSING = "The voices and ears are missing: uv sync --group voice"

GRAMMAR = """\
#JSGF V1.0;
grammar caller;
public <said> = <greeting> | <wish> | <stop> | <question> | <farewell>;
<greeting> = good morning | good evening | hello there;
<wish> = tell me (a story about | about) (the sea | the weather | coffee);
<stop> = stop please | please stop | wait a moment;
<question> = how are you today | what did you say;
<farewell> = thank you [and goodbye];
"""
"""What the recogniser understands."""

CALLER = "en-us+f2"
"""The caller's voice. The agent's is another one."""


def missing_parts() -> list[str]:
    """The packages of the group ``voice`` that are not installed."""
    parts = ("espeakng_loader", "livekit.plugins.silero", "pocketsphinx")
    return [part for part in parts if importlib.util.find_spec(part) is None]


def say(line: Line, words: str) -> None:
    """The caller says this."""
    line.speak(synthesise(words, voice=CALLER, speed=140, rate=line.rate))


class Ear(io.TextOutput):
    """What the caller has heard of the agent, word by word as it is spoken."""

    def __init__(self) -> None:
        super().__init__(label="ear", next_in_chain=None)
        self.words: list[str] = []
        self._changed = asyncio.Condition()

    async def capture_text(self, text: str) -> None:
        self.words += str(text).split()
        async with self._changed:
            self._changed.notify_all()

    def flush(self) -> None:
        pass

    async def heard(self, count: int) -> None:
        """Until this many words have been spoken in all."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.words) >= count)


@asynccontextmanager
async def answered(
    line: Line, ear: Ear, llm: AssistantLLM, agent: Agent
) -> AsyncIterator[AgentSession[None]]:
    """The agent is on the line. What was said is in its thread when the block is left."""
    from livekit.plugins import silero

    session: AgentSession[None] = AgentSession(
        stt=PocketSphinxSTT(GRAMMAR),
        vad=await asyncio.get_running_loop().run_in_executor(None, silero.VAD.load),
        tts=EspeakTTS(),
        llm=llm,
        turn_handling={"turn_detection": "vad", "interruption": {"mode": "vad"}},
        aec_warmup_duration=None,  # there is no echo on this line
    )
    # The transcript keeps pace with the voice: it is how LiveKit knows what was heard.
    synchronizer = TranscriptSynchronizer(
        next_in_chain_audio=line.loudspeaker, next_in_chain_text=ear
    )
    session.input.audio = line.microphone
    session.output.audio = synchronizer.audio_output
    session.output.transcription = synchronizer.text_output
    async with session:
        await session.start(agent)
        yield session
    await synchronizer.aclose()
    await llm.sync(session.history)


async def until(session: AgentSession[None], state: str) -> None:
    """Until the agent is in this state: listening, thinking or speaking."""
    reached = asyncio.Event()

    def look(_: object = None) -> None:
        if session.agent_state == state:
            reached.set()

    session.on("agent_state_changed", look)
    look()
    await reached.wait()
    session.off("agent_state_changed", look)


PATIENCE = 300.0
"""Seconds after which the caller gives up."""


async def call(line: Line, ear: Ear, session: AgentSession[None]) -> None:
    """The caller's side: a greeting, a wish, and before the story is over an interruption."""
    say(line, "good morning")
    await until(session, "speaking")
    await until(session, "listening")
    heard = len(ear.words)
    say(line, "tell me a story about the sea")
    await ear.heard(heard + 8)
    say(line, "stop please")
    await line.quiet()
    await until(session, "thinking")
    await until(session, "speaking")
    await until(session, "listening")


def show(event: ConversationItemAddedEvent) -> None:
    if isinstance(event.item, ChatMessage):
        cut = "  (interrupted)" if event.item.interrupted else ""
        print(f"{event.item.role:>9}: {event.item.text_content}{cut}")


async def main(arguments: argparse.Namespace) -> int:
    if missing_parts():
        print(MISSING, file=sys.stderr)
        return 1
    try:
        model = await choose_model(arguments.model, None)
    except NoModel as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Model: {model.shown}\n")
    with tempfile.TemporaryDirectory() as folder:
        llm = AssistantLLM(
            assistant_opts=AssistantOptions(
                create_options=AssistantCreateOptions(
                    name=NAME, instructions=INSTRUCTIONS, model=model.name
                )
            ),
            max_completion_tokens=120,
            server_settings=Settings(data=Path(folder)),
        )
        line, ear = Line(record=arguments.recording is not None), Ear()
        async with llm, line:
            async with answered(line, ear, llm, Agent(instructions=INSTRUCTIONS)) as session:
                session.on("conversation_item_added", show)
                await asyncio.wait_for(call(line, ear, session), PATIENCE)
            print("\nThe thread:")
            for item in (await llm.load_chat_ctx()).items:
                if isinstance(item, ChatMessage):
                    print(f"{item.role:>9}: {item.text_content}")
    if arguments.recording is not None:
        line.write_recording(arguments.recording)
        print(f"\nThe call is in {arguments.recording}: caller left, agent right.")
    return 0


def command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.voice_without_cloud",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", help="name of the model; 'local' is the small one that is here")
    parser.add_argument("--recording", type=Path, help="write the call to this WAV file")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(command_line())))
    except asyncio.TimeoutError:
        sys.exit("The agent stopped answering; the caller has hung up.")
