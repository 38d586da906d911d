"""From pydantic's list of complaints to the one error that the wire shows.

The rule of precedence was read off live answers: a missing parameter comes before an unknown one,
that before a wrong type, that before a value out of its limits. Texts, ``param`` and ``code`` are
OpenAI's to the letter, because clients match on them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from ..errors import BadRequest

TAG = "\0"
"""Opens the tags of our unions. Pydantic names the chosen tag in an error's place; the wire does
not. No key of a request can look like one: strings with a NUL are refused before."""

MISSING, UNKNOWN, TYPE, VALUE = range(4)

_EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "float_type": "a decimal",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}

_GIVEN: Sequence[tuple[type, str]] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a decimal"),
    (str, "a string"),
    (dict, "an object"),
    (list, "an array"),
)

_Body = TypeVar("_Body", bound=BaseModel)


def validated(model: type[_Body], value: object) -> _Body:
    """``value`` as ``model``.

    Raises:
        BadRequest: the first complaint by precedence.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise refusal(error) from None


def refusal(error: ValidationError) -> BadRequest:
    """The complaint that comes first, as the wire says it."""
    return _describe(min(error.errors(include_url=False), key=_rank))


# --- complaints that our own validators make ----------------------------------------------------


def missing(key: str) -> PydanticCustomError:
    """``key`` of the value under validation is required."""
    return PydanticCustomError("missing_key", "missing", {"key": key})


def wrong_type(expected: str) -> PydanticCustomError:
    return PydanticCustomError("wrong_type", "wrong type", {"expected": expected})


def not_supported(supported: Sequence[str], *, key: str | None = None) -> PydanticCustomError:
    """The value (or its ``key``) is not one of the ``supported`` words."""
    return PydanticCustomError(
        "not_supported", "not supported", {"supported": list(supported), "key": key}
    )


def not_valid(reason: str, *, code: str = "invalid_value") -> PydanticCustomError:
    """``reason`` follows ``Invalid 'param'`` as it is."""
    return PydanticCustomError("not_valid", "not valid", {"reason": reason, "code": code})


# --- how each is said -----------------------------------------------------------------------------


def _rank(detail: ErrorDetails) -> int:
    kind = detail["type"]
    if kind in ("missing", "missing_key"):
        return MISSING
    if kind == "extra_forbidden":
        return UNKNOWN
    if kind in _EXPECTED or kind == "wrong_type":
        return TYPE
    if kind == "literal_error" and not isinstance(detail["input"], str):
        return TYPE
    return VALUE


