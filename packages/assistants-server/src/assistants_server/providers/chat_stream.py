"""The body of a streamed Chat Completions answer, from bytes to pieces of a turn.

Pure: bytes go in as the network cut them, pieces come out, and how they were cut makes no
difference. Only what the wire needs is looked at, with orjson and without models: validating
every event costs ten times as much as everything else that happens to a token.

Servers differ more than the documentation admits. What is accepted beyond it is named where it
is accepted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from .. import ids
from ..domain.model_exchange import CallPiece, Piece, RefusalPiece, TextPiece, TurnEnd, TurnUsage
from ..domain.records import Usage

# An event longer than this is not a token of a language model.
LONGEST_EVENT = 32 * 1024 * 1024

# Characters of all tokens together. What says more than ten times as much as any model may has run
# wild, and is not kept in memory and written to the disk every second until the run expires.
LONGEST_ANSWER = 8 * 1024 * 1024
_CALL = 1024  # that a call counts, beside its arguments

MOST_TOKENS = 2**31 - 1  # what clients of any language can read

Reason = Literal["stop", "length", "tool_calls", "content_filter"]

# finish_reason is one of four words for OpenAI (and function_call, until 2023); the others were
# seen at compatible servers. A word that is not here ends the turn as "stop".
REASONS: dict[str, Reason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
}


class Garbage(Exception):
    """The body is not a Chat Completions stream."""


class Endless(Exception):
    """The answer is longer than ``LONGEST_ANSWER``."""


class StreamError(Exception):
    """The server reported an error in mid-stream. Holds the error object as it came."""

    def __init__(self, body: Any) -> None:
        super().__init__("the server reported an error in its stream")
        self.body = body


def _decoded(event: bytes) -> Any:
    """The event's JSON, without what nobody behind us can keep or send on."""
    try:
        value = orjson.loads(event)
    except ValueError:
        # Half a surrogate pair: servers that cut a model's text into tokens of bytes send it.
        if b"\\ud" not in event.lower():
            raise
        return _kept(json.loads(event))
    return _kept(value) if b"\\u0000" in event else value


def _kept(value: Any) -> Any:
    """Without NUL, which databases do not take, and with a mark for half a surrogate pair."""
    if isinstance(value, str):
        whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.replace("\0", "")
    if isinstance(value, dict):
        return {_kept(key): _kept(item) for key, item in value.items()}
    return [_kept(item) for item in value] if isinstance(value, list) else value


class Events:
    """The ``data`` of server-sent events (WHATWG HTML, section 9.2.6), from bytes in any cut."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._rest_size = 0
        self._after_cr = False
        self._data: list[bytes] = []
        self._data_size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The events that these bytes complete."""
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]  # the second half of a CR LF that was cut in two
            self._after_cr = False
        if not data:
            return []
        self._after_cr = data.endswith(b"\r")
        lines = data.splitlines()
        unfinished = b"" if data[-1:] in b"\r\n" else lines.pop()
        if lines and self._rest:
            lines[0] = b"".join([*self._rest, lines[0]])
            self._rest, self._rest_size = [], 0
        if unfinished:
            self._rest.append(unfinished)
            self._rest_size += len(unfinished)
        events = self._events(lines)
        if self._data_size + self._rest_size > LONGEST_EVENT:
            raise Garbage
        return events

    def close(self) -> list[bytes]:
        """The body is over; a last event counts although its empty line is missing."""
        lines = [b"".join(self._rest), b""]
        self._rest, self._rest_size = [], 0
        return self._events(lines)

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        data = self._data
        for line in lines:
            if line[:5] == b"data:":
                data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._data_size += len(line)
            elif not line and data:
                events.append(data[0] if len(data) == 1 else b"\n".join(data))
                data.clear()
                self._data_size = 0
        return events


@dataclass(slots=True)
class _Call:
    """A function call under construction. Its number is its place among the turn's calls."""

    index: int
    id: str | None
    name: str | None
    arguments: str = ""  # held back until the name is known
    begun: bool = False  # some of its arguments have been given


