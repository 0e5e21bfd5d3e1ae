"""An adapter on its real database, as the contract needs to know it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from attrs import frozen

from workato_agent.services.database.adapters.base import Adapter
from workato_agent.services.database.results import ColumnType
from workato_agent.services.database.settings import DatabasePolicy, PoolSettings


def _same(value: object) -> object:
    return value


@frozen
class Stored:
    """A column type that keeps the values of one of the wire's types.

    :ivar sql: as a table's column is declared.
    :ivar kind: the type that results report; None: the same.
    :ivar samples: values instead of the usual ones (:data:`~.values.SAMPLES`).
    :ivar back: what comes back for a value, in JSON's form, where it isn't the same.
    """

    sql: str
    kind: ColumnType | None = None
    samples: Sequence[object] | None = None
    back: Callable[[object], object] = _same


@frozen
class Procedure:
    """A stored procedure.

    :ivar create: statements that make ``contract_procedure`` (``drop`` those that remove it): it
        takes an integer, gives back its double, and two result sets where ``sets`` is 2.
    :ivar params: as callers give them, for the integer 21.
    :ivar out: what comes back.
    """

    create: Sequence[str]
    drop: Sequence[str]
    params: Sequence[object]
    out: Mapping[str, object]
    sets: int = 0


class Subject:
    """Plain SQL, where it is plain; a subclass says how its database differs."""

    product: ClassVar[str]
    """A pattern for the ``target`` that the profile's test tells."""
    type: ClassVar[str]
    """The adapter's name in the config."""

    numbers: ClassVar[str]
    """A query of the integers from 1 to ``:n`` in order, in a column ``i``."""
    endless: ClassVar[str]
    """A query that runs for ever without bringing a row."""
    huge: ClassVar[str | None]
    """An expression for a text of ``{size}`` characters."""

    types: ClassVar[Mapping[ColumnType, Stored]]
    """A column type for every type of the wire that the database has."""
    nan: ClassVar[bool] = False
    """Floats may be NaN and infinite."""
    nul: ClassVar[bool] = False
    """Text may hold NUL."""
    big_integer: ClassVar[str | None] = None
    """An expression for an integer of 30 digits that is reported as ``integer`` or ``decimal``."""

    empty: ClassVar[str] = "select 1 as a, 'x' as b where 1 = 0"
    returning: ClassVar[bool] = True
    """INSERT … RETURNING."""
    temporary: ClassVar[str | None] = "create temporary table mine (id int)"
    transactional_ddl: ClassVar[bool] = True
    """CREATE TABLE can be rolled back."""
    load_names: ClassVar[bool] = True
    """A load tells an unknown table or column from other errors."""
    casts: ClassVar[bool] = False
    """``1::int`` is a cast."""
    question_operator: ClassVar[str | None] = None
    """A true expression with an operator that is a question mark, written ``??``."""
    division_by_zero: ClassVar[str | None] = "select 1 / (i - 500) from ({numbers}) n"
    """A query of ``:n`` rows that fails at the 500th."""
    slow_write: ClassVar[str | None] = None
    """A statement that inserts into ``contract_slow`` and runs for ever."""
    procedure: ClassVar[Procedure | None] = None

    sqlstates: ClassVar[Mapping[str, str]] = {}
    """Of ``syntax``, ``missing`` (table), ``duplicate`` (key), ``zero`` (division); pattern."""
    exempt: ClassVar[Mapping[str, str]] = {}
    """Tests that don't hold for this database, and why."""

    def adapter(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter:
        """An adapter on the real database."""
        raise NotImplementedError

    def absent(self, policy: DatabasePolicy, pool: PoolSettings) -> Adapter | None:
        """An adapter whose server isn't there; None where there is no server."""
        return None

    def stuck(self, port: int, policy: DatabasePolicy, pool: PoolSettings) -> Adapter | None:
        """An adapter whose server, at a port of 127.0.0.1, takes connections and says nothing.

        It has a connect time-out of one second. None where there is no server.
        """
        return None

    def running(self, marker: str) -> int | None:
        """How many statements with a word in them run on the server; None if that can't be seen."""
        return None

    def end_connections(self) -> bool:
        """End the adapter's connections on the server; False where there is none."""
        return False

    def close(self) -> None:
        """After every test: what the test has needed is removed."""

    # -- how SQL is written --------------------------------------------------------------------

    def given(self, kind: ColumnType, parameter: str = "?") -> str:
        """A parameter where nothing tells its type, as in ``select ?``."""
        return parameter

    def joined(self, *parts: str) -> str:
        """Text put together; a part may be a number."""
        return " || ".join(parts)

    def fold(self, name: str) -> str:
        """An unquoted name as results have it."""
        return name

    def quoted(self, name: str) -> str:
        """A name in quotes."""
        return '"' + name.replace('"', '""') + '"'
