"""The plan alone, through random conversations: a thread in memory obeys its moves, and afterwards
holds what was said, once each and in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from livekit.plugins.assistants.ledger import Fates, Held, Ledger, OpenRun, fates_of
from livekit.plugins.assistants.matching import Policy
from livekit.plugins.assistants.plan import NewRun, after_run_created, plan, settle
from livekit.plugins.assistants.snapshot import Entry, Role, Snapshot, Text, digest

THREAD = "thread_1"

Fate = Literal["spoken", "heard", "unheard", "discarded"]
Wire = Literal["", "lost before", "lost after", "cut before the reply", "cut in the reply"]


@dataclass
class Message:
    id: str
    role: Role
    text: str
    run: str


@dataclass
class Thread:
    """The server's side: what the extensions promise, and no more."""

    messages: list[Message] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    made: int = 0

    def create(self, decided: NewRun, key: str) -> list[str] | None:
        """Carry a run request out, at once or late; None: refused."""
        if key in self.ended:
            return None
        for ended, keep in decided.end_runs:
            self.ended.add(ended)
            self.messages = [m for m in self.messages if m.run != ended or m.id in keep]
        gone = set(decided.changes.deletes)
        self.messages = [m for m in self.messages if m.id not in gone]
        for edit in decided.changes.edits:
            (message,) = [m for m in self.messages if m.id == edit.message_id]
            message.text = edit.entry.text
        return [self.add(one.role, one.text, key) for one in decided.changes.messages]

    def add(self, role: Role, text: str, run: str) -> str:
        self.made += 1
        self.messages.append(Message(f"m{self.made}", role, text, run))
        return f"m{self.made}"


@dataclass
class World:
    """The framework's side: an agent's context, and the turns that fill it."""

    told: bool  # whether the session says what it committed
    thread: Thread = field(default_factory=Thread)
    ledger: Ledger = field(default_factory=lambda: Ledger(thread_id=THREAD))
    context: list[Entry] = field(default_factory=list)
    over: set[int] = field(default_factory=set)
    discarded: set[int] = field(default_factory=set)
    late: list[tuple[NewRun, str]] = field(default_factory=list)
    turns: int = 0
    items: int = 0

    def item(
        self, role: Role, text: str, message: str | None = None, *, cut: bool = False
    ) -> Entry:
        self.items += 1
        return Entry(
            item_id=f"i{self.items}",
            role=role,
            parts=(Text(text),),
            interrupted=cut,
            thread_id=THREAD if message else None,
            message_ids=(message,) if message else (),
        )

    def fates(self) -> Fates:
        if not self.told:
            return Fates(over=frozenset(self.over), discarded=frozenset(self.discarded))
        return fates_of(
            self.context,
            thread_id=THREAD,
            over=self.over,
            discarded=self.discarded,
            told=range(1, self.turns + 1),
        )

    def turn(self, fate: Fate = "spoken", wires: Sequence[Wire] = ()) -> None:
        """One call of ``chat()``; every wire but the last attempt's breaks."""
        self.turns += 1
        question = self.item("user", f"question {self.turns}")
        entries = (*self.context, question)
        snapshot = Snapshot(
            turn=self.turns, view=1, session=1, entries=entries, has_instructions=True
        )
        reply: Entry | None = None
        for number, wire in enumerate([*wires, ""]):
            self.ledger = self.ledger.voided([f"{self.turns}.{n}" for n in range(number)])
            reply = self.attempt(snapshot, f"{self.turns}.{number}", wire, fate)
            if reply is not None:
                break
        self.over.add(self.turns)
        if fate == "discarded":
            self.discarded.add(self.turns)
            return
        self.context.append(question)
        if reply is not None and fate != "unheard":
            self.context.append(reply)

    def attempt(self, snapshot: Snapshot, key: str, wire: Wire, fate: Fate) -> Entry | None:
        decided = plan(snapshot, self.ledger, self.fates(), Policy())
        assert isinstance(decided, NewRun)
        run = OpenRun(
            key=key,
            turn=snapshot.turn,
            state="sent",
            deletes=frozenset(decided.changes.deletes),
        )
        self.ledger = self.ledger.sending(run, [e.message_id for e in decided.changes.edits])
        if wire == "lost before":
            self.late.append((decided, key))
            return None
        ids = self.thread.create(decided, key)
        assert ids is not None
        if wire == "lost after":
            return None
        run = replace(run, state="streaming", run_id=key, deletes=frozenset())
        self.ledger = after_run_created(self.ledger, decided, snapshot, run=run, message_ids=ids)
        whole = f"answer {snapshot.turn} to the end"
        message = self.thread.add("assistant", whole, key)
        if wire == "cut before the reply":
            self.ledger = self.ledger.cut(key)
            return None
        said = whole if fate == "spoken" and not wire else whole[:8]
        arrived = said if wire or fate != "spoken" else whole
        held = Held(
            message_id=message,
            role="assistant",
            digest=digest([Text(arrived)]),
            text=arrived,
            turn=snapshot.turn,
            view=1,
            run_key=key,
            written=True,
            loose=arrived != whole,
        )
        self.ledger = self.ledger.with_held(held)
        self.ledger = self.ledger.cut(key) if arrived != whole else self.ledger.without_runs([key])
        return self.item("assistant", said, message, cut=said != whole)

    def say(self) -> None:
        self.context.append(self.item("assistant", f"said {self.items}"))

    def remove(self, place: int) -> None:
        if len(self.context) > 1:
            del self.context[1 + place % (len(self.context) - 1)]

    def edit(self, place: int) -> None:
        if self.context:
            place %= len(self.context)
            changed = (Text(f"edited {self.items}"),)
            self.context[place] = replace(self.context[place], parts=changed, digest="")

    def insert(self, place: int) -> None:
        """Something committed late, before what was committed earlier. Never the very first: the
        old first one, removed next, would look like the victim of a window."""
        late = self.item("assistant", f"late {self.items}")
        self.context.insert(1 + place % max(1, len(self.context)), late)

    def deliver(self) -> None:
        for decided, key in self.late:
            assert self.thread.create(decided, key) is None, "a late request was carried out"
        self.late.clear()


