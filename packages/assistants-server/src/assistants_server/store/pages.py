"""Keyset pages: ``limit``, ``order``, ``after``, ``before`` over (created_at, seq).

Pages never skip or repeat while others write, because a cursor is a place in a total order and not
an offset. A cursor whose object was deleted meanwhile still works: its place is in ``tombstones``
(a client that deletes what it lists pages on from ids that are gone).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Select, Table, delete, insert, literal, select, tuple_

from .. import errors
from ..domain.records import Page
from . import rows

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One page. ``has_more``: further objects exist beyond it in the direction of travel."""

    items: Sequence[T]
    has_more: bool


def fetch(
    connection: Connection,
    table: Table,
    query: Select[Any],
    page: Page,
    *,
    scope: str,
    record: Callable[[dict[str, Any]], T],
) -> Listing[T]:
    """One page of ``query``, which selects whole rows of ``table`` within ``scope``.

    Raises:
        BadRequest: a cursor that names nothing in this list.
    """
    key = tuple_(table.c.created_at, table.c.seq)
    newest_first = page.order == "desc"
    whole = query
    if page.after is not None:
        place = _place(connection, table, whole, "after", page.after, scope)
        query = query.where(key < place if newest_first else key > place)
    backwards = page.before is not None and page.after is None
    if page.before is not None:
        place = _place(connection, table, whole, "before", page.before, scope)
        query = query.where(key > place if newest_first else key < place)
    # `before` alone asks for the nearest entries, so it reads away from the cursor and turns round.
    descending = newest_first != backwards
    columns = (table.c.created_at, table.c.seq)
    query = query.order_by(*(c.desc() if descending else c.asc() for c in columns))
    found = connection.execute(query.limit(page.limit + 1)).all()
    items = [record(row._asdict()) for row in found[: page.limit]]
    if backwards:
        items.reverse()
    return Listing(items, has_more=len(found) > page.limit)


def _place(
    connection: Connection, table: Table, query: Select[Any], param: str, cursor: str, scope: str
) -> tuple[int, int]:
    row = connection.execute(
        query.with_only_columns(table.c.created_at, table.c.seq).where(table.c.id == cursor)
    ).first()
    if row is None:
        gone = rows.tombstones.c
        row = connection.execute(
            select(gone.created_at, gone.seq).where(gone.id == cursor, gone.scope == scope)
        ).first()
    if row is None:
        raise errors.no_cursor(param, cursor)
    return row.created_at, row.seq


def bury(connection: Connection, table: Table, object_id: str, *, scope: str) -> None:
    """Keep the place of an object that is about to be deleted."""
    place = select(
        table.c.id, literal(scope).label("scope"), table.c.created_at, table.c.seq
    ).where(table.c.id == object_id)
    connection.execute(
        insert(rows.tombstones).from_select(["id", "scope", "created_at", "seq"], place)
    )


def forget(connection: Connection, *, scope: str) -> None:
    """Drop the places of a list that is itself deleted."""
    connection.execute(delete(rows.tombstones).where(rows.tombstones.c.scope == scope))


def unearth(connection: Connection, ids: Sequence[str]) -> None:
    """Objects of these ids come back; their old places are no longer theirs."""
    connection.execute(delete(rows.tombstones).where(rows.tombstones.c.id.in_(ids)))
