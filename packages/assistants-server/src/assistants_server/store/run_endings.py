"""How a run ends: message, step and run are closed together, inner to outer, in one transaction.

Whoever ends a run (its own worker, a cancel, the sweeper, another request) comes through here, so
there is one place that knows what an ending does to what is still open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from ..domain.drafts import EndRun
from ..domain.records import Failure, JsonObject, Message, Run, Step, Usage
from ..domain.run_state import INCOMPLETE_REASONS, STEP_ENDS, RunCause
from . import messages, runs, signals, steps


@dataclass(frozen=True, slots=True)
class Unstored:
    """What the worker holds of an open turn beyond the last checkpoint."""

    content: Sequence[JsonObject] = ()
    tool_calls: Sequence[JsonObject] = ()


@dataclass(frozen=True, slots=True)
class Ending:
    """The ended run with what was closed along with it."""

    run: Run
    message: Message | None = None
    step: Step | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Why the run ends and what is known at its end.

    ``reason`` says which bound was met: ``max_completion_tokens``, ``max_prompt_tokens`` or
    ``content_filter``. ``answers`` are outputs for calls that were pending (extension
    ``tool_outputs``): calls without one leave their step.
    """

    cause: RunCause
    usage: Usage | None = None
    failure: Failure | None = None
    reason: str | None = None
    answers: Mapping[str, str] = field(default_factory=dict)


def end(
    connection: Connection, run: Run, outcome: Outcome, *, now: int, unstored: Unstored | None
) -> Ending | None:
    """End ``run``; ``None`` if it is not, or no longer, in a status that allows the cause."""
    cause = outcome.cause
    usage = run.usage if outcome.usage is None else run.usage + outcome.usage
    values: dict[str, Any] = {
        "usage": usage,
        "pending_calls": [],
        "lease_until": None,
    }
    if outcome.usage is not None:
        values["turns"] = run.turns + 1
    if cause != "expire":
        values["expires_at"] = None
    if cause in ("complete", "bound"):
        values["completed_at"] = now
    if cause == "bound":
        values["incomplete_reason"] = outcome.reason
    if cause == "fail":
        values["failed_at"] = now
        values["last_error"] = outcome.failure
    if cause in ("stop", "end"):
        values["cancelled_at"] = now
    ended = runs.move(connection, run, cause, **values)
    if ended is None:
        return None
    if cause == "end" and run.owner is not None:
        signals.touch(connection, run.id)
    unstored = unstored or Unstored()
    message = step = None
    for open_message in messages.in_progress(connection, run.id):
        message = _close_message(connection, open_message, outcome, unstored, now=now)
    for open_step in steps.in_progress(connection, run.id):
        step = _close_step(connection, open_step, outcome, unstored, now=now)
    return Ending(ended, message, step)


def end_named(
    connection: Connection,
    thread_id: str,
    wishes: Sequence[EndRun],
    answers: Mapping[str, str],
    *,
    now: int,
    unstored: Callable[[str], Unstored | None],
) -> list[Ending]:
    """Extension ``end_runs``, on a thread whose row the caller has locked: end what is active,
    delete what is not kept, and remember the names, so that what comes late is refused."""
    ended: list[Ending] = []
    for wish in wishes:
        runs.bury_key(connection, thread_id, wish.run_key)
        named = runs.by_key(connection, thread_id, wish.run_key)
        if named is None:
            continue
        ended += end_by_request(connection, named, answers, now=now, unstored=unstored)
        if wish.keep is not None:
            kept = set(wish.keep)
            brought = [message.id for message in messages.of_run(connection, named.id)]
            messages.discard(connection, thread_id, [one for one in brought if one not in kept])
    return ended


def end_by_request(
    connection: Connection,
    run: Run,
    answers: Mapping[str, str],
    *,
    now: int,
    unstored: Callable[[str], Unstored | None],
) -> list[Ending]:
    """End a run because another request says so; nothing if it has ended.

    Args:
        unstored: what this process holds of a run it is executing, beyond the database.
    """
    outcome = Outcome(cause="end", answers=answers)
    ending = end(connection, run, outcome, now=now, unstored=unstored(run.id))
    return [] if ending is None else [ending]


def _close_message(
    connection: Connection, message: Message, outcome: Outcome, unstored: Unstored, *, now: int
) -> Message:
    content = unstored.content or message.content
    if outcome.cause == "complete":
        message = replace(message, content=content, status="completed", completed_at=now)
    else:
        reason = INCOMPLETE_REASONS[outcome.cause]
        if outcome.reason == "content_filter":
            reason = "content_filter"
        message = replace(
            message,
            content=content,
            status="incomplete",
            incomplete_reason=reason,
            incomplete_at=now,
        )
    messages.close(connection, message)
    return message


def _close_step(
    connection: Connection, step: Step, outcome: Outcome, unstored: Unstored, *, now: int
) -> Step:
    status = STEP_ENDS[outcome.cause]
    calls = step.tool_calls
    if step.type == "tool_calls":
        calls = unstored.tool_calls or calls
        answered = [
            _answer(call, outcome.answers[call["id"]])
            for call in calls
            if call["id"] in outcome.answers
        ]
        if answered:
            status, calls = "completed", answered
        elif outcome.cause == "bound":
            status = "cancelled"  # a call that was cut off was never made
    usage = step.usage or outcome.usage or Usage()
    step = replace(step, status=status, tool_calls=calls, usage=usage, expires_at=None)
    if status == "completed":
        step = replace(step, completed_at=now)
    elif status == "cancelled":
        step = replace(step, cancelled_at=now)
    elif status == "expired":
        step = replace(step, expired_at=now)
    else:
        step = replace(step, failed_at=now, last_error=_of_step(outcome.failure))
    steps.save(connection, step)
    return step


def _of_step(failure: Failure | None) -> Failure | None:
    """Steps know fewer codes than runs: ``invalid_prompt`` is none of theirs."""
    if failure is None or failure.code in ("server_error", "rate_limit_exceeded"):
        return failure
    return replace(failure, code="server_error")


def _answer(call: JsonObject, output: str) -> JsonObject:
    return {**call, "function": {**call["function"], "output": output}}


def answer_all(step: Step, answers: Mapping[str, str], *, now: int) -> Step:
    """The pending step once every call has its output."""
    return replace(
        step,
        status="completed",
        completed_at=now,
        expires_at=None,
        usage=step.usage or Usage(),
        tool_calls=[_answer(call, answers[call["id"]]) for call in step.tool_calls],
    )


def read(
    connection: Connection, run_id: str, *, message_id: str | None, step_id: str | None
) -> Ending | None:
    """How a run that somebody else ended now stands; ``None`` if it was deleted."""
    run = runs.by_id(connection, run_id)
    if run is None:
        return None
    message = None if message_id is None else messages.by_id(connection, message_id)
    step = None if step_id is None else steps.by_id(connection, step_id)
    return Ending(run, message, step)
