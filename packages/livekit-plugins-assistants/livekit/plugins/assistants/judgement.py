"""What becomes of a message that a snapshot lacks: clauses, asked in their order.

Absence is the only signal LiveKit gives, and it means different things: not yet said, never said,
somebody else's, taken out, or out of the window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .ledger import Fates, Held, Ledger
from .snapshot import Snapshot

Verdict = Literal["show", "hide", "forget", "delete", "remove"]


@dataclass(frozen=True, slots=True)
class Present:
    """What the snapshot shows, in the terms the clauses ask for."""

    items: frozenset[str]
    turns: Mapping[int, int]  # turn -> place in the thread of its last message that is shown
    places: Mapping[str, int]  # message id -> place in the thread
    order: tuple[str, ...]  # of this agent's earlier contexts
    nobodys: tuple[str, ...]  # of a history that was given before any agent was known
    brought: Mapping[str, int]  # item id -> turn
    view: int | None

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
        brought = {
            one.item_id: one.turn
            for one in held
            if one.item_id is not None and one.turn is not None
        }
        order, nobodys = ledger.order.get(snapshot.view, ()), ledger.order.get(None, ())
        return cls(items, turns, places, order, nobodys, brought, snapshot.view)

    def before(self, held: Held) -> tuple[str, ...]:
        """What this agent's contexts showed before it. What none has shown yet stands behind the
        context of its turn; but what ``sync()`` brought and no agent has is nobody's to remove."""
        if held.item_id is not None and held.item_id in self.order:
            return self.order[: self.order.index(held.item_id)]
        if held.view is None and held.item_id in self.nobodys:
            return self.nobodys[: self.nobodys.index(held.item_id)]
        if held.turn is None or (held.view != self.view and held.committed):
            return ()
        known = [n for n, item in enumerate(self.order) if self.brought.get(item, 0) <= held.turn]
        return self.order[: known[-1] + 1] if known else ()


def judge(
    held: Held, snapshot: Snapshot, ledger: Ledger, fates: Fates, present: Present
) -> Verdict:
    """What becomes of a message that the snapshot lacks. The first clause that applies decides."""
    if held.turn is None:
        return "hide" if was_shown(held, present) else "show"
    if held.void or blank_reply(held):
        run = ledger.run(held.run_key or "")
        return "show" if run is not None and run.state == "waiting" and not held.void else "delete"
    if held.item_id in snapshot.blank:
        return "remove"  # as LiveKit does with an answer that was markup for the voice alone
    if held.forgotten:
        return "hide"
    if turn_discarded(held, fates) or reply_unheard(held, fates):
        return "delete"
    if turn_was_open(held, snapshot):
        return "hide"
    if of_another_agent(held, snapshot):
        return "hide"
    if not was_committed(held, fates, present):
        return "delete"
    return "remove" if removed_on_purpose(held, present) else "forget"


def was_shown(held: Held, present: Present) -> bool:
    """The base is the caller's memory: visible, unless this agent had it and lost it."""
    return held.item_id is not None and held.item_id in present.order


def blank_reply(held: Held) -> bool:
    """Only blanks: LiveKit keeps no item of it. It stays while its run waits for outputs."""
    return held.written and held.text is not None and not held.text.strip()


def turn_discarded(held: Held, fates: Fates) -> bool:
    """A speculation that was not adopted: its user message and its reply never were."""
    return held.turn in fates.discarded and not held.committed and fates.committed(held) is None


def reply_unheard(held: Held, fates: Fates) -> bool:
    """The speech is over and the session has no item of it: nothing was heard."""
    return (
        held.written
        and held.turn in fates.over
        and held.turn in fates.told
        and not held.committed
        and fates.committed(held) is None
    )


def turn_was_open(held: Held, snapshot: Snapshot) -> bool:
    """Its turn had not ended when the snapshot was taken, which therefore says nothing."""
    return held.turn in snapshot.open_turns


def of_another_agent(held: Held, snapshot: Snapshot) -> bool:
    """Another agent's turn (or session's): not this agent's to remove."""
    return held.view is not None and held.view != snapshot.view


def removed_on_purpose(held: Held, present: Present) -> bool:
    """Something that this agent's contexts showed before it is still there."""
    return not present.items.isdisjoint(present.before(held))


def was_committed(held: Held, fates: Fates, present: Present) -> bool:
    """It was part of the conversation and has left the context from the front: a window. Where
    no session tells, a later message of the same turn that is still there shows it, too."""
    if held.committed or fates.committed(held) is not None:
        return True
    if held.turn is None or held.turn in fates.told:
        return False
    return present.turns.get(held.turn, -1) > present.places[held.message_id]


def never_said(held: Held, fates: Fates, *, history_given: bool) -> bool:
    """Known to be no part of the conversation: discarded, unheard, or absent from its history
    although its turn is over."""
    if held.void or turn_discarded(held, fates) or reply_unheard(held, fates):
        return True
    if held.committed or held.forgotten or fates.committed(held) is not None:
        return False
    return history_given and held.turn in fates.over
