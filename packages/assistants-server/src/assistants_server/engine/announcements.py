"""Which events tell of a stored change, in the order the wire promises."""

from __future__ import annotations

from collections.abc import Iterable

from ..domain.records import Message, Run, Step, Thread
from ..domain.run_events import ObjectEvent, RunEvent
from ..store.run_endings import Ending


def created(run: Run, thread: Thread | None = None) -> list[RunEvent]:
    events: list[RunEvent] = []
    if thread is not None:
        events.append(ObjectEvent("thread.created", thread))
    return [*events, ObjectEvent("run.created", run), run_is(run)]


def resumed(run: Run, answered: Iterable[Step]) -> list[RunEvent]:
    """After ``submit_tool_outputs``: the answered step comes first."""
    return [*map(step_is, answered), run_is(run)]


def step_opened(step: Step) -> list[RunEvent]:
    return [ObjectEvent("run.step.created", step), step_is(step)]


def message_opened(message: Message, step: Step) -> list[RunEvent]:
    return [*step_opened(step), ObjectEvent("message.created", message), message_is(message)]


def message_closed(message: Message, step: Step) -> list[RunEvent]:
    return [message_is(message), step_is(step)]


def ended(ending: Ending) -> list[RunEvent]:
    """Inner to outer: message, step, run."""
    events: list[RunEvent] = []
    if ending.message is not None:
        events.append(message_is(ending.message))
    if ending.step is not None:
        events.append(step_is(ending.step))
    return [*events, run_is(ending.run)]


def run_is(run: Run) -> RunEvent:
    """The run came into its status."""
    return ObjectEvent(f"run.{run.status}", run)


def step_is(step: Step) -> RunEvent:
    return ObjectEvent(f"run.step.{step.status}", step)


def message_is(message: Message) -> RunEvent:
    return ObjectEvent(f"message.{message.status}", message)
