"""The tables. Private to this folder: what leaves it are the records of ``domain``.

``seq`` is the insertion sequence that makes every order total. Rows of a thread are inserted while
the thread's row is locked (``thread_lock``), so within a thread ``seq`` is also the order of
commits. AUTOINCREMENT keeps SQLite from giving a deleted row's number again. Deleted objects that
a client may still use as a page cursor leave their sort key behind in ``tombstones``.
"""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from ..domain.run_state import ACTIVE

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives an INTEGER PRIMARY KEY its row id; BIGINT would be an ordinary column there.
_SEQ = BigInteger().with_variant(Integer, "sqlite")
_JSON = JSON(none_as_null=True)


def encode(value: Any) -> str:
    """JSON as the database keeps it, of dataclasses too."""
    return orjson.dumps(value).decode()


def _seq() -> Column[int]:
    return Column("seq", _SEQ, Identity(), primary_key=True)


def _id() -> Column[str]:
    return Column("id", String(64), nullable=False, unique=True)


def _project() -> Column[str]:
    return Column("project_id", String(64), nullable=False)


def _thread() -> Column[str]:
    return Column(
        "thread_id", String(64), ForeignKey("threads.id", ondelete="CASCADE"), nullable=False
    )


def _when(name: str, *, nullable: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


assistants = Table(
    "assistants",
    metadata,
    _seq(),
    _id(),
    _project(),
    _when("created_at", nullable=False),
    Column("model", Text, nullable=False),
    Column("name", Text),
    Column("description", Text),
    Column("instructions", Text),
    Column("tools", _JSON, nullable=False),
    Column("tool_resources", _JSON, nullable=False),
    Column("metadata", _JSON, nullable=False),
    Column("temperature", Float, nullable=False),
    Column("top_p", Float, nullable=False),
    Column("response_format", _JSON, nullable=False),
    Column("reasoning_effort", Text),
    Index(None, "project_id", "created_at", "seq"),
    sqlite_autoincrement=True,
)

threads = Table(
    "threads",
    metadata,
    _seq(),
    _id(),
    _project(),
    _when("created_at", nullable=False),
    Column("tool_resources", _JSON, nullable=False),
    Column("metadata", _JSON, nullable=False),
    Index(None, "project_id", "created_at", "seq"),
    sqlite_autoincrement=True,
)

# One row a pair, so that GET /threads?metadata[key]=value is an index look-up on every database.
thread_metadata = Table(
    "thread_metadata",
    metadata,
    Column("thread_id", ForeignKey("threads.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(64), primary_key=True),
    _project(),
    Column("value", String(512), nullable=False),
    Index(None, "project_id", "key", "value"),
)

messages = Table(
    "messages",
    metadata,
    _seq(),
    _id(),
    _thread(),
    _when("created_at", nullable=False),
    Column("role", String(16), nullable=False),
    Column("content", _JSON, nullable=False),
    Column("attachments", _JSON, nullable=False),
    Column("metadata", _JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("incomplete_reason", String(32)),
    _when("completed_at"),
    _when("incomplete_at"),
    Column("assistant_id", String(64)),
    Column("run_id", String(64)),
    Column("added_by_run_id", String(64)),
    Column("tokens", Integer, nullable=False),
    Index(None, "thread_id", "seq"),
    Index(None, "thread_id", "created_at", "seq"),
    Index(None, "run_id"),
    Index(None, "added_by_run_id"),
    sqlite_autoincrement=True,
)

ACTIVE_RUN = text("status IN ({})".format(", ".join(f"'{s}'" for s in sorted(ACTIVE))))

runs = Table(
    "runs",
    metadata,
    _seq(),
    _id(),
    _project(),
    _thread(),
    Column("assistant_id", String(64), nullable=False),
    _when("created_at", nullable=False),
    Column("status", String(16), nullable=False),
    _when("started_at"),
    _when("expires_at"),
    _when("cancelled_at"),
    _when("failed_at"),
    _when("completed_at"),
    Column("last_error", _JSON),
    Column("incomplete_reason", String(32)),
    Column("model", Text, nullable=False),
    Column("instructions", Text),
    Column("tools", _JSON, nullable=False),
    Column("tool_resources", _JSON, nullable=False),
    Column("metadata", _JSON, nullable=False),
    Column("temperature", Float, nullable=False),
    Column("top_p", Float, nullable=False),
    Column("reasoning_effort", Text),
    Column("max_prompt_tokens", BigInteger),
    Column("max_completion_tokens", BigInteger),
    Column("truncation_strategy", _JSON, nullable=False),
    Column("response_format", _JSON, nullable=False),
    Column("tool_choice", _JSON, nullable=False),
    Column("parallel_tool_calls", Boolean, nullable=False),
    Column("usage", _JSON, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("pending_calls", _JSON, nullable=False),
    Column("run_key", Text),
    Column("additional_message_ids", _JSON),
    Column("excluded_ids", _JSON, nullable=False),
    Column("first_position", BigInteger, nullable=False),
    Column("cancel_on_disconnect", Boolean, nullable=False),
    Column("owner", String(64)),
    Column("lease_until", Float),
    # With a default in the database: replicas of an older version go on inserting without it.
    Column("taken_over", Boolean, nullable=False, server_default=false()),
    Index(None, "thread_id", "seq"),
    Index(None, "thread_id", "created_at", "seq"),
    UniqueConstraint("thread_id", "run_key"),
    # Invariant 1: one active run per thread, on every replica and process.
    Index(
        "uq_runs_active",
        "thread_id",
        unique=True,
        sqlite_where=ACTIVE_RUN,
        postgresql_where=ACTIVE_RUN,
    ),
    # What the sweeper reads: active runs alone, however many have ended.
    Index(
        "ix_runs_active",
        "lease_until",
        sqlite_where=ACTIVE_RUN,
        postgresql_where=ACTIVE_RUN,
    ),
    sqlite_autoincrement=True,
)

steps = Table(
    "steps",
    metadata,
    _seq(),
    _id(),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    _thread(),
    Column("assistant_id", String(64), nullable=False),
    _when("created_at", nullable=False),
    Column("type", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("message_id", String(64)),
    Column("tool_calls", _JSON, nullable=False),
    Column("usage", _JSON),
    Column("last_error", _JSON),
    _when("cancelled_at"),
    _when("completed_at"),
    _when("failed_at"),
    _when("expired_at"),
    _when("expires_at"),
    Column("after_position", BigInteger, nullable=False),
    Index(None, "run_id", "seq"),
    Index(None, "thread_id", "type", "after_position"),
    sqlite_autoincrement=True,
)

# Extension end_runs: names whose request must be refused should it arrive late.
ended_run_keys = Table(
    "ended_run_keys",
    metadata,
    Column("thread_id", ForeignKey("threads.id", ondelete="CASCADE"), primary_key=True),
    Column("run_key", Text, primary_key=True),
)

files = Table(
    "files",
    metadata,
    _seq(),
    _id(),
    _project(),
    _when("created_at", nullable=False),
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("purpose", String(32), nullable=False),
    _when("expires_at"),
    Column("complete", Boolean, nullable=False),
    Index(None, "project_id", "created_at", "seq"),
    sqlite_autoincrement=True,
)

# Bytes live in the database: replicas share nothing else, and a backup is one thing.
file_chunks = Table(
    "file_chunks",
    metadata,
    Column("file_id", ForeignKey("files.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("scope", String(64), nullable=False),
    _when("created_at", nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index(None, "scope"),
)

# Keys are long and random, so a plain digest serves as well as a slow one. Shown once, kept never.
api_keys = Table(
    "api_keys",
    metadata,
    _seq(),
    _id(),
    _project(),
    _when("created_at", nullable=False),
    Column("name", Text, nullable=False),
    Column("hint", String(8), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    _when("revoked_at"),
    sqlite_autoincrement=True,
)

# Models that stored assistants name and that a project calls by another name today.
model_names = Table(
    "model_names",
    metadata,
    Column("project_id", String(64), primary_key=True),
    Column("name", String(256), primary_key=True),
    Column("target", String(256), nullable=False),
)

# Answers to requests that carried an Idempotency-Key, written in the transaction of their effect.
# Paths are digested because no index takes one of any length.
idempotent_requests = Table(
    "idempotent_requests",
    metadata,
    Column("project_id", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("path_digest", String(64), primary_key=True),
    _when("created_at", nullable=False),
    Column("body_digest", String(64), nullable=False),
    Column("answer", LargeBinary),
    Column("run_id", String(64)),
    Index(None, "created_at"),
)
