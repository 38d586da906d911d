"""What the thread holds, as far as we know: pure values and how they change.

What the thread holds changes here when the server said so (``run.created`` and later events, the
answer of a message request). A request that leaves is only noted: its run in ``runs``, what it
edits as ``loose``, a message it adds in ``adding``. A run whose stream did not end in order stays
in ``runs`` until a later request has named it in ``end_runs``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .snapshot import Entry, Role

RunState = Literal[
    "sent",  # the request left; whether it arrived is not known
    "streaming",  # run.created was seen
    "waiting",  # requires_action: the server waits for the outputs of `pending`
    "cut",  # the stream broke, was cancelled or timed out; the run may still be active
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One message of the thread.

    ``turn`` is the call of ``chat()`` that brought or wrote it, None for what is older than this
    session (the base, which is never touched). ``also``: further messages of the same reply, which
    LiveKit sees as one item. ``written``: a run wrote it, and until it is bound to an item
    (``item_id``) its ``text`` is kept to recognise it by.
    """

    message_id: str
    role: Role
    digest: str = ""
    item_id: str | None = None
    also: tuple[str, ...] = ()
    turn: int | None = None
    view: int | None = None
    run_key: str | None = None
    written: bool = False
    text: str | None = None
    loose: bool = False  # what the server holds of its text is not known exactly
    void: bool = False  # of an attempt that failed: nobody can have heard it
    committed: bool = False  # the framework has shown it to be part of the conversation
    forgotten: bool = False  # left the context from the front: hidden from the model for good

    @property
    def message_ids(self) -> tuple[str, ...]:
        return (self.message_id, *self.also)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run of ours that may be active. ``deletes``: messages that its request deletes, as long as
    its arrival is in doubt. ``excluded`` and ``settings`` are what its model was shown with."""

    key: str
    turn: int
    state: RunState
    run_id: str | None = None
    pending: tuple[str, ...] = ()
    settings: str = ""
    tool_choice: str = ""
    excluded: frozenset[str] = frozenset()
    deletes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Adding:
    """A message that was sent to be added, as long as no answer has come: the thread may hold it,
    or hold it later. ``key`` makes sending ``body`` again harmless, where the server knows it."""

    key: str
    body: Mapping[str, Any]
    held: Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """``held`` is in the thread's order. ``order`` is, for each agent, the order in which its
    contexts showed the items. ``answered`` are the tool calls whose outputs the thread has;
    ``adding``, by item id, what a message request without an answer may have added."""

    thread_id: str = ""
    held: tuple[Held, ...] = ()
    runs: tuple[OpenRun, ...] = ()
    answered: Mapping[str, int | None] = field(default_factory=dict)
    order: Mapping[int | None, tuple[str, ...]] = field(default_factory=dict)
    adding: Mapping[str, Adding] = field(default_factory=dict)
    removed: frozenset[str] = frozenset()  # items taken out on purpose; a history still has them
    complete: bool = True  # every message of the base is in `held`
    fresh: bool = True  # nothing was sent since the thread was loaded
    in_use: bool = False  # a session prewarmed or used us

    @property
    def doubtful(self) -> frozenset[str]:
        """Messages that may be deleted already, by a request that has not been answered."""
        return frozenset().union(*(run.deletes for run in self.runs if run.state == "sent"))

    def run(self, key: str) -> OpenRun | None:
        return next((run for run in self.runs if run.key == key), None)

    def with_run(self, run: OpenRun) -> Ledger:
        runs = tuple(run if one.key == run.key else one for one in self.runs)
        if run not in runs:
            runs = (*runs, run)
        return replace(self, runs=runs)

    def sending(self, run: OpenRun, edited: Iterable[str] = ()) -> Ledger:
        """A request leaves: until it is answered, what it edits may say either."""
        doubt = frozenset(edited)
        held = tuple(
            replace(one, loose=True) if one.message_id in doubt else one for one in self.held
        )
        return replace(self, held=held).with_run(run)

    def cut(self, key: str) -> Ledger:
        """The stream of this run broke or was closed before its end."""
        run = self.run(key)
        if run is None or run.state == "sent":
            return self
        return self.with_run(replace(run, state="cut", pending=()))

    def shown(self, view: int | None, items: Sequence[str]) -> Ledger:
        """A context of this agent showed these items, in this order."""
        alive = frozenset(one.item_id for one in self.held if one.item_id is not None)
        order = merge_order(self.order.get(view, ()), items, alive)
        return replace(self, order={**self.order, view: order})

    def claimed(self, view: int, items: Iterable[str]) -> Ledger:
        """Messages that were brought without a turn are this agent's."""
        mine = frozenset(items)
        held = tuple(
            replace(one, view=view)
            if one.view is None and one.turn is not None and one.item_id in mine
            else one
            for one in self.held
        )
        return replace(self, held=held)

    def voided(self, run_keys: Iterable[str]) -> Ledger:
        """Attempts that failed: nothing that they wrote was passed on."""
        keys = frozenset(run_keys)
        held = tuple(
            replace(one, void=True) if one.written and one.run_key in keys else one
            for one in self.held
        )
        return replace(self, held=held)

    def without_runs(self, keys: Iterable[str]) -> Ledger:
        gone = frozenset(keys)
        return replace(self, runs=tuple(run for run in self.runs if run.key not in gone))

    def sends(self, item_id: str, adding: Adding) -> Ledger:
        """A message leaves, to be added for this item."""
        return replace(self, adding={**self.adding, item_id: adding})

    def refuses(self, item_id: str) -> Ledger:
        """The server said no to what was being added."""
        return replace(self, adding={k: v for k, v in self.adding.items() if k != item_id})

    def holds(self, item_id: str, message_id: str) -> Ledger:
        """The server has answered: this is the message of the item that was being added."""
        adding = dict(self.adding)
        held = replace(adding.pop(item_id).held, message_id=message_id)
        return replace(self.with_held(held), adding=adding)

    def with_held(self, held: Held) -> Ledger:
        """Change the entry of this message, or append it."""
        for index, one in enumerate(self.held):
            if one.message_id == held.message_id:
                return replace(self, held=(*self.held[:index], held, *self.held[index + 1 :]))
        return replace(self, held=(*self.held, held))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """What is known, when a plan is made, about how the turns went.

    ``over``: their speech has ended. ``discarded``: never spoken and never will be. ``told``: the
    session that says what it committed is at hand, so what ``history`` lacks was not committed.
    ``sessions``: whose turns they were.
    """

    over: frozenset[int] = frozenset()
    discarded: frozenset[int] = frozenset()
    told: frozenset[int] = frozenset()
    sessions: Mapping[int, int] = field(default_factory=dict)
    history: Mapping[str, Entry] = field(default_factory=dict)  # by item id
    replies: Mapping[str, Entry] = field(default_factory=dict)  # by the message id of the stamp
    said: Mapping[str, Entry] = field(default_factory=dict)  # unstamped replies, by digest

    def committed(self, held: Held) -> Entry | None:
        """The committed item of this message."""
        if held.item_id is not None and (entry := self.history.get(held.item_id)) is not None:
            return entry
        for message_id in held.message_ids:
            if (entry := self.replies.get(message_id)) is not None:
                return entry
        return self.said.get(held.digest) if held.written and held.item_id is None else None


