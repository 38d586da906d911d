"""What the next request is: a pure function of a snapshot, the ledger and what became of the turns.

The thread must hold what was said, once each and in order. Deleting anywhere, editing and
appending are possible, inserting is not. So: keep the longest prefix of the local entries that is a
subsequence of the thread, append the rest, edit where the words differ, and judge everything the
snapshot lacks by the clauses of ``judge``, in their order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .ledger import Fates, Held, Ledger, OpenRun, merge_order
from .snapshot import Answer, Entry, Snapshot

HIDDEN_AT_MOST = 128
"""Longer lists of hidden messages travel as ``last_messages`` where they are the thread's head."""

Verdict = Literal["show", "hide", "forget", "delete", "remove"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """``edits``: the server can change and hide messages (the extensions). ``full``: an interrupted
    reply keeps the text the model wrote, heard or not."""

    edits: bool = True
    full: bool = False


@dataclass(frozen=True, slots=True)
class Edit:
    message_id: str
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """From the thread as the ledger has it to the thread as it must be. ``held`` is the ledger's
    list afterwards, without ``messages``, which are to be appended."""

    held: tuple[Held, ...] = ()
    messages: tuple[Entry, ...] = ()
    edits: tuple[Edit, ...] = ()
    deletes: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    removed: frozenset[str] = frozenset()

    @property
    def none(self) -> bool:
        return not (self.messages or self.edits or self.deletes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """The open run goes on: nothing changed but that its calls have their outputs."""

    run: OpenRun
    answers: tuple[Answer, ...]
    changes: Changes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    end_runs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    answers: tuple[Answer, ...] = ()
    changes: Changes = field(default_factory=Changes)
    excludes: tuple[str, ...] = ()
    last_messages: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """Not this conversation: a thread of its own, gone afterwards."""

    entries: tuple[Entry, ...]
    answers: tuple[Answer, ...]


Plan = Submit | NewRun | Scratch


def plan(
    snapshot: Snapshot, ledger: Ledger, fates: Fates | None = None, policy: Policy | None = None
) -> Plan:
    fates = fates or Fates()
    policy = policy or Policy()
    if is_foreign(snapshot, ledger):
        return Scratch(entries=snapshot.entries, answers=snapshot.answers)
    changes = compare(snapshot, ledger, fates, policy)
    answers = tuple(one for one in snapshot.answers if one.call_id not in ledger.answered)
    run = resumable(snapshot, ledger, changes, answers, policy)
    if run is not None:
        return Submit(run=run, answers=answers, changes=changes)
    excludes, last = what_to_hide(snapshot, ledger, changes)
    return NewRun(
        end_runs=runs_to_end(ledger, changes),
        answers=tuple(one for one in answers if one.name is not None),
        changes=changes,
        excludes=excludes,
        last_messages=last,
    )


def is_foreign(snapshot: Snapshot, ledger: Ledger) -> bool:
    """A judge, a summary, answering-machine detection: no instructions item of the framework and
    nothing in common with the thread, on an LLM that a session uses."""
    if not ledger.in_use or snapshot.has_instructions:
        return False
    items = {held.item_id for held in ledger.held} - {None}
    if any(
        entry.item_id in items or entry.thread_id == ledger.thread_id for entry in snapshot.entries
    ):
        return False
    known = {call for run in ledger.runs for call in run.pending} | set(ledger.answered)
    return not (snapshot.calls & known)


def compare(snapshot: Snapshot, ledger: Ledger, fates: Fates, policy: Policy) -> Changes:
    """Match the snapshot with the thread and judge what it lacks."""
    held = bind_base(snapshot.entries, ledger)
    doubtful = {one for run in ledger.runs if run.state == "sent" for one in run.touched}
    pairs, rest = match(snapshot.entries, held, ledger.thread_id, policy, doubtful)
    matched = {one.message_id: entry for one, entry in pairs}
    superseded = bound_to(rest, held, ledger.thread_id)

    after: list[Held] = []
    deletes: list[str] = []
    edits: list[Edit] = []
    hidden: list[str] = []
    removed: set[str] = set()
    present = Present.of(snapshot, ledger, held)
    for one in held:
        entry = matched.get(one.message_id)
        if entry is not None:
            bound, edit = keep(one, entry, policy, seen=one.turn != snapshot.turn)
            after.append(bound)
            if edit is not None:
                edits.append(edit)
                deletes.extend(one.also)
            continue
        if one.turn is not None and (
            one.message_id in superseded or not doubtful.isdisjoint(one.message_ids)
        ):
            deletes.extend(one.message_ids)
            continue
        verdict = judge(one, snapshot, ledger, fates, present)
        if verdict in ("delete", "remove"):
            deletes.extend(one.message_ids)
            if verdict == "remove" and one.item_id is not None:
                removed.add(one.item_id)
            continue
        if verdict != "show":
            hidden.extend(one.message_ids)
        stays = replace(one, forgotten=True) if verdict == "forget" else one
        told = fates.committed(one) if one.turn is not None else None
        if told is not None and policy.edits:
            stays, edit = keep(stays, told, policy, seen=True)
            if edit is not None:
                edits.append(edit)
                deletes.extend(one.also)
                hidden = [message for message in hidden if message not in one.also]
        after.append(stays)
    return Changes(
        held=tuple(after),
        messages=rest,
        edits=tuple(edits),
        deletes=tuple(deletes),
        hidden=tuple(hidden),
        removed=frozenset(removed),
    )


def match(
    entries: Sequence[Entry],
    held: Sequence[Held],
    thread_id: str,
    policy: Policy,
    doubtful: Iterable[str] = (),
) -> tuple[list[tuple[Held, Entry]], tuple[Entry, ...]]:
    """The longest prefix of ``entries`` that is a subsequence of ``held``, and the rest.

    Base messages are never sent again: one that stands elsewhere counts as held where it is.
    """
    where = _Index(held, thread_id)
    doubt = frozenset(doubtful)
    pairs: list[tuple[Held, Entry]] = []
    rest: list[Entry] = []
    last = -1
    for entry in entries:
        found = None
        for index in where.of(entry):
            one = held[index]
            if index in where.taken or one.void or not doubt.isdisjoint(one.message_ids):
                continue
            if one.turn is None:
                found = index
                break
            if rest or index <= last:
                continue
            if policy.edits or not _differs(one, entry, policy):
                found = index
                break
        if found is None:
            rest.append(entry)
            continue
        where.taken.add(found)
        last = max(last, found) if not rest else last
        pairs.append((held[found], entry))
    return pairs, tuple(rest)


def bind_base(entries: Sequence[Entry], ledger: Ledger) -> tuple[Held, ...]:
    """On the first plan after loading: bind a restored context whose ids are unknown.

    By text, and only where the context's beginning is the thread's end: what the user says first
    today may well be what she said last yesterday. Items stamped with messages of the thread that
    were not listed are part of the base, too.
    """
    held = ledger.held
    if ledger.fresh and held:
        items = {one.item_id for one in held} - {None}
        old = list(entries)
        while old and old[-1].role == "user":
            old.pop()
        known = [e for e in old if e.item_id in items or e.thread_id == ledger.thread_id]
        if old and not known:
            length = next(
                (n for n in range(min(len(old), len(held)), 0, -1) if _same(old[:n], held[-n:])), 0
            )
            tail = tuple(
                replace(one, item_id=entry.item_id)
                for one, entry in zip(held[len(held) - length :], old, strict=False)
            )
            held = (*held[: len(held) - length], *tail)
    if not ledger.complete:
        listed = {message for one in held for message in one.message_ids}
        older = tuple(
            Held(
                message_id=entry.message_ids[0],
                also=entry.message_ids[1:],
                role=entry.role,
                digest=entry.digest,
                item_id=entry.item_id,
            )
            for entry in entries
            if entry.thread_id == ledger.thread_id
            and entry.message_ids
            and listed.isdisjoint(entry.message_ids)
        )
        held = (*older, *held)
    return held


def bound_to(entries: Iterable[Entry], held: Sequence[Held], thread_id: str) -> frozenset[str]:
    """The messages that these entries already are: sent again, they must go."""
    where = _Index(held, thread_id)
    return frozenset(
        held[index].message_id
        for entry in entries
        for index in where.of(entry)
        if held[index].turn is not None
    )


def keep(held: Held, entry: Entry, policy: Policy, *, seen: bool) -> tuple[Held, Edit | None]:
    """Bind a message to its item; edit it if it does not say what the item says."""
    bound = replace(
        held,
        item_id=entry.item_id,
        text=None,
        committed=held.committed or seen,
    )
    if held.turn is None or not _differs(held, entry, policy):
        return bound, None
    return replace(bound, digest=entry.digest, loose=False, also=()), Edit(held.message_id, entry)


@dataclass(frozen=True, slots=True)
class Present:
    """What the snapshot shows, in the terms the clauses ask for."""

    items: frozenset[str]
    turns: Mapping[int, int]  # turn -> place in the thread of its last message that is shown
    places: Mapping[str, int]  # message id -> place in the thread
    order: tuple[str, ...]  # of this agent's earlier contexts

    @classmethod
    def of(cls, snapshot: Snapshot, ledger: Ledger, held: Sequence[Held]) -> Present:
        items = frozenset(entry.item_id for entry in snapshot.entries)
        stamped = {
            m for e in snapshot.entries if e.thread_id == ledger.thread_id for m in e.message_ids
        }
        turns: dict[int, int] = {}
        places: dict[str, int] = {}
        for place, one in enumerate(held):
            places[one.message_id] = place
            if one.turn is not None and (one.item_id in items or one.message_id in stamped):
                turns[one.turn] = place
        return cls(items, turns, places, ledger.order.get(snapshot.view, ()))


def judge(
    held: Held, snapshot: Snapshot, ledger: Ledger, fates: Fates, present: Present
) -> Verdict:
    """What becomes of a message that the snapshot lacks. The first clause that applies decides."""
    if held.turn is None:
        return "hide" if was_shown(held, present) else "show"
    if held.void or blank_reply(held):
        run = ledger.run(held.run_key or "")
        return "show" if run is not None and run.state == "waiting" and not held.void else "delete"
    if held.forgotten:
        return "hide"
    if turn_discarded(held, fates) or reply_unheard(held, fates):
        return "delete"
    if turn_was_open(held, snapshot):
        return "hide"
    if of_another_agent(held, snapshot):
        return "hide"
    if removed_on_purpose(held, present):
        return "remove"
    if was_committed(held, fates, present):
        return "forget"
    return "delete"


def was_shown(held: Held, present: Present) -> bool:
    """The base is the caller's memory: visible, unless this agent had it and lost it."""
    return held.item_id is not None and held.item_id in present.order


def blank_reply(held: Held) -> bool:
    """Only blanks: LiveKit keeps no item of it. It stays while its run waits for outputs."""
    return held.written and held.text is not None and not held.text.strip()


def turn_discarded(held: Held, fates: Fates) -> bool:
    """(2) A speculation that was not adopted: its user message and its reply never were."""
    return held.turn in fates.discarded and not held.committed and fates.committed(held) is None


def reply_unheard(held: Held, fates: Fates) -> bool:
    """(2) The speech is over and the session has no item of it: nothing was heard."""
    return (
        held.written
        and held.turn in fates.over
        and held.turn in fates.told
        and not held.committed
        and fates.committed(held) is None
    )


def turn_was_open(held: Held, snapshot: Snapshot) -> bool:
    """(1) Its turn had not ended when the snapshot was taken, which therefore says nothing."""
    return held.turn in snapshot.open_turns


def of_another_agent(held: Held, snapshot: Snapshot) -> bool:
    """(3) Another agent's turn (or session's): not this agent's to remove."""
    return held.view != snapshot.view


def removed_on_purpose(held: Held, present: Present) -> bool:
    """(4) Something that this agent's contexts showed before it is still there."""
    if held.item_id is None or held.item_id not in present.order:
        return False
    before = present.order[: present.order.index(held.item_id)]
    return not present.items.isdisjoint(before)


def was_committed(held: Held, fates: Fates, present: Present) -> bool:
    """(5) It was part of the conversation and has left the context from the front: a window. Where
    no session tells, a later message of the same turn that is still there shows it, too."""
    if held.committed or fates.committed(held) is not None:
        return True
    if held.turn is None or held.turn in fates.told:
        return False
    return present.turns.get(held.turn, -1) > present.places[held.message_id]


def resumable(
    snapshot: Snapshot,
    ledger: Ledger,
    changes: Changes,
    answers: Sequence[Answer],
    policy: Policy,
) -> OpenRun | None:
    """The open run, if outputs are all that is new: submitting can change nothing else."""
    if len(ledger.runs) != 1 or not changes.none:
        return None
    (run,) = ledger.runs
    if run.state != "waiting" or run.run_id is None:
        return None
    if {one.call_id for one in answers} != set(run.pending):
        return None
    if run.settings != fingerprint(snapshot.settings) or not _choice_allows(run, snapshot, policy):
        return None
    own = {m for one in changes.held if one.run_key == run.key for m in one.message_ids}
    calls = _hidden_calls(snapshot, ledger)
    if (frozenset(changes.hidden) | frozenset(calls)) - own != run.excluded:
        return None
    return run


def runs_to_end(ledger: Ledger, changes: Changes) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Every run that may still be active, with what stays of it. Also those that never answered: a
    request that arrives late must be refused."""
    return tuple(
        (
            run.key,
            tuple(m for one in changes.held if one.run_key == run.key for m in one.message_ids),
        )
        for run in ledger.runs
    )


def what_to_hide(
    snapshot: Snapshot, ledger: Ledger, changes: Changes
) -> tuple[tuple[str, ...], int | None]:
    """Ids hidden from the run's model; a long hidden head of the thread becomes a window."""
    calls = _hidden_calls(snapshot, ledger)
    hidden = frozenset(changes.hidden)
    if len(hidden) <= HIDDEN_AT_MOST or not ledger.complete:
        return (*changes.hidden, *calls), None
    shown = [one.message_id not in hidden for one in changes.held]
    first = shown.index(True) if True in shown else len(shown)
    head = {m for one in changes.held[:first] for m in one.message_ids}
    visible = sum(
        message not in hidden for one in changes.held[first:] for message in one.message_ids
    )
    count = visible + len(changes.messages)
    if count == 0:
        return (*changes.hidden, *calls), None
    return (*(m for m in changes.hidden if m not in head), *calls), count


def settle(
    entries: Sequence[Entry] | None, ledger: Ledger, fates: Fates, policy: Policy
) -> Changes:
    """The changes that need no model run: what no later turn would carry.

    With a history, the thread becomes equal to it; without, only what is known to be unsaid goes
    and only what is known to differ is edited.
    """
    wanted = tuple(e for e in entries or () if e.item_id not in ledger.removed)
    held = bind_base(wanted, ledger) if entries is not None else ledger.held
    doubtful = {one for run in ledger.runs if run.state == "sent" for one in run.touched}
    pairs, rest = match(wanted, held, ledger.thread_id, policy, doubtful)
    matched = {one.message_id: entry for one, entry in pairs}
    superseded = bound_to(rest, held, ledger.thread_id)
    after: list[Held] = []
    deletes: list[str] = []
    edits: list[Edit] = []
    for one in held:
        entry = matched.get(one.message_id)
        if entry is None and one.turn is not None:
            if one.message_id in superseded or not doubtful.isdisjoint(one.message_ids):
                deletes.extend(one.message_ids)
                continue
            if never_said(one, fates, history_given=entries is not None):
                deletes.extend(one.message_ids)
                continue
            entry = fates.committed(one)
        if entry is None or (not policy.edits and _differs(one, entry, policy)):
            after.append(one)
            continue
        bound, edit = keep(one, entry, policy, seen=True)
        after.append(bound)
        if edit is not None:
            edits.append(edit)
            deletes.extend(one.also)
    return Changes(held=tuple(after), messages=rest, edits=tuple(edits), deletes=tuple(deletes))


def never_said(held: Held, fates: Fates, *, history_given: bool) -> bool:
    """Known to be no part of the conversation: discarded, unheard, or absent from its history
    although its turn is over."""
    if held.void or turn_discarded(held, fates) or reply_unheard(held, fates):
        return True
    if held.committed or held.forgotten or fates.committed(held) is not None:
        return False
    return history_given and held.turn in fates.over


def after_run_created(
    ledger: Ledger,
    plan: NewRun,
    snapshot: Snapshot,
    *,
    run: OpenRun,
    message_ids: Sequence[str],
) -> Ledger:
    """The ledger once the server has said that this plan's run exists."""
    new = tuple(
        Held(
            message_id=message_id,
            role=entry.role,
            digest=entry.digest,
            item_id=entry.item_id,
            turn=snapshot.turn,
            view=snapshot.view,
            run_key=run.key,
        )
        for message_id, entry in zip(message_ids, plan.changes.messages, strict=True)
    )
    held = (*plan.changes.held, *new)
    ended = {key for key, _ in plan.end_runs}
    answered = {**ledger.answered, **{one.call_id: snapshot.view for one in plan.answers}}
    shown = [entry.item_id for entry in snapshot.entries]
    alive = frozenset(one.item_id for one in held if one.item_id is not None)
    order = merge_order(ledger.order.get(snapshot.view, ()), shown, alive)
    return replace(
        ledger.without_runs({*ended, run.key}),
        held=held,
        answered=answered,
        order={**ledger.order, snapshot.view: order},
        removed=(ledger.removed | plan.changes.removed) - frozenset(shown),
        in_use=ledger.in_use or snapshot.has_instructions,
        fresh=False,
    ).with_run(run)


def after_outputs_taken(ledger: Ledger, plan: Submit, snapshot: Snapshot) -> Ledger:
    """The ledger once the open run goes on with its outputs."""
    run = replace(plan.run, state="streaming", pending=(), turn=snapshot.turn)
    shown = [entry.item_id for entry in snapshot.entries]
    alive = frozenset(one.item_id for one in plan.changes.held if one.item_id is not None)
    order = merge_order(ledger.order.get(snapshot.view, ()), shown, alive)
    return replace(
        ledger.with_run(run),
        held=plan.changes.held,
        answered={**ledger.answered, **{one.call_id: snapshot.view for one in plan.answers}},
        order={**ledger.order, snapshot.view: order},
    )


def fingerprint(settings: Mapping[str, Any]) -> str:
    """What a run cannot change half-way. ``tool_choice`` is compared by meaning instead."""
    fixed = {key: value for key, value in settings.items() if key != "tool_choice"}
    return json.dumps(fixed, sort_keys=True, default=str)


def _choice_allows(run: OpenRun, snapshot: Snapshot, policy: Policy) -> bool:
    """A follow-up asks for 'auto'. A forced choice is for a run's first turn alone on our server;
    others may apply it again and call for ever."""
    if snapshot.settings.get("tool_choice", "auto") != "auto":
        return False
    return policy.edits or run.tool_choice in ("", json.dumps("auto"))


def _hidden_calls(snapshot: Snapshot, ledger: Ledger) -> tuple[str, ...]:
    """Finished calls of this session that the agent's context does not have (any more)."""
    return tuple(call for call in ledger.answered if call not in snapshot.calls)


def _differs(held: Held, entry: Entry, policy: Policy) -> bool:
    """Whether the message must be changed to say what its item says."""
    if policy.full and held.written and entry.interrupted:
        return False
    return held.loose or held.digest != entry.digest


def _same(entries: Sequence[Entry], held: Sequence[Held]) -> bool:
    return all(
        one.item_id is None and one.role == entry.role and one.digest == entry.digest
        for entry, one in zip(entries, held, strict=True)
    )


class _Index:
    """Which messages may be an entry: by item id, by stamp, or, for a reply that no item claimed
    and an item without stamp, by its words."""

    def __init__(self, held: Sequence[Held], thread_id: str) -> None:
        self.taken: set[int] = set()
        self._thread_id = thread_id
        self._items: dict[str, list[int]] = {}
        self._messages: dict[str, int] = {}
        self._unbound: list[tuple[int, Held]] = []
        for index, one in enumerate(held):
            for message_id in one.message_ids:
                self._messages[message_id] = index
            if one.item_id is not None:
                self._items.setdefault(one.item_id, []).append(index)
            elif one.written:
                self._unbound.append((index, one))

    def of(self, entry: Entry) -> Sequence[int]:
        if (by_item := self._items.get(entry.item_id)) is not None:
            return by_item
        if entry.thread_id == self._thread_id and entry.message_ids:
            found = {self._messages[m] for m in entry.message_ids if m in self._messages}
            return sorted(found)
        if entry.role != "assistant" or entry.message_ids:
            return ()
        said = " ".join(entry.text.split())
        return [
            index
            for index, one in self._unbound
            if index not in self.taken
            and (one.digest == entry.digest or (entry.interrupted and _begins(one.text, said)))
        ]


def _begins(text: str | None, said: str) -> bool:
    return text is not None and bool(said) and " ".join(text.split()).startswith(said)
