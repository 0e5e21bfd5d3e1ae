"""Procedures and functions: found in the catalogue, called by name with literals.

The server has the last word on which of several with the same name is meant; the catalogue only
tells whether there is one that takes these parameters, and which of its own are for output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import define, frozen

from workato_tunnel.problems import Problem

from ..statements import Rendered, TableName
from .base import Output, Params, ResultSet, Returned
from .postgresql_fetch import FetchedRows, find_types
from .postgresql_lease import Conversation
from .postgresql_literals import PORTAL, identifier, quote
from .postgresql_traits import Traits
from .postgresql_types import TypeCatalogue, converters, read_array

_REFCURSOR: Final = 1790
_RECORD: Final = 2249
_VOID: Final = 2278
_MOST_CURSORS: Final = 100
_QUESTION: Final = (
    "SELECT n.nspname, p.proname, p.prokind::pg_catalog.text, p.proretset,"
    " coalesce(p.proargmodes::pg_catalog.text[],"
    " array_fill('i'::pg_catalog.text, ARRAY[p.pronargs::pg_catalog.int4])),"
    " coalesce(p.proargnames, array_fill(''::pg_catalog.text,"
    " ARRAY[coalesce(array_length(p.proargmodes, 1), p.pronargs)])),"
    " p.pronargdefaults, p.prorettype::pg_catalog.int8, t.typtype::pg_catalog.text"
    " FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
    " JOIN pg_catalog.pg_type t ON t.oid = p.prorettype"
    " WHERE p.prokind IN ('p', 'f') AND p.proname = "
)


@frozen
class Routine:
    """A procedure or function of the catalogue.

    :ivar modes: of each parameter: ``i``, ``o``, ``b`` (both), ``v`` (variadic), ``t`` (a column of
        its result).
    :ivar names: of each parameter, ``""`` for none.
    :ivar defaults: how many of the last input parameters may be left out.
    """

    schema: str
    name: str
    is_procedure: bool
    returns_set: bool
    modes: Sequence[str]
    names: Sequence[str]
    defaults: int
    result: int
    result_is_row: bool

    @property
    def inputs(self) -> list[int]:
        """Which parameters take a value."""
        return [index for index, mode in enumerate(self.modes) if mode in ("i", "b", "v")]

    @property
    def given(self) -> list[int]:
        """Which parameters stand in a call: a procedure's outputs do, as placeholders."""
        shown = ("i", "b", "v", "o") if self.is_procedure else ("i", "b", "v")
        return [index for index, mode in enumerate(self.modes) if mode in shown]

    @property
    def qualified(self) -> str:
        """Its name in SQL."""
        return f"{identifier(self.schema)}.{identifier(self.name)}"

    @property
    def signature(self) -> str:
        """For people."""
        words = {"i": "", "b": "inout ", "o": "out ", "v": "variadic "}
        shown = [
            f"{words[self.modes[index]]}{self.names[index] or index + 1}"
            for index in range(len(self.modes))
            if self.modes[index] in words
        ]
        return f"{self.name}({', '.join(shown)})"

    def arguments(self, params: Params | None, literal: Callable[[object], str]) -> str | None:
        """What stands in the brackets of a call; None where the parameters don't fit."""
        if isinstance(params, Mapping):
            return self._named(params, literal)
        return self._listed(list(params or ()), literal)

    def _listed(self, values: list[object], literal: Callable[[object], str]) -> str | None:
        inputs, given = self.inputs, self.given
        variadic = "v" in self.modes
        if len(values) == len(given) and len(given) != len(inputs):
            # The placeholders of outputs were written out.
            return ", ".join(literal(value) for value in values)
        if not len(inputs) - self.defaults - variadic <= len(values) or (
            len(values) > len(inputs) and not variadic
        ):
            return None
        parts = []
        left = iter(values)
        for index in given:
            if self.modes[index] == "o":
                parts.append("NULL")
            elif (value := next(left, self)) is not self:
                parts.append(literal(value))
            elif self.is_procedure and "o" in self.modes[index:]:
                return None
        parts += [literal(value) for value in left]
        return ", ".join(parts)

    def _named(self, params: Mapping[str, object], literal: Callable[[object], str]) -> str | None:
        known = {self.names[index]: index for index in self.given if self.names[index]}
        required = self.inputs[: len(self.inputs) - self.defaults]
        if params.keys() - known.keys():
            return None
        if any(self.names[index] not in params for index in required):
            return None
        parts = [f"{identifier(name)} => {literal(value)}" for name, value in params.items()]
        parts += [
            f"{identifier(name)} => NULL"
            for name, index in known.items()
            if self.modes[index] == "o" and name not in params
        ]
        return ", ".join(parts)


