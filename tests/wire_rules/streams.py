"""In which order the events of a stream come, as an automaton that is fed frame by frame.

It holds at most one open step and one open message, because clients do (Node's SDK 7 throws
otherwise), adds up the deltas as clients do, and compares the sums with the finished objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import orjson
from tests.wire_rules import deltas, objects
from tests.wire_rules.judgement import complaints, judge_event, judge_object

Opening = Literal["run", "thread and run", "submission"]

TERMINAL = frozenset({"completed", "failed", "cancelled", "incomplete", "expired"})
LAST = TERMINAL | {"requires_action"}

FOLLOWS: Mapping[str, frozenset[str]] = {
    "queued": frozenset({"in_progress", "cancelling", "expired", "failed", "cancelled"}),
    "in_progress": frozenset(
        {
            "requires_action",
            "cancelling",
            "completed",
            "incomplete",
            "failed",
            "expired",
            "cancelled",
        }
    ),
    "cancelling": frozenset({"cancelled"}),
    "requires_action": frozenset(),
    **{status: frozenset() for status in TERMINAL},
}
"""Which status a stream may tell of next. ``cancelled`` without ``cancelling``: ended by another
request (extension)."""

FIRST: Mapping[Opening, list[str]] = {
    "run": ["thread.run.created", "thread.run.queued"],
    "thread and run": ["thread.created", "thread.run.created", "thread.run.queued"],
    "submission": ["thread.run.step.completed", "thread.run.queued"],
}


class StreamRules:
    """One stream. ``complaints`` grows with every broken rule."""

    def __init__(self, opening: Opening, where: str = "stream") -> None:
        self.complaints: list[str] = []
        self.names: list[str] = []
        self.objects: list[dict[str, Any]] = []  # every whole object that was told, in order
        self._opening = opening
        self._where = where
        self._run: dict[str, Any] | None = None
        self._status: str | None = None
        self._thread: str | None = None
        self._step: dict[str, Any] | None = None
        self._message: dict[str, Any] | None = None
        self._blocks: list[dict[str, Any]] = []
        self._calls: list[dict[str, Any]] = []
        self._due: list[str] = list(FIRST[opening])
        self._usages: list[int] = []
        self._step_must_end = False
        self._over = False
        self._done = False

    # Frames

    def frame(self, text: str) -> None:
        """What stands between two empty lines, without them."""
        lines = text.split("\n")
        if all(line.startswith(":") for line in lines):
            return
        name, data = lines if len(lines) == 2 else ("", "")
        if not name.startswith("event: ") or not data.startswith("data: ") or "\r" in text:
            self._complain(f"not an event line and a data line: {text!r}")
            return
        if any(separator in text for separator in "\u2028\u2029\u0085\v\f"):
            self._complain("a line separator of Unicode stands raw in the frame")
        self.feed(name.removeprefix("event: "), data.removeprefix("data: "))

    def feed(self, name: str, text: str) -> None:
        self.names.append(name)
        if self._done:
            self._complain(f"{name} after done")
        elif name == "done":
            self._done = True
            if text != "[DONE]":
                self._complain(f"done carries {text!r}")
            if not self._over:
                self._complain("done while the run is neither waiting nor terminal")
        elif self._over:
            self._complain(f"{name} after the last event of the run")
        else:
            self._event(name, orjson.loads(text))

    def end(self) -> None:
        """The server ended the answer: it must be whole."""
        if not self._done:
            self._complain("the stream ends without done")

    # Events

    def _event(self, name: str, data: Any) -> None:
        where = f"{self._where}: {name}"
        if name == "error":
            self.complaints += complaints(objects.StreamError, data, where)
            self._over = True
            return
        judged = judge_event(name, data, where)
        self.complaints += judged
        if self._due and name != self._due[0]:
            self._complain(f"expected {self._due[0]}, not {name}")
        self._due = self._due[1:]
        if self._step_must_end and not name.startswith("thread.run.step."):
            self._complain(f"the message's step must end before {name}")
        self._step_must_end = False
        if judged:
            return  # what follows reads the data
        if name == "thread.created":
            self._whole("thread", data, name)
            self._thread = data["id"]
        elif name == "thread.message.delta":
            self._message_delta(data, where)
        elif name == "thread.run.step.delta":
            self._step_delta(data, where)
        elif name.startswith("thread.message."):
            self._whole("thread.message", data, name)
            self._message_event(name.removeprefix("thread.message."), data)
        elif name.startswith("thread.run.step."):
            self._whole("thread.run.step", data, name)
            self._step_event(name.removeprefix("thread.run.step."), data)
        else:
            self._whole("thread.run", data, name)
            self._run_event(name.removeprefix("thread.run."), data)

    def _whole(self, kind: str, data: dict[str, Any], name: str) -> None:
        self.complaints += judge_object(kind, data, f"{self._where}: {name}")
        self.objects.append(data)
        thread = data["id"] if kind == "thread" else data["thread_id"]
        self._thread = self._thread or thread
        if thread != self._thread:
            self._complain(f"{name} is of another thread")
        run = {"thread.run": "id", "thread.run.step": "run_id", "thread.message": "run_id"}
        if self._run is not None and kind in run and data[run[kind]] != self._run["id"]:
            self._complain(f"{name} is of another run")

    def _run_event(self, name: str, run: dict[str, Any]) -> None:
        status = "queued" if name == "created" else name
        if run["status"] != status:
            self._complain(f"thread.run.{name} shows a run that is {run['status']}")
        repeats = name == "queued" and self._status == "queued" and len(self.names) <= 3
        if self._status is not None and not repeats and status not in FOLLOWS[self._status]:
            self._complain(f"a run that is {self._status} cannot become {status}")
        if status in LAST:
            self._over = True
            self._settled(run)
        if status == "queued" and self._opening != "submission" and run["started_at"] is not None:
            self._complain("a new run has not started")
        if self._status == "queued" and status == "in_progress" and self._step is not None:
            self._complain("a step is open before the run is in progress")
        self._status, self._run = status, run

    def _settled(self, run: dict[str, Any]) -> None:
        """The run waits or has ended: nothing of it is open but the step that waits."""
        if self._message is not None:
            self._complain(f"run {run['status']} while a message is open")
        if run["status"] == "requires_action":
            if self._step is None or self._step["type"] != "tool_calls":
                self._complain("requires_action without an open tool_calls step")
            pending = run["required_action"]["submit_tool_outputs"]["tool_calls"]
            if pending != [_without_output(call) for call in self._calls]:
                self._complain("required_action lists other calls than the deltas")
        elif self._step is not None:
            self._complain(f"run {run['status']} while a step is open")
        elif self._opening != "submission" and self._usages:
            told = run["usage"]["total_tokens"]
            if told != sum(self._usages):
                self._complain(f"the run's usage is {told}, its steps' {self._usages}")

    def _step_event(self, name: str, step: dict[str, Any]) -> None:
        first = len(self.names) == 1 and self._opening == "submission"
        if name == "created":
            if self._status != "in_progress":
                self._complain("a step is created while the run is not in progress")
            if self._step is not None:
                self._complain("a step begins before the previous one ended")
            if step["status"] != "in_progress":
                self._complain("a created step is in progress")
            self._step, self._calls = step, []
            self._due = ["thread.run.step.in_progress"]
            if step["type"] == "message_creation":
                self._due += ["thread.message.created", "thread.message.in_progress"]
            elif step["step_details"]["tool_calls"]:
                self._complain("a created tool step has no calls yet")
            return
        if self._step is None and not first:
            self._complain(f"step {name} while no step is open")
        elif self._step is not None and step["id"] != self._step["id"]:
            self._complain(f"step {name} is of another step than the open one")
        if step["status"] != name:
            self._complain(f"thread.run.step.{name} shows a step that is {step['status']}")
        if name == "in_progress":
            return
        if self._message is not None:
            self._complain("a step ends while its message is open")
        if name == "completed" and self._calls:
            shown = [_without_output(call) for call in step["step_details"]["tool_calls"]]
            answered = [_without_output(call) for call in self._calls]
            if any(call not in answered for call in shown):
                self._complain("the finished step shows other calls than the deltas")
        self._usages.append(step["usage"]["total_tokens"])
        self._step = None

    def _message_event(self, name: str, message: dict[str, Any]) -> None:
        if name == "created":
            if self._step is None or self._step["type"] != "message_creation":
                self._complain("a message without a step that creates it")
            elif self._step["step_details"]["message_creation"]["message_id"] != message["id"]:
                self._complain("the message is another one than its step's")
            if self._message is not None:
                self._complain("a message begins before the previous one ended")
            if (message["status"], message["content"]) != ("in_progress", []):
                self._complain("a created message is in progress and empty")
            self._message, self._blocks = message, []
            return
        if self._message is None or message["id"] != self._message["id"]:
            self._complain(f"message {name} is not of the open message")
        if message["status"] != name:
            self._complain(f"thread.message.{name} shows a message that is {message['status']}")
        if name == "in_progress":
            return
        if name == "completed" and message["content"] != self._blocks:
            self._complain("the finished message is another one than its deltas")
        if name == "incomplete" and not _begins_with(self._blocks, message["content"]):
            self._complain("the broken off message is not the beginning of its deltas")
        self._message = None
        self._step_must_end = True

    def _message_delta(self, data: dict[str, Any], where: str) -> None:
        found = complaints(deltas.MessageDelta, data, where)
        self.complaints += found
        if self._message is None or data["id"] != self._message["id"]:
            self._complain("a delta of a message that is not open")
        if found:
            return
        for part in data["delta"]["content"]:
            index, kind = part["index"], part["type"]
            if not len(self._blocks) - 1 <= index <= len(self._blocks):
                self._complain(f"content index {index} after {len(self._blocks)} blocks")
                return
            if index == len(self._blocks):
                self._blocks.append(_opened(part))
                if kind == "text" and "annotations" not in part["text"]:
                    self._complain("the first delta of a text block has its annotations")
            elif self._blocks[index]["type"] != kind:
                self._complain(f"content index {index} changes its type")
            elif kind == "text":
                self._blocks[index]["text"]["value"] += part["text"]["value"]
                if "annotations" in part["text"]:
                    self._complain("only the first delta of a text block has annotations")
            else:
                self._blocks[index]["refusal"] += part["refusal"]

    def _step_delta(self, data: dict[str, Any], where: str) -> None:
        found = complaints(deltas.StepDelta, data, where)
        self.complaints += found
        if self._step is None or data["id"] != self._step["id"]:
            self._complain("a delta of a step that is not open")
        if found:
            return
        for call in data["delta"]["step_details"]["tool_calls"]:
            index = call["index"]
            if index == len(self._calls) and "id" in call:
                whole = {key: value for key, value in call.items() if key != "index"}
                self._calls.append({**whole, "function": dict(call["function"])})
            elif index == len(self._calls) - 1 and "id" not in call:
                self._calls[index]["function"]["arguments"] += call["function"]["arguments"]
            else:
                self._complain(f"call index {index} after {len(self._calls)} calls")

    def _complain(self, text: str) -> None:
        self.complaints.append(f"{self._where}: event {len(self.names)}: {text}")


def _opened(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "refusal":
        return {"type": "refusal", "refusal": part["refusal"]}
    return {"type": "text", "text": {"value": part["text"]["value"], "annotations": []}}


def _begins_with(told: list[dict[str, Any]], stored: list[dict[str, Any]]) -> bool:
    """Deltas may run ahead of the store, but never by a block: clients look their blocks up."""
    kinds = [[block["type"] for block in blocks] for blocks in (told, stored)]
    whole = told[:-1] == stored[:-1]
    return kinds[0] == kinds[1] and whole and _words(told[-1:]).startswith(_words(stored[-1:]))


def _words(blocks: list[dict[str, Any]]) -> str:
    return "".join(
        block["text"]["value"] if block["type"] == "text" else block["refusal"] for block in blocks
    )


def _without_output(call: dict[str, Any]) -> dict[str, Any]:
    function = {key: value for key, value in call["function"].items() if key != "output"}
    return {**call, "function": function}
