"""The one read before a model turn: what of the thread this run is to be shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ..domain import model_input
from ..domain.records import Run, Step
from . import files, messages, steps
from .messages import ShownMessage

SHORT = 50
"""Messages, and turns of tools, of a thread that is read in passing: half a millisecond's worth."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Oldest first. ``images`` are the bytes of uploaded images that are shown, by file id."""

    messages: Sequence[ShownMessage]
    turns: Sequence[Step]
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
    shown = messages.newest(connection, run.thread_id, view.on(run))
    wanted = model_input.image_files(shown)
    images = files.read(connection, run.project_id, wanted) if wanted else {}
    return Conversation(shown[::-1], _turns(connection, run, view, shown), images)


def read_short(connection: Connection, run: Run, view: View) -> Conversation | None:
    """The same of a short thread with few tool turns and no images; ``None`` for any other.

    For a transaction that others wait for: it saves the run a read of its own, and must not hold
    them up with a long one.
    """
    thread_id, first = run.thread_id, run.first_position
    if messages.are_more(connection, thread_id, from_position=first, most=SHORT):
        return None
    shown = messages.newest(connection, thread_id, view.on(run))
    if model_input.image_files(shown):
        return None
    turns = _turns(connection, run, view, shown, most=SHORT + 1)
    if len(turns) > SHORT:
        return None
    return Conversation(shown[::-1], turns, {})


def _turns(
    connection: Connection,
    run: Run,
    view: View,
    newest_first: Sequence[ShownMessage],
    *,
    most: int | None = None,
) -> Sequence[Step]:
    """The turns of tools among the messages that are shown, the oldest ``most``."""
    return steps.finished_calls(
        connection,
        run.thread_id,
        from_position=newest_first[-1].position if newest_first else 0,
        run_id=None if view.tool_history else run.id,
        most=most,
    )
