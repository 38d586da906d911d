"""All runs, steps and messages as one transaction sees them, and what must hold of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from assistants_server.domain.run_state import ACTIVE, RUN_TRANSITIONS, TERMINAL, RunStatus
from assistants_server.store import rows

Row = dict[str, Any]

REASONS = {
    "failed": "run_failed",
    "expired": "run_expired",
    "cancelled": "run_cancelled",
}
STEP_OF_RUN: Mapping[str, set[str]] = {
    "completed": {"completed"},
    "incomplete": {"completed", "cancelled"},
    "failed": {"completed", "failed"},
    "expired": {"completed", "expired"},
    "cancelled": {"completed", "cancelled"},
}
"""How the steps of an ended run may have ended."""


def _reachable() -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for status in RUN_TRANSITIONS:
        seen: set[RunStatus] = set()
        waiting = [status]
        while waiting:
            here = waiting.pop()
            if here not in seen:
                seen.add(here)
                waiting += RUN_TRANSITIONS[here].values()
        found[status] = frozenset(seen)
    return found


REACHABLE = _reachable()
"""By the table: every status that a run of some status may come to have, that one included."""


def between(before: str, after: str) -> set[str]:
    """Every status that a run may have had on its way from one to the other."""
    return {status for status in REACHABLE[before] if after in REACHABLE[status]}


@dataclass(frozen=True)
class Snapshot:
    threads: frozenset[str]
    runs: Mapping[str, Row]
    steps: Mapping[str, Row]
    messages: Mapping[str, Row]

    def active(self, thread_id: str) -> Row | None:
        return next(
            (
                run
                for run in self.runs.values()
                if run["thread_id"] == thread_id and run["status"] in ACTIVE
            ),
            None,
        )

    def steps_of(self, run_id: str) -> list[Row]:
        return [step for step in self.steps.values() if step["run_id"] == run_id]

    def written_by(self, run_id: str) -> list[Row]:
        return [message for message in self.messages.values() if message["run_id"] == run_id]


def take(connection: Connection, thread_ids: set[str]) -> Snapshot:
    """Of these threads."""

    def read(table: sa.Table, column: str) -> dict[str, Row]:
        query = sa.select(table).where(table.c[column].in_(thread_ids)).order_by(table.c.seq)
        return {row.id: dict(row._mapping) for row in connection.execute(query)}

    return Snapshot(
        threads=frozenset(read(rows.threads, "id")),
        runs=read(rows.runs, "thread_id"),
        steps=read(rows.steps, "thread_id"),
        messages=read(rows.messages, "thread_id"),
    )


def judge(now: Snapshot, before: Snapshot) -> None:
    """Raises: AssertionError: a promise is broken, here or on the way from ``before``."""
    for thread_id in now.threads:
        active = [
            run["id"]
            for run in now.runs.values()
            if run["thread_id"] == thread_id and run["status"] in ACTIVE
        ]
        assert len(active) <= 1, f"{thread_id} has the active runs {active}"
    for rows_of in (now.runs, now.steps, now.messages):
        assert {row["thread_id"] for row in rows_of.values()} <= now.threads, "deleted is deleted"
    for run_id, run in now.runs.items():
        _judge_run(run, now)
        if run_id in before.runs:
            _judge_change(before.runs[run_id], run)
    for step_id, step in now.steps.items():
        earlier = before.steps.get(step_id)
        if earlier is not None and earlier["status"] != "in_progress":
            assert step == earlier, f"{step_id} had ended and changed"
    for message_id, message in now.messages.items():
        earlier = before.messages.get(message_id)
        if earlier is not None and earlier["status"] != "in_progress":
            assert message["status"] == earlier["status"], f"{message_id} had ended and changed"
            assert message["content"] == earlier["content"], f"{message_id} had ended and changed"


def _judge_change(earlier: Row, run: Row) -> None:
    assert run["status"] in REACHABLE[earlier["status"]], (
        f"{run['id']} went from {earlier['status']} to {run['status']}"
    )
    if earlier["status"] in TERMINAL:
        kept = {key: value for key, value in run.items() if key != "metadata"}
        assert kept == {key: earlier[key] for key in kept}, f"{run['id']} had ended and changed"


def _judge_run(run: Row, now: Snapshot) -> None:
    name, status = run["id"], run["status"]
    steps, written = now.steps_of(name), now.written_by(name)
    open_steps = [step for step in steps if step["status"] == "in_progress"]
    open_messages = [message for message in written if message["status"] == "in_progress"]
    assert len(open_steps) <= 1, f"{name} has {len(open_steps)} open steps"
    assert len(open_messages) <= 1, f"{name} has {len(open_messages)} open messages"
    if open_messages:
        assert open_steps, f"{name} has an open message without a step"
        assert open_steps[0]["message_id"] == open_messages[0]["id"]
    if status == "queued" or status in TERMINAL:
        assert not open_steps, f"{name} is {status} with an open step"
        assert not open_messages, f"{name} is {status} with an open message"
    if status == "requires_action":
        assert len(open_steps) == 1, f"{name} waits without a step that waits"
        pending = [(call["id"], call["function"]["name"]) for call in run["pending_calls"]]
        shown = [(c["id"], c["function"]["name"]) for c in open_steps[0]["tool_calls"]]
        assert pending == shown, f"{name} waits for {pending}, its step for {shown}"
        assert pending
    else:
        assert not run["pending_calls"], f"{name} is {status} and has pending calls"
    works = status in ("queued", "in_progress")
    assert not works or run["owner"] is not None, f"{name} is {status} and nobody's"
    assert works or status == "cancelling" or run["lease_until"] is None, f"{name}: {status}"
    if status in TERMINAL:
        _judge_ended(run, steps, written)


def _judge_ended(run: Row, steps: list[Row], written: list[Row]) -> None:
    name, status = run["id"], run["status"]
    assert {step["status"] for step in steps} <= STEP_OF_RUN[status], f"{name}: {steps}"
    told = {"prompt_tokens", "completion_tokens"}
    for key in told:
        of_steps = sum(step["usage"][key] for step in steps)
        assert not steps or run["usage"][key] >= of_steps, f"{name}: usage of its steps is more"
    for message in written:
        assert message["content"], f"{message['id']} of an ended run is empty"
        if message["status"] == "incomplete" and status in REASONS:
            assert message["incomplete_reason"] == REASONS[status], name
    if status == "completed":
        assert all(message["status"] == "completed" for message in written), name
    for step in steps:
        if step["type"] == "tool_calls" and step["status"] == "completed":
            assert all(call["function"]["output"] is not None for call in step["tool_calls"])
