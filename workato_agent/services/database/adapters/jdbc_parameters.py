"""What callers send, set on a JDBC statement with the setter that fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import define, field

from workato_tunnel.problems import Problem

from ..parameters import Number, Typed

_NULL: Final = 0  # java.sql.Types
_VARCHAR: Final = 12
_OTHER: Final = 1111
_INT: Final = range(-(2**31), 2**31)
_LONG: Final = range(-(2**63), 2**63)
_POSTGRESQL_TYPES: Final[Mapping[str, str]] = {
    "string": "text",
    "decimal": "numeric",
    "float": "float8",
    "date": "date",
    "time": "time",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
    "interval": "interval",
    "uuid": "uuid",
    "json": "jsonb",
}
_ZONED_TIME: Final = re.compile(r".*(Z|[+-]\d\d(:?\d\d)*)$")
_SHORT_OFFSET: Final = re.compile(r"([+-]\d\d)(?::?(\d\d))?$")


@define(eq=False)
class Setters:
    """Sets values on the statements of one connection.

    :ivar product: the database's name in lower case.
    :ivar loader: of the driver's own classes.
    """

    _jpype: Any
    connection: Any
    product: str
    loader: Any
    _typed_null: bool = field(default=False, init=False)
    _classes: dict[str, Any] = field(factory=dict, init=False)

    def thd_set(self, statement: Any, values: Sequence[object], row: int | None = None) -> None:
        """Set all values. Raises Problem ``bad_request`` for what the database can't take."""
        for index, value in enumerate(values, 1):
            try:
                self.thd_set_one(statement, index, value)
            except (ValueError, OverflowError) as error:
                where = f"params[{index - 1}]" if row is None else f"params[{row}][{index - 1}]"
                raise _refuse(where, str(error)) from None

    def thd_set_named(self, statement: Any, index: int, value: object, name: str) -> None:
        """Set a procedure's parameter. Raises Problem ``bad_request``."""
        try:
            self.thd_set_one(statement, index, value)
        except (ValueError, OverflowError) as error:
            raise _refuse(f"params.{name or index}", str(error)) from None

    def thd_set_one(self, statement: Any, index: int, value: object) -> None:
        """Set one value. Raises ValueError for one that has no form here."""
        if value is None:
            self._null(statement, index)
        elif isinstance(value, bool):
            statement.setBoolean(index, value)
        elif isinstance(value, int):
            self._integer(statement, index, value)
        elif isinstance(value, str):
            statement.setString(index, self._text(value))
        elif isinstance(value, bytes):
            statement.setBytes(index, self._jpype.JArray(self._jpype.JByte)(value))
        elif isinstance(value, float):
            statement.setDouble(index, value)
        elif isinstance(value, Number):
            statement.setBigDecimal(index, self._decimal(value.text))
        elif isinstance(value, Typed):
            self._typed(statement, index, value)
        elif isinstance(value, list):
            self._set_array(statement, index, value)
        else:
            raise ValueError(f"a {type(value).__name__} has no place in a statement")

    def _null(self, statement: Any, index: int) -> None:
        if not self._typed_null:
            try:
                statement.setNull(index, _NULL)
            except self._jpype.JException:
                self._typed_null = True  # Derby wants a type
            else:
                return
        statement.setNull(index, _VARCHAR)

    def _integer(self, statement: Any, index: int, value: int) -> None:
        if value in _INT:
            statement.setInt(index, value)
        elif value in _LONG:
            statement.setLong(index, value)
        else:
            statement.setBigDecimal(index, self._decimal(str(value)))

    def _text(self, value: str) -> str:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("half of a character (a lone surrogate) is no text") from None
        if "\0" in value and self.product == "postgresql":
            raise ValueError("PostgreSQL's text holds no NUL character")
        return value

    def _decimal(self, text: str) -> Any:
        return self._java("java.math.BigDecimal")(text.lstrip("+"))

    def _typed(self, statement: Any, index: int, value: Typed) -> None:
        text, kind = value.text, value.type
        if self.product == "postgresql":
            self._postgresql(statement, index, kind, text)
        elif kind == "float":
            statement.setDouble(index, float(text))
        elif kind == "decimal":
            if text.strip("+-") in ("Infinity", "NaN"):
                raise ValueError(f"{text} is no decimal of this database")
            statement.setBigDecimal(index, self._decimal(text))
        elif kind == "json" and self.product == "h2":
            data = text.encode()
            statement.setBytes(index, self._jpype.JArray(self._jpype.JByte)(data))
        elif kind in _JAVA:
            self._object(statement, index, kind, text)
        else:
            statement.setString(index, self._text(text))

    def _postgresql(self, statement: Any, index: int, kind: str, text: str) -> None:
        """By the server's own name of the type, and in its own text form."""
        name = _POSTGRESQL_TYPES.get(kind, "text")
        if kind == "time" and _ZONED_TIME.match(text):
            name = "timetz"
        if kind == "string":
            self._text(text)
        value = self._class("org.postgresql.util.PGobject")()
        value.setType(name)
        value.setValue(text)
        statement.setObject(index, value)

    def _object(self, statement: Any, index: int, kind: str, text: str) -> None:
        """As an object of Java's where it is one and the driver knows it; else as text."""
        try:
            if kind == "uuid" and self.product not in ("h2", "hsql database engine"):
                raise ValueError("text does")
            statement.setObject(index, _JAVA[kind](self._java, text))
        except (self._jpype.JException, ValueError):
            statement.setString(index, self._text(text))

    def _set_array(self, statement: Any, index: int, values: Sequence[object]) -> None:
        if self.product == "postgresql" and not _element_types(values):
            # Nothing tells the type of what is empty: it takes that of its context.
            statement.setObject(index, _blank_array(values), _OTHER)
        else:
            statement.setArray(index, self._array(values))

    def _array(self, values: Sequence[object]) -> Any:
        if self.product not in ("postgresql", "h2", "hsql database engine"):
            raise ValueError(
                'no arrays are known of this database: send {"type": "json", "value": […]}'
            )
        name = _element_type(values)
        elements = self._elements(values, name)
        return self.connection.createArrayOf(name, elements)

    def _elements(self, values: Sequence[object], name: str) -> Any:
        items = [self._item(each, name) for each in values]
        return self._jpype.JArray(self._jpype.JObject)(items)

    def _item(self, value: object, name: str) -> Any:
        if isinstance(value, list):
            return self._elements(value, name)
        if value is None:
            return None
        if isinstance(value, bool):
            return self._java("java.lang.Boolean")(value)
        if name in ("int8", "numeric") and isinstance(value, int):
            return self._decimal(str(value)) if name == "numeric" else self._long(value)
        if isinstance(value, bytes):
            return self._jpype.JArray(self._jpype.JByte)(value)
        text = value.text if isinstance(value, Number | Typed) else str(value)
        if name == "numeric" and text.strip("+-") not in ("Infinity", "NaN"):
            return self._decimal(text)
        if name == "float8":
            return self._java("java.lang.Double")(float(text))
        return self._text(text)

    def _long(self, value: int) -> Any:
        return self._java("java.lang.Long")(value)

    def _java(self, name: str) -> Any:
        found = self._classes.get(name)
        if found is None:
            found = self._classes[name] = self._jpype.JClass(name)
        return found

    def _class(self, name: str) -> Any:
        """A class of the driver's own."""
        found = self._classes.get(name)
        if found is None:
            loaded = self._java("java.lang.Class").forName(name, True, self.loader)
            found = self._classes[name] = self._jpype.JClass(loaded)
        return found


