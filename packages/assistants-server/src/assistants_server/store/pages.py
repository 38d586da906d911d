"""Keyset pages: ``limit``, ``order``, ``after``, ``before`` over (created_at, seq).

Pages never skip or repeat while others write, because a cursor is a place in a total order and not
an offset. A cursor whose object was deleted meanwhile still works: its place is in ``tombstones``
(a client that deletes what it lists pages on from ids that are gone).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    bindparam,
    delete,
    insert,
    select,
    tuple_,
)

from .. import errors
from ..domain.records import Page
from . import rows
from .prepared import Prepared

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One page. ``has_more``: further objects exist beyond it in the direction of travel."""

    items: Sequence[T]
    has_more: bool


def fetch(
    connection: Connection,
    table: Table,
    filters: Mapping[str, Any],
    page: Page,
    *,
    scope: str,
    record: Callable[[dict[str, Any]], T],
    also: Sequence[ColumnElement[bool]] = (),
) -> Listing[T]:
    """One page of the rows of ``table`` whose columns have the values of ``filters``.

    Args:
        scope: whose list it is, for the places of what was deleted from it.
        also: further conditions, which make the statement one that is not kept.

    Raises:
        BadRequest: a cursor that names nothing in this list.
    """
    values = dict(filters)
    newest_first = page.order == "desc"
    bounds: list[_Bound] = []
    for name, cursor, forwards in (("after", page.after, True), ("before", page.before, False)):
        if cursor is None:
            continue
        created_at, seq = _place(connection, table, filters, also, name, cursor, scope)
        values |= {f"{name}_created_at": created_at, f"{name}_seq": seq}
        bounds.append(_Bound(name, older=newest_first == forwards))
    # `before` alone asks for the nearest entries, so it reads away from the cursor and turns round.
    backwards = page.before is not None and page.after is None
    kind = _Kind(table, tuple(filters), newest_first != backwards, tuple(bounds))
    query = Prepared(_select(kind).where(*also)) if also else _prepared(kind)
    found = query.all(connection, {**values, "most": page.limit + 1})
    items = [record(one) for one in found[: page.limit]]
    if backwards:
        items.reverse()
    return Listing(items, has_more=len(found) > page.limit)


@dataclass(frozen=True, slots=True)
class _Bound:
    """``older``: than the cursor of this name; otherwise newer."""

    cursor: str
    older: bool


@dataclass(frozen=True, slots=True)
class _Kind:
    """What statements for pages differ in."""

    table: Table
    columns: tuple[str, ...]
    descending: bool
    bounds: tuple[_Bound, ...]


@cache
def _prepared(kind: _Kind) -> Prepared:
    return Prepared(_select(kind))


def _select(kind: _Kind) -> Select[Any]:
    columns = kind.table.c
    key = tuple_(columns.created_at, columns.seq)
    query = select(kind.table).where(*_equal(kind.table, kind.columns))
    for bound in kind.bounds:
        place = tuple_(
            bindparam(f"{bound.cursor}_created_at", type_=columns.created_at.type),
            bindparam(f"{bound.cursor}_seq", type_=columns.seq.type),
        )
        query = query.where(key < place if bound.older else key > place)
    order = (columns.created_at, columns.seq)
    query = query.order_by(*(one.desc() if kind.descending else one.asc() for one in order))
    return query.limit(bindparam("most"))


def _equal(table: Table, columns: Iterable[str]) -> list[ColumnElement[bool]]:
    return [table.c[name] == bindparam(name) for name in columns]


def _place(
    connection: Connection,
    table: Table,
    filters: Mapping[str, Any],
    also: Sequence[ColumnElement[bool]],
    param: str,
    cursor: str,
    scope: str,
) -> tuple[int, int]:
    row = connection.execute(
        select(table.c.created_at, table.c.seq).where(
            *_equal(table, filters), *also, table.c.id == cursor
        ),
        filters,
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
    _burial(table).count(connection, {"buried_id": object_id, "list": scope})


@cache
def _burial(table: Table) -> Prepared:
    scope = bindparam("list", type_=rows.tombstones.c.scope.type).label("scope")
    place = select(table.c.id, scope, table.c.created_at, table.c.seq).where(
        table.c.id == bindparam("buried_id")
    )
    columns = ["id", "scope", "created_at", "seq"]
    return Prepared(insert(rows.tombstones).from_select(columns, place))


def forget(connection: Connection, *, scope: str) -> None:
    """Drop the places of a list that is itself deleted."""
    connection.execute(delete(rows.tombstones).where(rows.tombstones.c.scope == scope))


def unearth(connection: Connection, ids: Sequence[str]) -> None:
    """Objects of these ids come back; their old places are no longer theirs."""
    connection.execute(delete(rows.tombstones).where(rows.tombstones.c.id.in_(ids)))
