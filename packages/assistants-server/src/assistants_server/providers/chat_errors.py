"""What went wrong at a Chat Completions endpoint, in sentences for whoever runs the assistant.

One table maps every exception of the HTTP client, another the statuses that mean something of their
own; a test holds the first against the client's own list. The sentences name the endpoint and the
model, never the key, and never an upstream message: those quote prompts (and OpenAI's quotes the
key). The exceptions are the few error codes whose message is about a parameter.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from .contract import ProviderError

# Messages with these codes name a parameter, or a schema of a tool.
QUOTABLE = frozenset(
    {
        "unsupported_parameter",
        "unknown_parameter",
        "unsupported_value",
        "invalid_function_parameters",
    }
)
QUOTE_LENGTH = 300

_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|context (window|size|length)"
    r"|prompt is too long|too many (input )?tokens",
    re.IGNORECASE,
)
_NAME = re.compile(r"[\w.\[\]/:-]{1,80}")


@dataclass(frozen=True, slots=True)
class Question:
    """Who was asked for what: the only facts a sentence may name."""

    host: str
    model: str
    patience: float  # seconds without a byte


class Refusal(Exception):
    """The endpoint answered with a status of 400 or more."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.headers = headers
        self.text = content.decode(errors="replace")
        self.fields = _error_object(content)

    @property
    def code(self) -> object:
        return self.fields.get("code")

    @property
    def kind(self) -> object:
        return self.fields.get("type")

    @property
    def param(self) -> object:
        return self.fields.get("param")

    @property
    def is_quota(self) -> bool:
        """A limit that does not pass by waiting."""
        return "insufficient_quota" in (self.code, self.kind)


def _error_object(content: bytes) -> dict[str, Any]:
    """The fields of an error, with and without OpenAI's envelope around them."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    inner = body.get("error", body) if isinstance(body, dict) else body
    return inner if isinstance(inner, dict) else {"message": inner}


def explain(error: BaseException, question: Question) -> ProviderError:
    """The tables' answer. An exception they do not know is a bug and is raised as it is."""
    if isinstance(error, Refusal):
        return REFUSALS.get(error.status, _failed)(error, question)
    for base in type(error).__mro__:
        if base in SENTENCES:
            return SENTENCES[base](error, question)
    raise error


def kind(error: BaseException) -> str:
    """What a log may say of it: the HTTP client's own words repeat the request, with its key."""
    name = type(error).__name__
    return f"{name} {error.status}" if isinstance(error, Refusal) else name


def explain_in_stream(body: Any, question: Question) -> ProviderError:
    """An error object found in the stream, in whichever shape."""
    fields = body if isinstance(body, dict) else {"message": body}
    status = next((s for s in map(fields.get, ("status", "status_code", "code")) if _is_int(s)), 0)
    if status == 0 and isinstance(fields.get("code"), str) and fields["code"].isdigit():
        status = int(fields["code"])
    words = f"{fields.get('code')} {fields.get('type')}"
    if status == 429 or "rate_limit" in words or "quota" in words or "overloaded" in words:
        return _limited(fields, question)
    if status == 401 or "invalid_api_key" in words:
        return _wrong_key(body, question)
    if status == 403:
        return _forbidden(body, question)
    if _TOO_LONG.search(f"{words} {fields.get('message')}"):
        return _too_long(question)
    return ProviderError(
        f"The model {question.model} at {question.host} broke off with an error{_named(fields)}."
    )


def garbage(question: Question) -> ProviderError:
    return ProviderError(
        f"{question.host} answered with something that is not a Chat Completions stream. "
        "Check that the upstream URL is that of an OpenAI-compatible API (it usually ends in /v1)."
    )


def endless(question: Question) -> ProviderError:
    return ProviderError(
        f"The answer of {question.model} at {question.host} was longer than any model's should be."
    )


def broke_off(question: Question) -> ProviderError:
    return ProviderError(
        f"The connection to {question.host} broke before the model {question.model} had finished."
    )


# The tables' right-hand side ------------------------------------------------------------------


def _unreachable(error: Any, question: Question) -> ProviderError:
    return ProviderError(
        f"No connection to the model server at {question.host}. "
        "Check that it is running and that the upstream URL is right."
    )


def _untrusted(error: Any, question: Question) -> ProviderError:
    return ProviderError(
        f"No secure connection to {question.host}: its certificate, or its TLS, is not accepted."
    )


def _silent(error: Any, question: Question) -> ProviderError:
    return ProviderError(
        f"The model {question.model} at {question.host} was silent for {question.patience:g} s."
    )


