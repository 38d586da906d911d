"""Every refusal the server can give, as one tree.

ApiError
├── BadRequest       400  the request is wrong, or the object's state does not allow it
├── Unauthorized     401  no key, or a wrong one
├── Forbidden        403  a web page of somebody else's, on a server without keys
├── NotFound         404  unknown id (an id of another project answers the same) or path
├── PayloadTooLarge  413
├── TooManyRequests  429  a limit is reached; carries Retry-After
├── ServerFault      500  our fault
└── Unavailable      503  the server is going away, or its disk or database does not answer

Status, ``type``, ``param`` and ``code`` are the wire's own (OpenAI's error object). Texts are
functional: clients match on them, some by regular expression, so they are kept to the letter.
Business conflicts are 400, never 409: SDKs retry a 409 by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class ApiError(Exception):
    """A refusal with everything the wire needs to say it."""

    status = 500
    type = "invalid_request_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the wire's own word
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.type = type if type is not None else self.__class__.type
        self.headers: Mapping[str, str] = headers or {}


class BadRequest(ApiError):
    status = 400


class Unauthorized(ApiError):
    status = 401


class Forbidden(ApiError):
    status = 403


class NotFound(ApiError):
    status = 404


class PayloadTooLarge(ApiError):
    status = 413


class TooManyRequests(ApiError):
    status = 429
    type = "rate_limit_error"


class ServerFault(ApiError):
    status = 500
    type = "server_error"


class Unavailable(ApiError):
    status = 503
    type = "server_error"


def no_assistant(assistant_id: str) -> NotFound:
    return NotFound(f"No assistant found with id '{assistant_id}'.")


def no_thread(thread_id: str) -> NotFound:
    return NotFound(f"No thread found with id '{thread_id}'.")


def no_message(message_id: str) -> NotFound:
    return NotFound(f"No message found with id '{message_id}'.")


def no_run(run_id: str) -> NotFound:
    return NotFound(f"No run found with id '{run_id}'.")


def no_step(step_id: str) -> NotFound:
    return NotFound(f"No run step found with id '{step_id}'.")


def no_file(file_id: str) -> NotFound:
    return NotFound(f"No such File object: {file_id}", param="id")


def no_cursor(param: str, value: str) -> BadRequest:
    """A page cursor that names nothing in this list."""
    return BadRequest(f"No object found with id '{value}' to page from.", param=param)


def thread_locked(thread_id: str, run_id: str) -> BadRequest:
    """A message while a run is active. Clients read both ids out of this text."""
    return BadRequest(f"Can't add messages to {thread_id} while a run {run_id} is active.")


def active_run(thread_id: str, run_id: str) -> BadRequest:
    """A second run on a thread. Clients read the ids out of this text too."""
    return BadRequest(f"Thread {thread_id} already has an active run {run_id}.")


def outputs_not_accepted(status: str) -> BadRequest:
    return BadRequest(f'Runs in status "{status}" do not accept tool outputs.')


def outputs_mismatch(expected: Sequence[str], given: Sequence[str]) -> BadRequest:
    return BadRequest(
        f"Expected tool outputs for call_ids {list(expected)}, got {list(given)}",
    )


def cannot_cancel(status: str) -> BadRequest:
    return BadRequest(f"Cannot cancel run with status '{status}'.")


def cannot_update(status: str) -> BadRequest:
    return BadRequest(f"Cannot update run with status '{status}'.")


def nothing_to_run_on() -> BadRequest:
    return BadRequest(
        "Run creation requires a Thread with a user message or an assistant with instructions.",
        code="invalid_thread",
    )


def run_key_exists(run_key: str) -> BadRequest:
    """Extension ``run_key``: the thread has a run of that name already."""
    return BadRequest(
        f"A run with run_key '{run_key}' already exists in this thread.",
        param="run_key",
        code="run_key_exists",
    )


def run_ended(run_key: str) -> BadRequest:
    """Extension ``end_runs``: the run was ended before this request arrived."""
    return BadRequest(
        f"The run with run_key '{run_key}' was ended before this request arrived.",
        param="run_key",
        code="run_ended",
    )


def message_to_edit_missing(message_id: str, param: str) -> BadRequest:
    """Extension ``edit_messages``: an id that the thread does not hold."""
    return BadRequest(
        f"No message found with id '{message_id}'.", param=param, code="message_not_found"
    )


def too_many(what: str, limit: int) -> TooManyRequests:
    return _too_many(f"Too many {what}: this server allows {limit} for a project.")


def too_many_in_all(what: str, limit: int) -> TooManyRequests:
    """The project has less than it may, but as much as is left for the others."""
    return _too_many(
        f"Too many {what}: this server allows {limit} in all and keeps room for other projects."
    )


def _too_many(message: str) -> TooManyRequests:
    return TooManyRequests(message, code="rate_limit_exceeded", headers={"Retry-After": "1"})


def idempotency_key_reused(key: str) -> BadRequest:
    """The key stands for another request: this one was not carried out."""
    return BadRequest(
        f"The Idempotency-Key '{key}' was used for a request to this path with another body.",
        code="idempotency_key_reused",
    )


def message_in_progress(message_id: str) -> BadRequest:
    """Extension ``content`` on a message: the run that writes it would overwrite the edit."""
    return BadRequest(
        f"The content of message '{message_id}' cannot be changed while a run is writing it.",
        param="content",
        code="message_in_progress",
    )
