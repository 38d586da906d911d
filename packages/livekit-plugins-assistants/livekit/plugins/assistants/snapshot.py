"""An immutable picture of a ``ChatContext``, taken inside ``chat()``.

The framework appends to the list it handed over and edits its items in place, so nothing here
keeps a reference to a message. What counts is who said what: user and assistant items become
entries, finished tool calls answers; system and developer text is the run's instructions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from livekit.agents.llm import (
    AudioContent,
    ChatContext,
    ChatItem,
    ChatMessage,
    FunctionCall,
    FunctionCallOutput,
    ImageContent,
)

STAMP = "assistants"
"""The one top-level key of ours in ``ChatMessage.extra``: ``{thread_id, run_id, message_id}``."""

# Reserved item ids of the framework (voice/generation.py, llm/chat_context.py: "must not change").
_INSTRUCTIONS = "lk.agent_task.instructions"
_DYNAMIC_INSTRUCTIONS = "lk.agent_task.instructions.dynamic"
_EXPRESSIVE_INSTRUCTIONS = "lk.expressive.instructions"
_RESERVED = frozenset({_INSTRUCTIONS, _DYNAMIC_INSTRUCTIONS, _EXPRESSIVE_INSTRUCTIONS})
_RUNNING_PLACEHOLDER = "__lk_running_placeholder__"
_RUNNING_SUFFIXES = ("_running", "_running_output")

Role = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Text:
    value: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image by the id of its ``ImageContent``. ``url`` is set when it needs no upload."""

    key: str
    url: str | None = None
    detail: Literal["auto", "low", "high"] = "auto"


Part = Text | Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One user or assistant item. ``message_ids``: what its stamp says it is in ``thread_id``."""

    item_id: str
    role: Role
    parts: tuple[Part, ...]
    interrupted: bool = False
    thread_id: str | None = None
    message_ids: tuple[str, ...] = ()
    digest: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", digest(self.parts))

    @property
    def text(self) -> str:
        return "\n".join(part.value for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A finished tool call. ``arguments`` is None if the call itself has left the context."""

    call_id: str
    output: str
    name: str | None = None
    arguments: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one call of ``chat()`` was given.

    ``turn`` numbers the call; ``view`` and ``session`` are tokens of the agent and session whose
    context it is (None: unknown); ``open_turns`` are the other turns that had not ended then.
    ``blank`` are the items that are there and say nothing. ``settings`` are the fields of the run's
    body that do not come from the conversation.
    """

    turn: int = 0
    view: int | None = None
    session: int | None = None
    open_turns: frozenset[int] = frozenset()
    entries: tuple[Entry, ...] = ()
    blank: frozenset[str] = frozenset()
    answers: tuple[Answer, ...] = ()
    calls: frozenset[str] = frozenset()
    has_instructions: bool = False
    instructions: str | None = None
    additional_instructions: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """The conversation in a context, and the image objects its entries name."""

    entries: tuple[Entry, ...]
    blank: frozenset[str]
    answers: tuple[Answer, ...]
    calls: frozenset[str]
    has_instructions: bool
    instructions: str | None
    additional_instructions: str | None
    images: Mapping[str, ImageContent]


class EntryCache:
    """Entries of messages seen before. An entry is used again only while the message still says the
    same, so that in-place edits show; strings that were not replaced compare by identity."""

    MOST = 20_000  # judges and discarded guesses bring items that never come back

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[object, ...], Entry | None]] = {}

    def entry_of(self, item: ChatMessage, images: dict[str, ImageContent]) -> Entry | None:
        content = item.content
        if not all(isinstance(part, str) for part in content):
            return entry_of(item, images)
        state = (item.role, item.interrupted, item.extra.get(STAMP), *content)
        known = self._known.get(item.id)
        if known is not None and known[0] == state:
            return known[1]
        entry = entry_of(item, images)
        if len(self._known) >= self.MOST:
            self._known.clear()
        self._known[item.id] = (state, entry)
        return entry


def project(context: ChatContext, cache: EntryCache | None = None) -> Projection:
    """Picture ``context``. Order is the list's own: it is not sorted by time everywhere."""
    cache = cache or EntryCache()
    entries: list[Entry] = []
    blank: set[str] = set()
    leading: list[str] = []
    trailing: list[str] = []
    images: dict[str, ImageContent] = {}
    calls: dict[str, FunctionCall] = {}
    outputs: list[FunctionCallOutput] = []
    running: set[str] = set()
    has_instructions = False

    for item in context.items:
        if isinstance(item, ChatMessage):
            if item.role in ("system", "developer"):
                has_instructions = has_instructions or item.id in _RESERVED
                text = item.raw_text_content
                if text and text.strip():
                    first = item.id in _RESERVED or not entries
                    (leading if first else trailing).append(text)
            elif (entry := cache.entry_of(item, images)) is not None:
                entries.append(entry)
            else:
                blank.add(item.id)
        elif isinstance(item, FunctionCall):
            if _is_placeholder(item):
                running.add(item.call_id)
            else:
                calls[item.call_id] = item
        elif isinstance(item, FunctionCallOutput) and not item.id.endswith(_RUNNING_SUFFIXES):
            outputs.append(item)

    answers: dict[str, Answer] = {}
    for output in outputs:
        if output.call_id in running and output.call_id not in calls:
            continue
        call = calls.get(output.call_id)
        answers[output.call_id] = Answer(
            call_id=output.call_id,
            output=output.output,
            name=call.name if call else output.name or None,
            arguments=call.arguments if call else None,
        )
    return Projection(
        entries=tuple(entries),
        blank=frozenset(blank),
        answers=tuple(answers.values()),
        calls=frozenset(calls) | frozenset(answers),
        has_instructions=has_instructions,
        instructions="\n\n".join(leading) or None,
        additional_instructions="\n\n".join(trailing) or None,
        images=images,
    )


