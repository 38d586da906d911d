"""Statements that every run executes, without SQLAlchemy's way of executing them.

SQLAlchemy takes about 60 microseconds to pass a statement to SQLite and a row back, SQLite itself
five; to asyncpg 300, PostgreSQL itself 100. A run executes twenty of them, most before its first
word. A ``Prepared`` statement is written in Core like any other and compiled by it, once; the text
and the values then go to the driver directly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Dialect
from sqlalchemy.sql import Delete, Insert, Select, Update
from sqlalchemy.sql.compiler import SQLCompiler

from . import postgresql, sqlite

_Convert = Callable[[Any], Any]


class _Driver(Protocol):
    """A database's own way of executing a text with values."""

    def first(
        self, connection: Connection, text: str, values: Sequence[Any], /
    ) -> Sequence[Any] | None: ...

    def all_rows(
        self, connection: Connection, text: str, values: Sequence[Any], /
    ) -> Sequence[Sequence[Any]]: ...

    def count(self, connection: Connection, text: str, values: Sequence[Any], /) -> int: ...


_DRIVERS: dict[str, _Driver] = {"sqlite": sqlite, "postgresql": postgresql}


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement's text for a driver, and how values get into it and out of its rows."""

    driver: _Driver
    text: str
    binds: Sequence[tuple[str, _Convert | None]]
    constants: Mapping[str, Any]
    names: Sequence[str]
    results: Sequence[tuple[str, _Convert]]


class Prepared:
    """A select, insert, update or delete whose values come by the names of its parameters.

    Args:
        statement: parameters are ``bindparam`` names; of an insert or update also column names.
    """

    def __init__(self, statement: Select[Any] | Insert | Update | Delete) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def first(self, connection: Connection, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The first row by column names."""
        compiled = self._for(connection, values)
        found = compiled.driver.first(connection, compiled.text, _parameters(compiled, values))
        return None if found is None else _row(compiled, found)

    def all(self, connection: Connection, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Every row by column names."""
        compiled = self._for(connection, values)
        found = compiled.driver.all_rows(connection, compiled.text, _parameters(compiled, values))
        return [_row(compiled, row) for row in found]

    def count(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Execute a change; how many rows it met."""
        compiled = self._for(connection, values)
        return compiled.driver.count(connection, compiled.text, _parameters(compiled, values))

    def _for(self, connection: Connection, values: Mapping[str, Any]) -> _Compiled:
        given = (connection.dialect.name, *values)
        compiled = self._compiled.get(given)
        if compiled is None:
            compiled = _compile(self._statement, connection.dialect, given[1:])
            self._compiled[given] = compiled
        return compiled


def _parameters(compiled: _Compiled, values: Mapping[str, Any]) -> list[Any]:
    if compiled.constants:
        values = {**compiled.constants, **values}
    return [
        values[name] if convert is None else convert(values[name])
        for name, convert in compiled.binds
    ]


def _row(compiled: _Compiled, found: Sequence[Any]) -> dict[str, Any]:
    row = dict(zip(compiled.names, found, strict=True))
    for name, convert in compiled.results:
        row[name] = convert(row[name])
    return row


def _compile(
    statement: Select[Any] | Insert | Update | Delete, dialect: Dialect, given: Sequence[str]
) -> _Compiled:
    compiled = statement.compile(
        dialect=dialect,
        column_keys=None if isinstance(statement, Select | Delete) else list(given),
    )
    assert isinstance(compiled, SQLCompiler)
    columns = (
        statement.selected_columns
        if isinstance(statement, Select)
        else getattr(statement, "exported_columns", ())
    )
    names: list[str] = []
    results: list[tuple[str, _Convert]] = []
    for column in columns:
        name = str(column.key)
        names.append(name)
        if dialect.name == "sqlite":  # asyncpg has a type for everything that we store
            convert = column.type.dialect_impl(dialect).result_processor(dialect, None)
            if convert is not None:
                results.append((name, convert))
    order = compiled.positiontup or ()
    return _Compiled(
        driver=_DRIVERS[dialect.name],
        text=str(compiled),
        binds=[
            (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            if name in compiled.binds
            else (name, None)
            for name in order
        ],
        constants={
            name: value for name, value in compiled.params.items() if name not in set(given)
        },
        names=names,
        results=results,
    )
