"""Which message of the thread is which item of a context.

By item id, by stamp, or, for a reply that no item has claimed, by its words. Base messages are the
protected past: matched, but never changed and never sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .ledger import Held, Ledger
from .snapshot import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """``extensions``: the server has them, so messages can be edited, and a forced choice of tool
    is for the first turn of a run alone. ``full``: an interrupted reply keeps the text the model
    wrote, heard or not."""

    extensions: bool = True
    full: bool = False


@dataclass(frozen=True, slots=True)
class Edit:
    message_id: str
    entry: Entry


def match(
    entries: Sequence[Entry],
    held: Sequence[Held],
    thread_id: str,
    policy: Policy,
    doubtful: Iterable[str] = (),
) -> tuple[list[tuple[Held, Entry]], tuple[Entry, ...], dict[str, tuple[Held, Entry]]]:
    """The longest prefix of ``entries`` that is a subsequence of ``held``; the rest; and, by their
    ids, the messages that the rest already are: sent again, they must go. ``doubtful``: messages
    that may be deleted already, so none of the prefix.

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
            if index in where.taken or one.void:
                continue
            if doubt and not doubt.isdisjoint(one.message_ids):
                continue
            if one.turn is None:
                found = index
                break
            if rest or index <= last:
                continue
            if policy.extensions or not differs(one, entry, policy):
                found = index
                break
        if found is None:
            rest.append(entry)
            continue
        where.taken.add(found)
        last = max(last, found) if not rest else last
        pairs.append((held[found], entry))
    superseded = {
        held[index].message_id: (held[index], entry)
        for entry in rest
        for index in where.of(entry)
        if held[index].turn is not None
    }
    return pairs, tuple(rest), superseded


def bind_base(entries: Sequence[Entry], ledger: Ledger) -> tuple[Held, ...]:
    """On the first plan after loading: bind a restored context whose ids are unknown.

    By text, and only where the context's beginning is the thread's end, with words of both sides:
    what is said first today may well be what was said last yesterday. Items stamped with messages
    of the thread that were not listed are part of the base, too.
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


def keep(held: Held, entry: Entry, policy: Policy, *, seen: bool) -> tuple[Held, Edit | None]:
    """Bind a message to its item; edit it if it does not say what the item says."""
    bound = held
    committed = held.committed or seen
    # Of a long conversation nearly all stays as it is, turn after turn.
    if (held.item_id, held.text, held.committed) != (entry.item_id, None, committed) or (
        held.forgotten
    ):
        bound = replace(
            held, item_id=entry.item_id, text=None, committed=committed, forgotten=False
        )
    if held.turn is None or not differs(held, entry, policy):
        return bound, None
    return replace(bound, digest=entry.digest, loose=False, also=()), Edit(held.message_id, entry)


def differs(held: Held, entry: Entry, policy: Policy) -> bool:
    """Whether the message must be changed to say what its item says."""
    if policy.full and held.written and entry.interrupted:
        return False
    return held.loose or held.digest != entry.digest


def _same(entries: Sequence[Entry], held: Sequence[Held]) -> bool:
    """A greeting alone is greeted anew, where the thread knows which item its last one was."""
    if len({entry.role for entry in entries}) == 1 and any(one.item_id for one in held):
        return False
    return all(
        one.role == entry.role and one.digest == entry.digest
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
