"""Requests made from the server's own document: right ones, and right ones with one thing wrong.

What a request depends on is drawn as a ``Ref`` and looked up when it is sent, so that the examples
do not depend on what earlier ones left behind.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jsonschema
from hypothesis import strategies as st

from assistants_server.routes.openapi import document
from assistants_server.routes.table import ENDPOINTS

DOCUMENT = document(ENDPOINTS)
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]

Kind = Literal["assistant", "thread", "message", "run", "step", "file", "call", "model"]


@dataclass(frozen=True)
class Ref:
    """The id of something that is there, if there is any of its kind."""

    kind: Kind
    pick: int


NAMED: dict[str, Kind] = {
    "assistant_id": "assistant",
    "thread_id": "thread",
    "message_id": "message",
    "run_id": "run",
    "step_id": "step",
    "file_id": "file",
    "file_ids": "file",
    "tool_call_id": "call",
    "keep": "message",
    "delete_messages": "message",
    "exclude_messages": "message",
    "id": "message",  # of an edit
    "model": "model",
}
"""Which values are ids of what. Anything may follow where nothing of the kind is there."""

LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
WORDS = st.text(LETTERS, min_size=1, max_size=8)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.sampled_from(("", "\0", "user", "auto", "undefined", "asst_x", "x" * 600)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def refs(kind: Kind) -> st.SearchStrategy[Ref]:
    return st.builds(Ref, st.just(kind), st.integers(0, 20))


def values(schema: dict[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """Values that the schema allows. ``name``: the key that they stand under."""
    if "$ref" in schema:
        return values(SCHEMAS[schema["$ref"].rpartition("/")[2]], name)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return st.one_of(*(values(inner, name) for inner in schema[key]))
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if kind == "string":
        return strings(schema, name)
    if kind == "integer":
        return integers(schema)
    if kind == "number":
        return st.floats(schema.get("minimum", -1e6), schema.get("maximum", 1e6)) | st.just(0)
    if kind == "boolean":
        return st.booleans()
    if kind == "null":
        return st.none()
    if kind == "array":
        smallest = schema.get("minItems", 0)
        largest = min(schema.get("maxItems", 3), smallest + 2)
        return st.lists(values(schema.get("items", {}), name), min_size=smallest, max_size=largest)
    if kind == "object":
        return objects(schema)
    return JUNK


def strings(schema: dict[str, Any], name: str) -> st.SearchStrategy[Any]:
    if name in NAMED:
        return refs(NAMED[name])
    if name == "url":
        return st.sampled_from(("https://example.com/a.png", "data:image/png;base64,AAAA"))
    if "pattern" in schema:
        allowed = st.from_regex(schema["pattern"].replace("$", r"\Z"), fullmatch=True)
        return allowed.filter(lambda text: len(text) <= schema.get("maxLength", 64))
    longest = schema.get("maxLength", 8)
    short = st.text(LETTERS, min_size=schema.get("minLength", 0), max_size=min(longest, 8))
    return short | st.just("x" * longest) if longest <= 512 else short


def integers(schema: dict[str, Any]) -> st.SearchStrategy[int]:
    smallest, largest = schema.get("minimum", -(2**31)), schema.get("maximum", 2**31 - 1)
    return st.integers(smallest, largest) | st.sampled_from((smallest, largest))


@st.composite
def objects(draw: st.DrawFn, schema: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, inner in schema.get("properties", {}).items():
        if key in schema.get("required", ()) or draw(st.integers(0, 2)) == 0:
            made[key] = draw(values(inner, key))
    more = schema.get("additionalProperties", False)
    if not schema.get("properties") and more:
        names = WORDS.filter(lambda key: len(key) <= 64)
        inner = values(more) if isinstance(more, dict) else JUNK_WITHOUT_NUL
        made.update(draw(st.dictionaries(names, inner, max_size=3)))
    return made


JUNK_WITHOUT_NUL = st.dictionaries(WORDS, WORDS | st.booleans() | st.none(), max_size=2)

Breakage = Literal["none", "value", "missing", "surplus", "bytes", "type", "beta"]


@dataclass(frozen=True)
class Request:
    """``path`` still has its parameters in braces; ``ids`` fills them."""

    method: str
    path: str
    ids: dict[str, Any]
    query: dict[str, Any]
    body: Any = None
    content: bytes | None = None
    breakage: Breakage = "none"

    @property
    def schema(self) -> dict[str, Any] | None:
        """What the document says of its body."""
        operation = DOCUMENT["paths"][self.path][self.method]
        found: dict[str, Any] | None = (
            operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        ).get("schema")
        return found


def is_allowed(body: Any, schema: dict[str, Any]) -> bool:
    """By the document alone."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return bool(jsonschema.Draft202012Validator(whole).is_valid(body))


