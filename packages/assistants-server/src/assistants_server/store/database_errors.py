"""What goes wrong between us and a database, as one sentence for whoever has to look after it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ..errors import Unavailable

logger = logging.getLogger(__name__)

_NO_ANSWER = "The database does not answer."

# Classes of PostgreSQL's SQLSTATE: no connection, shutting down or starting, out of resources.
_AWAY = ("08", "57P", "53")


class DatabaseError(Unavailable):
    """The database does not answer as it should; the sentence says what to look at."""


def translate(error: BaseException) -> BaseException:
    """A driver's error becomes one sentence; everything else is passed on as it is.

    The statement and its parameters hold users' text, so the driver's own words are all that is
    kept of it.
    """
    if isinstance(error, DBAPIError):
        sentence = _sentence(error.orig, connection_lost=error.connection_invalidated)
    elif isinstance(error, sqlite3.Error):
        sentence = _sentence(error, connection_lost=False)
    elif type(error).__module__.startswith("asyncpg."):  # which need not be installed
        # Without a state it is the driver who speaks, of a connection that is no more.
        sentence = _sentence(error, connection_lost=not sqlstate(error))
    elif isinstance(error, (OSError, asyncio.TimeoutError, PoolTimeout)):
        sentence = _NO_ANSWER
    else:
        return error
    failure = DatabaseError(sentence)
    failure.__cause__ = error
    return failure


def report(error: BaseException) -> None:
    """Tell the log the sentence, and the class and state of the driver's error; no values."""
    if isinstance(error, DatabaseError) and error.__cause__ is not None:
        cause = getattr(error.__cause__, "orig", error.__cause__)
        kind = f"{type(cause).__name__} {sqlstate(cause)}".strip()
        logger.error("%s", error.message, extra={"database_error": kind})


def sqlstate(error: BaseException | None) -> str:
    """PostgreSQL's code of what went wrong; empty if it did not say one."""
    state: str | None = getattr(getattr(error, "orig", error), "sqlstate", None)
    return state or ""


def _sentence(error: BaseException | None, *, connection_lost: bool) -> str:
    state = sqlstate(error)
    words = "" if state else str(error)  # PostgreSQL says it in many languages
    if "full" in words or state == "53100":
        return "The disk that holds the database is full; nothing was stored."
    if "readonly" in words or "read-only" in words or state == "25006":
        return "The database cannot be written to: it is read-only."
    if "locked" in words:
        return "The database is busy: another process has been writing for too long."
    if connection_lost or "unable to open" in words or state.startswith(_AWAY):
        return _NO_ANSWER
    return "The database refused the operation."