@define(eq=False)
class RoutineCall:
    """Calls a routine on a lent connection."""

    _talk: Conversation
    _traits: Traits
    _types: TypeCatalogue
    _outputs: Callable[[], Output]

    async def run(self, procedure: TableName, params: Params | None) -> Returned:
        """What it gives back. Raises Problem."""
        prologue = self._talk.lease.prologue(timed=True)
        routine, arguments = await self._find(prologue, procedure, params)
        call = f"{routine.qualified}({arguments})"
        if routine.is_procedure:
            return await self._procedure(routine, call)
        rows = f"SELECT * FROM {call}"  # noqa: S608 - quoted names and literals
        if routine.returns_set and routine.result != _REFCURSOR:
            return Returned({}, [await self._result_set(rows)])
        has_outputs = any(mode in ("o", "b") for mode in routine.modes)
        if routine.result_is_row and not has_outputs and routine.result != _RECORD:
            return Returned({}, [await self._result_set(rows)])
        if has_outputs and routine.result == _RECORD:
            return await self._single(routine, rows)
        name = identifier(_output_names(routine)[0]) if has_outputs else '"return"'
        return await self._single(routine, f"SELECT {call} AS {name}")

    async def _find(
        self, prologue: str, procedure: TableName, params: Params | None
    ) -> tuple[Routine, str]:
        where = (
            "pg_catalog.pg_function_is_visible(p.oid)"
            if procedure.schema is None
            else f"n.nspname = {quote(procedure.schema)}"
        )
        cursor = await self._talk.ask(
            f"{prologue}{_QUESTION}{quote(procedure.name)} AND {where}"
            " ORDER BY p.prokind DESC, p.pronargs, p.oid LIMIT 200"
        )
        found = [_routine(row) for row in cursor.fetchall()]
        for routine in found:
            arguments = routine.arguments(params, self._traits.literal)
            if arguments is not None:
                return routine, arguments
        if found:
            raise Problem(
                "bad_request",
                f"{procedure} does not take these parameters",
                hint=f"there is {'; '.join(each.signature for each in found[:5])}",
                extra={"field": "params"},
            )
        raise Problem(
            "operation_not_found",
            f"there is no procedure or function {procedure}",
            hint="check its name, its schema and the search_path; names are taken as the "
            "catalogue has them, in their case",
        )

    async def _procedure(self, routine: Routine, call: str) -> Returned:
        cursor = await self._talk.ask(f"CALL {call}")
        if not cursor.description:
            return Returned({})
        return await self._values(cursor, _output_names(routine))

    async def _single(self, routine: Routine, sql: str) -> Returned:
        if routine.result == _VOID:
            await self._talk.ask(sql)
            return Returned({})
        cursor = await self._talk.ask(sql)
        if routine.result == _REFCURSOR:
            return await self._values(cursor, ())
        return await self._values(cursor, [column.name for column in cursor.description])

    async def _values(self, cursor: Any, names: Sequence[str]) -> Returned:
        """The values of one row; the cursors among them are read as result sets."""
        rows = cursor.fetchall()
        oids = [column.type_code for column in cursor.description]
        kinds = await find_types(self._talk, self._types, oids)
        portals = [
            value
            for row in rows
            for value, oid in zip(row, oids, strict=True)
            if oid == _REFCURSOR and value is not None
        ]
        out: dict[str, object] = {}
        if names:
            converted = converters(kinds, "json")(rows[:1])
            out = dict(zip(names, converted[0] if converted else (), strict=False))
        sets = [await self._portal(portal) for portal in portals[:_MOST_CURSORS]]
        return Returned(out, sets)

    async def _portal(self, name: str) -> ResultSet:
        """The rows of a cursor that the routine has left open."""
        return await self._read("", identifier(name), f"cursor {name}")

    async def _result_set(self, sql: str) -> ResultSet:
        return await self._read(self._traits.opening(sql), PORTAL, sql)

    async def _read(self, start: str, portal: str, sql: str) -> ResultSet:
        output = self._outputs()
        rows = FetchedRows(self._talk, self._types, output, portal)
        await rows.begin(Rendered(sql, (0,), ((0, False),)), start)
        parts = []
        while (block := await rows.next_block()) is not None:
            parts.append(block.data)
        await rows.leave()
        return ResultSet(rows.columns, b"".join(parts), output.rows, output.truncated)


def _routine(row: Sequence[Any]) -> Routine:
    schema, name, kind, returns_set, modes, names, defaults, result, result_type = row
    return Routine(
        schema,
        name,
        kind == "p",
        returns_set,
        read_array(modes),
        read_array(names),
        defaults,
        result,
        result_type == "c",
    )


def _output_names(routine: Routine) -> list[str]:
    """Of the outputs, in order; their number where they have no name."""
    return [
        routine.names[index] or str(index + 1)
        for index, mode in enumerate(routine.modes)
        if mode in ("o", "b")
    ]
