"""What the deltas of a stream look like. What an opening delta says, later ones never repeat: the
SDKs concatenate.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from tests.wire_rules.parts import CallId, Exact, MessageId, StepId


class FirstText(Exact):
    """The first delta of a text block. Later ones have no annotations."""

    value: str
    annotations: list[dict[str, Any]]


class MoreText(Exact):
    value: Annotated[str, Field(min_length=1)]


class TextDelta(Exact):
    index: Annotated[int, Field(ge=0)]
    type: Literal["text"]
    text: FirstText | MoreText


class RefusalDelta(Exact):
    index: Annotated[int, Field(ge=0)]
    type: Literal["refusal"]
    refusal: Annotated[str, Field(min_length=1)]


class MessageDeltaContent(Exact):
    content: Annotated[list[TextDelta | RefusalDelta], Field(min_length=1)]


class MessageDelta(Exact):
    id: MessageId
    object: Literal["thread.message.delta"]
    delta: MessageDeltaContent


class OpeningFunction(Exact):
    name: str
    arguments: Literal[""]
    output: None


class OpeningCall(Exact):
    """The first delta of a call: handlers get no delta callback for it, so it has no arguments."""

    index: Annotated[int, Field(ge=0)]
    id: CallId
    type: Literal["function"]
    function: OpeningFunction


class MoreFunction(Exact):
    arguments: Annotated[str, Field(min_length=1)]


class MoreCall(Exact):
    index: Annotated[int, Field(ge=0)]
    type: Literal["function"]
    function: MoreFunction


class CallDeltas(Exact):
    type: Literal["tool_calls"]
    tool_calls: Annotated[list[OpeningCall | MoreCall], Field(min_length=1)]


class StepDeltaDetails(Exact):
    step_details: CallDeltas


class StepDelta(Exact):
    id: StepId
    object: Literal["thread.run.step.delta"]
    delta: StepDeltaDetails
