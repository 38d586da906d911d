"""The keyboard of the terminal agent, on a real pseudo-terminal and on a pipe."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import termios
from collections.abc import Iterator

import pytest
from examples.terminal.keyboard import StreamKeyboard, TerminalKeyboard


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The user's end, and the end that a program has as its standard input."""
    user, program = pty.openpty()
    yield user, program
    os.close(user)
    os.close(program)


async def test_lines_are_read_as_typed(terminal: tuple[int, int]) -> None:
    user, program = terminal
    async with TerminalKeyboard(program) as keyboard:
        os.write(user, "Olá, sou a Ana.\nAnd?\n".encode())
        assert await keyboard.line() == "Olá, sou a Ana."
        assert await keyboard.line() == "And?"


async def test_the_terminals_own_editing_stays(terminal: tuple[int, int]) -> None:
    user, program = terminal
    async with TerminalKeyboard(program) as keyboard:
        os.write(user, b"Anna\x7f\x7fa\n")
        assert await keyboard.line() == "Ana"


async def test_keys_that_edit_nothing_leave_no_trace(terminal: tuple[int, int]) -> None:
    user, program = terminal
    async with TerminalKeyboard(program) as keyboard:
        os.write(user, b"A\x1b[Dn\x1b[1;5Ca\n")
        assert await keyboard.line() == "Ana"


@pytest.mark.parametrize("typed", [b"", b"half a line"])
async def test_ctrl_c_at_the_prompt_leaves(terminal: tuple[int, int], typed: bytes) -> None:
    user, program = terminal
    async with TerminalKeyboard(program) as keyboard:
        os.write(user, typed + b"\x03")
        assert await keyboard.line() is None


async def test_ctrl_d_leaves_on_an_empty_line_only(terminal: tuple[int, int]) -> None:
    user, program = terminal
    async with TerminalKeyboard(program) as keyboard:
        os.write(user, b"Hel\x04")
        os.write(user, b"lo\n")
        assert await keyboard.line() == "Hello"
        os.write(user, b"\x04")
        assert await keyboard.line() is None


async def test_a_terminal_that_goes_away_ends_the_input_once() -> None:
    user, program = pty.openpty()
    async with TerminalKeyboard(program) as keyboard:
        os.close(user)
        assert await keyboard.line() is None
        await asyncio.sleep(0)
        assert keyboard._lines.empty()
    os.close(program)


async def test_ctrl_c_while_the_agent_talks_is_a_barge_in(terminal: tuple[int, int]) -> None:
    user, program = terminal
    barged_in = asyncio.Event()
    async with TerminalKeyboard(program) as keyboard:
        with keyboard.barge_in(barged_in.set):
            os.write(user, b"\x03")
            await barged_in.wait()
        os.write(user, b"and now\n")
        assert await keyboard.line() == "and now", "the program goes on"


async def test_ctrl_c_is_no_signal_while_the_keyboard_is_open(terminal: tuple[int, int]) -> None:
    """``make`` runs in the same process group and would take the signal for the end."""
    _, program = terminal
    before = termios.tcgetattr(program)
    async with TerminalKeyboard(program):
        assert termios.tcgetattr(program)[6][termios.VINTR] == b"\x00"
    assert termios.tcgetattr(program) == before


async def test_a_line_typed_during_the_reply_is_the_next_turn(terminal: tuple[int, int]) -> None:
    user, program = terminal
    async with TerminalKeyboard(program) as keyboard:
        with keyboard.barge_in(lambda: None):
            os.write(user, b"meanwhile\n")
        assert await keyboard.line() == "meanwhile"


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_at_the_prompt_leaves(
    terminal: tuple[int, int], kind: signal.Signals
) -> None:
    async with TerminalKeyboard(terminal[1]) as keyboard:
        os.kill(os.getpid(), kind)
        assert await keyboard.line() is None


async def test_a_termination_leaves_in_mid_reply_too(terminal: tuple[int, int]) -> None:
    barged_in = asyncio.Event()
    async with TerminalKeyboard(terminal[1]) as keyboard:
        os.write(terminal[0], b"unread\n")
        with keyboard.barge_in(barged_in.set):
            os.kill(os.getpid(), signal.SIGTERM)
            await barged_in.wait()
        while (line := await keyboard.line()) is not None:
            assert line == "unread"


async def test_a_pipe_is_read_line_by_line_to_its_end() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as stream:
        async with StreamKeyboard(stream) as keyboard:
            os.write(writer, "Olá.\r\nlast".encode())
            os.close(writer)
            assert await keyboard.line() == "Olá."
            assert await keyboard.line() == "last"
            assert await keyboard.line() is None


async def test_ctrl_c_ends_a_piped_conversation_at_once() -> None:
    reader, writer = os.pipe()
    barged_in = asyncio.Event()
    with os.fdopen(reader) as stream:
        async with StreamKeyboard(stream) as keyboard:
            with keyboard.barge_in(barged_in.set):
                os.kill(os.getpid(), signal.SIGINT)
                await barged_in.wait()
            assert await keyboard.line() is None
        os.close(writer)
