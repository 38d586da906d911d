"""Bytes of a Chat Completions stream, from OpenAI and from servers that differ, become pieces."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistants_server.domain.model_exchange import (
    CallPiece,
    Piece,
    RefusalPiece,
    TextPiece,
    TurnEnd,
    TurnUsage,
)
from assistants_server.domain.records import Usage
from assistants_server.providers import chat_stream
from assistants_server.providers.chat_stream import Endless, Events, Garbage, StreamError, Turn


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def wire(*events: Any, newline: str = "\n") -> bytes:
    lines = [f"data: {e if isinstance(e, str) else json.dumps(e)}{newline * 2}" for e in events]
    return "".join(lines).encode()


def play(*events: Any) -> list[Piece]:
    turn = Turn()
    return [*turn.feed(wire(*events, "[DONE]")), *turn.end()]


def calls_of(pieces: list[Piece]) -> list[tuple[str | None, str]]:
    """Name and joined arguments of each call, having checked that each is well formed."""
    found: dict[int, list[CallPiece]] = {}
    for piece in pieces:
        if isinstance(piece, CallPiece):
            found.setdefault(piece.index, []).append(piece)
    assert list(found) == list(range(len(found))), "indexes count from 0"
    for parts in found.values():
        assert parts[0].id
        assert parts[0].name
        assert all(part.id is None and part.name is None for part in parts[1:])
    return [(parts[0].name, "".join(p.arguments for p in parts)) for parts in found.values()]


def entry(index: int | None, arguments: Any = "", **fields: Any) -> dict[str, Any]:
    """An entry of tool_calls; ``name`` goes into its function."""
    function = {"arguments": arguments}
    if "name" in fields:
        function["name"] = fields.pop("name")
    return {**({} if index is None else {"index": index}), "function": function, **fields}


# Server-sent events ---------------------------------------------------------------------------

TEXTS = st.text(max_size=12)
NEWLINES = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body as a server may send it: events with comments and other fields between."""
    newline = draw(NEWLINES)
    lines = []
    for _ in range(draw(st.integers(1, 8))):
        if draw(st.booleans()):
            lines.append(draw(st.sampled_from([": ping", "event: x", "id: 1", "retry: 3", ":"])))
        value: Any = draw(st.sampled_from([chunk(content="x"), chunk(), {"choices": []}]))
        if draw(st.booleans()):
            value = chunk(content=draw(TEXTS))
        text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.none()))
        lines += ["data:" + draw(st.sampled_from(["", " "])) + text, ""]
    lines += ["data: [DONE]", "", ""]
    return newline.join(lines).encode("utf-8", "surrogatepass")


@given(bodies(), st.data())
def test_pieces_do_not_depend_on_how_the_bytes_were_cut(body: bytes, data: st.DataObject) -> None:
    whole = Turn()
    expected = whole.feed(body)
    assert whole.over
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)), max_size=12)))
    turn, pieces = Turn(), []
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        pieces += turn.feed(body[start:end])
    assert pieces == expected
    assert turn.over


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_byte_alone_gives_the_same(newline: str) -> None:
    body = wire(chunk(content="Grüße"), chunk("stop", content="!"), "[DONE]", newline=newline)
    turn = Turn()
    pieces = [piece for byte in body for piece in turn.feed(bytes([byte]))]
    assert pieces == [TextPiece("Grüße"), TextPiece("!")]
    assert turn.over


def test_data_over_several_lines_is_one_event() -> None:
    assert Events().feed(b'data: {"a":\ndata:1}\n\n') == [b'{"a":\n1}']


def test_comments_and_other_fields_are_no_data() -> None:
    assert Events().feed(b": ping\n\nevent: message\nid: 7\ndata: x\n\n\n\n") == [b"x"]


def test_a_last_event_counts_without_its_empty_line() -> None:
    events = Events()
    assert events.feed(b"data: x\n\ndata: y") == [b"x"]
    assert events.close() == [b"y"]


def test_an_endless_line_is_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_stream, "LONGEST_EVENT", 1000)
    events = Events()
    events.feed(b"data: " + b"x" * 900)
    with pytest.raises(Garbage):
        events.feed(b"x" * 900)


