"""What a run can announce. Streams read these in order; the wire gives them their JSON."""

from __future__ import annotations

from dataclasses import dataclass

from .records import Message, Run, Step, Thread


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """An object was created or changed, and is stored so.

    ``name`` is the wire's event name without ``thread.`` for all but the thread itself:
    ``thread.created``, ``run.created``, ``run.step.completed``, ``message.incomplete``, …
    """

    name: str
    record: Thread | Run | Step | Message


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of one content block. ``opens`` marks the first delta of the block."""

    message_id: str
    index: int
    text: str
    opens: bool


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """More of the model's refusal."""

    message_id: str
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallOpened:
    """A function call begins. Its arguments follow as ``CallDelta`` only: the official SDK raises
    no delta callback for the first delta of a call."""

    step_id: str
    index: int
    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallDelta:
    """More of a function call's arguments (a fragment of JSON text)."""

    step_id: str
    index: int
    arguments: str


@dataclass(frozen=True, slots=True)
class StreamFault:
    """The server cannot go on with this stream; the run's true state is in the store."""

    message: str


RunEvent = ObjectEvent | TextDelta | RefusalDelta | CallOpened | CallDelta | StreamFault
