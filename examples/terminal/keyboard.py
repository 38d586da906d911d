"""Where the user's lines come from: a terminal, or whatever standard input is connected to.

On a terminal Ctrl-C is a key here, not a signal: it ends the input line at the prompt and is a
barge-in while the agent talks. (As a signal it would also reach ``make``, which would report the
whole demo as interrupted.) The terminal's own line editing stays, so typing ahead works as usual.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TextIO

from typing_extensions import Self

CTRL_C = b"\x03"
_CONTROLS = re.compile(r"\x1b\[[0-9;]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


class Keyboard:
    """Lines in the order they were typed; ``None`` once the user wants to leave."""

    interactive = True  # somebody sits there who can try again

    def __init__(self) -> None:
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._barge_in: Callable[[], object] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self.press_ctrl_c)
        loop.add_signal_handler(signal.SIGTERM, self.leave)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)

    async def line(self) -> str | None:
        return await self._lines.get()

    @contextlib.contextmanager
    def barge_in(self, action: Callable[[], object]) -> Iterator[None]:
        """While this is open, Ctrl-C means ``action``; otherwise it means to leave."""
        self._barge_in = action
        try:
            yield
        finally:
            self._barge_in = None

    def press_ctrl_c(self) -> None:
        if self._barge_in is not None:
            self._barge_in()
        else:
            self._lines.put_nowait(None)

    def leave(self) -> None:
        """As Ctrl-C, and then out, whatever is waiting."""
        if self._barge_in is not None:
            self._barge_in()
        while not self._lines.empty():
            self._lines.get_nowait()
        self._lines.put_nowait(None)


class TerminalKeyboard(Keyboard):
    """A terminal. Ctrl-D on an empty line leaves."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._saved = termios.tcgetattr(descriptor)
        self._partial = b""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        loop = asyncio.get_running_loop()
        self._set_keys()
        loop.add_signal_handler(
            signal.SIGCONT, self._set_keys
        )  # the shell resets them after Ctrl-Z
        loop.add_reader(self._descriptor, self._readable)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._descriptor)
        loop.remove_signal_handler(signal.SIGCONT)
        with contextlib.suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(self._descriptor, termios.TCSANOW, self._saved)
        await super().__aexit__(kind, error, traceback)

    def _set_keys(self) -> None:
        mode = termios.tcgetattr(self._descriptor)
        keys = mode[6]
        keys[termios.VINTR] = b"\x00"  # no key sends the signal,
        keys[termios.VEOL] = CTRL_C  # and this one ends a line, so that it arrives at once
        termios.tcsetattr(self._descriptor, termios.TCSANOW, mode)

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:
            data = b""
        if data.endswith(CTRL_C):
            self._partial = b""
            self.press_ctrl_c()
        elif data.endswith(b"\n"):
            self._lines.put_nowait(_decode(self._partial + data))
            self._partial = b""
        elif data:
            self._partial += data  # Ctrl-D in mid-line, or a very long line
        else:
            self._lines.put_nowait(None)
            if not os.isatty(self._descriptor):  # its window was closed: it would tell us for ever
                asyncio.get_running_loop().remove_reader(self._descriptor)


class StreamKeyboard(Keyboard):
    """A pipe or a file: one line after another; the end of it, and Ctrl-C, leave."""

    interactive = False

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    async def line(self) -> str | None:
        if self._lines.empty():
            loop = asyncio.get_running_loop()
            # A daemon: a read that blocks for good cannot keep the program from ending.
            threading.Thread(target=self._read, args=(loop,), daemon=True).start()
        return await super().line()

    def press_ctrl_c(self) -> None:
        self.leave()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            text = self._stream.readline()
        except (OSError, ValueError):
            text = ""
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            line = _clean(text) if text else None
            loop.call_soon_threadsafe(self._lines.put_nowait, line)


def _decode(data: bytes) -> str:
    return _clean(data.decode(errors="replace"))


def _clean(text: str) -> str:
    """Without the keys that a terminal's line editing does not know, such as arrows."""
    return _CONTROLS.sub("", text).strip()


def keyboard() -> Keyboard:
    """The one that fits what standard input is."""
    if sys.stdin.isatty():
        return TerminalKeyboard(sys.stdin.fileno())
    return StreamKeyboard(sys.stdin)