def test_an_event_of_endless_lines_is_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_stream, "LONGEST_EVENT", 1000)
    events = Events()
    for _ in range(3):
        assert len(events.feed(b"data: " + b"x" * 900 + b"\n\n")) == 1
    events.feed(b"data: " + b"x" * 900 + b"\n")
    with pytest.raises(Garbage):
        events.feed(b"data: " + b"x" * 900 + b"\n")


# Text, refusal, endings, usage ----------------------------------------------------------------


def test_text_and_its_end() -> None:
    assert play(chunk(role="assistant", content=""), chunk(content="Hi"), chunk("stop")) == [
        TextPiece("Hi"),
        TurnEnd("stop"),
    ]


def test_refusal() -> None:
    assert play(chunk(refusal="I won't"), chunk("stop"))[0] == RefusalPiece("I won't")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("content_filter", "content_filter"),
        ("eos", "stop"),
        (None, "stop"),
        ("tool_calls", "stop"),  # but no call came
    ],
)
def test_finish_reasons_become_the_four(said: str | None, reason: str) -> None:
    assert play(chunk(content="x"), chunk(said))[-1].reason == reason  # type: ignore[union-attr]


def test_a_stop_after_calls_means_calls() -> None:
    pieces = play(chunk(tool_calls=[entry(0, "{}", id="a", name="f")]), chunk("stop"))
    assert pieces[-1] == TurnEnd("tool_calls")


def test_usage_comes_last_and_only_the_last_counts() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    pieces = play(
        {**chunk(content="x"), "usage": {"prompt_tokens": 9, "completion_tokens": 1}},
        chunk("stop"),
        {"choices": [], "usage": usage},
    )
    assert pieces[1:] == [
        TurnEnd("stop"),
        TurnUsage(Usage(prompt_tokens=9, completion_tokens=4, cached_tokens=3, reasoning_tokens=2)),
    ]


@pytest.mark.parametrize(("count", "told"), [(-7, 0), (1e30, 2**31 - 1), (None, 0), (7.0, 7)])
def test_a_count_of_tokens_that_cannot_be_costs_nothing(count: Any, told: int) -> None:
    event = {"choices": [], "usage": {"prompt_tokens": count, "completion_tokens": 1}}
    expected = TurnUsage(Usage(prompt_tokens=told, completion_tokens=1))
    assert play(chunk("stop"), event)[-1] == expected


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [], "usage": {"prompt_tokens": 9, "prompt_cache_hit_tokens": 5}},
        {"choices": [], "usage": {"prompt_tokens": 9, "prompt_tokens_details": None}},
        {"choices": [], "x_groq": {"usage": {"prompt_tokens": 9}}},
        {"usage": {"prompt_tokens": 9, "completion_tokens": None}},
    ],
)
def test_usage_in_other_dialects(event: dict[str, Any]) -> None:
    usage = play(chunk("stop"), event)[-1]
    assert isinstance(usage, TurnUsage)
    assert usage.usage.prompt_tokens == 9


def test_a_whole_answer_at_once() -> None:
    message = {"content": "Hi", "tool_calls": [{**entry(None, "{}", name="f"), "id": "c"}]}
    body = {"choices": [{"message": message, "finish_reason": "tool_calls"}]}
    turn = Turn()
    pieces = turn.whole(json.dumps({**body, "usage": {"prompt_tokens": 1}}).encode())
    assert pieces == [TextPiece("Hi"), CallPiece(0, "{}", "c", "f")]
    assert turn.over


def test_content_in_parts_gives_its_text() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Hi"}]
    assert play(chunk(content=parts))[0] == TextPiece("Hi")


# Calls ----------------------------------------------------------------------------------------

WHOLE = [("f", '{"a":1}'), ("g", "{}")]

