"""A LiveKit agent in the terminal whose memory is an Assistants thread.

    python -m examples.terminal_agent            # or: make demo

No account, no room, no audio: an ``AgentSession`` in text mode. Its LLM is ``AssistantLLM`` on the
server that runs inside this process, so the conversation outlives it. ``voice_agent.py`` is the
same agent in a LiveKit room.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shlex
import sys
from collections.abc import Sequence

from livekit.agents import (
    AgentSession,
    APIConnectOptions,
    ErrorEvent,
    FunctionToolsExecutedEvent,
)
from livekit.agents.llm import LLMError
from livekit.agents.metrics import LLMMetrics
from livekit.agents.voice.agent_session import SessionConnectOptions
from rich.console import Console

from livekit.plugins.assistants import AssistantCreateOptions, AssistantLLM, AssistantOptions

from .coffee_shop import INSTRUCTIONS, NAME, CoffeeShop
from .terminal.keyboard import Keyboard, keyboard
from .terminal.models import choose_model
from .terminal.screen import Screen

# A small model on a busy machine may think for a while before its first word.
PATIENCE = SessionConnectOptions(
    llm_conn_options=APIConnectOptions(max_retry=1, timeout=60),
    max_unrecoverable_errors=1_000_000,  # the user sees each of them and decides
)
LEAVE = ("/quit", "/exit", "/q")


class Conversation:
    """One session from the first prompt to the last."""

    def __init__(self, session: AgentSession[None], keys: Keyboard, screen: Screen) -> None:
        self._session = session
        self._keys = keys
        self._screen = screen
        self._calls: list[LLMMetrics] = []
        self._error: str | None = None
        self.turns = 0

    def watch(self, llm: AssistantLLM) -> None:
        llm.on("metrics_collected", self._calls.append)
        self._session.on("function_tools_executed", self._show_tools)
        self._session.on("error", self._note_error)

    async def go_on(self) -> bool:
        """Take turns until the user leaves. ``False``: an error ended it, with nobody there."""
        while True:
            self._screen.prompt()
            line = await self._keys.line()
            if line is None:
                self._screen.leave_prompt()
                return True
            if line in LEAVE:
                return True
            if line and not await self._turn(line) and not self._keys.interactive:
                return False

    async def _turn(self, line: str) -> bool:
        self._screen.user(line)
        self._calls.clear()
        self._error = None
        speech = self._session.generate_reply(user_input=line)
        with self._keys.barge_in(self._session.interrupt):
            await speech
        self.turns += 1
        if speech.interrupted:
            self._screen.note("(interrupted; the thread keeps what you see)")
        if self._error is not None:
            self._screen.complain(self._error)
            return False
        self._show_cost()
        return True

    def _show_cost(self) -> None:
        waits = [call.ttft for call in self._calls if call.ttft >= 0]
        facts = [f"first token {1000 * waits[0]:.0f} ms"] if waits else []
        read = sum(call.prompt_tokens for call in self._calls)
        written = sum(call.completion_tokens for call in self._calls)
        if read or written:
            facts.append(f"{read} tokens read, {written} written")
        if facts:
            self._screen.note(f"      {', '.join(facts)}")

    def _show_tools(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in event.zipped():
            given = ", ".join(f"{k}={v!r}" for k, v in json.loads(call.arguments or "{}").items())
            self._screen.note(f"      {call.name}({given}) -> {output.output}")

    def _note_error(self, event: ErrorEvent) -> None:
        if isinstance(event.error, LLMError) and not event.error.recoverable:
            self._error = _sentence(event.error.error)


async def talk(arguments: argparse.Namespace, keys: Keyboard, screen: Screen) -> int:
    """The whole program, from the choice of a model to the exit status."""
    try:
        return await _talk(arguments, keys, screen)
    except Exception as error:
        if arguments.verbose or isinstance(error, BrokenPipeError):
            raise
        screen.complain(_sentence(error))
        return 1


async def _talk(arguments: argparse.Namespace, keys: Keyboard, screen: Screen) -> int:
    model = await choose_model(arguments.model, arguments.base_url)
    screen.note(f"Model: {model.shown}.")
    assistant = AssistantCreateOptions(name=NAME, instructions=INSTRUCTIONS, model=model.name)
    llm = AssistantLLM(
        assistant_opts=AssistantOptions(create_options=assistant),
        base_url=arguments.base_url,
        thread_id=arguments.thread,
        thread_key=f"caller:{arguments.caller}" if arguments.caller else None,
    )
    try:
        remembered = await llm.load_chat_ctx()
        screen.note(f"Thread: {llm.thread_id}. Ctrl-C interrupts the agent, /quit leaves.")
        screen.history(remembered.items)
        session: AgentSession[None] = AgentSession(llm=llm, vad=None, conn_options=PATIENCE)
        session.output.transcription = screen
        llm.attach(session)
        await session.start(CoffeeShop(chat_ctx=remembered))
        try:
            async with keys:
                conversation = Conversation(session, keys, screen)
                conversation.watch(llm)
                fine = await conversation.go_on()
        finally:
            await session.aclose()
    finally:
        await llm.aclose()
    if conversation.turns or remembered.items:
        screen.say(f"Go on with: {_resume(arguments, llm.thread_id)}")
    return 0 if fine else 1


def _resume(arguments: argparse.Namespace, thread_id: str | None) -> str:
    words = ["--caller", arguments.caller] if arguments.caller else ["--thread", str(thread_id)]
    for option in ("model", "base_url", "data"):  # elsewhere the thread is not there
        if given := getattr(arguments, option):
            words += [f"--{option.replace('_', '-')}", given]
    if os.environ.get("MAKELEVEL"):
        return f'make demo ARGS="{shlex.join(words)}"'
    return f"python -m examples.terminal_agent {shlex.join(words)}"


def _sentence(error: BaseException) -> str:
    return str(getattr(error, "message", error)) or type(error).__name__


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.terminal_agent",
        description="Talk to an agent that remembers. Without a terminal on standard input, every "
        "line of it is one turn.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--thread", metavar="ID", help="go on with this thread")
    which.add_argument("--caller", metavar="NAME", help="go on with this caller's thread")
    parser.add_argument("--model", metavar="NAME", help="the model to ask for; 'local' is built in")
    parser.add_argument(
        "--base-url",
        metavar="URL",
        default=os.environ.get("ASSISTANTS_BASE_URL"),
        help="use this assistants server instead of the one in this process",
    )
    parser.add_argument("--data", metavar="FOLDER", help="keep the data here")
    parser.add_argument("--verbose", action="store_true", help="show logs and tracebacks")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse(sys.argv[1:] if words is None else words)
    if arguments.data:
        os.environ["ASSISTANTS_DATA"] = arguments.data
    if arguments.verbose:
        logging.basicConfig(level=logging.INFO)
    else:
        logging.getLogger().addHandler(logging.NullHandler())
    keys = keyboard()
    screen = Screen(
        Console(highlight=False),
        errors=Console(stderr=True, highlight=False),
        echo=not keys.interactive,
    )
    try:
        return asyncio.run(talk(arguments, keys, screen))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more
        return 1


if __name__ == "__main__":
    sys.exit(main())
