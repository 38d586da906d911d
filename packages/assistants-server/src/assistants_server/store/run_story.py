"""A run with all it has brought about, for telling a stream from what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ..domain.records import Message, Run, Step, Thread
from . import messages, runs, steps, threads


@dataclass(frozen=True, slots=True)
class RunStory:
    """Steps oldest first; messages by id, those that are still there."""

    run: Run
    thread: Thread
    steps: Sequence[Step]
    messages: Mapping[str, Message]


def read(connection: Connection, run_id: str) -> RunStory | None:
    """``None``: the run is gone with its thread."""
    run = runs.by_id(connection, run_id)
    if run is None:
        return None
    return RunStory(
        run,
        threads.get(connection, run.project_id, run.thread_id),
        steps.of_run(connection, run_id),
        {message.id: message for message in messages.written_by(connection, run_id)},
    )