def entry_of(item: ChatItem, images: dict[str, ImageContent] | None = None) -> Entry | None:
    """The entry of one item, or None if it is not part of what was said (or says nothing)."""
    if not isinstance(item, ChatMessage) or item.role not in ("user", "assistant"):
        return None
    parts: list[Part] = []
    for content in item.content:
        if isinstance(content, str):
            parts.append(Text(content))
        elif isinstance(content, AudioContent):
            if content.transcript:
                parts.append(Text(content.transcript))
        elif isinstance(content, ImageContent) and item.role == "user":
            source = content.image
            remote = isinstance(source, str) and not source.startswith("data:")
            parts.append(
                Image(
                    content.id,
                    url=source if isinstance(source, str) and remote else None,
                    detail=content.inference_detail,
                )
            )
            if images is not None and not remote:
                images[content.id] = content
    if not any(isinstance(part, Image) or part.value.strip() for part in parts):
        return None
    stamp = item.extra.get(STAMP)
    thread_id, message_ids = _read_stamp(stamp)
    return Entry(
        item_id=item.id,
        role="user" if item.role == "user" else "assistant",
        parts=tuple(parts),
        interrupted=item.interrupted,
        thread_id=thread_id,
        message_ids=message_ids,
    )


def stamp(thread_id: str, run_id: str | None, message_ids: Sequence[str]) -> dict[str, Any]:
    """What a reply's chunks carry back to its item, through ``ChoiceDelta.extra``."""
    value: dict[str, Any] = {"thread_id": thread_id, "message_id": message_ids[0]}
    if run_id is not None:
        value["run_id"] = run_id
    if len(message_ids) > 1:
        value["message_ids"] = list(message_ids)
    return {STAMP: value}


def digest(parts: Sequence[Part]) -> str:
    """What makes two contents the same: their words (runs of blanks are one) and their images."""
    said = " ".join(" ".join(p.value for p in parts if isinstance(p, Text)).split())
    shown = [p.url or p.key for p in parts if isinstance(p, Image)]
    return hashlib.blake2b("\0".join([said, *shown]).encode(), digest_size=12).hexdigest()


def _is_placeholder(call: FunctionCall) -> bool:
    """The stand-in of a tool that still runs, put into other turns' contexts."""
    return bool(call.extra.get(_RUNNING_PLACEHOLDER)) or call.id.endswith("_running")


def _read_stamp(value: object) -> tuple[str | None, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        return None, ()
    thread_id, message_id = value.get("thread_id"), value.get("message_id")
    if not isinstance(thread_id, str) or not isinstance(message_id, str):
        return None, ()
    every = value.get("message_ids")
    if isinstance(every, list) and all(isinstance(one, str) for one in every) and every:
        return thread_id, tuple(every)
    return thread_id, (message_id,)
