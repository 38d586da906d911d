"""What the terminal agent prints."""

from __future__ import annotations

import io

import pytest
from examples.terminal.screen import HISTORY, Screen
from livekit.agents import llm
from rich.console import Console


def screen(*, echo: bool = True, terminal: bool = False) -> tuple[Screen, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=20)
    return Screen(console, errors=console, echo=echo), file


async def test_a_reply_is_printed_as_it_comes() -> None:
    printer, file = screen()
    await printer.capture_text("Hel")
    assert file.getvalue() == "agent Hel"
    await printer.capture_text("lo, I am a line longer than the terminal.")
    printer.flush()
    assert file.getvalue() == "agent Hello, I am a line longer than the terminal.\n"


async def test_replies_of_one_turn_stand_on_their_own_lines() -> None:
    printer, file = screen()
    for text in ("One moment.", "It is noon."):
        await printer.capture_text(text)
        printer.flush()
    assert file.getvalue() == "agent One moment.\nagent It is noon.\n"


async def test_nothing_heard_prints_nothing() -> None:
    printer, file = screen()
    await printer.capture_text(" \n")
    printer.flush()
    assert file.getvalue() == ""


async def test_a_reply_cannot_drive_the_terminal() -> None:
    printer, file = screen()
    await printer.capture_text("a\x1b[2J\x07b [red]c[/red]")
    printer.flush()
    assert file.getvalue() == "agent a[2Jb [red]c[/red]\n"


async def test_a_note_in_mid_reply_starts_a_line() -> None:
    printer, file = screen()
    await printer.capture_text("Let me see")
    printer.note("get_time() -> 12:00")
    assert file.getvalue() == "agent Let me see\nget_time() -> 12:00\n"


def test_typed_lines_are_not_printed_again() -> None:
    typed, file = screen(echo=False)
    typed.prompt()
    typed.user("Hi")
    assert file.getvalue() == "  you "
    piped, file = screen(echo=True)
    piped.prompt()
    piped.user("Hi")
    assert file.getvalue() == "  you Hi\n"


def test_a_long_history_shows_its_end() -> None:
    context = llm.ChatContext()
    for number in range(HISTORY + 2):
        context.add_message(role="assistant" if number % 2 else "user", content=f"m{number}")
    printer, file = screen()
    printer.history(context.items)
    lines = file.getvalue().splitlines()
    assert lines[0] == "(2 earlier messages)"
    assert lines[1] == "  you m2"
    assert lines[-1] == f"agent m{HISTORY + 1}"


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("1", False)])
def test_colour_can_be_refused(
    monkeypatch: pytest.MonkeyPatch, no_color: str | None, coloured: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    printer, file = screen(terminal=True)
    printer.user("Hi")
    assert ("\x1b[1;32m" in file.getvalue()) is coloured