wires = st.lists(
    st.sampled_from(["lost before", "lost after", "cut before the reply", "cut in the reply"]),
    max_size=2,
)
fates = st.sampled_from(["spoken", "heard", "unheard", "discarded"])
places = st.integers(0, 9)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("turn"), fates, wires),
        st.tuples(st.sampled_from(["say"])),
        st.tuples(st.sampled_from(["remove", "edit", "insert"]), places),
    ),
    max_size=12,
)


@given(listed=moves, told=st.booleans())
def test_the_thread_ends_as_the_context(listed: list[tuple[object, ...]], told: bool) -> None:
    world = World(told)
    for name, *arguments in listed:
        getattr(world, str(name))(*arguments)
    world.turn()
    world.deliver()
    assert [(m.role, m.text) for m in world.thread.messages] == [
        (one.role, one.text) for one in world.context
    ]


@given(listed=moves)
def test_settling_ends_as_the_context_too(listed: list[tuple[object, ...]]) -> None:
    world = World(told=True)
    for name, *arguments in listed:
        if name != "remove":  # what was taken out of one context is still in the session's history
            getattr(world, str(name))(*arguments)
    # Before settling, what is active is ended and the thread is read again.
    kept = {held.message_id for held in world.ledger.held}
    for run in world.ledger.runs:
        world.thread.ended.add(run.key)
        world.thread.messages = [
            m for m in world.thread.messages if m.run != run.key or m.id in kept
        ]
    there = {m.id for m in world.thread.messages}
    held = tuple(one for one in world.ledger.held if one.message_id in there)
    ledger = replace(world.ledger, runs=(), held=held)
    changes = settle(world.context, ledger, world.fates(), Policy())
    world.thread.create(NewRun(changes=changes), "settling")
    assert [(m.role, m.text) for m in world.thread.messages] == [
        (one.role, one.text) for one in world.context
    ]