def _describe(detail: ErrorDetails) -> BadRequest:
    kind, given = detail["type"], detail["input"]
    context: Mapping[str, Any] = detail.get("ctx", {})
    param = path_of(detail["loc"])
    key = context.get("key")
    if key is not None:
        param = f"{param}.{key}" if param else key
        given = given.get(key) if isinstance(given, dict) else None
    if kind in ("missing", "missing_key"):
        return BadRequest(
            f"Missing required parameter: '{param}'.",
            param=param,
            code="missing_required_parameter",
        )
    if kind == "extra_forbidden":
        return BadRequest(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")
    if kind in _EXPECTED:
        return _invalid_type(param, _EXPECTED[kind], given)
    if kind == "wrong_type":
        return _invalid_type(param, context["expected"], given)
    if kind in ("literal_error", "not_supported"):
        if not isinstance(given, str):
            return _invalid_type(param, "a string", given)
        supported = context.get("supported") or re.findall(r"'([^']*)'", context["expected"])
        return BadRequest(
            f"Invalid value: '{_short(given)}'. Supported values are: {_in_words(supported)}.",
            param=param,
            code="invalid_value",
        )
    if kind == "not_valid":
        return BadRequest(
            f"Invalid '{param}'{context['reason']}", param=param, code=context["code"]
        )
    if detail["loc"] and detail["loc"][-1] == "[key]":
        return _metadata_key(detail["loc"], str(given), context)
    say = _LIMITS.get(kind)
    if say is None:
        return BadRequest(f"Invalid '{param}': {detail['msg']}.", param=param, code="invalid_value")
    reason, code = say(given, context)
    return BadRequest(f"Invalid '{param}': {reason}", param=param, code=code)


_LONGEST_NAME = 200  # of a parameter that the client made up


def path_of(location: Sequence[int | str]) -> str | None:
    """``("messages", 0, "\\0text", "text")`` is written ``messages[0].text``."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(TAG):
            part = part.removesuffix("[]")  # of a query's repeated key
            name = part if len(part) <= _LONGEST_NAME else part[:_LONGEST_NAME] + "…"
            path += f".{name}" if path else name
    return path or None


def kind_of_value(value: object) -> str:
    """``a string``, ``an integer``, … or ``null``."""
    return next((word for kind, word in _GIVEN if isinstance(value, kind)), "null")


def _invalid_type(param: str | None, expected: str, given: object) -> BadRequest:
    subject = f"'{param}'" if param else "the request body"
    return BadRequest(
        f"Invalid type for {subject}: expected {expected}, but got {kind_of_value(given)} instead.",
        param=param,
        code="invalid_type",
    )


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "..."


def _in_words(words: Sequence[str]) -> str:
    quoted = [f"'{word}'" for word in words]
    if len(quoted) > 2:
        return ", ".join(quoted[:-1]) + f", and {quoted[-1]}"
    return " and ".join(quoted)


def _metadata_key(
    location: Sequence[int | str], key: str, context: Mapping[str, Any]
) -> BadRequest:
    owner = path_of(location[:-2])
    limit = context.get("max_length")
    return BadRequest(
        f"Invalid property name in '{owner}': '{key[:3]}...{key[-3:]}' is too long. "
        f"Expected a string with maximum length {limit}, "
        f"but got a string with length {len(key)} instead.",
        param=f"{owner}.{key}",
        code="property_name_above_max_length",
    )


def _number_word(bound: object) -> str:
    return "decimal" if isinstance(bound, float) else "integer"


def _above(given: object, context: Mapping[str, Any]) -> tuple[str, str]:
    bound = context["le"]
    word = _number_word(bound)
    return (
        f"{word} above maximum value. Expected a value <= {bound:.15g}, but got {given} instead.",
        f"{word}_above_max_value",
    )


def _below(given: object, context: Mapping[str, Any]) -> tuple[str, str]:
    bound = context["ge"]
    word = _number_word(bound)
    return (
        f"{word} below minimum value. Expected a value >= {bound:.15g}, but got {given} instead.",
        f"{word}_below_min_value",
    )


def _string_too_long(given: object, context: Mapping[str, Any]) -> tuple[str, str]:
    return (
        (
            f"string too long. Expected a string with maximum length {context['max_length']}, "
            f"but got a string with length {len(str(given))} instead."
        ),
        "string_above_max_length",
    )


def _string_too_short(given: object, context: Mapping[str, Any]) -> tuple[str, str]:
    return (
        (
            f"empty string. Expected a string with minimum length {context['min_length']}, "
            "but got an empty string instead."
        ),
        "empty_string",
    )


def _pattern(given: object, context: Mapping[str, Any]) -> tuple[str, str]:
    return (
        (
            "string does not match pattern. "
            f"Expected a string that matches the pattern '{context['pattern']}'."
        ),
        "invalid_value",
    )


def _too_many(given: object, context: Mapping[str, Any]) -> tuple[str, str]:
    limit = context["max_length"]
    if isinstance(given, dict):
        return (
            (
                f"too many properties. Expected an object with at most {limit} properties, "
                f"but got an object with {len(given)} properties instead."
            ),
            "object_above_max_properties",
        )
    length = len(given) if isinstance(given, list) else context["actual_length"]
    return (
        (
            f"array too long. Expected an array with maximum length {limit}, "
            f"but got an array with length {length} instead."
        ),
        "array_above_max_length",
    )


def _too_few(given: object, context: Mapping[str, Any]) -> tuple[str, str]:
    return (
        (
            f"empty array. Expected an array with minimum length {context['min_length']}, "
            "but got an empty array instead."
        ),
        "empty_array",
    )


_LIMITS: Mapping[str, Callable[[object, Mapping[str, Any]], tuple[str, str]]] = {
    "less_than_equal": _above,
    "greater_than_equal": _below,
    "string_too_long": _string_too_long,
    "string_too_short": _string_too_short,
    "string_pattern_mismatch": _pattern,
    "too_long": _too_many,
    "too_short": _too_few,
}
