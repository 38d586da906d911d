"""Run steps: the object. Clients only read them."""

from __future__ import annotations

from ..domain.records import Step, Usage
from .objects import CallDetailsObject, MessageDetailsObject, StepObject
from .parts import IncludeQuery, ListQuery
from .runs import failure, usage


class StepsQuery(ListQuery, IncludeQuery):
    pass


def render(step: Step) -> StepObject:
    return {
        "id": step.id,
        "object": "thread.run.step",
        "created_at": step.created_at,
        "run_id": step.run_id,
        "assistant_id": step.assistant_id,
        "thread_id": step.thread_id,
        "type": step.type,
        "status": step.status,
        "cancelled_at": step.cancelled_at,
        "completed_at": step.completed_at,
        "expires_at": step.expires_at,
        "expired_at": step.expired_at,
        "failed_at": step.failed_at,
        "last_error": failure(step.last_error),
        "step_details": _details(step),
        "usage": None if step.status == "in_progress" else usage(step.usage or Usage()),
        "metadata": {},
    }


def _details(step: Step) -> MessageDetailsObject | CallDetailsObject:
    if step.type == "message_creation":
        return {
            "type": "message_creation",
            "message_creation": {"message_id": step.message_id},
        }
    return {"type": "tool_calls", "tool_calls": step.tool_calls}
