"""Cancelling: the status a client is told, and the ending where no process is at work."""

from __future__ import annotations

from sqlalchemy import Connection

from .. import errors
from ..domain.records import Run
from . import run_endings, runs, signals
from .run_endings import Ending, Outcome


def cancel(
    connection: Connection, project_id: str, thread_id: str, run_id: str, *, now: int
) -> tuple[Run, Ending | None]:
    """Move the run to ``cancelling``, and on to ``cancelled`` if nobody executes it.

    Returns the run as the answer shows it (``cancelling``), and the ending if there was one.

    Raises:
        NotFound: no such thread or run.
        BadRequest: the run's status does not allow it.
    """
    run = runs.get(connection, project_id, thread_id, run_id, lock=True)
    cancelling = runs.move(connection, run, "cancel")
    if cancelling is None:
        raise errors.cannot_cancel(run.status)
    ending = None
    if run.owner is not None:
        signals.touch(connection, run_id)
    else:
        ending = run_endings.end(
            connection, cancelling, Outcome(cause="stop"), now=now, unstored=None
        )
    return cancelling, ending
