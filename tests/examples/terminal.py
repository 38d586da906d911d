"""The terminal agent in front of a pipe or a pseudo-terminal: in this process, or in its own."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pty
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from examples.terminal.keyboard import StreamKeyboard, TerminalKeyboard
from examples.terminal.screen import Screen
from examples.terminal_agent import parse, talk
from rich.console import Console

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-W", "error::ResourceWarning", "-m", "examples.terminal_agent")


@dataclass(frozen=True)
class Outcome:
    status: int
    output: str
    errors: str = ""

    @property
    def thread(self) -> str:
        """The thread that it named."""
        return self.output.partition("Thread: ")[2].partition(".")[0]


async def piped(text: str, *arguments: str) -> Outcome:
    """A whole conversation through a pipe, in this process."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    output, errors = io.StringIO(), io.StringIO()
    with os.fdopen(reader) as stream:
        screen = Screen(Console(file=output), errors=Console(file=errors), echo=True)
        status = await talk(parse(arguments), StreamKeyboard(stream), screen)
    return Outcome(status, output.getvalue(), errors.getvalue())


async def piped_process(text: str, *arguments: str) -> Outcome:
    """The same in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(text.encode())
    assert process.returncode is not None
    return Outcome(process.returncode, output.decode(), errors.decode())


class Window:
    """The user's end of a terminal: type, and wait for what is shown."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.shown = ""
        self._read_to = 0
        self._descriptor = descriptor
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._readable)

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    async def shows(self, text: str) -> None:
        """Wait until ``text`` stands behind what was waited for before."""
        while (found := self.shown.find(text, self._read_to)) < 0:
            self._changed.clear()
            await self._changed.wait()
        self._read_to = found + len(text)

    def _readable(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(self._descriptor, 65536):
                self.shown += data.decode(errors="replace").replace("\r\n", "\n")
                self._changed.set()

    def close(self) -> None:
        self._readable()
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)


@contextlib.asynccontextmanager
async def terminal(*arguments: str) -> AsyncIterator[tuple[Window, asyncio.Future[int]]]:
    """A conversation on a terminal, in this process, and the exit status it will have."""
    ours, theirs = pty.openpty()
    window = Window(ours)
    with os.fdopen(theirs, "w") as file:
        console = Console(file=file, force_terminal=False)
        screen = Screen(console, errors=console, echo=False)
        status = asyncio.ensure_future(
            talk(parse(arguments), TerminalKeyboard(file.fileno()), screen)
        )
        try:
            yield window, status
        finally:
            status.cancel()
            await asyncio.gather(status, return_exceptions=True)
            window.close()
