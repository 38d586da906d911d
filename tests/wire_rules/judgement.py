"""Whether one JSON object is what it should be: by our rules, and by the official SDK's types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from openai.types import FileDeleted, FileObject
from openai.types import Model as SdkModel
from openai.types.beta import Assistant as SdkAssistant
from openai.types.beta import AssistantDeleted, AssistantStreamEvent, ThreadDeleted
from openai.types.beta import Thread as SdkThread
from openai.types.beta.threads import Message as SdkMessage
from openai.types.beta.threads import MessageDeleted
from openai.types.beta.threads import Run as SdkRun
from openai.types.beta.threads.runs import RunStep
from pydantic import BaseModel, ValidationError
from tests.wire_rules import objects
from tests.wire_rules.parts import Exact

RULES: Mapping[str, tuple[type[Exact], type[BaseModel]]] = {
    "assistant": (objects.Assistant, SdkAssistant),
    "thread": (objects.Thread, SdkThread),
    "thread.message": (objects.Message, SdkMessage),
    "thread.run": (objects.Run, SdkRun),
    "thread.run.step": (objects.Step, RunStep),
    "file": (objects.File, FileObject),
    "model": (objects.Model, SdkModel),
    "assistant.deleted": (objects.Deletion, AssistantDeleted),
    "thread.deleted": (objects.Deletion, ThreadDeleted),
    "thread.message.deleted": (objects.Deletion, MessageDeleted),
    "file.deleted": (objects.Deletion, FileDeleted),  # shown as "file"
}

EVENTS: Mapping[str, type[BaseModel]] = {
    get_args(model.model_fields["event"].annotation)[0]: model
    for model in get_args(get_args(AssistantStreamEvent)[0])
}
"""Every event that the SDK knows, by its name."""


def complaints(rule: type[BaseModel], value: Any, where: str) -> list[str]:
    """What ``rule`` has against ``value``."""
    try:
        rule.model_validate(value, strict=True)
    except ValidationError as error:
        return [
            f"{where}{_place(problem['loc'])}: {problem['msg']} ({rule.__name__})"
            for problem in error.errors(include_url=False, include_input=False)
        ]
    return []


def judge_object(kind: str, value: Any, where: str) -> list[str]:
    """``kind`` as in ``RULES``."""
    ours, sdk = RULES[kind]
    return complaints(ours, value, where) or complaints(sdk, as_sdk_knows_it(value), where)


def judge_event(name: str, value: Any, where: str) -> list[str]:
    """An event's data, by the type that the SDK has for it."""
    if name not in EVENTS:
        return [f"{where}: the SDK knows no event {name!r}"]
    return complaints(EVENTS[name], {"event": name, "data": as_sdk_knows_it(value)}, where)


def as_sdk_knows_it(value: Any) -> Any:
    """A run without what the SDK's type forbids, though OpenAI sent it or nothing else says it.

    A run without instructions shows null (recorded), and a content filter has no other name. The
    SDK itself does not mind: it checks nothing unless it is told to.
    """
    if not isinstance(value, dict) or value.get("object") != "thread.run":
        return value
    known = dict(value)
    if value.get("instructions", "") is None:
        known["instructions"] = ""
    if value.get("incomplete_details") == {"reason": "content_filter"}:
        known["incomplete_details"] = {"reason": "max_completion_tokens"}
    return known


def _place(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
