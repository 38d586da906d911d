"""What a run writes while a model turn goes on: each function is one step of the turn.

``None`` (or ``False``) says that the run is not the caller's to write for any more: it was
cancelled, ended by another request, taken over, or deleted with its thread. Nothing was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from ..domain.records import JsonObject, Message, Run, Step, Usage
from . import messages, runs, steps


@dataclass(frozen=True, slots=True)
class Growth:
    """A message that is being written, as it reads after so many pieces."""

    message_id: str
    content: Sequence[JsonObject]
    pieces: int


def start(connection: Connection, run: Run, *, now: int) -> Run | None:
    """``queued`` becomes ``in_progress``; ``started_at`` is stamped anew on every re-entry."""
    return runs.move(connection, run, "start", started_at=now)


def open_message(
    connection: Connection, run: Run, message: Message, step: Step
) -> tuple[Message, Step] | None:
    """The first visible text: message and step come into being together."""
    if not runs.hold(connection, run):
        return None
    message = messages.insert(connection, message)
    step = replace(step, after_position=message.position)
    steps.insert(connection, step)
    return message, step


def close_message(
    connection: Connection, run: Run, message: Message, step: Step
) -> tuple[Message, Step] | None:
    """The turn goes on with tool calls: message and step are complete.

    The turn's usage is not known yet and is counted on the tool step that follows.
    """
    if not runs.hold(connection, run):
        return None
    messages.close(connection, message)
    steps.save(connection, step)
    return message, step


def open_calls(connection: Connection, run: Run, step: Step) -> Step | None:
    """The first tool call of the turn."""
    if not runs.hold(connection, run):
        return None
    step = replace(step, after_position=messages.newest_position(connection, run.thread_id))
    steps.insert(connection, step)
    return step


def require_action(
    connection: Connection, run: Run, step: Step, *, pending: list[dict[str, Any]], usage: Usage
) -> Run | None:
    """The turn ended with calls for the client: the run waits, and no process holds it."""
    waiting = runs.move(
        connection,
        run,
        "call_tools",
        pending_calls=pending,
        usage=run.usage + usage,
        turns=run.turns + 1,
        owner=None,
        lease_until=None,
    )
    if waiting is not None:
        steps.save(connection, replace(step, usage=usage))
    return waiting


def checkpoint(connection: Connection, growths: Sequence[Growth]) -> None:
    """Store the texts so far, of whatever is still open of them."""
    for growth in growths:
        messages.checkpoint(connection, growth.message_id, growth.content)
