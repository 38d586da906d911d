"""Parameters of Chat Completions that a server, or one of its models, refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.test_providers_chat_completions import TOOLS, ask, hear, provider, refused
from tests.upstream import Answer, Upstream, fail, say

from assistants_server.domain.model_exchange import TextPiece
from assistants_server.providers import chat_completions

EXTRA = {"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}


@pytest.mark.parametrize(
    ("refusal", "gone"),
    [
        (fail(400, message="Unknown parameter: 'user'.", param="user"), "user"),
        (fail(400, message="Unrecognized request argument supplied: user"), "user"),
        (fail(422, {"detail": [EXTRA]}), "stream_options"),
        (fail(400, message="parallel_tool_calls is not supported"), "parallel_tool_calls"),
    ],
)
async def test_a_parameter_refused_by_name_is_left_out_from_then_on(
    refusal: Answer, gone: str
) -> None:
    request = ask(user="u", tools=TOOLS, parallel_tool_calls=True)
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(refusal, say("x"), say("y"))
        assert (await hear(asked, request))[0] == TextPiece("x")
        await hear(asked, request)
    bodies = [r.body for r in upstream.requests]
    assert gone in bodies[0]
    assert [set(bodies[0]) - set(body) for body in bodies[1:]] == [{gone}, {gone}]


async def test_the_other_name_of_the_token_bound_is_tried_once() -> None:
    message = "Unsupported parameter: 'max_tokens' is not supported with this model."
    refusal = fail(400, message=message, code="unsupported_parameter", param="max_tokens")
    request = ask(max_completion_tokens=7)
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(refusal, say("x"), say("y"))
        await hear(asked, request)
        await hear(asked, request)
        other = fail(400, message="max_completion_tokens is not supported", code="x")
        upstream.script(other)
        await refused(asked, request)
    bounds = [sorted(n for n in r.body if n.startswith("max_")) for r in upstream.requests]
    assert bounds == [["max_tokens"]] + [["max_completion_tokens"]] * 3


def unsupported(name: str) -> Answer:
    message = f"Unsupported parameter: '{name}' is not supported with this model."
    return fail(400, message=message, code="unsupported_parameter", param=name)


NOT_BOTH = "`temperature` and `top_p` cannot both be specified for this model."


@pytest.mark.parametrize(
    ("refusals", "given", "kept"),
    [
        ([unsupported("temperature"), unsupported("top_p")], (1.0, 1.0), {}),
        ([unsupported("top_p")], (0.5, 1.0), {"temperature": 0.5}),
        ([fail(400, message=NOT_BOTH)], (1.0, 1.0), {"temperature": 1.0}),
        ([fail(400, message=NOT_BOTH)], (1.0, 0.5), {"top_p": 0.5}),
    ],
)
async def test_a_default_that_a_model_refuses_is_left_out(
    refusals: list[Answer], given: tuple[float, float], kept: dict[str, float]
) -> None:
    request = ask(temperature=given[0], top_p=given[1])
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(*refusals, say("x"), say("y"))
        await hear(asked, request)
        await hear(asked, request)
    for sent in upstream.requests[len(refusals) :]:
        assert {n: sent.body[n] for n in ("temperature", "top_p") if n in sent.body} == kept


async def test_a_chosen_value_that_a_model_refuses_is_not_left_out() -> None:
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(unsupported("temperature"), say("x"))
        await hear(asked, ask(temperature=1.0))
        upstream.script(unsupported("temperature"))
        error = await refused(asked, ask(temperature=0.2))
    assert error.code == "invalid_prompt"
    assert upstream.requests[-1].body["temperature"] == 0.2


async def test_what_one_model_refuses_still_reaches_the_others() -> None:
    request = ask(temperature=1.0, tools=TOOLS, parallel_tool_calls=False)
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(unsupported("temperature"), unsupported("parallel_tool_calls"), say("x"))
        await hear(asked, request)
        upstream.script(say("y"))
        await hear(asked, replace(request, model="m-2"))
    assert not {"temperature", "parallel_tool_calls"} & set(upstream.requests[-2].body)
    assert upstream.requests[-1].body["temperature"] == 1.0
    assert upstream.requests[-1].body["parallel_tool_calls"] is False


async def test_no_number_of_model_names_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_completions, "MODELS", 2)
    async with Upstream() as upstream, provider(upstream) as asked:
        for number in range(5):
            upstream.script(unsupported("temperature"), say("x"))
            await hear(asked, ask(model=f"m-{number}", temperature=1.0))
        assert len(asked._refused) <= 2
        upstream.script(say("y"))
        await hear(asked, ask(model="m-4", temperature=1.0))


async def test_a_value_that_is_refused_is_not_a_name_that_is_unknown() -> None:
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(fail(400, message="max_tokens is too large: 7.", param="max_tokens"))
        await refused(asked, ask(max_completion_tokens=7))
    assert len(upstream.requests) == 1
