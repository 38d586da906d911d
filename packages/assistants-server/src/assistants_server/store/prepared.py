"""Statements that every run executes, without SQLAlchemy's way of executing them.

SQLAlchemy takes about 60 microseconds to pass a statement to SQLite and a row back, SQLite itself
five. A run executes thirty of them, most before its first word. A ``Prepared`` statement is written
in Core like any other and compiled by it, once; on SQLite the text and the values then go to the
driver directly. Everywhere else it is executed as usual.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import Delete, Insert, Select, Update
from sqlalchemy.sql.compiler import SQLCompiler

_Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement's text for SQLite, and how values get into it and out of its rows."""

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
        if connection.dialect.name != "sqlite":
            row = connection.execute(self._statement, values).first()
            return None if row is None else row._asdict()
        compiled, cursor = self._execute(connection, values)
        found = cursor.fetchone()
        cursor.close()  # or the statement would stay open at the commit
        return None if found is None else _row(compiled, found)

    def all(self, connection: Connection, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Every row by column names."""
        if connection.dialect.name != "sqlite":
            return [row._asdict() for row in connection.execute(self._statement, values)]
        compiled, cursor = self._execute(connection, values)
        return [_row(compiled, found) for found in cursor.fetchall()]

    def count(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Execute a change; how many rows it met."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self._statement, values).rowcount
        return self._execute(connection, values)[1].rowcount

    def _execute(
        self, connection: Connection, values: Mapping[str, Any]
    ) -> tuple[_Compiled, sqlite3.Cursor]:
        given = tuple(values)
        compiled = self._compiled.get(given)
        if compiled is None:
            compiled = self._compiled[given] = _compile(self._statement, connection.dialect, given)
        parameters = [
            _bound(values, compiled.constants, name)
            if convert is None
            else convert(_bound(values, compiled.constants, name))
            for name, convert in compiled.binds
        ]
        driver: Any = connection.connection.driver_connection
        try:
            cursor: sqlite3.Cursor = driver.execute(compiled.text, parameters)
        except sqlite3.Error as error:
            # As SQLAlchemy says it; the values stay out of it, they are what users wrote.
            raise DBAPIError.instance(
                compiled.text, None, error, sqlite3.Error, hide_parameters=True
            ) from error
        return compiled, cursor


def _bound(values: Mapping[str, Any], constants: Mapping[str, Any], name: str) -> Any:
    return values[name] if name in values else constants[name]


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
        convert = column.type.dialect_impl(dialect).result_processor(dialect, None)
        if convert is not None:
            results.append((name, convert))
    order = compiled.positiontup or ()
    return _Compiled(
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
