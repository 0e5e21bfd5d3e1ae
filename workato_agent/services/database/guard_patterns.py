"""The patterns of ``policy.tables``, as one database reads names.

A name that isn't quoted is folded as the database folds it: PostgreSQL and Redshift to lower case,
Oracle to upper case; SQL Server and SQLite don't tell cases apart; MySQL's tables are taken for
case-sensitive. Patterns are folded in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Self

from attrs import frozen

from ...config.tablepatterns import PatternPart, TablePattern

_HOME: Final = {"postgresql": "public", "redshift": "public", "sqlserver": "dbo", "sqlite": "main"}
"""The schema that a pattern without one means, beside names without one."""
_CERTAIN: Final = frozenset(("sqlite", "mysql"))
"""Products in which a name without schema is in one that is known: there is no search path."""
_SYSTEM: Final = frozenset(
    ("pg_catalog", "pg_toast", "information_schema", "mysql", "sys", "performance_schema", "guest",
     "system", "ctxsys", "mdsys", "xdb", "pg_internal", "catalog_history", "svv", "temp",
     "db_owner", "dbsnmp", "outln", "audsys", "gsmadmin_internal")
)  # fmt: skip
"""Schemas of the databases' own: a pattern has to name them."""
_SYSTEM_NAMES: Final = {
    "postgresql": ("pg_",),
    "redshift": ("pg_", "stl_", "stv_", "svl_", "svv_", "sys_", "svcs_"),
    "sqlite": ("sqlite_", "pragma_", "json_each", "json_tree", "dbstat", "bytecode", "tables_used",
               "fsdir", "completion", "generate_series"),
    "oracle": ("USER_", "ALL_", "DBA_", "V$", "GV$", "CDB_", "X$"),
    "sqlserver": ("sys",),
}  # fmt: skip
"""How tables of the databases' own begin that need no schema: a pattern has to begin like that."""
_NOT_A_TABLE: Final = {"mysql": "dual", "oracle": "DUAL"}


@frozen
class Reference:
    """A table by its names as the catalogue would have them."""

    catalogue: str | None
    schema: str | None
    name: str

    def __str__(self) -> str:
        return ".".join(part for part in (self.catalogue, self.schema, self.name) if part)


class Refused(Exception):
    """Why a statement is refused.

    :ivar offset: of what is the cause, in the statement, when it is known.
    """

    def __init__(self, why: str, offset: int | None = None) -> None:
        super().__init__(why)
        self.offset = offset


class NotListed(Exception):
    """A table that no pattern covers.

    :ivar table: as the statement has it.
    """

    def __init__(self, table: Reference) -> None:
        super().__init__(str(table))
        self.table = table


def fold(name: str, product: str, *, quoted: bool) -> str:
    """A name as the database's catalogue has it, or a stand-in that is the same for the same."""
    if product in ("sqlserver", "sqlite"):
        return name.lower()
    if quoted or product == "mysql":
        return name
    return name.upper() if product == "oracle" else name.lower()


@frozen
class _Part:
    text: str
    expression: re.Pattern[str]

    @classmethod
    def of(cls, part: PatternPart, product: str) -> Self:
        text = fold(part.text, product, quoted=part.quoted)
        if part.quoted:
            return cls(text, re.compile(re.escape(text)))
        pieces = re.split(r"\*+", text)
        return cls(text, re.compile(".*".join(map(re.escape, pieces)), re.DOTALL))

    def matches(self, name: str) -> bool:
        return self.expression.fullmatch(name) is not None


@frozen
class _Pattern:
    catalogue: _Part | None
    schema: _Part | None
    name: _Part

    def matches(self, table: Reference, product: str, home: str | None) -> bool:
        """``home`` is the schema that a pattern without one means."""
        if not _covers(self.catalogue, table.catalogue) or not self.name.matches(table.name):
            return False
        schema = table.schema
        at_home = schema is None or schema == home
        if at_home and not self._names_system(table.name, product):
            return False
        if schema is None and product in _CERTAIN:
            schema = home
        if self.schema is None:
            return at_home
        if schema is None:
            return False
        if _is_system(schema) and self.schema.text != schema:
            return False
        return self.schema.matches(schema)

    def _names_system(self, name: str, product: str) -> bool:
        """A table of the database's own needs a pattern that begins like it."""
        return all(
            self.name.text.startswith(prefix)
            for prefix in _SYSTEM_NAMES.get(product, ())
            if name.startswith(prefix)
        )


def _covers(part: _Part | None, name: str | None) -> bool:
    if part is None or name is None:
        return part is None and name is None
    return part.matches(name)


def _is_system(schema: str) -> bool:
    return schema.lower() in _SYSTEM or schema.startswith("pg_")


@frozen
class Patterns:
    """All patterns of a profile."""

    texts: Sequence[str]
    product: str
    _patterns: Sequence[_Pattern]
    _home: str | None

    @classmethod
    def of(cls, texts: Sequence[str], product: str, home: str | None) -> Self:
        """``home``: the profile's database, where that is the schema of names without one."""
        patterns = []
        for text in texts:
            parts = [_Part.of(part, product) for part in TablePattern.parse(text).parts]
            schema = parts[-2] if len(parts) > 1 else None
            catalogue = parts[-3] if len(parts) > 2 else None
            patterns.append(_Pattern(catalogue, schema, parts[-1]))
        return cls(texts, product, patterns, _HOME.get(product, home))

    def covers(self, table: Reference) -> bool:
        """Whether one of them covers a table of which the names are as in the catalogue."""
        return any(pattern.matches(table, self.product, self._home) for pattern in self._patterns)

    def check_reference(self, table: Reference) -> None:
        """Let a table of a statement pass. Raises NotListed."""
        if table.schema is None and table.name == _NOT_A_TABLE.get(self.product):
            return
        if not self.covers(table):
            raise NotListed(table)