def fates_of(
    history: Sequence[Entry],
    *,
    thread_id: str,
    over: Iterable[int] = (),
    discarded: Iterable[int] = (),
    told: Iterable[int] = (),
    sessions: Mapping[int, int] | None = None,
    bound: Iterable[str] = (),
) -> Fates:
    """``bound``: items whose messages are known. They are no evidence that another message with the
    same words was spoken."""
    known = frozenset(bound)
    replies = {
        message_id: entry
        for entry in history
        if entry.thread_id == thread_id
        for message_id in entry.message_ids
    }
    return Fates(
        over=frozenset(over),
        discarded=frozenset(discarded),
        told=frozenset(told),
        sessions=sessions or {},
        history={entry.item_id: entry for entry in history},
        replies=replies,
        said={
            entry.digest: entry
            for entry in history
            if entry.role == "assistant" and not entry.message_ids and entry.item_id not in known
        },
    )


def merge_order(old: Sequence[str], shown: Sequence[str], alive: frozenset[str]) -> tuple[str, ...]:
    """The order of all items an agent's contexts ever showed: the newest context's, with what it
    lacks put back behind its old neighbour. Items that the thread no longer holds drop out."""
    present = set(shown)
    behind: dict[str | None, list[str]] = {}
    neighbour: str | None = None
    for item in old:
        if item in present:
            neighbour = item
        elif item in alive:
            behind.setdefault(neighbour, []).append(item)
    merged = list(behind.get(None, ()))
    seen: set[str] = set()
    for item in shown:
        if item in seen:
            continue
        seen.add(item)
        merged.append(item)
        merged.extend(behind.get(item, ()))
    return tuple(merged)
