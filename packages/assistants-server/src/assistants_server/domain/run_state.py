"""The life of runs, steps and messages as tables. Nothing else decides what is legal.

Two rules: every status change in the product goes through one of these tables, and this file knows
neither database nor wire. A cause that a status does not list is refused (``None``): terminal
statuses list nothing, so terminal is final.

The statuses and arrows are those of OpenAI's run life cycle. ``end`` is ours: the run is ended by
another request in that request's own transaction, so it skips ``cancelling``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

RunStatus = Literal[
    "queued",
    "in_progress",
    "requires_action",
    "cancelling",
    "cancelled",
    "failed",
    "completed",
    "incomplete",
    "expired",
]
StepStatus = Literal["in_progress", "cancelled", "failed", "completed", "expired"]
MessageStatus = Literal["in_progress", "incomplete", "completed"]

RunCause = Literal[
    "start",  # a worker picks the run up, or picks it up again before the turn has said anything
    "call_tools",  # the model asked for functions of the client
    "submit",  # the client answered all of them
    "complete",  # the model is done
    "bound",  # a token bound or a content filter ended it
    "fail",
    "expire",
    "cancel",  # the client asks; the work may still be going on
    "stop",  # the cancelled work has stopped
    "end",  # another request ends it at once (end_runs, supersede)
]

RUN_TRANSITIONS: Mapping[RunStatus, Mapping[RunCause, RunStatus]] = {
    "queued": {
        "start": "in_progress",
        "fail": "failed",
        "expire": "expired",
        "cancel": "cancelling",
        "end": "cancelled",
    },
    "in_progress": {
        "start": "in_progress",
        "call_tools": "requires_action",
        "complete": "completed",
        "bound": "incomplete",
        "fail": "failed",
        "expire": "expired",
        "cancel": "cancelling",
        "end": "cancelled",
    },
    "requires_action": {
        "submit": "queued",
        "expire": "expired",
        "cancel": "cancelling",
        "end": "cancelled",
    },
    "cancelling": {"stop": "cancelled", "end": "cancelled"},
    "cancelled": {},
    "failed": {},
    "completed": {},
    "incomplete": {},
    "expired": {},
}

ACTIVE: frozenset[RunStatus] = frozenset({"queued", "in_progress", "requires_action", "cancelling"})
"""A run in one of these locks its thread."""

TERMINAL: frozenset[RunStatus] = frozenset(RUN_TRANSITIONS) - ACTIVE

UPDATABLE: frozenset[RunStatus] = TERMINAL | {"requires_action"}
"""A client may change the metadata of a run in these (recorded refusal: in_progress)."""

STEP_ENDS: Mapping[RunCause, StepStatus] = {
    "complete": "completed",
    "submit": "completed",
    "bound": "completed",
    "fail": "failed",
    "expire": "expired",
    "stop": "cancelled",
    "end": "cancelled",
}
"""What becomes of a step that is in progress when its run meets the cause."""

INCOMPLETE_REASONS: Mapping[RunCause, str] = {
    "bound": "max_tokens",
    "fail": "run_failed",
    "expire": "run_expired",
    "stop": "run_cancelled",
    "end": "run_cancelled",
}
"""Why a message that is in progress stays ``incomplete`` when its run meets the cause."""


def run_after(status: RunStatus, cause: RunCause) -> RunStatus | None:
    """The status that follows, or ``None`` where the cause is not allowed in this status."""
    return RUN_TRANSITIONS[status].get(cause)
