"""What the next request is: a pure function of a snapshot, the ledger and what became of the turns.

The thread must hold what was said, once each and in order. Deleting anywhere, editing and
appending are possible, inserting is not. So: keep the longest prefix of the local entries that is a
subsequence of the thread, append the rest, edit where the words differ, and judge everything the
snapshot lacks by the clauses of ``judgement``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .judgement import Present, judge, never_said
from .ledger import Fates, Held, Ledger, OpenRun
from .matching import Edit, Policy, bind_base, differs, keep, match
from .snapshot import Answer, Entry, Snapshot

HIDDEN_AT_MOST = 128
"""Longer lists of hidden messages travel as ``last_messages`` where they are the thread's head."""


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
    resent: Mapping[str, Held] = field(default_factory=dict)  # item id -> what it was before

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
    hides: frozenset[str] = frozenset()  # messages and calls that the model is not shown
    excludes: tuple[str, ...] = ()  # those of them that have to be named
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
    if (scratch := aside(snapshot, ledger)) is not None:
        return scratch
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
        hides=frozenset(changes.hidden) | frozenset(_hidden_calls(snapshot, ledger)),
        excludes=excludes,
        last_messages=last,
    )


def aside(snapshot: Snapshot, ledger: Ledger) -> Scratch | None:
    """The plan of a context that is not this conversation."""
    if not is_foreign(snapshot, ledger):
        return None
    return Scratch(entries=snapshot.entries, answers=snapshot.answers)


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
    doubtful = ledger.doubtful
    pairs, rest, superseded = match(snapshot.entries, held, ledger.thread_id, policy, doubtful)
    matched = {one.message_id: entry for one, entry in pairs}

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
        if one.message_id in superseded:
            deletes.extend(one.message_ids)
            continue
        verdict = judge(one, snapshot, ledger, fates, present)
        if verdict in ("delete", "remove") or not doubtful.isdisjoint(one.message_ids):
            deletes.extend(one.message_ids)
            if verdict == "remove":
                said = fates.committed(one)
                item_id = said.item_id if said is not None else one.item_id
                removed.update([item_id] if item_id is not None else ())
            continue
        if verdict != "show":
            hidden.extend(one.message_ids)
        stays = one
        told = fates.committed(one) if one.turn is not None else None
        if told is not None and policy.extensions:
            stays, edit = keep(one, told, policy, seen=True)
            if edit is not None:
                edits.append(edit)
                deletes.extend(one.also)
                hidden = [message for message in hidden if message not in one.also]
        after.append(replace(stays, forgotten=one.forgotten or verdict == "forget"))
    return Changes(
        held=tuple(after),
        messages=rest,
        edits=tuple(edits),
        deletes=tuple(deletes),
        hidden=tuple(hidden),
        removed=frozenset(removed),
        resent=_resent(superseded.values()),
    )


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
    and only what is known to differ is edited. What a history lacks may be another session's.
    """
    wanted = tuple(e for e in entries or () if e.item_id not in ledger.removed)
    held = bind_base(wanted, ledger) if entries is not None else ledger.held
    doubtful = ledger.doubtful
    pairs, rest, superseded = match(wanted, held, ledger.thread_id, policy, doubtful)
    matched = {one.message_id: entry for one, entry in pairs}
    sessions = {fates.sessions.get(one.turn) for one, _ in pairs if one.turn is not None}
    after: list[Held] = []
    deletes: list[str] = []
    edits: list[Edit] = []
    for one in held:
        entry = matched.get(one.message_id)
        if entry is None and one.turn is not None:
            if one.message_id in superseded or not doubtful.isdisjoint(one.message_ids):
                deletes.extend(one.message_ids)
                continue
            session = fates.sessions.get(one.turn)
            told = one.turn in fates.told or session is None or session in sessions
            if never_said(one, fates, history_given=entries is not None and told):
                deletes.extend(one.message_ids)
                continue
            entry = fates.committed(one)
        if entry is None or (not policy.extensions and differs(one, entry, policy)):
            after.append(one)
            continue
        bound, edit = keep(one, entry, policy, seen=True)
        after.append(bound)
        if edit is not None:
            edits.append(edit)
            deletes.extend(one.also)
    return Changes(
        held=tuple(after),
        messages=rest,
        edits=tuple(edits),
        deletes=tuple(deletes),
        resent=_resent(superseded.values()),
    )


def open_run(
    key: str,
    snapshot: Snapshot,
    *,
    excluded: frozenset[str] = frozenset(),
    deletes: Sequence[str] = (),
) -> OpenRun:
    """The ledger's note of a request that is about to leave."""
    return OpenRun(
        key=key,
        turn=snapshot.turn,
        state="sent",
        settings=fingerprint(snapshot.settings),
        tool_choice=json.dumps(snapshot.settings.get("tool_choice", "auto")),
        excluded=excluded,
        deletes=frozenset(deletes),
    )


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
        added(entry, message_id, plan.changes, turn=snapshot.turn, view=snapshot.view, key=run.key)
        for message_id, entry in zip(message_ids, plan.changes.messages, strict=True)
    )
    held = (*plan.changes.held, *new)
    ended = {key for key, _ in plan.end_runs}
    answered = {**ledger.answered, **{one.call_id: snapshot.view for one in plan.answers}}
    shown = [entry.item_id for entry in snapshot.entries]
    return replace(
        ledger.without_runs({*ended, run.key}).with_run(run),
        held=held,
        answered=answered,
        removed=(ledger.removed | plan.changes.removed) - frozenset(shown),
        in_use=ledger.in_use or snapshot.has_instructions,
        fresh=False,
    ).shown(snapshot.view, shown)


