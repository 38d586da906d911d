"""What attachments do to their thread: a file for the code interpreter joins the thread's files.

Files for file search would join the thread's vector store; this server has none yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from ..domain.drafts import MessageDraft
from ..domain.records import JsonObject
from . import rows

_table = rows.threads


def joined(resources: JsonObject, messages: Iterable[MessageDraft]) -> JsonObject:
    """The thread's tool resources once ``messages`` are in it."""
    attached = [
        attachment["file_id"]
        for message in messages
        for attachment in message.attachments
        if any(tool["type"] == "code_interpreter" for tool in attachment["tools"])
    ]
    known: Sequence[str] = (resources.get("code_interpreter") or {}).get("file_ids") or ()
    new = [one for one in dict.fromkeys(attached) if one not in known]
    if not new:
        return resources
    return {**resources, "code_interpreter": {"file_ids": [*known, *new]}}


def join(connection: Connection, thread_id: str, messages: Sequence[MessageDraft]) -> None:
    """The same for a stored thread, whose row the caller has locked."""
    if not any(message.attachments for message in messages):
        return
    before: dict[str, Any] = connection.execute(
        sa.select(_table.c.tool_resources).where(_table.c.id == thread_id)
    ).scalar_one()
    after = joined(before, messages)
    if after is not before:
        connection.execute(
            sa.update(_table).where(_table.c.id == thread_id).values(tool_resources=after)
        )
