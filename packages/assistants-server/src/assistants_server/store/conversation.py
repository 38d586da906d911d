"""The one read before a model turn: what of the thread this run is to be shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ..domain import model_input
from ..domain.records import Run, Step
from . import files, messages, steps
from .messages import Newest, ShownMessage

SHORT = 50
"""Messages, and turns of tools, of a thread that is read in passing: half a millisecond's worth."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Oldest first. ``tokens`` are estimated; ``images`` are the bytes of uploaded images that are
    shown, by file id."""

    messages: Sequence[ShownMessage]
    turns: Sequence[Step]
    tokens: int
    images: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class View:
    """How much of a thread runs show their models: ``window`` tells the context window of the one
    that a run asks, in tokens. It is called in any thread."""

    window: Callable[[Run], int]
    tool_history: bool

    def on(self, run: Run) -> messages.Window:
        budget = model_input.prompt_budget(run, window=self.window(run))
        return messages.Window(
            first_position=run.first_position, excluded=run.excluded_ids, tokens=budget
        )


def read(connection: Connection, run: Run, view: View) -> Conversation:
    """As much of the thread as the run's model has room for, the newest part; bounded however long
    it is."""
    window = view.on(run)
    newest = messages.newest(connection, run.thread_id, window)
    turns = _turns(connection, run, view, newest)
    shown, turns, tokens = model_input.fitting(
        run, newest.messages[::-1], turns, budget=window.tokens
    )
    wanted = model_input.image_files(shown[::-1])  # the newest first: not all may have room
    images = files.read(connection, run.project_id, wanted) if wanted else {}
    return Conversation(shown, turns, tokens, images)


def read_short(connection: Connection, run: Run, view: View) -> Conversation | None:
    """The same of a short thread with few tool turns and no images; ``None`` for any other.

    For a transaction that others wait for: it saves the run a read of its own, and must not hold
    them up with a long one.
    """
    thread_id, first = run.thread_id, run.first_position
    if messages.are_more(connection, thread_id, from_position=first, most=SHORT):
        return None
    window = view.on(run)
    newest = messages.newest(connection, thread_id, window)
    if model_input.image_files(newest.messages):
        return None
    turns = _turns(connection, run, view, newest, most=SHORT + 1)
    if len(turns) > SHORT:
        return None
    shown, turns, tokens = model_input.fitting(
        run, newest.messages[::-1], turns, budget=window.tokens
    )
    return Conversation(shown, turns, tokens, {})


def _turns(
    connection: Connection,
    run: Run,
    view: View,
    newest: Newest,
    *,
    most: int | None = None,
) -> Sequence[Step]:
    """The turns of tools among the messages that are shown, the oldest ``most``."""
    return steps.finished_calls(
        connection,
        run.thread_id,
        from_position=newest.from_position,
        run_id=None if view.tool_history else run.id,
        most=most,
    )
