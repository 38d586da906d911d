"""What a run writes while a model turn goes on: each function is one step of the turn.

``None`` (or ``False``) says that the run is not the caller's to write for any more: it was
cancelled, ended by another request, taken over, or deleted with its thread. Nothing was written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

from ..domain.records import JsonObject, Message, Run, Step, Usage
from . import conversation, messages, runs, steps
from .conversation import Conversation, View

P = ParamSpec("P")
M = TypeVar("M", bound="Made")


@dataclass(frozen=True, slots=True)
class Growth:
    """A message that is being written, as it reads after so many pieces."""

    message_id: str
    content: Sequence[JsonObject]
    pieces: int


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn of ``run``, which is now in progress.

    ``shown`` is what the model is to see of a thread so short that it was read along the way.
    """

    run: Run
    shown: Conversation | None


def begin(connection: Connection, run: Run, view: View, *, now: int) -> Begun | None:
    """``started_at`` is stamped anew on every re-entry."""
    started = runs.move(connection, run, "start", started_at=now)
    if started is None:
        return None
    return Begun(started, conversation.read_short(connection, started, view))


class Made(Protocol):
    """What makes or resumes a run, and begins its turn along the way."""

    @property
    def started(self) -> Run: ...


def made_and_read(
    make: Callable[Concatenate[Connection, P], M], view: View
) -> Callable[Concatenate[Connection, P], tuple[M, Begun]]:
    """Read a short thread in the transaction that makes or resumes a run.

    One read less before the model is asked.
    """

    @wraps(make)
    def store(connection: Connection, /, *args: P.args, **kwargs: P.kwargs) -> tuple[M, Begun]:
        made = make(connection, *args, **kwargs)
        shown = conversation.read_short(connection, made.started, view)
        return made, Begun(made.started, shown)

    return store


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


def open_calls(
    connection: Connection, run: Run, step: Step, *, said: tuple[Message, Step] | None
) -> Step | None:
    """The first tool call of the turn; what it ``said`` before, with the step of it, is complete.

    The turn's usage is not known yet and is counted on the tool step.
    """
    if not runs.hold(connection, run):
        return None
    if said is not None:
        messages.close(connection, said[0])
        steps.save(connection, said[1])
    step = replace(step, after_position=steps.next_place(connection, run.thread_id))
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
