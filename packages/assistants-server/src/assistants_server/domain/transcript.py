"""One model turn: the pieces a model sends, folded into a message and tool calls.

Pure: :meth:`Turn.feed` takes a piece and says what it changes; whoever runs the turn stores and
announces the changes in that order. The rules kept here:

- A message begins with its first visible character. White space before a tool call is noise of
  some models and never becomes a message.
- A message ends before the first tool call of the turn, in the same change: clients refuse a step
  that begins while another is open (Node's SDK 7), and whoever finds no open step after a crash
  knows that the turn has said nothing.
- All calls of a turn share one step; indices begin at 0 and are given in order of appearance.
- Text behind a tool call is dropped: its message could not begin before the calls are answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .model_exchange import CallPiece, Piece, RefusalPiece, TextPiece, TurnEnd, TurnUsage
from .records import Usage


@dataclass(frozen=True, slots=True)
class MessageBegins:
    """A message and its step are to be created."""


@dataclass(frozen=True, slots=True)
class TextGrows:
    index: int
    text: str
    opens: bool


@dataclass(frozen=True, slots=True)
class RefusalGrows:
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallsBegin:
    """A tool_calls step is to be created; the turn's message and its step, if any, are complete."""


@dataclass(frozen=True, slots=True)
class CallBegins:
    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallGrows:
    index: int
    arguments: str


Change = MessageBegins | TextGrows | RefusalGrows | CallsBegin | CallBegins | CallGrows


@dataclass(slots=True)
class _Block:
    kind: Literal["text", "refusal"]
    parts: list[str] = field(default_factory=list)

    def wire(self) -> dict[str, Any]:
        text = "".join(self.parts)
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {"type": "text", "text": {"value": text, "annotations": []}}


@dataclass(slots=True)
class _Call:
    id: str
    name: str
    arguments: list[str] = field(default_factory=list)

    def wire(self, *, with_output: bool) -> dict[str, Any]:
        function: dict[str, Any] = {"name": self.name, "arguments": "".join(self.arguments)}
        if with_output:
            function["output"] = None
        return {"id": self.id, "type": "function", "function": function}


class Turn:
    """What the model has said in this turn so far."""

    def __init__(self) -> None:
        self.end: TurnEnd | None = None
        self.usage: Usage | None = None
        self._held: list[str] = []  # white space that is not a message yet
        self._blocks: list[_Block] = []
        self._calls: dict[int, _Call] = {}
        self._order: dict[int, int] = {}  # the model's index -> ours

    def feed(self, piece: Piece) -> Sequence[Change]:
        """Fold one piece in; returns what it changes, in order."""
        if isinstance(piece, TextPiece):
            return self._text(piece.text)
        if isinstance(piece, CallPiece):
            return self._call(piece)
        if isinstance(piece, RefusalPiece):
            return self._refusal(piece.text)
        if isinstance(piece, TurnEnd):
            self.end = piece
        elif isinstance(piece, TurnUsage):
            self.usage = piece.usage
        return ()

    @property
    def pieces(self) -> int:
        """How many pieces of text have come; it grows with the message."""
        return sum(len(block.parts) for block in self._blocks)

    @property
    def called_tools(self) -> bool:
        return bool(self._calls)

    def content(self) -> list[dict[str, Any]]:
        """The message's content blocks so far."""
        return [block.wire() for block in self._blocks]

    def step_calls(self) -> list[dict[str, Any]]:
        """The calls as a run step shows them: ``output`` is null. A copy is taken of the calls at
        once, because the store's threads look while others arrive."""
        return [call.wire(with_output=True) for call in list(self._calls.values())]

    def pending_calls(self) -> list[dict[str, Any]]:
        """The calls as ``required_action`` lists them."""
        return [call.wire(with_output=False) for call in self._calls.values()]

    def _text(self, text: str) -> Sequence[Change]:
        if not text or self._calls:
            return ()
        if not self._blocks:
            self._held.append(text)
            if text.isspace():
                return ()
            text = "".join(self._held)
        return self._grow("text", text)

    def _refusal(self, text: str) -> Sequence[Change]:
        if not text or self._calls:
            return ()
        return self._grow("refusal", text)

    def _grow(self, kind: Literal["text", "refusal"], text: str) -> Sequence[Change]:
        changes: list[Change] = []
        if not self._blocks:
            changes.append(MessageBegins())
        opens = not self._blocks or self._blocks[-1].kind != kind
        if opens:
            self._blocks.append(_Block(kind))
        self._blocks[-1].parts.append(text)
        index = len(self._blocks) - 1
        if kind == "text":
            changes.append(TextGrows(index, text, opens))
        else:
            changes.append(RefusalGrows(index, text))
        return changes

    def _call(self, piece: CallPiece) -> Sequence[Change]:
        changes: list[Change] = []
        call = self._calls.get(piece.index)
        if call is None:
            if not self._calls:
                changes.append(CallsBegin())
            call = _Call(id=piece.id or "", name=piece.name or "")
            self._order[piece.index] = len(self._calls)
            self._calls[piece.index] = call
            changes.append(CallBegins(self._order[piece.index], call.id, call.name))
        if piece.arguments:
            call.arguments.append(piece.arguments)
            changes.append(CallGrows(self._order[piece.index], piece.arguments))
        return changes
