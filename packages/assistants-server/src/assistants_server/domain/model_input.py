"""What the model sees: instructions, messages, and finished tool turns where they happened.

Pure. The same thread gives the same beginning turn after turn, byte for byte, so that providers'
prompt caches hit. Unfinished tool turns are never shown: chat models refuse a call without an
answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from .records import JsonObject, Run, Step
from .tokens import estimate, estimate_call


class Shown(Protocol):
    """What a model needs to know of a message."""

    @property
    def position(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def content(self) -> Sequence[JsonObject]: ...
    @property
    def run_id(self) -> str | None: ...


class Counted(Protocol):
    """What deciding whether to show a message takes."""

    @property
    def position(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def tokens(self) -> int: ...


M = TypeVar("M", bound=Counted)

_NOT_SHOWN = "[An image that cannot be shown: it was deleted, or is too large.]"


def function_tools(run: Run) -> list[JsonObject]:
    """The tools a model can be shown: functions. Hosted tools are the server's business."""
    return [tool for tool in run.tools if tool["type"] == "function"]


def prompt_budget(run: Run, *, window: int) -> int:
    """Estimated tokens left for messages, beside instructions, tools and the answer.

    ``max_prompt_tokens`` bounds the sum over all turns of a run, so each turn gets what is left.
    """
    answer = min(run.max_completion_tokens or window // 4, window // 4)
    budget = window - answer - _fixed(run)
    bound = _bound(run)
    return budget if bound is None else min(budget, bound)


def bound_met(run: Run, tokens: int) -> str | None:
    """Which of the run's bounds leaves no room for a turn that shows messages of so many tokens."""
    prompt, completion = _bound(run), run.max_completion_tokens
    if prompt is not None and max(1, tokens) > prompt:
        return "max_prompt_tokens"
    if completion is not None and run.usage.completion_tokens >= completion:
        return "max_completion_tokens"
    return None


def _bound(run: Run) -> int | None:
    if run.max_prompt_tokens is None:
        return None
    return run.max_prompt_tokens - run.usage.prompt_tokens - _fixed(run)


def _fixed(run: Run) -> int:
    return estimate(run.instructions or "") + sum(estimate(str(tool)) for tool in run.tools)


def fitting(
    run: Run, messages: Sequence[M], turns: Sequence[Step], *, budget: int
) -> tuple[Sequence[M], Sequence[Step], int]:
    """The newest of ``messages`` and ``turns``, both oldest first, that fit, and their tokens.

    A message goes with the turns behind it, so that none stands there without what it was about.
    What the user said last stays, and the newest message and turn, whatever they take.
    """
    sizes = [sum(map(estimate_call, _shown_calls(turn, run.excluded_ids))) for turn in turns]
    tokens = sum(message.tokens for message in messages) + sum(sizes)
    asked = max((n for n, one in enumerate(messages) if one.role == "user"), default=-1)
    first = past = 0
    while tokens > budget and first < len(messages) - 1:
        stays = first == asked
        tokens -= 0 if stays else messages[first].tokens
        first += 1
        while past < len(turns) and turns[past].after_position < messages[first].position:
            if stays and tokens <= budget:
                break
            tokens -= sizes[past]
            past += 1
    while tokens > budget and past < len(turns) - 1:
        tokens -= sizes[past]
        past += 1
    question = messages[asked : asked + 1] if 0 <= asked < first else []
    return [*question, *messages[first:]], turns[past:], tokens


def response_format(run: Run) -> JsonObject | None:
    """What to ask the model for; ``None`` for plain text, which needs no asking."""
    chosen = run.response_format
    if isinstance(chosen, str) or chosen["type"] == "text":
        return None
    return chosen


def tool_choice(run: Run) -> str | JsonObject | None:
    """A forced choice holds for the first turn only, or the run would never end."""
    chosen = run.tool_choice
    if chosen == "none":
        return chosen
    if run.turns or chosen == "auto":
        return None
    if isinstance(chosen, str) or chosen["type"] == "function":
        return chosen
    return None


def image_files(messages: Iterable[Shown]) -> list[str]:
    """Ids of the uploaded images that the messages show."""
    return [
        block["image_file"]["file_id"]
        for message in messages
        if message.role == "user"
        for block in message.content
        if block["type"] == "image_file"
    ]


def build(
    run: Run,
    messages: Sequence[Shown],
    turns: Sequence[Step],
    *,
    images: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The Chat Completions messages of a turn.

    Args:
        run: its effective instructions and exclusions.
        messages: what is shown of the thread, oldest first.
        turns: finished tool steps of the thread, oldest first.
        images: data URLs by file id, of the uploaded images that can be shown.
    """
    prompt: list[dict[str, Any]] = []
    if run.instructions:
        prompt.append({"role": "system", "content": run.instructions})
    waiting = list(turns)
    author: str | None = None  # the run that wrote the last message shown
    for message in messages:
        while waiting and waiting[0].after_position < message.position:
            _show_turn(prompt, waiting.pop(0), run.excluded_ids, author)
            author = None
        shown = _show_message(message, images)
        if shown is not None:
            prompt.append(shown)
            author = message.run_id
    for turn in waiting:
        _show_turn(prompt, turn, run.excluded_ids, author)
        author = None
    # A message without a word is left out, but servers refuse to be asked with none at all.
    return prompt or [{"role": "user", "content": ""}]


def _show_message(message: Shown, images: Mapping[str, str]) -> dict[str, Any] | None:
    if message.role == "assistant":
        text = "\n".join(
            block["text"]["value"] if block["type"] == "text" else block["refusal"]
            for block in message.content
            if block["type"] in ("text", "refusal")
        )
        return {"role": "assistant", "content": text} if text else None
    if all(block["type"] == "text" for block in message.content):
        text = "\n".join(block["text"]["value"] for block in message.content)
        return {"role": "user", "content": text} if text else None
    # Some servers refuse an empty text among the parts.
    parts = [
        _part(block, images)
        for block in message.content
        if block["type"] != "text" or block["text"]["value"]
    ]
    return {"role": "user", "content": parts}


def _part(block: JsonObject, images: Mapping[str, str]) -> dict[str, Any]:
    if block["type"] == "text":
        return {"type": "text", "text": block["text"]["value"]}
    if block["type"] == "image_url":
        source = block["image_url"]
        url = source["url"]
    else:
        source = block["image_file"]
        url = images.get(source["file_id"])
        if url is None:
            return {"type": "text", "text": _NOT_SHOWN}
    return {"type": "image_url", "image_url": {"url": url, "detail": source.get("detail", "auto")}}


def _show_turn(
    prompt: list[dict[str, Any]], turn: Step, excluded: Collection[str], author: str | None
) -> None:
    calls = _shown_calls(turn, excluded)
    if not calls:
        return
    asked = [
        {
            "id": call["id"],
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
            },
        }
        for call in calls
    ]
    # Text and calls of one turn were one message of the model; show them so again.
    if author == turn.run_id and prompt and prompt[-1]["role"] == "assistant":
        prompt[-1]["tool_calls"] = asked
    else:
        prompt.append({"role": "assistant", "content": None, "tool_calls": asked})
    prompt.extend(
        {"role": "tool", "tool_call_id": call["id"], "content": call["function"]["output"]}
        for call in calls
    )


def _shown_calls(turn: Step, excluded: Collection[str]) -> list[JsonObject]:
    return [
        call
        for call in turn.tool_calls
        if call["type"] == "function"
        and call["id"] not in excluded
        and call["function"]["output"] is not None
    ]
