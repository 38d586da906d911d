"""Bodies and queries of requests: bytes from outside become validated models, or a 400.

Bodies are refused as soon as they are too large, not after they were read. Whatever a database or
a serialiser could choke on later (NUL characters, very deep nesting) is refused here.
"""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from pydantic import BaseModel
from starlette.requests import Request

from ..errors import BadRequest, PayloadTooLarge
from ..wire import validation

_Model = TypeVar("_Model", bound=BaseModel)

DEPTH = 100
"""Levels of nesting accepted in a body. Answers nest what they store, and encoders have a limit."""


def parsed(request: Request, content: bytes, model: type[_Model]) -> _Model:
    """The JSON body as ``model``; an absent body is an empty object.

    Raises:
        BadRequest: not JSON, or not what the model says.
    """
    if not content:
        return validation.validated(model, {})
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if kind.lower() != "application/json":
        raise wrong_content_type(kind, "application/json")
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"We could not parse the JSON body of your request: {error}.") from None
    if b"\\u0000" in content or content.count(b"{") + content.count(b"[") > DEPTH:
        _check_storable(value)
    return validation.validated(model, value)


async def read_bytes(request: Request, *, limit: int) -> bytes:
    """The whole body.

    Raises:
        PayloadTooLarge: more than ``limit`` bytes.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The request body is too large: this server accepts at most {limit} bytes.",
        code="request_too_large",
    )


def wrong_content_type(given: str, expected: str) -> BadRequest:
    return BadRequest(
        f"Invalid Content-Type header ({given[:100]}), expected {expected}. "
        f"(HINT: If you're using curl, you can pass -H 'Content-Type: {expected}')"
    )


def _check_storable(root: object) -> None:
    """No NUL in any string, no nesting beyond ``DEPTH``. Not recursive: the body is not ours."""
    waiting: list[tuple[object, tuple[int | str, ...]]] = [(root, ())]
    while waiting:
        value, place = waiting.pop()
        if len(place) > DEPTH:
            raise BadRequest(
                f"Invalid body: nested too deeply. Expected at most {DEPTH} levels.",
                param=validation.path_of(place[:4]),
                code="invalid_value",
            )
        if isinstance(value, str):
            if "\0" in value:
                raise null_character(validation.path_of(place))
        elif isinstance(value, dict):
            for key, item in value.items():
                if "\0" in key:
                    raise null_character(validation.path_of(place))
                waiting.append((item, (*place, key)))
        elif isinstance(value, list):
            waiting.extend((item, (*place, number)) for number, item in enumerate(value))


def null_character(param: str | None) -> BadRequest:
    """Databases keep no NUL in text."""
    subject = f"'{param}'" if param else "the request body"
    return BadRequest(
        f"Invalid {subject}: a string must not contain the NUL character (\\u0000).",
        param=param,
        code="invalid_value",
    )


def read_query(request: Request, model: type[_Model]) -> _Model:
    """The query string as ``model``. ``a[]=`` repeats, ``a[b]=`` makes an object."""
    if not request.scope["query_string"]:
        return model.model_validate({})
    values: dict[str, Any] = {}
    for key, value in request.query_params.multi_items():
        name, bracket, inner = key.partition("[")
        if "\0" in key or "\0" in value:
            raise null_character(name.replace("\0", "") or None)
        if not bracket:
            values[key] = value
        elif inner == "]":
            values.setdefault(key, []).append(value)
        elif isinstance(values.setdefault(name, {}), dict):
            values[name][inner.rstrip("]")] = value
    return validation.validated(model, values)
