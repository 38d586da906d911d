"""How a model of 135M parameters comes to call functions.

Asked for a JSON answer that is a call or a reply, it called none of 39 functions that were wanted.
What it can do is continue a pattern, so each decision is a pattern of its own:

1. Which topic has the request? A list of requests with a topic each: the functions' own words, and
   small talk. Small models prefer some words whatever is asked, so the probabilities are compared
   with those that requests without a topic get (contextual calibration, Zhao et al. 2021).
2. What are the arguments? Constrained to the function's schema, texts to words of the request.
3. What does the result mean? Question, result, answer.

Measured with SmolLM2-135M-Instruct at Q4_1: of 39 requests for eleven functions 33 find theirs and
of 79 others 72 find none, but the wording was chosen on these. For a coffee shop's three
functions, on which only the choice of words for topics was corrected: 7 of 15, and 19 of 20. It
sees the last thing said, not what came before.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..domain.records import JsonObject

_TALK = "chat"
_TALKS = (
    "Good morning!",
    "Who discovered America?",
    "I am Peter and I live in Rome.",
    "Write a song about winter.",
    "What is your name?",
    "What is the biggest city?",
)
# Requests without a topic, for the calibration. Others than above: those would be looked up.
NEUTRAL = (
    "Hello!",
    "I like music.",
    "My name is Sam.",
    "How do plants grow?",
    "What is five times six?",
    "Goodbye.",
)
_ROUNDS = 3

# Words that say what kind of thing a function does, not what it is about.
_GENERIC = re.compile(
    r"a|an|and|any|ask|by|call|check|current|do|fetch|find|for|get|give|how|is|list|look"
    r"|lookup|make|my|now|of|or|place|query|read|search|set|show|tell|the|to|up|use|what|when"
    r"|where|which|with"
)
_WHEN = re.compile(
    r"^(called|used?|call|invoke)?( it| this| the)?( tool| function)? ?(when|if|whenever) "
    r"(the |a )?(user|caller|customer)s? "
    r"(asks|wants|would like|needs|requests)?( you)?( to know| to| for| about)? ?",
    re.IGNORECASE,
)
_RESULTS = (
    ("Is the museum open on Sunday?", "opening hours", "Sunday, 10:00 to 18:00",
     "Yes, the museum is open on Sunday from 10:00 to 18:00."),
    ("Send my regards to Maria.", "send message", '{"sent": true}',
     "Your message to Maria has been sent."),
    ("How far is Lisbon?", "distance, city Lisbon", '{"km": 313}', "Lisbon is 313 km away."),
)  # fmt: skip
_LONGEST_RESULT = 1500  # characters


class Topics:
    """The first pattern, for one set of functions. Calibrate before asking it to choose."""

    def __init__(self, tools: Sequence[JsonObject]) -> None:
        self.labels = [f" {label}" for label in _labels(tools)]
        wishes = [_wishes(tool) for tool in tools]
        lines: list[str] = []
        share = len(_TALKS) // _ROUNDS
        for turn in range(_ROUNDS):
            talks = [_line(text, f" {_TALK}") for text in _TALKS[turn * share :][:share]]
            asks = [_line(w[turn], label) for w, label in zip(wishes, self.labels, strict=True)]
            # Alternating: with all of one kind last, that kind would be expected next.
            for place in range(max(len(talks), len(asks))):
                lines += talks[place : place + 1] + asks[place : place + 1]
        self._head = "\n".join(lines)
        self._usual: list[float] | None = None
        self._margin = 0.0

    def prompt(self, text: str) -> str:
        return f"{self._head}\n{_line(text, '')}"

    def scores(self, likely: Sequence[tuple[str, float]]) -> list[float]:
        """The log probability of each label, and of small talk, among the likely next tokens."""
        floor = min(logprob for _, logprob in likely)
        return [
            max(
                (lp for token, lp in likely if token.strip() and label.startswith(token)),
                default=floor,
            )
            for label in [*self.labels, f" {_TALK}"]
        ]

    def calibrate(self, scores: Sequence[Sequence[float]]) -> None:
        """``scores`` of the requests in ``NEUTRAL``."""
        self._usual = [statistics.fmean(column) for column in zip(*scores, strict=True)]
        leads = [self._best(line)[1] for line in scores]
        self._margin = statistics.fmean(leads) + statistics.pstdev(leads)

    def choose(self, scores: Sequence[float], *, must: bool = False) -> int | None:
        """Which function is asked for; ``None``: none of them, unless it ``must`` be one."""
        best, lead = self._best(scores)
        return best if must or lead > self._margin else None

    def _best(self, scores: Sequence[float]) -> tuple[int, float]:
        assert self._usual is not None, "not calibrated"
        gains = [score - usual for score, usual in zip(scores, self._usual, strict=True)]
        best = max(range(len(self.labels)), key=gains.__getitem__)
        return best, gains[best] - gains[-1]


@dataclass(frozen=True, slots=True)
class ArgumentsQuestion:
    """The second pattern: complete ``prompt`` with JSON of this ``schema``."""

    prompt: str
    schema: JsonObject


def arguments_question(tool: JsonObject, text: str, *, copy: bool) -> ArgumentsQuestion | None:
    """``None``: the function takes no arguments.

    ``copy``: texts may only be words of the request. A small model copies well and invents badly.
    """
    parameters = tool.get("parameters") or {}
    properties: JsonObject = parameters.get("properties") or {}
    if not properties:
        return None
    spans = _spans(text) if copy else []
    schema = {
        **parameters,
        "additionalProperties": False,
        "properties": {
            name: {**kind, "enum": spans} if spans and _is_text(kind) else kind
            for name, kind in properties.items()
        },
    }
    wish = _wishes(tool)[0].rstrip(".")
    lines = []
    for example in range(2):
        values = {name: _example(kind, example) for name, kind in properties.items()}
        said = "".join(f", {_spoken(name)} {_said(value)}" for name, value in values.items())
        lines += [f"User: {wish}{said}.", f"JSON: {json.dumps(values)}", ""]
    return ArgumentsQuestion("\n".join([*lines, f"User: {text}", "JSON:"]), schema)


def result_prompt(text: str, results: Sequence[tuple[str, JsonObject, str]]) -> str:
    """The third pattern: name, arguments and result of each call; the answer is one line."""
    lines = []
    for question, name, result, answer in _RESULTS:
        lines += [f"User: {question}", f"Result of {name}: {result}", f"Answer: {answer}", ""]
    lines.append(f"User: {_one_line(text)}")
    for name, arguments, result in results:
        said = "".join(f", {_spoken(key)} {value}" for key, value in arguments.items())
        shown = _one_line(result)[:_LONGEST_RESULT]
        lines.append(f"Result of {_spoken(name)}{said}: {shown}")
    return "\n".join([*lines, "Answer:"])


# Words ----------------------------------------------------------------------------------------


def _line(text: str, topic: str) -> str:
    return f"User: {_one_line(text)}\nTopic:{topic}"


def _wishes(tool: JsonObject) -> list[str]:
    """Three requests for this function, made of what is known about it."""
    name = _spoken(tool["name"])
    sentences = re.split(r"(?<=[.!?])\s+|\n", (tool.get("description") or name).strip())
    first = _WHEN.sub("", sentences[0].strip()).strip().rstrip(".") or name
    when = next((_WHEN.sub("", s).rstrip(".") for s in sentences[1:] if _WHEN.match(s)), None)
    properties = (tool.get("parameters") or {}).get("properties") or {}
    said = "".join(f", {_spoken(key)} {_said(_example(k, 0))}" for key, k in properties.items())
    return [
        f"{first[:1].upper()}{first[1:]}.",
        f"I need the {name}{said}.",
        f"{when or first[:1].lower() + first[1:]} please",
    ]


def _labels(tools: Sequence[JsonObject]) -> list[str]:
    """A word for each function. Their beginnings differ, because only one token is compared."""
    taken = {_TALK[:2]}
    labels = [str(number) for number in range(1, len(tools) + 1)]
    usable = []
    for place, tool in enumerate(tools):
        words = [*_words(tool["name"]), *_words(_wishes(tool)[0])]
        usable.append((place, [w for w in words if w.isalpha() and not _GENERIC.fullmatch(w)]))
    for place, words in sorted(usable, key=lambda one: len(set(one[1]))):  # least choice first
        word = next((w for w in words if w[:2] not in taken), labels[place])
        taken.add(word[:2])
        labels[place] = word
    return labels


def _words(name: str) -> list[str]:
    return [w.lower() for w in re.split(r"[_\W]+|(?<=[a-z])(?=[A-Z])", name) if w]


def _spoken(name: str) -> str:
    return " ".join(_words(name))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _example(kind: JsonObject, number: int) -> Any:
    if kind.get("enum"):
        return kind["enum"][number % len(kind["enum"])]
    if _type(kind) in ("integer", "number"):
        return (7, 30)[number]
    if _type(kind) == "boolean":
        return (True, False)[number]
    if _type(kind) in ("array", "object", "null"):
        return {"array": [], "object": {}, "null": None}[_type(kind)]
    return ("X7", "blue stone")[number]


def _said(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _type(kind: JsonObject) -> str:
    """The first type that is not null; optional arguments are written in two ways."""
    kinds = kind.get("type")
    if kinds is None:
        kinds = [branch.get("type") for branch in kind.get("anyOf") or ()]
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return next((k for k in kinds if isinstance(k, str) and k != "null"), "string")


def _is_text(kind: JsonObject) -> bool:
    return kind.get("type") == "string" and "enum" not in kind and "const" not in kind


_LITTLE = re.compile(
    r"a|an|and|any|are|at|by|can|could|do|does|for|has|have|how|i|in|is|it|like|me|my|now|of"
    r"|on|or|please|right|s|the|to|want|what|when|where|would|you"
)


def _spans(text: str, longest: int = 4) -> list[str]:
    """Runs of words that begin and end with a word that means something."""
    words = [re.sub(r"'s$", "", word.strip(".,;:!?\"'()")) for word in text.split()][:60]
    spans: dict[str, None] = {}
    for start in range(len(words)):
        for end in range(start + 1, min(start + longest, len(words)) + 1):
            edges = (words[start].lower(), words[end - 1].lower())
            if all(edge and not _LITTLE.fullmatch(edge) for edge in edges):
                spans[" ".join(words[start:end])] = None
    return list(spans)
