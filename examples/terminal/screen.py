"""What the user sees. Colour only on a terminal that wants it (``NO_COLOR``), text everywhere.

``Screen`` is the session's transcription output: LiveKit hands it the reply in the order it was
heard, and what is printed here is what LiveKit counts as heard.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from livekit.agents import io, llm
from rich.console import Console
from rich.text import Text

HISTORY = 20  # messages shown of a resumed thread

# A model's text must not move the cursor or recolour the terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Screen(io.TextOutput):
    """Prints the conversation. ``echo``: the user's lines too, where nobody typed them here."""

    def __init__(self, console: Console, *, errors: Console, echo: bool) -> None:
        super().__init__(label="terminal", next_in_chain=None)
        self._console = console
        self._errors = errors
        self._echo = echo
        self._open = False  # a reply has begun on this line and not ended

    # The reply, as LiveKit plays it.

    async def capture_text(self, text: str) -> None:
        if not self._open:
            text = text.lstrip()
            if not text:
                return
            self._label("agent", "bold cyan")
            self._open = True
        self._write(text)

    def flush(self) -> None:
        self._close_line()

    # Everything else.

    def prompt(self) -> None:
        self._close_line()
        if not self._echo:
            self._label("you", "bold green")

    def user(self, text: str) -> None:
        """A line the user gave; it is on the screen already if it was typed there."""
        if self._echo:
            self._message("you", "bold green", text)

    def history(self, items: Sequence[llm.ChatItem]) -> None:
        """What a resumed thread holds, newest last."""
        messages = [
            (item.role, item.text_content or "")
            for item in items
            if isinstance(item, llm.ChatMessage) and item.role in ("user", "assistant")
        ]
        if len(messages) > HISTORY:
            self.note(f"({len(messages) - HISTORY} earlier messages)")
        for role, text in messages[-HISTORY:]:
            name, style = ("you", "green") if role == "user" else ("agent", "cyan")
            self._message(name, style, text)

    def note(self, text: str) -> None:
        """Something about the conversation, discreetly."""
        self._close_line()
        self._console.print(Text(text, style="dim"), soft_wrap=True)

    def say(self, text: str) -> None:
        self._close_line()
        self._console.print(Text(text), soft_wrap=True)

    def complain(self, sentence: str) -> None:
        self._close_line()
        self._errors.print(Text(sentence, style="red"), soft_wrap=True)

    def leave_prompt(self) -> None:
        """The user left at the prompt, where the cursor still is."""
        if not self._echo:
            self._console.print()

    def _message(self, name: str, style: str, text: str) -> None:
        self._close_line()
        self._label(name, style)
        self._write(text)
        self._console.print()

    def _label(self, name: str, style: str) -> None:
        self._console.print(Text(f"{name:>5} ", style=style), end="", soft_wrap=True)

    def _write(self, text: str) -> None:
        self._console.out(_CONTROLS.sub("", text), end="", highlight=False)
        self._console.file.flush()

    def _close_line(self) -> None:
        if self._open:
            self._open = False
            self._console.print()
