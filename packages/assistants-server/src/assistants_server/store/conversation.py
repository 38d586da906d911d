"""The one read before a model turn: what of the thread this run is to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ..domain import model_input
from ..domain.records import Message, Run, Step
from . import files, messages, steps


@dataclass(frozen=True, slots=True)
class Conversation:
    """Oldest first. ``images`` are the bytes of uploaded images that are shown, by file id."""

    messages: Sequence[Message]
    turns: Sequence[Step]
    images: dict[str, bytes]


def read(connection: Connection, run: Run, *, tokens: int, tool_history: bool) -> Conversation:
    """At most about ``tokens`` of the thread, the newest part; bounded however long it is."""
    shown = list(
        messages.newest(
            connection,
            run.thread_id,
            first_position=run.first_position,
            excluded=run.excluded_ids,
            tokens=tokens,
        )
    )
    shown.reverse()
    turns = steps.finished_calls(
        connection,
        run.thread_id,
        from_position=shown[0].position if shown else 0,
        run_id=None if tool_history else run.id,
    )
    wanted = model_input.image_files(shown)
    images = files.read(connection, run.project_id, wanted) if wanted else {}
    return Conversation(shown, turns, images)