DIALECTS: dict[str, list[list[dict[str, Any]]]] = {
    "openai": [
        [entry(0, id="x", name="f")],
        [entry(0, '{"a"')],
        [entry(0, ":1}")],
        [entry(1, id="y", name="g")],
        [entry(1, "{}")],
    ],
    "fragments interleaved": [
        [entry(0, id="x", name="f"), entry(1, id="y", name="g")],
        [entry(1, "{}"), entry(0, '{"a":1}')],
    ],
    "whole, in one chunk": [
        [entry(0, '{"a":1}', id="x", name="f"), entry(1, "{}", id="y", name="g")]
    ],
    "whole, one after another": [
        [entry(0, '{"a":1}', id="x", name="f")],
        [entry(1, "{}", id="y", name="g")],
    ],
    "whole, no index": [
        [entry(None, '{"a":1}', id="x", name="f"), entry(None, "{}", id="y", name="g")]
    ],
    "whole, no index, no id": [[entry(None, '{"a":1}', name="f"), entry(None, "{}", name="g")]],
    "whole, every index 0": [
        [entry(0, '{"a":1}', id="x", name="f")],
        [entry(0, "{}", id="y", name="g")],
    ],
    "whole, every index 0, no id": [[entry(0, '{"a":1}', name="f")], [entry(0, "{}", name="g")]],
    "empty ids": [[entry(0, '{"a":1}', id="", name="f"), entry(1, "{}", id="", name="g")]],
    "id and name in every fragment": [
        [entry(0, '{"a"', id="x", name="f")],
        [entry(0, ":1}", id="x", name="f")],
        [entry(1, "{", id="y", name="g")],
        [entry(1, "}", id="y", name="g")],
    ],
    "no index, id in every fragment": [
        [entry(None, '{"a"', id="x", name="f")],
        [entry(None, ":1}", id="x")],
        [entry(None, "{}", id="y", name="g")],
    ],
    "no index, id once": [
        [entry(None, '{"a"', id="x", name="f")],
        [entry(None, ":1}")],
        [entry(None, "{}", id="y", name="g")],
    ],
    "arguments before the name": [
        [entry(0, '{"a"', id="x")],
        [entry(0, ":1}", name="f")],
        [entry(1, "{}", id="y", name="g")],
    ],
    "indexes from 1": [[entry(1, '{"a":1}', id="x", name="f"), entry(2, "{}", id="y", name="g")]],
    "arguments as objects": [
        [entry(0, {"a": 1}, id="x", name="f"), entry(1, {}, id="y", name="g")]
    ],
    "null arguments first": [
        [entry(0, None, id="x", name="f")],
        [entry(0, '{"a":1}')],
        [entry(1, "{}", id="y", name="g")],
    ],
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_calls_of_every_dialect_are_the_same_calls(dialect: str) -> None:
    pieces = play(
        *(chunk(tool_calls=entries) for entries in DIALECTS[dialect]), chunk("tool_calls")
    )
    assert calls_of(pieces) == WHOLE
    assert pieces[-1] == TurnEnd("tool_calls")


def test_the_same_function_twice_is_two_calls() -> None:
    pieces = play(
        chunk(tool_calls=[entry(0, "{}", id="x", name="f"), entry(0, "{}", id="y", name="f")])
    )
    assert calls_of(pieces) == [("f", "{}"), ("f", "{}")]


@pytest.mark.parametrize("nothing", ["", None])
def test_a_call_without_arguments_has_an_empty_object(nothing: str | None) -> None:
    pieces = play(
        chunk(tool_calls=[entry(0, nothing, id="x", name="f")]),
        chunk(tool_calls=[entry(1, nothing, id="y", name="g")]),
        chunk("tool_calls"),
    )
    assert calls_of(pieces) == [("f", "{}"), ("g", "{}")]
    indexes = [piece.index for piece in pieces if isinstance(piece, CallPiece)]
    assert indexes == [0, 0, 1, 1], "a call is over when the next begins"


def test_a_call_that_was_cut_off_is_given_no_arguments() -> None:
    pieces = play(chunk(tool_calls=[entry(0, "", id="x", name="f")]), chunk("length"))
    assert calls_of(pieces) == [("f", "")]


def test_a_legacy_function_call_is_a_call() -> None:
    pieces = play(
        chunk(function_call={"name": "f", "arguments": ""}),
        chunk(function_call={"arguments": "{}"}),
        chunk("function_call"),
    )
    assert calls_of(pieces) == [("f", "{}")]
    assert pieces[-1] == TurnEnd("tool_calls")


def test_an_id_is_kept_and_a_missing_one_is_made() -> None:
    pieces = play(chunk(tool_calls=[entry(0, id="x", name="f"), entry(1, name="g")]))
    ids = [piece.id for piece in pieces if isinstance(piece, CallPiece) and piece.name]
    assert ids[0] == "x"
    assert ids[1] is not None
    assert ids[1].startswith("call_")


def test_a_call_that_is_never_named_is_garbage() -> None:
    with pytest.raises(Garbage):
        play(chunk(tool_calls=[entry(0, "{}", id="x")]))


@pytest.mark.parametrize(
    "more",
    [
        lambda number: {"content": "x" * 100},
        lambda number: {"content": " " * 100},
        lambda number: {"refusal": "x" * 100},
        lambda number: {"tool_calls": [entry(0, "x" * 100)]},
        lambda number: {"tool_calls": [entry(number + 1, id=f"call_{number}", name="f")]},
    ],
)
def test_an_answer_without_end_is_not_kept(
    more: Callable[[int], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_stream, "LONGEST_ANSWER", 5000)
    turn = Turn()
    turn.feed(wire(chunk(tool_calls=[entry(0, "", id="first", name="f")])))
    with pytest.raises(Endless):
        turn.feed(wire(*(chunk(**more(number)) for number in range(100))))


# What is no stream ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        "{",
        "[]",
        "3",
        '"x"',
        "null",
        '{"choices": 3}',
        '{"choices": [3]}',
        json.dumps(chunk(content=3)),
        json.dumps(chunk(tool_calls=[3])),
        json.dumps(chunk(refusal=3)),
        json.dumps({"choices": [{"delta": "x"}]}),
        json.dumps(chunk(tool_calls=[entry(0, name=3)])),
    ],
)
def test_nonsense_is_garbage(event: str) -> None:
    with pytest.raises(Garbage):
        Turn().feed(wire(event))


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "no", "code": 500}},
        {"error": "no"},
        {"object": "error", "message": "no", "code": 400},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]},
    ],
)
def test_an_error_in_the_stream_is_an_error(event: dict[str, Any]) -> None:
    turn = Turn()
    turn.feed(wire(chunk(content="Hel")))
    with pytest.raises(StreamError):
        turn.feed(wire(event))