def _cut(error: Any, question: Question) -> ProviderError:
    return broke_off(question)


def _bad_url(error: Any, question: Question) -> ProviderError:
    return ProviderError(
        f"The upstream URL is not one that can be called ({question.host}).", code="invalid_prompt"
    )


def _wrong_key(error: Any, question: Question) -> ProviderError:
    return ProviderError(
        f"{question.host} does not accept the key. Set OPENAI_API_KEY or ASSISTANTS_UPSTREAM_KEY "
        "to a valid one.",
        code="invalid_prompt",
    )


def _forbidden(error: Any, question: Question) -> ProviderError:
    return ProviderError(
        f"{question.host} does not allow this key to use the model {question.model}.",
        code="invalid_prompt",
    )


def _unknown(error: Any, question: Question) -> ProviderError:
    return ProviderError(
        f"{question.host} has no model {question.model}, or no Chat Completions API at this URL. "
        "Another model can be put in its place with ASSISTANTS_MODELS.",
        code="invalid_prompt",
    )


def _rate(error: Refusal, question: Question) -> ProviderError:
    if error.is_quota:
        return _limited({"code": "insufficient_quota"}, question)
    wait = error.headers.get("retry-after", "")
    return _limited({"wait": wait if wait.isdigit() else None}, question)


def _limited(fields: dict[str, Any], question: Question) -> ProviderError:
    if "quota" in f"{fields.get('code')} {fields.get('type')}":
        text = f"The quota of the key at {question.host} is used up. Check its plan and billing."
    else:
        wait = f" Try again in {fields['wait']} s." if fields.get("wait") else ""
        text = f"{question.host} limits the rate of requests for {question.model}.{wait}"
    return ProviderError(text, code="rate_limit_exceeded")


def _too_long(question: Question) -> ProviderError:
    return ProviderError(
        f"The conversation is longer than the model {question.model} can read. "
        "Limit it with max_prompt_tokens or a truncation_strategy.",
        code="invalid_prompt",
    )


def _refused(error: Refusal, question: Question) -> ProviderError:
    """400, 413 and 422: the request itself."""
    fields = error.fields
    if _TOO_LONG.search(f"{error.code} {error.kind} {fields.get('message')}"):
        return _too_long(question)
    if error.code in ("content_filter", "content_policy_violation"):
        return ProviderError(
            f"{question.host} refused the conversation because of its content rules.",
            code="invalid_prompt",
        )
    if error.status == 413:
        return ProviderError(
            f"The conversation, with its images, is larger than {question.host} accepts.",
            code="invalid_prompt",
        )
    return ProviderError(
        f"{question.host} refused the request for {question.model} "
        f"with status {error.status}{_named(fields)}.",
        code="invalid_prompt",
    )


def _failed(error: Refusal, question: Question) -> ProviderError:
    return ProviderError(
        f"{question.host} failed with status {error.status} when asked for {question.model}."
    )


def _not_http(error: Any, question: Question) -> ProviderError:
    return garbage(question)


def _named(fields: dict[str, Any]) -> str:
    """The code and the parameter that an error object names, and its message if that is safe."""
    code, param, message = fields.get("code"), fields.get("param"), fields.get("message")
    said = [str(word) for word in (code or fields.get("type"), param) if word is not None]
    said = [word for word in said if _NAME.fullmatch(word)]
    text = f" ({', '.join(said)})" if said else ""
    if code in QUOTABLE and isinstance(message, str):
        text += ": " + " ".join(message.split())[:QUOTE_LENGTH].rstrip(".")
    return text


def _is_int(value: object) -> bool:
    return type(value) is int and value >= 400


Sentence = Callable[[Any, Question], ProviderError]

REFUSALS: dict[int, Callable[[Refusal, Question], ProviderError]] = {
    400: _refused,
    401: _wrong_key,
    403: _forbidden,
    404: _unknown,
    413: _refused,
    422: _refused,
    429: _rate,
}

SENTENCES: dict[type[BaseException], Sentence] = {
    aiohttp.ClientSSLError: _untrusted,
    aiohttp.ClientConnectorError: _unreachable,
    aiohttp.ConnectionTimeoutError: _unreachable,
    aiohttp.ServerTimeoutError: _silent,
    TimeoutError: _silent,
    asyncio.TimeoutError: _silent,  # another class before Python 3.11
    aiohttp.TooManyRedirects: _bad_url,
    aiohttp.InvalidURL: _bad_url,
    aiohttp.ClientResponseError: _not_http,
    aiohttp.ClientError: _cut,
    OSError: _cut,
}