def _blank_array(values: Sequence[object]) -> str:
    """PostgreSQL's text of an array that holds nothing but NULLs."""
    inner = [_blank_array(each) if isinstance(each, list) else "NULL" for each in values]
    return f"{{{','.join(inner)}}}"


def _element_type(values: Sequence[object]) -> str:
    """The type of an array's elements, as PostgreSQL names it."""
    names = set(_element_types(values))
    if not names:
        return "text"
    if len(names) == 1:
        return names.pop()
    return "numeric" if names <= {"int8", "numeric"} else "text"


def _element_types(values: Sequence[object]) -> list[str]:
    names: list[str] = []
    for value in values:
        if isinstance(value, list):
            names += _element_types(value)
        elif isinstance(value, bool):
            names.append("bool")
        elif isinstance(value, int):
            names.append("int8" if value in _LONG else "numeric")
        elif isinstance(value, Number):
            names.append("numeric")
        elif isinstance(value, Typed):
            names.append(_POSTGRESQL_TYPES.get(value.type, "text"))
        elif isinstance(value, bytes):
            names.append("bytea")
        elif value is not None:
            names.append("text")
    return names


def _time(java: Callable[[str], Any], text: str) -> Any:
    if _ZONED_TIME.match(text):
        return java("java.time.OffsetTime").parse(_padded(text))
    return java("java.time.LocalTime").parse(text)


def _padded(text: str) -> str:
    """``+02`` and ``+0200`` as ``+02:00``, which java.time wants."""
    return _SHORT_OFFSET.sub(lambda match: f"{match[1]}:{match[2] or '00'}", text)


def _interval(java: Callable[[str], Any], text: str) -> Any:
    day_time = re.fullmatch(r"[+-]?P(?:[+-]?\d+D)?(?:T.*)?", text)
    return java("java.time.Duration" if day_time else "java.time.Period").parse(text)


def _moment(text: str) -> str:
    day, _, clock = text.replace(" ", "T", 1).partition("T")
    return f"{day}T{clock or '00:00'}".replace(" ", "")


_JAVA: Final[Mapping[str, Callable[[Callable[[str], Any], str], Any]]] = {
    "date": lambda java, text: java("java.time.LocalDate").parse(text),
    "time": _time,
    "timestamp": lambda java, text: java("java.time.LocalDateTime").parse(_moment(text)),
    "timestamptz": lambda java, text: java("java.time.OffsetDateTime").parse(
        _padded(_moment(text))
    ),
    "interval": _interval,
    "uuid": lambda java, text: java("java.util.UUID").fromString(text.strip("{}")),
}


def _refuse(where: str, detail: str) -> Problem:
    return Problem("bad_request", f"{where}: {detail}", extra={"field": where})