class Turn:
    """Folds the events of one answer into pieces."""

    def __init__(self) -> None:
        self.over = False  # [DONE] was seen
        self._events = Events()
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._length = 0
        self._calls: list[_Call] = []
        self._held: list[CallPiece] = []
        self._by_key: dict[int | str, _Call] = {}

    @property
    def ended(self) -> bool:
        """Whether the model said that its turn is over: a broken connection costs nothing then."""
        return self.over or self._reason is not None

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that these bytes complete.

        Raises:
            Garbage, Endless, StreamError: see there.
        """
        return self._pieces(self._events.feed(data))

    def close(self) -> list[Piece]:
        """The body is over in order: its last pieces."""
        return self._pieces(self._events.close())

    def whole(self, body: bytes) -> list[Piece]:
        """The pieces of an answer given at once, by a server that cannot stream."""
        pieces = self._pieces([body])
        if not self.ended:
            raise Garbage
        self.over = True
        return pieces

    def end(self) -> list[Piece]:
        """How the turn ended and what it cost.

        Raises:
            Garbage: a call was never named.
        """
        if any(not call.name for call in self._calls):
            raise Garbage
        reason = REASONS.get(self._reason or "stop", "stop")
        # Several servers (Gemini's and Ollama's endpoints) end calls with "stop".
        if reason == "stop" and self._calls:
            reason = "tool_calls"
        elif reason == "tool_calls" and not self._calls:
            reason = "stop"
        pieces: list[Piece] = []
        for call in self._calls:
            if not call.begun and reason == "tool_calls":
                # Many servers say nothing where there are no arguments; clients parse what is said.
                self._begin(call, CallPiece(call.index, "{}"), pieces)
        pieces += self._held
        pieces.append(TurnEnd(reason))
        if self._usage is not None:
            pieces.append(TurnUsage(self._usage))
        return pieces

    def _pieces(self, events: list[bytes]) -> list[Piece]:
        pieces: list[Piece] = []
        for event in events:
            if self.over:
                break
            if event == b"[DONE]":
                self.over = True
                break
            try:
                self._read(_decoded(event), pieces)
            except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
                raise Garbage from error
        return pieces

    def _read(self, event: dict[str, Any], pieces: list[Piece]) -> None:
        if event.get("error"):
            raise StreamError(event["error"])
        if event.get("object") == "error":  # vLLM: the error object itself
            raise StreamError(event)
        usage = event.get("usage")
        if usage:
            # Some servers repeat a growing count in every chunk: the last one counts.
            self._usage = _usage(usage)
        elif "x_groq" in event and event["x_groq"].get("usage"):
            self._usage = _usage(event["x_groq"]["usage"])
        choices = event.get("choices")
        if not choices:
            return
        choice = choices[0]
        delta = choice.get("delta") or choice.get("message")
        if delta:
            content = delta.get("content")
            if content:
                text = content if type(content) is str else _flat(content)
                if text:
                    self._count(len(text))
                    pieces.append(TextPiece(text))
            if delta.get("refusal"):
                text = _text(delta["refusal"])
                self._count(len(text))
                pieces.append(RefusalPiece(text))
            if delta.get("tool_calls"):
                for entry in delta["tool_calls"]:
                    self._call(entry, pieces)
            elif delta.get("function_call"):
                self._call({"index": 0, "function": delta["function_call"]}, pieces)
        reason = choice.get("finish_reason")
        if reason:
            if reason == "error":  # OpenRouter: the model behind it failed
                raise StreamError(choice.get("error"))
            self._reason = str(reason).lower()

    def _call(self, entry: dict[str, Any], pieces: list[Piece]) -> None:
        """One entry of ``tool_calls``: a fragment or a whole call, with or without index and id."""
        function = entry.get("function") or {}
        call_id, name = entry.get("id") or None, function.get("name") or None
        arguments = function.get("arguments")
        if arguments is None:
            arguments = ""
        elif type(arguments) is not str:  # an object instead of its JSON text (Ollama)
            arguments = orjson.dumps(arguments).decode()
        self._count(len(arguments))
        call = self._find(entry.get("index"), call_id, name)
        if call is None:
            self._count(_CALL)
            call = _Call(len(self._calls), call_id or ids.call_id(), None)
            self._calls.append(call)
        if type(entry.get("index")) is int:
            self._by_key[entry["index"]] = call
        if call_id:
            self._by_key[call_id] = call
        if call.name is None:
            call.arguments += arguments
            if name is not None:
                call.name = _text(name)
                opening = CallPiece(call.index, call.arguments, call.id, call.name)
                if call.arguments:
                    self._begin(call, opening, pieces)
                else:
                    self._give(opening, pieces)
        elif arguments and call.begun:
            self._give(CallPiece(call.index, arguments), pieces)
        elif arguments:
            self._begin(call, CallPiece(call.index, arguments), pieces)

    def _begin(self, call: _Call, piece: CallPiece, pieces: list[Piece]) -> None:
        """Give the first of its arguments, and what was held back for them."""
        call.begun = True
        self._give(piece, pieces)
        held, self._held = self._held, []
        for waiting in held:
            self._give(waiting, pieces)

    def _give(self, piece: CallPiece, pieces: list[Piece]) -> None:
        """One call after the other: those behind one that may have no arguments wait for it."""
        begun = all(call.begun for call in self._calls[: piece.index])
        (pieces if begun else self._held).append(piece)

    def _count(self, length: int) -> None:
        self._length += length
        if self._length > LONGEST_ANSWER:
            raise Endless

    def _find(self, index: Any, call_id: str | None, name: str | None) -> _Call | None:
        """The call that a fragment belongs to; ``None``: it begins a new one.

        An index is not enough: servers that send whole calls may number each of them 0. An id
        may come once, in every fragment, or never.
        """
        if call_id is not None and call_id in self._by_key:
            return self._by_key[call_id]
        if type(index) is int:
            call = self._by_key.get(index)
            if call is None or name is None or call.name is None:
                return call
            another = call_id is not None or (call.begun and name != call.name)
            return None if another else call
        if name is not None or call_id is not None or not self._calls:
            return None
        return self._calls[-1]


def _usage(usage: dict[str, Any]) -> Usage:
    prompt = usage.get("prompt_tokens_details") or {}
    completion = usage.get("completion_tokens_details") or {}
    # DeepSeek counts cached tokens beside the sum's details.
    cached = prompt.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or 0
    return Usage(
        prompt_tokens=_tokens(usage.get("prompt_tokens")),
        completion_tokens=_tokens(usage.get("completion_tokens")),
        cached_tokens=_tokens(cached),
        reasoning_tokens=_tokens(completion.get("reasoning_tokens")),
    )


def _tokens(count: Any) -> int:
    """A count is told to clients, and must not cost the run, whatever it says."""
    return int(min(max(float(count or 0), 0), MOST_TOKENS))


def _flat(content: Any) -> str:
    """Content in parts (Mistral): the text, without the thinking."""
    if not isinstance(content, list):
        raise TypeError("content is neither text nor parts")
    return "".join(_text(part["text"]) for part in content if part.get("type") == "text")


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("text is not a string")
    return value
