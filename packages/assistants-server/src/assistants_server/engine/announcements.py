"""Which events tell of a stored change, in the order the wire promises."""

from __future__ import annotations

from ..domain.records import Message, Run, Step, Thread
from ..domain.run_events import ObjectEvent, RunEvent
from ..store.run_endings import Ending


def created(run: Run, thread: Thread | None = None) -> list[RunEvent]:
    events: list[RunEvent] = []
    if thread is not None:
        events.append(ObjectEvent("thread.created", thread))
    return [*events, ObjectEvent("run.created", run), ObjectEvent("run.queued", run)]


def resumed(run: Run, step: Step) -> list[RunEvent]:
    """After ``submit_tool_outputs``: the answered step comes first."""
    return [ObjectEvent("run.step.completed", step), ObjectEvent("run.queued", run)]


def started(run: Run) -> RunEvent:
    return ObjectEvent("run.in_progress", run)


def step_opened(step: Step) -> list[RunEvent]:
    return [ObjectEvent("run.step.created", step), ObjectEvent("run.step.in_progress", step)]


def message_opened(message: Message, step: Step) -> list[RunEvent]:
    return [
        *step_opened(step),
        ObjectEvent("message.created", message),
        ObjectEvent("message.in_progress", message),
    ]


def message_closed(message: Message, step: Step) -> list[RunEvent]:
    return [
        ObjectEvent("message.completed", message),
        ObjectEvent("run.step.completed", step),
    ]


def waiting(run: Run) -> RunEvent:
    return ObjectEvent("run.requires_action", run)


def cancelling(run: Run) -> RunEvent:
    return ObjectEvent("run.cancelling", run)


def ended(ending: Ending) -> list[RunEvent]:
    """Inner to outer: message, step, run."""
    events: list[RunEvent] = []
    if ending.message is not None:
        events.append(ObjectEvent(f"message.{ending.message.status}", ending.message))
    if ending.step is not None:
        events.append(ObjectEvent(f"run.step.{ending.step.status}", ending.step))
    return [*events, ObjectEvent(f"run.{ending.run.status}", ending.run)]
