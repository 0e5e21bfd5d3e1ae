"""Arrow arrays as values of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from math import isfinite, isnan
from typing import Any, Final

from workato_tunnel.problems import Problem

from .parameters import ParameterType, Typed, json_value
from .results import Row

MAX_SLICE_ROWS: Final = 1000
_SLICE_BYTES: Final = 8 * 1024 * 1024
_MAX_ROW_BYTES: Final = 256 * 1024 * 1024


def check_type(kind: Any, name: str, *, nested: bool = False) -> None:
    """Raises Problem ``bad_request`` where columns of that Arrow type can't be loaded."""
    types = import_module("pyarrow").types
    if getattr(kind, "extension_name", None) is not None:
        kind = kind.storage_type
    if types.is_dictionary(kind):
        value = kind.value_type
        if not (types.is_nested(value) or types.is_dictionary(value) or types.is_null(value)):
            check_type(value, name)
            return
    elif _is_list(types, kind):
        check_type(kind.value_type, name, nested=True)
        return
    elif types.is_struct(kind):
        for index in range(kind.num_fields):
            check_type(kind.field(index).type, name, nested=True)
        return
    elif types.is_map(kind):
        check_type(kind.key_type, name, nested=True)
        check_type(kind.item_type, name, nested=True)
        return
    elif types.is_null(kind):
        if not nested:
            return
    elif (
        types.is_boolean(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or (types.is_temporal(kind) and not types.is_interval(kind))
    ):
        return
    raise Problem(
        "bad_request",
        f"column {name[:100]!r} of the Arrow stream has the type {str(kind)[:100]}, which can't be "
        "loaded",
        hint="cast it to a plain type, as utf8",
    )


def rows_per_slice(batch: Any, done: int) -> int:
    """How many rows of a batch may become Python values at a time, by the size of the largest.

    A few bytes of Arrow can stand for much: dictionaries, shared buffers, empty elements.
    """
    weight = sum(_weight(column) for column in batch.columns)
    if weight > _MAX_ROW_BYTES:
        raise Problem(
            "payload_too_large",
            f"a row after row {done} is larger than {_MAX_ROW_BYTES} bytes",
            hint="load large values one by one",
        )
    return max(1, min(MAX_SLICE_ROWS, _SLICE_BYTES // max(weight, 1)))


def python_rows(batch: Any, done: int) -> Sequence[Row]:
    """The rows of a batch. Raises Problem; ``done`` rows came before it."""
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            columns.append(_values(column))
        except (ValueError, OverflowError, NotImplementedError) as error:
            raise Problem(
                "bad_request",
                f"a value of column {name[:100]!r} after row {done} can't be taken: "
                f"{str(error)[:200]}",
                hint="cast the column to text (utf8)",
                extra={"row": done},
            ) from None
    return list(zip(*columns, strict=True)) if columns else []


def _is_list(types: Any, kind: Any) -> bool:
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _weight(array: Any) -> int:
    """Bytes that the largest value may take as a Python object, roughly and from above."""
    pyarrow = import_module("pyarrow")
    compute = import_module("pyarrow.compute")
    types, kind = pyarrow.types, array.type
    if getattr(kind, "extension_name", None) is not None:
        return _weight(array.storage)
    if types.is_dictionary(kind):
        return _weight(array.dictionary)
    if _is_list(types, kind) or types.is_map(kind):
        longest = _most(compute.list_value_length(_as_list(pyarrow, array)))
        inner = array.values if not types.is_map(kind) else _as_list(pyarrow, array).values
        return 64 + longest * _weight(inner)
    if types.is_struct(kind):
        return 64 + sum(_weight(each) for each in array.flatten())
    if types.is_fixed_size_binary(kind):
        return 64 + int(kind.byte_width)
    if not (types.is_primitive(kind) or types.is_null(kind) or types.is_decimal(kind)):
        return 64 + 4 * _most(compute.binary_length(array))
    return 64


def _as_list(pyarrow: Any, array: Any) -> Any:
    """A map as a list of its entries."""
    if not pyarrow.types.is_map(array.type):
        return array
    entries = pyarrow.StructArray.from_arrays([array.keys, array.items], ["key", "value"])
    return pyarrow.ListArray.from_arrays(array.offsets, entries)


def _most(lengths: Any) -> int:
    return int(import_module("pyarrow.compute").max(lengths).as_py() or 0)


def _values(array: Any) -> list[object]:
    pyarrow = import_module("pyarrow")
    types, kind = pyarrow.types, array.type
    extension = getattr(kind, "extension_name", None)
    if extension == "arrow.uuid":
        return [None if each is None else Typed("uuid", str(each)) for each in array.to_pylist()]
    if extension is not None:
        return _values(array.storage)
    if types.is_dictionary(kind):
        return _values(array.dictionary_decode())
    if types.is_struct(kind) or types.is_map(kind):
        return [_document(each) for each in array.to_pylist()]
    if _is_list(types, kind):
        return _lists(array)
    if types.is_floating(kind):
        return [None if each is None else _float(each) for each in array.to_pylist()]
    if types.is_duration(kind):
        return [None if each is None else _interval(each) for each in _seconds(pyarrow, array)]
    named = _named(types, kind)
    if named is not None:
        texts = array.cast(pyarrow.string()).to_pylist()
        return [None if each is None else Typed(named, each) for each in texts]
    values: list[object] = array.to_pylist()
    return values


def _named(types: Any, kind: Any) -> ParameterType | None:
    """The type of a value that travels as text."""
    if types.is_decimal(kind):
        return "decimal"
    if types.is_date(kind):
        return "date"
    if types.is_time(kind):
        return "time"
    if types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamptz"
    return None


def _lists(array: Any) -> list[object]:
    if import_module("pyarrow").types.is_nested(array.type.value_type):
        inner = array.type.value_type
        if not _is_list(import_module("pyarrow").types, inner):
            return [_document(each) for each in array.to_pylist()]
    result: list[object] = []
    for index in range(len(array)):
        scalar = array[index]
        result.append(_values(scalar.values) if scalar.is_valid else None)
    return result


def _document(value: object) -> object:
    return None if value is None else json_value(value, "value")


def _float(value: float) -> Typed:
    if isfinite(value):
        return Typed("float", repr(value))
    return Typed("float", "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity")


def _seconds(pyarrow: Any, array: Any) -> list[tuple[int, int] | None]:
    """Durations as (count, units a second)."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[array.type.unit]
    counts = array.cast(pyarrow.int64()).to_pylist()
    return [None if count is None else (count, per_second) for count in counts]


def _interval(duration: tuple[int, int]) -> Typed:
    count, per_second = duration
    whole, fraction = divmod(abs(count), per_second)
    digits = f"{fraction:0{len(str(per_second)) - 1}d}".rstrip("0") if fraction else ""
    sign = "-" if count < 0 else ""
    return Typed("interval", f"PT{sign}{whole}{'.' + digits if digits else ''}S")
