"""Token estimates, for choosing what fits a model's window before the model has counted.

Four characters a token is the usual rule for English; other scripts take up to a token a
character, so characters outside ASCII count as one. Real counts come from the provider's usage.
"""

from __future__ import annotations

from collections.abc import Sequence

from .records import JsonObject

_PER_MESSAGE = 4  # role and separators in common chat formats
_IMAGE = 765  # OpenAI's published price of a 1024 x 1024 image in high detail
_IMAGE_LOW = 85  # and of any image in low detail


def estimate(text: str) -> int:
    """About how many tokens ``text`` takes; never 0 for a text that is not empty."""
    ascii_count = len(text.encode("ascii", "ignore"))
    return (ascii_count + 3) // 4 + (len(text) - ascii_count)


def estimate_message(content: Sequence[JsonObject]) -> int:
    """The same for a message's content blocks."""
    total = _PER_MESSAGE
    for block in content:
        kind = block["type"]
        if kind == "text":
            total += estimate(block["text"]["value"])
        elif kind == "refusal":
            total += estimate(block["refusal"])
        else:
            total += _IMAGE_LOW if block[kind].get("detail") == "low" else _IMAGE
    return total


def estimate_call(call: JsonObject) -> int:
    """The same for a function call with its output: a part of one message and another message."""
    function = call["function"]
    texts = (function["name"], function["arguments"], function["output"] or "")
    return 2 * _PER_MESSAGE + sum(map(estimate, texts))
