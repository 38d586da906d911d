"""Answers to requests with an ``Idempotency-Key``: the same request again has no second effect.

The answer is written in the transaction of the effect, so there is never one without the other,
whatever process dies when. Two equal requests at once meet at the row's key: the second waits for
the first transaction, then finds its answer. What was refused is not remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from hashlib import sha256
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection

from .. import errors
from . import rows

P = ParamSpec("P")
T = TypeVar("T")

KEPT_SECONDS = 24 * 3600

_table = rows.idempotent_requests

# Both databases know this clause by the same words.
_CLAIM = sa.text(
    "INSERT INTO idempotent_requests (project_id, key, path_digest, created_at, body_digest) "
    "VALUES (:project_id, :key, :path_digest, :created_at, :body_digest) ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedRequest:
    """``body_digest`` tells one body from another."""

    project_id: str
    key: str
    path: str
    body_digest: str
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The body of the answer; ``None`` for a stream of the run's events."""

    body: bytes | None = None
    run_id: str | None = None


class AlreadyAnswered(Exception):
    """The request was carried out before. Nothing was changed; ``answer`` is what was said."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("the request was answered before")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Once:
    """Makes a store function one that is carried out once for its request, and whose answer is
    remembered with it. Without a keyed request the function stays as it is."""

    request: KeyedRequest | None = None
    answer: Callable[[Any], Answer] = lambda result: Answer()

    def __call__(
        self, function: Callable[Concatenate[Connection, P], T]
    ) -> Callable[Concatenate[Connection, P], T]:
        """Calling it raises, beside what the function raises:

        AlreadyAnswered: the same request was carried out before.
        BadRequest: the key belongs to a request with another body.
        """
        request = self.request
        if request is None:
            return function

        @wraps(function)
        def remembered(connection: Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
            here = _claim(connection, request)
            result = function(connection, *args, **kwargs)
            said = self.answer(result)
            connection.execute(
                sa.update(_table).where(*here).values(answer=said.body, run_id=said.run_id)
            )
            return result

        return remembered


UNREMEMBERED = Once()


def _claim(connection: Connection, request: KeyedRequest) -> Sequence[sa.ColumnElement[bool]]:
    """Make the request's row, and say where it is."""
    path_digest = sha256(request.path.encode(errors="replace")).hexdigest()
    here = (
        _table.c.project_id == request.project_id,
        _table.c.key == request.key,
        _table.c.path_digest == path_digest,
    )
    connection.execute(
        sa.delete(_table).where(*here, _table.c.created_at <= request.now - KEPT_SECONDS)
    )
    claimed = connection.execute(
        _CLAIM,
        {
            "project_id": request.project_id,
            "key": request.key,
            "path_digest": path_digest,
            "created_at": request.now,
            "body_digest": request.body_digest,
        },
    )
    if claimed.rowcount:
        return here
    row = connection.execute(sa.select(_table).where(*here)).one()
    if row.body_digest != request.body_digest:
        raise errors.idempotency_key_reused(request.key)
    raise AlreadyAnswered(Answer(body=row.answer, run_id=row.run_id))


def sweep(connection: Connection, *, now: int) -> None:
    """Forget answers that are old enough."""
    connection.execute(sa.delete(_table).where(_table.c.created_at <= now - KEPT_SECONDS))