OPERATIONS = [
    (method, path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    # An upload is a form, and what it may hold is not in the document.
    if (method, path) != ("post", "/v1/files")
]


@st.composite
def requests(draw: st.DrawFn, *, broken: bool = False) -> Request:
    bodies = [one for one in OPERATIONS if "requestBody" in one[2]]
    # Most of what there is to go wrong is in the bodies.
    choices: Sequence[Any] = bodies if broken or draw(st.booleans()) else OPERATIONS
    method, path, operation = draw(st.sampled_from(choices))
    ids: dict[str, Any] = {}
    for name in re.findall(r"{(\w+)}", path):
        kind = NAMED.get(name, "model")
        ids[name] = draw(refs(kind)) if draw(st.integers(0, 9)) else draw(WORDS)
    query = {}
    for parameter in operation["parameters"]:
        if parameter["in"] == "query" and draw(st.integers(0, 2)) == 0:
            query[parameter["name"]] = draw(query_values(parameter, path))
    request = Request(method, path, ids, query)
    schema = request.schema
    if schema is not None:
        request = Request(method, path, ids, query, draw(values(schema)))
    return draw(broken_down(request)) if broken else request


def query_values(parameter: dict[str, Any], path: str) -> st.SearchStrategy[Any]:
    if parameter["name"] in ("after", "before"):
        noun = path.rpartition("/")[2].removesuffix("s")
        kinds: dict[str, Kind] = {"assistant": "assistant", "thread": "thread", "file": "file"}
        kinds |= {"message": "message", "run": "run", "step": "step"}
        return refs(kinds.get(noun, "model"))
    return values(parameter["schema"], parameter["name"])


@st.composite
def broken_down(draw: st.DrawFn, request: Request) -> Request:
    """With one thing wrong, or at least unusual."""
    breakage: Breakage = draw(
        st.sampled_from(("value", "value", "value", "missing", "surplus", "bytes", "type", "beta"))
    )
    body, content = request.body, None
    place = draw(st.sampled_from(places(body)))
    if breakage == "value":
        body = replaced(body, place, draw(JUNK))
    elif breakage == "missing" and place and isinstance(place[-1], str):
        body = replaced(body, place, ...)
    elif breakage == "surplus":
        at = at_place(body, place)
        if isinstance(at, dict):
            body = replaced(body, place, {**at, draw(WORDS): draw(JUNK)})
    elif breakage == "bytes":
        content = draw(st.binary(min_size=1, max_size=40))
    return Request(
        request.method, request.path, request.ids, request.query, body, content, breakage
    )


def places(value: Any) -> list[tuple[Any, ...]]:
    """Every place inside ``value``, as the keys that lead there."""
    inside: list[tuple[Any, ...]] = [()]
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            inside += [(key, *place) for place in places(item)]
    return inside


def at_place(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def replaced(value: Any, place: tuple[Any, ...], by: Any) -> Any:
    """A copy with something else at that place; ``...`` leaves it out."""
    if not place:
        return by
    copy = value.copy()
    if len(place) == 1 and by is ...:
        del copy[place[0]]
    else:
        copy[place[0]] = replaced(copy[place[0]], place[1:], by)
    return copy
