"""The columns of an ODBC statement as the driver describes them, beyond what pyodbc tells.

pyodbc knows the Python class of a column's values; the SQL type and the database's own name for it
come from the driver manager itself (``SQLColAttribute``), on pyodbc's statement handle.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from attrs import frozen

_CONCISE_TYPE: Final = 2
_TYPE_NAME: Final = 14
_BUFFER: Final = 512
_BY_CLASS: Final = {
    "bool": -7, "int": -5, "float": 8, "Decimal": 3, "str": -9, "bytes": -3, "bytearray": -3,
    "date": 91, "time": 92, "datetime": 93, "UUID": -11,
}  # fmt: skip


@frozen
class OdbcColumn:
    """A column of a result.

    :ivar sql_type: ODBC's number of the type.
    :ivar type_name: the database's name for it, in lower case.
    """

    name: str
    sql_type: int
    type_name: str
    size: int
    scale: int
    nullable: bool


def thd_columns(cursor: Any) -> Sequence[OdbcColumn]:
    """What the statement that has been run brings; empty for none."""
    description = cursor.description
    if description is None:
        return ()
    manager = _manager()
    handle = cursor.hstmt
    columns = []
    for index, (name, kind, _, size, _, scale, nullable) in enumerate(description, 1):
        sql_type = _BY_CLASS.get(kind.__name__, -9)
        type_name = ""
        if manager is not None and handle is not None:
            sql_type = _thd_number(manager, handle, index, sql_type)
            type_name = _thd_text(manager, handle, index)
        columns.append(
            OdbcColumn(
                # sqliteodbc tells the length in bytes, and what lies behind the name comes with it.
                name.partition("\0")[0],
                sql_type,
                type_name.lower(),
                size or 0,
                scale or 0,
                bool(nullable),
            )
        )
    return columns


@cache
def _manager() -> Any:
    """The driver manager's library, which pyodbc has loaded already."""
    if sys.platform == "win32":
        return ctypes.WinDLL("odbc32")
    name = ctypes.util.find_library("odbc") or "libodbc.so.2"
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _thd_number(manager: Any, handle: Any, index: int, default: int) -> int:
    number = ctypes.c_ssize_t(0)
    outcome = manager.SQLColAttributeW(
        handle, ctypes.c_ushort(index), ctypes.c_ushort(_CONCISE_TYPE), None, ctypes.c_short(0),
        None, ctypes.byref(number),
    )  # fmt: skip
    # Some drivers write four bytes only, and nothing says which.
    return ctypes.c_short(number.value & 0xFFFF).value if outcome in (0, 1) else default


def _thd_text(manager: Any, handle: Any, index: int) -> str:
    buffer = ctypes.create_string_buffer(_BUFFER)
    length = ctypes.c_short(0)
    outcome = manager.SQLColAttributeW(
        handle, ctypes.c_ushort(index), ctypes.c_ushort(_TYPE_NAME), buffer,
        ctypes.c_short(_BUFFER - 2), ctypes.byref(length), None,
    )  # fmt: skip
    if outcome not in (0, 1):
        return ""
    text = buffer.raw[: max(0, min(length.value, _BUFFER))].decode("utf-16-le", "replace")
    return text.partition("\0")[0]
