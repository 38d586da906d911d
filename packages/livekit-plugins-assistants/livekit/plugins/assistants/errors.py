"""Exceptions of the OpenAI SDK and its HTTP library become LiveKit's, here and nowhere else.

LiveKit retries an ``APIError`` that says it may be retried, and nothing else. Which exception
becomes what stands in ``TRANSLATIONS``; the first match decides.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import openai
from livekit.agents import APIConnectionError, APIError, APIStatusError, APITimeoutError


class AssistantError(Exception):
    """A mistake in how the plugin is set up. The message is a sentence for the user."""


def _timeout(error: Exception, what: str) -> APIError:
    return APITimeoutError(f"{what} did not answer in time.")


def _connection(error: Exception, what: str) -> APIError:
    return APIConnectionError(f"{what} could not be reached.")


def _stream(error: Exception, what: str) -> APIError:
    return APIConnectionError(f"{what} broke off its answer.")


def _status(error: Exception, what: str) -> APIError:
    assert isinstance(error, openai.APIStatusError)
    if is_busy(error):  # a 400, but waiting helps
        return APIConnectionError("Another client's run keeps the thread busy.")
    return APIStatusError(
        _SENTENCES.get(error.status_code, "{message}").format(message=_message(error)),
        status_code=error.status_code,
        request_id=error.request_id,
        body=error.body,
    )


def _reported(error: Exception, what: str) -> APIError:
    assert isinstance(error, openai.APIError)
    return APIError(error.message, body=error.body)


def _final(error: Exception, what: str) -> APIError:
    return APIError(str(error) or type(error).__name__, retryable=False)


_SENTENCES = {
    401: "The server refused the API key: {message}",
    403: "The server does not allow this: {message}",
}

TRANSLATIONS: tuple[tuple[type[Exception], Callable[[Exception, str], APIError]], ...] = (
    (openai.APITimeoutError, _timeout),
    (httpx2.TimeoutException, _timeout),
    (asyncio.TimeoutError, _timeout),
    (TimeoutError, _timeout),
    (openai.APIResponseValidationError, _stream),
    (openai.APIStatusError, _status),
    (openai.APIConnectionError, _connection),
    (openai.APIError, _reported),  # an `error` event in a stream
    (httpx2.ConnectError, _connection),
    (httpx2.UnsupportedProtocol, _final),
    (httpx2.InvalidURL, _final),
    (httpx2.HTTPError, _stream),
    (httpx2.StreamError, _stream),
    (httpx2.CookieConflict, _final),
    (json.JSONDecodeError, _stream),
    (UnicodeDecodeError, _stream),
    (openai.OpenAIError, _final),
    (AssistantError, _final),
)


def to_livekit(error: Exception, *, what: str = "The server") -> APIError:
    """The LiveKit exception for this one; raise it ``from`` the original."""
    if isinstance(error, APIError):
        return error
    for kind, translate in TRANSLATIONS:
        if isinstance(error, kind):
            return translate(error, what)
    return APIError(f"Unexpected {type(error).__name__} in a turn.", retryable=False)


def translatable(error: BaseException) -> bool:
    return isinstance(error, tuple(kind for kind, _ in TRANSLATIONS))


def run_failed(run: Mapping[str, Any]) -> APIError:
    """Why a run ended without a whole reply, from its last event."""
    status = run.get("status")
    if status == "failed":
        reason = run.get("last_error") or {}
        code, message = reason.get("code"), reason.get("message") or "The run failed."
        if code == "rate_limit_exceeded":
            return APIStatusError(message, status_code=429, body=reason)
        return APIError(message, body=reason, retryable=code != "invalid_prompt")
    if status == "expired":
        return APIError("The run expired before it was done.")
    if status == "cancelled":
        return APIError("The run was cancelled by another client.", retryable=False)
    reason = (run.get("incomplete_details") or {}).get("reason") or "no reason given"
    return APIError(f"The run ended before it said anything: {reason}.", retryable=False)


def code_of(error: Exception) -> str | None:
    return error.code if isinstance(error, openai.APIError) else None


def is_refusal(error: BaseException) -> bool:
    """Whether the server said no: then it did nothing, and nothing will arrive late."""
    return isinstance(error, openai.APIStatusError) and 400 <= error.status_code < 500


def is_missing(error: Exception, noun: str) -> bool:
    """A 404 about this noun: ``No thread found with id …``."""
    return isinstance(error, openai.NotFoundError) and f"No {noun} found" in _message(error)


def is_busy(error: Exception) -> bool:
    """The thread is locked by an active run."""
    if not isinstance(error, openai.BadRequestError):
        return False
    message = _message(error)
    return "already has an active run" in message or "while a run" in message


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, Mapping) and isinstance(body.get("message"), str):
        return str(body["message"])
    return error.message