@given(st.binary(max_size=200))
def test_any_bytes_are_pieces_garbage_or_an_error(data: bytes) -> None:
    turn = Turn()
    try:
        pieces = [*turn.feed(data), *turn.close()]
    except (Garbage, StreamError):
        return
    assert all(isinstance(piece, TextPiece | CallPiece | RefusalPiece) for piece in pieces)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "content",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "index",
                    "id",
                    "usage",
                    "finish_reason",
                    "message",
                    "error",
                    "x_groq",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4))
def test_any_json_is_pieces_garbage_or_an_error(events: list[Any]) -> None:
    turn = Turn()
    try:
        turn.feed(wire(*events))
        turn.end()
    except (Garbage, StreamError):
        return
    assert not turn.over


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (r"a\ud83d", "a\ufffd"),
        (r"\uDE00b", "\ufffdb"),
        (r"\ud83d\ude00", "\U0001f600"),
        (r"a\u0000b", "ab"),
        (r"a\\u0000b", r"a\u0000b"),
        (r"\ud83d\u0000", "\ufffd"),
    ],
)
def test_what_no_database_keeps_and_no_client_reads_is_left_out(said: str, kept: str) -> None:
    def event(delta: dict[str, Any]) -> str:
        return json.dumps(chunk(**delta)).replace("SAID", said)

    assert play(event({"content": "SAID"}), chunk("stop"))[:-1] == [TextPiece(kept)]
    calls = [entry(0, "SAID", id="call_SAID", name="f")]
    told = play(event({"tool_calls": calls}), chunk("tool_calls"))
    assert told[0] == CallPiece(0, kept, f"call_{kept}", "f")


def test_broken_json_is_garbage_whatever_it_holds() -> None:
    with pytest.raises(Garbage):
        play(r'{"choices": "\ud83d')
