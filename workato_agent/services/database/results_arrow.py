"""Results as an Arrow IPC stream, and the Arrow types of columns.

pyarrow comes with the extra ``arrow`` and is imported when a call needs it, in a thread
(:func:`thd_load_pyarrow`): it takes its time.

=====================  =============================================================================
``integer``            int64
``float``              float64
``decimal``            decimal128(precision, scale) where the column's precision is known, else utf8
``boolean``            bool
``bytes``              binary
``date``               date32
``time``               time64[us]
``timestamp``          timestamp[us]
``timestamptz``        timestamp[us, UTC]
all others             utf8: as in CSV
=====================  =============================================================================

Each field's metadata has the column's type under ``onprem.type``. The schema is fixed before the
first row, so a value that its column can't hold (an integer beyond 64 bits, ``infinity``, a date
before Christ) is an error. Encoded messages carry no state: a stream is :func:`head`, any number of
:func:`encode_rows` or batches of the same schema, and :data:`END`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from math import isfinite, isnan
from typing import Any, ClassVar, Final

import msgspec

from workato_tunnel.problems import Problem

from .results import Column, Row, ValueForm

MEDIA_TYPE: Final = "application/vnd.apache.arrow.stream"
END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""Ends a stream. Readers take a stream's end between two messages for it, too."""
CUT: Final = b"\xff\xff\xff\xff\x08\x00\x00\x00"
"""The beginning of a message that never comes: no reader takes what ends so for complete."""
TYPE_KEY: Final = b"onprem.type"
_MAX_PRECISION: Final = 38
_BATCH_ROWS: Final = 10_000


def thd_load_pyarrow(field: str = "Accept") -> Any:
    """The module ``pyarrow``. Raises Problem ``bad_request`` where it is not installed.

    :param field: of the head, that asks for it.
    """
    try:
        return import_module("pyarrow")
    except ImportError:
        raise Problem(
            "bad_request",
            "this agent can't read or write Arrow: pyarrow is not installed",
            hint="pip install 'workato-agent[arrow]' on the agent's machine, or use another form",
            extra={"field": field},
        ) from None


def arrow_type(column: Column) -> Any:
    """The Arrow type of a column (:class:`pyarrow.DataType`)."""
    pa = import_module("pyarrow")
    if column.type == "decimal":
        precision, scale = column.precision, column.scale or 0
        if precision is None or not 0 <= scale <= precision or not 1 <= precision <= _MAX_PRECISION:
            return pa.string()
        return pa.decimal128(precision, scale)
    plain = {
        "integer": pa.int64,
        "float": pa.float64,
        "boolean": pa.bool_,
        "bytes": pa.binary,
        "date": pa.date32,
    }.get(column.type)
    if plain is not None:
        return plain()
    if column.type == "time":
        return pa.time64("us")
    if column.type == "timestamp":
        return pa.timestamp("us")
    if column.type == "timestamptz":
        return pa.timestamp("us", "UTC")
    return pa.string()


def arrow_schema(columns: Sequence[Column]) -> Any:
    """The schema of a result (:class:`pyarrow.Schema`); names may occur again."""
    pa = import_module("pyarrow")
    return pa.schema(
        [
            pa.field(
                column.name,
                arrow_type(column),
                nullable=column.nullable is not False,
                metadata={TYPE_KEY: column.type.encode()},
            )
            for column in columns
        ]
    )


def head(schema: Any) -> bytes:
    """The message that begins a stream."""
    data: bytes = schema.serialize().to_pybytes()
    return data


def encode_rows(schema: Any, columns: Sequence[Column], rows: Sequence[Row]) -> bytes:
    """Rows in ``native`` form as messages of some 10,000 rows. Raises Problem ``query_failed``."""
    pa = import_module("pyarrow")
    parts = []
    for start in range(0, len(rows), _BATCH_ROWS):
        batch = rows[start : start + _BATCH_ROWS]
        values = list(zip(*batch, strict=True)) or [() for _ in columns]
        arrays = [
            _array(pa, column, arrow_field.type, each)
            for column, arrow_field, each in zip(columns, schema, values, strict=True)
        ]
        message = pa.RecordBatch.from_arrays(arrays, schema=schema).serialize()
        parts.append(message.to_pybytes())
    return parts[0] if len(parts) == 1 else b"".join(parts)


class ArrowWriter:
    """An Arrow IPC stream. It can't tell that rows were left out; a failure cuts a message."""

    media_type: ClassVar[str] = MEDIA_TYPE
    format: ClassVar[str] = "arrow"
    form: ClassVar[ValueForm] = "native"
    says_truncated: ClassVar[bool] = False

    def __init__(self) -> None:
        self._columns: Sequence[Column] = ()
        self._schema: Any = None

    def head(self, columns: Sequence[Column]) -> bytes:
        self._prepare(columns)
        return head(self._schema)

    def rows(self, rows: Sequence[Row], *, first: bool) -> bytes:
        if not rows or not self._columns:
            return b""
        return encode_rows(self._schema, self._columns, rows)

    def tail(self, count: int, *, truncated: bool) -> bytes:
        return END

    def failure(self, problem: Problem, request_id: str) -> bytes:
        return CUT

    def _prepare(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._schema = arrow_schema(columns)


def _array(pa: Any, column: Column, arrow_type: Any, values: Sequence[object]) -> Any:
    try:
        if column.type in _PARSED and arrow_type != pa.string():
            array = _PARSED[column.type](pa, values, arrow_type)
        elif arrow_type == pa.string():
            array = _texts(pa, values)
        elif column.type == "integer":
            # Told the type, pyarrow would drop a fraction.
            array = pa.array(values).cast(arrow_type)
        else:
            array = pa.array(values, arrow_type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise unfit(column, str(error)) from None
    if isinstance(array, pa.ChunkedArray):
        raise unfit(column, "more than 2 GiB in one batch")
    return array


def unfit(column: Column, reason: str) -> Problem:
    """A value that its column's Arrow type can't hold."""
    return Problem(
        "query_failed",
        f"a value of column {column.name!r} ({column.type}) doesn't fit its Arrow type: "
        f"{reason[:200]}",
        hint="cast the column to text in the statement, or take another format: "
        "application/vnd.msgpack holds every value",
    )


def _texts(pa: Any, values: Sequence[object]) -> Any:
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    text = msgspec.json.encode(_as_json(value))
    return (text[1:-1] if isinstance(value, bytes) else text).decode()


def _as_json(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _parsed(pa: Any, values: Sequence[object], arrow_type: Any) -> Any:
    return pa.array(_texts_or_numbers(values), pa.string()).cast(arrow_type)


def _texts_or_numbers(values: Sequence[object]) -> Sequence[object]:
    """Databases without column types put numbers where text is the rule."""
    if any(isinstance(value, int | float) for value in values):
        return [str(value) if isinstance(value, int | float) else value for value in values]
    return values


def _time(pa: Any, values: Sequence[object], arrow_type: Any) -> Any:
    compute = import_module("pyarrow.compute")
    days = compute.binary_join_element_wise("1970-01-01", pa.array(values, pa.string()), "T")
    return days.cast(pa.timestamp("us")).cast(arrow_type)


_PARSED: Final[Mapping[str, Callable[[Any, Sequence[object], Any], Any]]] = {
    "decimal": _parsed,
    "date": _parsed,
    "time": _time,
    "timestamp": _parsed,
    "timestamptz": _parsed,
}