def added(
    entry: Entry,
    message_id: str,
    changes: Changes,
    *,
    turn: int,
    view: int | None,
    key: str | None = None,
    committed: bool = False,
) -> Held:
    """A message that was appended. One that was sent again stays whose it was."""
    before = changes.resent.get(entry.item_id)
    if before is not None:
        committed = committed or before.committed or before.turn != turn
        turn, view = before.turn or turn, before.view
    return Held(
        message_id=message_id,
        role=entry.role,
        digest=entry.digest,
        item_id=entry.item_id,
        turn=turn,
        view=view,
        run_key=key,
        committed=committed,
    )


def after_outputs_taken(ledger: Ledger, plan: Submit, snapshot: Snapshot) -> Ledger:
    """The ledger once the open run goes on with its outputs."""
    run = replace(plan.run, state="streaming", pending=(), turn=snapshot.turn)
    return replace(
        ledger.with_run(run),
        held=plan.changes.held,
        answered={**ledger.answered, **{one.call_id: snapshot.view for one in plan.answers}},
    ).shown(snapshot.view, [entry.item_id for entry in snapshot.entries])


def _resent(superseded: Iterable[tuple[Held, Entry]]) -> dict[str, Held]:
    return {entry.item_id: one for one, entry in superseded}


def fingerprint(settings: Mapping[str, Any]) -> str:
    """What a run cannot change half-way. ``tool_choice`` is compared by meaning instead."""
    fixed = {key: value for key, value in settings.items() if key != "tool_choice"}
    return json.dumps(fixed, sort_keys=True, default=str)


def _choice_allows(run: OpenRun, snapshot: Snapshot, policy: Policy) -> bool:
    """A follow-up asks for 'auto'. A forced choice is for a run's first turn alone on our server;
    others may apply it again and call for ever."""
    if snapshot.settings.get("tool_choice", "auto") != "auto":
        return False
    return policy.extensions or run.tool_choice in ("", json.dumps("auto"))


def _hidden_calls(snapshot: Snapshot, ledger: Ledger) -> tuple[str, ...]:
    """Finished calls of this session that the agent's context does not have (any more)."""
    return tuple(call for call in ledger.answered if call not in snapshot.calls)
