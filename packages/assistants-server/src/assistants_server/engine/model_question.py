"""The question to the model: what of the thread it is shown, and how it is to answer."""

from __future__ import annotations

from ..domain import model_input
from ..domain.model_exchange import ModelRequest
from ..domain.records import Run
from ..store.conversation import Conversation
from .images import data_url


def question(run: Run, shown: Conversation, *, model: str) -> ModelRequest:
    """What to ask ``model``, which answers for the run's, for the next turn."""
    tools = model_input.function_tools(run)
    completion_left = None
    if run.max_completion_tokens is not None:
        completion_left = run.max_completion_tokens - run.usage.completion_tokens
    return ModelRequest(
        model=model,
        messages=model_input.build(
            run,
            shown.messages,
            shown.turns,
            images={name: data_url(data) for name, data in shown.images.items()},
        ),
        tools=tools,
        tool_choice=model_input.tool_choice(run) if tools else None,
        parallel_tool_calls=False if tools and not run.parallel_tool_calls else None,
        temperature=run.temperature,
        top_p=run.top_p,
        response_format=model_input.response_format(run),
        reasoning_effort=run.reasoning_effort,
        max_completion_tokens=completion_left,
    )
