"""What can happen in a conversation: plain values, so that a failure shrinks to a script to read.

``Stage`` plays them. A value shows only what is out of the ordinary about it: ``Turn()`` is a
question and its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from hypothesis import strategies as st

Tool = Literal[
    "order",  # has an effect, which must happen once
    "note",  # returns None: nothing is said about it
    "fails",
    "hush",  # raises StopResponse
    "nonsense",  # nobody has it
    "says",  # says something while it works
    "asks",  # has the model say something while it works
    "renames",  # changes the agent's instructions
    "retools",  # gives the agent another tool
    "reports",  # reports, goes on in the background, and has a result later
]
Question = Literal["text", "frame", "data url", "url", "image only", "blanks", "nothing"]
Spoken = Literal["words", "blanks", "nothing"]


class _Shown:
    """Shows the fields that are not as usual."""

    def __repr__(self) -> str:
        unusual = [
            f"{one.name}={getattr(self, one.name)!r}"
            for one in fields(self)  # type: ignore[arg-type] # every subclass is a dataclass
            if getattr(self, one.name) != one.default
        ]
        return f"{type(self).__name__}({', '.join(unusual)})"


@dataclass(frozen=True, repr=False)
class Fault(_Shown):
    """What goes wrong with one of a turn's requests, the first or a later one.

    "refused": it does not leave. "late": it seems so, but it arrives when its sender has gone on.
    "lost": it has its effect, and its answer is a 502. "cut", "hang": the line dies or falls silent
    before the event ``at``. "restart", "thread deleted": that is when it happens. A number is the
    status that somebody on the way answers with.
    """

    kind: str = "refused"
    at: str = ""
    request: int = 0


@dataclass(frozen=True, repr=False)
class Interrupt(_Shown):
    """While the model thinks, after a word of it, while tools work, at an event of the stream, or
    before that with the request "on its way" or its answer "on the way back"; so many turns of the
    loop later. ``follow``: the next question comes at the same moment."""

    at: str = "thinking"
    ticks: int = 0
    follow: bool = False


@dataclass(frozen=True, repr=False)
class Turn(_Shown):
    """A question and its answer. The model calls ``tools`` at once, ``steps`` times in a row."""

    question: Question = "text"
    spoken: Spoken = "words"
    tools: tuple[Tool, ...] = ()
    steps: int = 1
    preamble: bool = False  # words before a call
    instructions: bool = False  # of its own, for this reply alone
    interrupt: Interrupt | None = None
    fault: Fault | None = None


@dataclass(frozen=True, repr=False)
class Prompted(_Shown):
    """A reply that nobody asked for."""


@dataclass(frozen=True, repr=False)
class Say(_Shown):
    interrupted: bool = False


@dataclass(frozen=True, repr=False)
class Queued(_Shown):
    """Two questions at once."""


@dataclass(frozen=True, repr=False)
class Meanwhile(_Shown):
    """A question while the tool of another one still works."""


@dataclass(frozen=True, repr=False)
class Task(_Shown):
    """A tool hands the conversation to an ``AgentTask`` for one question."""


@dataclass(frozen=True, repr=False)
class Guess(_Shown):
    """An answer that is thrown away, whole or after its first word. ``probe``: to what was asked
    before, as by a FallbackAdapter that tries out whether a model is back."""

    whole: bool = True
    probe: bool = False


@dataclass(frozen=True, repr=False)
class Foreign(_Shown):
    """A context that is another conversation: a judge, a summary, a detector that forces a tool."""

    kind: Literal["judge", "summary", "detector"] = "judge"


@dataclass(frozen=True, repr=False)
class Remove(_Shown):
    place: int = 0


@dataclass(frozen=True, repr=False)
class Edit(_Shown):
    place: int = 0


@dataclass(frozen=True, repr=False)
class Insert(_Shown):
    """Something that is committed late, before what was committed earlier."""

    place: int = 0


@dataclass(frozen=True, repr=False)
class Truncate(_Shown):
    """The agent forgets all but so many items."""

    items: int = 4


@dataclass(frozen=True, repr=False)
class Window(_Shown):
    """From now on the agent's model is shown so many items, 0: all."""

    items: int = 0


@dataclass(frozen=True, repr=False)
class Handoff(_Shown):
    """The other agent takes over, or takes over again, knowing what was said or not."""

    history: bool = False


@dataclass(frozen=True, repr=False)
class Instruct(_Shown):
    """The agent's instructions change between two turns."""


@dataclass(frozen=True, repr=False)
class Elsewhere(_Shown):
    """Another process uses the thread: adds a message, takes a turn, or is at it when ours
    begins."""

    kind: Literal["message", "turn", "busy"] = "message"


@dataclass(frozen=True, repr=False)
class Second(_Shown):
    """Another session with the same ``AssistantLLM``, after ours or beside it."""

    beside: bool = False


