"""What the server has promised: every 2xx answer and every stream event, as a client saw them.

Each thread has one caller that does one thing at a time, so its ledger has an order. A request
that ended without an answer leaves its effect open: it may be stored once, or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["there", "gone", "open"]


@dataclass
class Written:
    """A user's message. ``marker`` is its text, which no other message has."""

    marker: str
    thread_id: str
    id: str | None = None
    state: State = "open"
    touched: int | None = 0  # the number last acknowledged in its metadata; None: unknown
    answered: bool = False  # by the request that brought it, so its place in the order is known
    run_key: str | None = None  # of the run that brought it
    dropped_by: str | None = None  # the run with which its deletion was asked for

    def acknowledge(self, message_id: str | None = None) -> None:
        self.id = message_id or self.id
        self.state, self.answered = "there", True


@dataclass
class Said:
    """A reply, as its stream told of it."""

    id: str
    run_id: str
    deltas: list[tuple[float, str]] = field(default_factory=list)
    status: str = "in_progress"
    text: str | None = None  # told whole, at its end


@dataclass
class RunSeen:
    id: str
    thread_id: str
    run_key: str | None = None
    statuses: list[str] = field(default_factory=list)
    steps: dict[str, str] = field(default_factory=dict)
    brought: list[str] | None = None


@dataclass
class Stored:
    """An uploaded file."""

    id: str
    digest: str


class Ledger:
    def __init__(self) -> None:
        self.threads: list[str] = []
        self.written: list[Written] = []
        self.said: dict[str, Said] = {}
        self.runs: dict[str, RunSeen] = {}
        self.files: list[Stored] = []
        self.keys: set[tuple[str, str]] = set()  # thread and run_key of runs that stand
        self.doubtful: set[str] = set()  # runs of which all was dropped, or perhaps not
        self.dropped: set[str] = set()  # runs of which all was dropped
        self.answers = 0
        self.unanswered = 0
        self.refusals: dict[str, int] = {}

    def in_thread(self, thread_id: str) -> Iterable[Written]:
        return [one for one in self.written if one.thread_id == thread_id]

    def write(self, thread_id: str, marker: str) -> Written:
        """Before the request that brings the message is sent."""
        written = Written(marker, thread_id)
        self.written.append(written)
        return written

    def run(self, run: Any) -> RunSeen:
        """A run as an answer or an event showed it."""
        seen = self.runs.get(run.id)
        if seen is None:
            seen = self.runs[run.id] = RunSeen(run.id, run.thread_id)
        brought = (run.model_extra or {}).get("additional_message_ids")
        if brought is not None:
            seen.brought = brought
        if not seen.statuses or seen.statuses[-1] != run.status:
            seen.statuses.append(run.status)
        return seen

    def event(self, name: str, data: Any) -> None:
        """One event of a stream."""
        kind = name.removeprefix("thread.")
        if kind.startswith("run.step."):
            if kind != "run.step.delta" and data.run_id in self.runs:
                self.runs[data.run_id].steps[data.id] = data.status
        elif kind.startswith("run."):
            self.run(data)
        elif kind == "message.delta":
            text = "".join(block.text.value or "" for block in data.delta.content or ())
            self.said[data.id].deltas.append((time.monotonic(), text))
        elif kind.startswith("message."):
            said = self.said.setdefault(data.id, Said(data.id, data.run_id))
            said.status = data.status
            if data.status != "in_progress":
                said.text = "".join(block.text.value for block in data.content)

    def drop(self, run: RunSeen) -> None:
        """Before a request that ends ``run`` and deletes what it brought and wrote."""
        self.doubtful.add(run.id)
        for written in self.in_thread(run.thread_id):
            if written.id in (run.brought or ()) and written.state == "there":
                written.state, written.dropped_by = "open", run.id

    def spare(self, run: RunSeen | None) -> None:
        """That request was refused."""
        if run is not None:
            self.doubtful.discard(run.id)
            for written in self.in_thread(run.thread_id):
                if written.dropped_by == run.id and written.state == "open":
                    written.state, written.dropped_by = "there", None

    def keyed(self, written: Written, dropped: RunSeen | None) -> None:
        """The request for the named run that brings ``written`` was done."""
        written.acknowledge()
        assert written.run_key is not None
        self.keys.add((written.thread_id, written.run_key))
        if dropped is not None:
            self.dropped.add(dropped.id)
            for one in self.in_thread(written.thread_id):
                if one.dropped_by == dropped.id:
                    one.state = "gone"

    def refused(self, code: str) -> None:
        self.refusals[code] = self.refusals.get(code, 0) + 1
