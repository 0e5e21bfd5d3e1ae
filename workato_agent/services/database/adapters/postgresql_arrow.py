"""Rows of ``COPY … (FORMAT csv)`` as Arrow, parsed by pyarrow instead of Python.

The schema is the writer's own. Where pyarrow can't parse a block, its rows go the way of fetched
rows, value by value, and end in the same values or the same error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

from ..results import Column
from ..results_arrow import arrow_schema, encode_rows, thd_load_pyarrow
from .postgresql_types import PgType, text_converters

_WHOLE: Final = 2**31 - 1
"""Bytes that are parsed as one piece: all there are."""
ARROW_BLOCK: Final = 512 * 1024
"""pyarrow has 0.1 ms to do for each piece before it parses the first byte."""
ARROW_OPTIONS: Final = "FORMAT csv, ENCODING 'UTF8'"


def can_be_arrow(kinds: Sequence[PgType]) -> bool:
    """Arrays are written otherwise in Arrow than in PostgreSQL's text."""
    return bool(kinds) and not any(kind.element is not None for kind in kinds)


def thd_arrow_transform(
    columns: Sequence[Column], kinds: Sequence[PgType]
) -> Callable[[list[bytes], bool], bytes]:
    """What makes rows, each with its newline, messages of an Arrow stream."""
    pa = thd_load_pyarrow()
    csv = import_module("pyarrow.csv")
    schema = arrow_schema(columns)
    names = [f"c{index}" for index in range(len(columns))]
    # What PostgreSQL writes in hexadecimal is converted afterwards.
    parsed = [pa.string() if kind.kind == "bytes" else each.type
              for kind, each in zip(kinds, schema, strict=True)]  # fmt: skip
    data = [index for index, kind in enumerate(kinds) if kind.kind == "bytes"]
    convert = text_converters(kinds)

    read = csv.ReadOptions(use_threads=True, block_size=_WHOLE, column_names=names)
    parse = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)

    def conversion(types: Sequence[Any]) -> Any:
        return csv.ConvertOptions(
            column_types=dict(zip(names, types, strict=True)),
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )

    typed, plain = conversion(parsed), conversion([pa.string()] * len(names))

    def change(rows: list[bytes], first: bool) -> bytes:
        text = b"".join(rows)
        try:
            table = csv.read_csv(pa.py_buffer(text), read, parse, typed)
        except pa.ArrowInvalid:
            texts = csv.read_csv(pa.py_buffer(text), read, parse, plain)
            values = zip(*(column.to_pylist() for column in texts.columns), strict=True)
            return encode_rows(schema, columns, convert(list(values)))
        parts = []
        for batch in table.to_batches():
            arrays = batch.columns
            for index in data:
                arrays[index] = pa.array(_bytes(arrays[index].to_pylist()), pa.binary())
            message = pa.RecordBatch.from_arrays(arrays, schema=schema).serialize()
            parts.append(message.to_pybytes())
        return b"".join(parts)

    return change


def _bytes(texts: Sequence[str | None]) -> list[bytes | None]:
    return [None if text is None else bytes.fromhex(text[2:]) for text in texts]
