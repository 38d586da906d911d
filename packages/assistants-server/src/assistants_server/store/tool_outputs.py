"""The answers to a run's pending calls: all of them, at once, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from .. import errors
from ..domain.drafts import ToolOutput
from ..domain.records import Run, Step
from . import run_endings, runs, steps, thread_lock
from .run_creation import Claim


@dataclass(frozen=True, slots=True)
class Resumed:
    """``run`` is as clients are told of it first, ``started`` as it is stored: its next turn has
    begun in the same transaction. ``step`` is the answered one."""

    run: Run
    started: Run
    step: Step


def submit(
    connection: Connection,
    project_id: str,
    thread_id: str,
    run_id: str,
    outputs: Sequence[ToolOutput],
    *,
    claim: Claim,
    now: int,
) -> Resumed:
    """Finish the pending step; the run goes on in the process that received this.

    Raises:
        NotFound: no such thread or run.
        BadRequest: the run is not waiting for outputs, or these are not exactly the ones it
            waits for.
    """
    thread_lock.hold(connection, project_id, thread_id)
    run = runs.get(connection, project_id, thread_id, run_id, lock=True)
    if run.status != "requires_action":
        raise errors.outputs_not_accepted(run.status)
    expected = [call["id"] for call in run.pending_calls]
    given = [output.tool_call_id for output in outputs]
    if sorted(expected) != sorted(given):
        raise errors.outputs_mismatch(expected, given)
    answers = {output.tool_call_id: output.output for output in outputs}
    (step,) = (
        run_endings.answer_all(step, answers, now=now)
        for step in steps.in_progress(connection, run_id)
    )
    steps.save(connection, step)
    started = runs.move(
        connection,
        run,
        "submit",
        "start",
        started_at=now,
        pending_calls=[],
        owner=claim.owner,
        lease_until=claim.lease_until,
        taken_over=False,
    )
    if started is None:
        raise errors.outputs_not_accepted(run.status)
    queued = replace(started, status="queued", started_at=run.started_at)
    return Resumed(queued, started, step)