@dataclass(frozen=True, repr=False)
class Lost(_Shown):
    """Deleted underneath."""

    noun: Literal["thread", "assistant"] = "thread"


@dataclass(frozen=True, repr=False)
class Sync(_Shown):
    pass


@dataclass(frozen=True, repr=False)
class Attach(_Shown):
    """From now on the thread follows the session by itself."""


@dataclass(frozen=True, repr=False)
class Restart(_Shown):
    """The agent's process ends, and another one takes the thread up by its id or its key.

    "quiet": between two turns. "hangs up": in a reply, in order. "dies": there, without a word.
    """

    how: Literal["quiet", "hangs up", "dies"] = "quiet"
    by: Literal["id", "key"] = "id"
    words: int = 0


Move = (
    Turn
    | Prompted
    | Say
    | Queued
    | Meanwhile
    | Task
    | Guess
    | Foreign
    | Remove
    | Edit
    | Insert
    | Truncate
    | Window
    | Handoff
    | Instruct
    | Elsewhere
    | Second
    | Lost
    | Sync
    | Attach
    | Restart
)

EVENTS = (
    "thread.run.created",
    "thread.run.queued",
    "thread.run.in_progress",
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.message.created",
    "thread.message.in_progress",
    "thread.message.delta",
    "thread.message.completed",
    "thread.run.step.completed",
    "thread.run.requires_action",
    "thread.run.completed",
    "done",
)
TOOLS: tuple[Tool, ...] = (
    "order", "note", "fails", "hush", "nonsense", "says", "asks", "renames", "retools", "reports",
)  # fmt: skip

_places = st.integers(0, 5)
_ticks = st.integers(0, 12)
_requests = st.integers(0, 3)

faults = st.one_of(
    st.builds(
        Fault,
        st.sampled_from(["refused", "lost", "late", "400", "404", "409", "429", "500", "503"]),
        request=_requests,
    ),
    st.builds(
        Fault,
        st.sampled_from(["cut", "cut", "hang", "restart", "thread deleted"]),
        st.sampled_from(EVENTS),
        _requests,
    ),
)
interrupts = st.builds(
    Interrupt,
    st.sampled_from(
        ["thinking", "word 1", "word 2", "word 3", "tool", "on its way", "on the way back", *EVENTS]
    ),
    _ticks,
    st.booleans(),
)
_questions: st.SearchStrategy[Question] = st.sampled_from(
    ["text"] * 6 + ["frame", "data url", "url", "image only", "blanks", "nothing"]
)
_answers: st.SearchStrategy[Spoken] = st.sampled_from(["words"] * 4 + ["blanks", "nothing"])
_tools = st.lists(st.sampled_from(TOOLS), min_size=1, max_size=3).map(tuple)
turns = st.one_of(
    st.just(Turn()),
    st.builds(Turn, _questions, _answers, instructions=st.booleans()),
    st.builds(Turn, interrupt=interrupts),
    st.builds(Turn, fault=faults),
    st.builds(Turn, tools=_tools, steps=st.sampled_from([1, 1, 2, 5]), preamble=st.booleans()),
    st.builds(
        Turn,
        tools=_tools,
        preamble=st.booleans(),
        interrupt=st.none() | interrupts,
        fault=st.none() | faults,
    ),
    st.builds(Turn, _questions, interrupt=st.none() | interrupts, fault=st.none() | faults),
)
moves: st.SearchStrategy[Move] = st.one_of(
    turns,
    turns,
    turns,
    st.one_of(
        st.just(Prompted()),
        st.builds(Say, st.booleans()),
        st.just(Queued()),
        st.just(Meanwhile()),
        st.just(Task()),
        st.builds(Guess, st.booleans(), st.booleans()),
        st.builds(Foreign, st.sampled_from(["judge", "summary", "detector"])),
    ),
    st.one_of(
        st.builds(Remove, _places),
        st.builds(Edit, _places),
        st.builds(Insert, _places),
        st.builds(Truncate, st.sampled_from([2, 4])),
        st.builds(Window, st.sampled_from([0, 2, 4])),
        st.builds(Handoff, st.booleans()),
        st.just(Instruct()),
    ),
    st.one_of(
        st.builds(Elsewhere, st.sampled_from(["message", "turn", "busy"])),
        st.builds(Second, st.booleans()),
        st.builds(Lost, st.sampled_from(["thread", "assistant"])),
        st.just(Sync()),
        st.just(Attach()),
        st.builds(
            Restart,
            st.sampled_from(["quiet", "hangs up", "dies"]),
            st.sampled_from(["id", "key"]),
            st.integers(0, 2),
        ),
    ),
)


def script(listed: Sequence[Move]) -> str:
    return "[\n" + "".join(f"    {move},\n" for move in listed) + "]"
