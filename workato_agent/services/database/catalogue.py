"""What a database has, as ``schema`` answers it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .results import ColumnType


class Table(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table in the list of them.

    :ivar type: ``table``, ``view``, ``materialized view``, ``foreign table`` ….
    """

    name: str
    type: str
    schema: str | None = None
    comment: str | None = None


class TableColumn(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column of a table.

    :ivar type: as results have it.
    :ivar database_type: as the database writes it, ``numeric(10,2)``.
    :ivar default: the database's expression.
    :ivar generated: its value is the database's own (identity, auto-increment, computed).
    :ivar length: characters or bytes, of types that have one.
    """

    name: str
    type: ColumnType
    database_type: str
    nullable: bool
    default: str | None = None
    generated: bool = False
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    comment: str | None = None


class ForeignKey(msgspec.Struct, frozen=True):
    """Columns that point to another table's, in the same order."""

    columns: Sequence[str]
    table: str
    schema: str | None
    references: Sequence[str]


class TableShape(msgspec.Struct, frozen=True):
    """A table with its columns in order and its keys."""

    schema: str | None
    name: str
    type: str
    columns: Sequence[TableColumn]
    primary_key: Sequence[str] = ()
    unique_keys: Sequence[Sequence[str]] = ()
    foreign_keys: Sequence[ForeignKey] = ()
