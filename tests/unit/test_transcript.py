"""Folding a model's pieces: whatever their order, the changes are ones a client accepts."""

from __future__ import annotations

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
from assistants_server.domain.transcript import (
    CallBegins,
    CallGrows,
    CallsBegin,
    Change,
    MessageBegins,
    RefusalGrows,
    TextGrows,
    Turn,
    _Call,
)


def fold(*pieces: Piece) -> tuple[Turn, list[Change]]:
    turn = Turn()
    return turn, [change for piece in pieces for change in turn.feed(piece)]


def test_a_message_begins_with_its_first_visible_character() -> None:
    _, changes = fold(TextPiece(""), TextPiece("\n "), TextPiece("Hi"), TextPiece("  "))
    assert changes == [
        MessageBegins(),
        TextGrows(0, "\n Hi", opens=True),
        TextGrows(0, "  ", opens=False),
    ]


def test_white_space_before_a_call_is_no_message() -> None:
    turn, changes = fold(TextPiece("\n\n"), CallPiece(0, id="call_a", name="f"))
    assert changes == [CallsBegin(), CallBegins(0, "call_a", "f")]
    assert turn.content() == []


def test_the_calls_begin_once_however_much_was_said_before() -> None:
    _, changes = fold(TextPiece("Wait"), CallPiece(0, id="call_a", name="f", arguments="{}"))
    assert changes[2:] == [
        CallsBegin(),
        CallBegins(0, "call_a", "f"),
        CallGrows(0, "{}"),
    ]


def test_calls_are_numbered_in_the_order_they_appear() -> None:
    turn, _ = fold(
        CallPiece(7, id="call_a", name="f"),
        CallPiece(3, id="call_b", name="g", arguments="{"),
        CallPiece(7, arguments="{}"),
        CallPiece(3, arguments="}"),
    )
    assert turn.pending_calls() == [
        {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "call_b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert all(call["function"]["output"] is None for call in turn.step_calls())


def test_a_refusal_after_text_is_a_second_block() -> None:
    turn, changes = fold(TextPiece("Well"), RefusalPiece("no"))
    assert RefusalGrows(1, "no") in changes
    assert [block["type"] for block in turn.content()] == ["text", "refusal"]


def test_end_and_usage_are_remembered() -> None:
    usage = Usage(prompt_tokens=1)
    turn, changes = fold(TurnEnd("length"), TurnUsage(usage))
    assert (turn.end, turn.usage, changes) == (TurnEnd("length"), usage, [])


pieces = st.one_of(
    st.builds(TextPiece, st.text(max_size=5)),
    st.builds(RefusalPiece, st.text(max_size=5)),
    st.builds(
        CallPiece,
        st.integers(0, 3),
        arguments=st.text(max_size=5),
        id=st.just("call_x"),
        name=st.just("f"),
    ),
)


@given(st.lists(pieces, max_size=30))
def test_what_is_told_adds_up_to_what_is_stored(told: list[Piece]) -> None:
    turn, changes = fold(*told)
    blocks: dict[int, str] = {}
    arguments: dict[int, str] = {}
    open_message = open_calls = False
    for change in changes:
        if isinstance(change, MessageBegins):
            assert not open_message
            assert not open_calls
            open_message = True
        elif isinstance(change, CallsBegin):
            assert not open_calls
            open_message, open_calls = False, True
        elif isinstance(change, TextGrows | RefusalGrows):
            assert open_message
            assert change.index <= len(blocks), "a content index left a gap"
            blocks[change.index] = blocks.get(change.index, "") + change.text
        elif isinstance(change, CallBegins):
            assert open_calls
            assert change.index == len(arguments)
            arguments[change.index] = ""
        else:
            arguments[change.index] += change.arguments
    stored = [
        block["refusal"] if block["type"] == "refusal" else block["text"]["value"]
        for block in turn.content()
    ]
    assert stored == list(blocks.values())
    assert [call["function"]["arguments"] for call in turn.pending_calls()] == [*arguments.values()]


def test_calls_can_be_shown_while_another_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, _ = fold(CallPiece(0, "{}", "call_a", "f"))
    shown = _Call.wire

    def interrupted(call: _Call, *, with_output: bool) -> dict[str, Any]:
        turn.feed(CallPiece(1, "{}", "call_b", "g"))
        return shown(call, with_output=with_output)

    monkeypatch.setattr(_Call, "wire", interrupted)
    assert [call["id"] for call in turn.step_calls()] == ["call_a"]
