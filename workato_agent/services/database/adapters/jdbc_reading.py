"""Rows of a JDBC result, a block at a time and in one step over the border to Java.

To cross that border costs about a microsecond, so a value at a time makes 50,000 rows of ten
columns a second at most. The loop over rows and columns is therefore put together from Java's own
method handles (``java.lang.invoke``) and runs, compiled, in Java: it appends the text of every
value to one string, which Python splits. That is several times as fast, and the agent needs no
Java code of its own.

Values are parted by a word that nobody outside this process knows, and NULL is another.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, Literal

from attrs import define, field

SEPARATOR: Final = "\x1f" + secrets.token_hex(8)
NULL: Final = "\x1e" + secrets.token_hex(8)

Reading = Literal[
    "text", "object", "decimal", "bytes", "date", "time", "timetz", "timestamp", "timestamptz",
    "duration", "period", "array",
]  # fmt: skip
"""How Java is asked for a column's values.

``text`` is the driver's own ``getString``, ``object`` what its object says of itself, the temporal
ones ISO 8601; ``bytes`` and an ``array`` come as objects, apart from the others.
"""
APART: Final = frozenset(("bytes", "array"))
_MOST_LOOPS: Final = 64
_MOST_FIELDS: Final = 16 * 1024
_SLICE: Final = 1024 * 1024
_HANDLES: Final = "java.lang.invoke.MethodHandles"


@define(eq=False)
class BlockReader:
    """Makes and keeps the loops. One for the process; any thread may use it."""

    _jpype: Any
    _loops: dict[tuple[Reading, ...], Any] = field(factory=dict, init=False)
    _fields: dict[tuple[int, Reading], Any] = field(factory=dict, init=False)

    def thd_read(
        self, result: Any, readings: tuple[Reading, ...], rows: int, size: int
    ) -> tuple[list[list[object]], int]:
        """At most ``rows`` rows and about ``size`` characters; columns of text, None and arrays.

        No columns after the last row. The number is that of the characters of all values.
        Raises the driver's exceptions.
        """
        jpype = self._jpype
        loop = self._loops.get(readings)
        if loop is None:
            if len(self._loops) >= _MOST_LOOPS:
                self._loops.clear()
            loop = self._loops[readings] = self._loop(readings)
        text = jpype.JClass("java.lang.StringBuilder")()
        apart = jpype.JClass("java.util.ArrayList")()
        integer = jpype.JClass("java.lang.Integer")
        arguments = jpype.JArray(jpype.JObject)([text, result, apart, integer(rows), integer(size)])
        count = int(loop.invokeWithArguments(arguments))
        if not count:
            return [], 0
        whole = self._thd_python(text)
        values: list[Any] = whole.split(SEPARATOR)
        width = len(readings)
        if len(values) != count * width + 1:
            raise RuntimeError(f"{count} rows of {width} columns came as {len(values)} values")
        columns: list[list[object]] = [values[index:-1:width] for index in range(width)]
        for index, column in enumerate(columns):
            if NULL in column:
                columns[index] = [None if value == NULL else value for value in column]
        objects = [index for index, reading in enumerate(readings) if reading in APART]
        for number, index in enumerate(objects):
            found = [apart.get(row * len(objects) + number) for row in range(count)]
            if readings[index] == "bytes":
                found = [None if value is None else bytes(value) for value in found]
            columns[index] = found
        return columns, len(whole)

    def _thd_python(self, text: Any) -> str:
        """A Java text, in slices: to encode it takes several times its size of Java's memory."""
        encoding = self._jpype.JClass("java.nio.charset.StandardCharsets").UTF_8
        length = int(text.length())
        pieces = []
        at = 0
        while at < length:
            end = min(at + _SLICE, length)
            if end < length and 0xD800 <= int(text.codePointBefore(end)) < 0xDC00:
                end -= 1  # not between the two halves of a character
            pieces.append(bytes(text.substring(at, end).getBytes(encoding)))
            at = end
        return b"".join(pieces).decode()

    def _loop(self, readings: tuple[Reading, ...]) -> Any:
        """``(StringBuilder, ResultSet, List, int rows, int size) -> int`` rows read."""
        java = _java(self._jpype)
        fields = [self._field(index, each) for index, each in enumerate(readings, 1)]
        while len(fields) > 1:  # in pairs: a chain of a thousand would be as deep
            fields = [
                java.handles.foldArguments(fields[at + 1], fields[at])
                if at + 1 < len(fields)
                else fields[at]
                for at in range(0, len(fields), 2)
            ]
        row = java.dropping(java.dropping(fields[0], 3, java.int, java.int), 0, java.int)
        one_more = java.with_last(
            java.static("java.lang.Math", "addExact", java.int, java.int, java.int), java.boxed(1)
        )
        state = (java.builder, java.result, java.list, java.int, java.int)
        body = java.handles.foldArguments(java.dropping(one_more, 1, *state), row)
        start = java.dropping(java.handles.constant(java.int, java.boxed(0)), 0, *state)
        more = java.dropping(
            java.virtual(java.result, "next", java.boolean), 0, java.int, java.builder
        )
        more = java.dropping(more, 3, java.list, java.int, java.int)
        length = java.virtual(java.builder, "length", java.int)
        small = java.handles.filterArguments(java.less(), 0, java.array([length]))
        test = java.all_of(
            java.permuted(java.less(), (java.int, *state), java.boolean, 0, 4),
            java.permuted(small, (java.int, *state), java.boolean, 1, 5),
            more,
            state=(java.int, *state),
        )
        return java.handles.whileLoop(start, test, body)

    def _field(self, index: int, reading: Reading) -> Any:
        """``(StringBuilder, ResultSet, List) -> void``: append one value of the current row."""
        known = self._fields.get((index, reading))
        if known is not None:
            return known
        java = _java(self._jpype)
        append = java.virtual(java.builder, "append", java.builder, java.string)
        ending = java.with_last(append, SEPARATOR)
        if reading in APART:
            add = java.virtual(java.list, "add", java.boolean, java.object)
            value = java.bytes(index) if reading == "bytes" else java.elements(index)
            store = java.handles.filterArguments(add, 1, java.array([value]))
            store = store.asType(java.type(java.void, java.list, java.result))
            store = java.permuted(store, (java.builder, java.result, java.list), java.void, 2, 1)
            ending = java.dropping(ending, 1, java.result, java.list)
            step = java.handles.foldArguments(ending, store)
        else:
            step = java.handles.filterArguments(append, 1, java.array([java.value(reading, index)]))
            step = java.dropping(java.handles.filterReturnValue(step, ending), 2, java.list)
        step = step.asType(java.type(java.void, java.builder, java.result, java.list))
        if len(self._fields) >= _MOST_FIELDS:
            self._fields.clear()
        self._fields[index, reading] = step
        return step


class _Java:
    """Java's words for putting method handles together."""

    def __init__(self, jpype: Any) -> None:
        self._jpype = jpype
        self.handles = jpype.JClass(_HANDLES)
        self._lookup = self.handles.publicLookup()
        self.int = jpype.JClass("java.lang.Integer").TYPE
        self.boolean = jpype.JClass("java.lang.Boolean").TYPE
        self.void = jpype.JClass("java.lang.Void").TYPE
        self.object = self.cls("java.lang.Object")
        self.string = self.cls("java.lang.String")
        self.builder = self.cls("java.lang.StringBuilder")
        self.result = self.cls("java.sql.ResultSet")
        self.list = self.cls("java.util.List")

    def cls(self, name: str) -> Any:
        """A class as an object."""
        return self._jpype.JClass(name).class_

    def boxed(self, value: int) -> Any:
        return self._jpype.JClass("java.lang.Integer")(value)

    def array(self, handles: Sequence[Any]) -> Any:
        return self._jpype.JArray(self._jpype.JClass("java.lang.invoke.MethodHandle"))(handles)

    def type(self, result: Any, *arguments: Any) -> Any:
        kind = self._jpype.JClass("java.lang.invoke.MethodType")
        classes = self._jpype.JArray(self._jpype.JClass("java.lang.Class"))(arguments)
        return kind.methodType(result, classes)

    def virtual(self, owner: Any, name: str, result: Any, *arguments: Any) -> Any:
        return self._lookup.findVirtual(owner, name, self.type(result, *arguments))

    def static(self, owner: str, name: str, result: Any, *arguments: Any) -> Any:
        return self._lookup.findStatic(self.cls(owner), name, self.type(result, *arguments))

    def dropping(self, handle: Any, at: int, *classes: Any) -> Any:
        """The same with further arguments that are not used."""
        each = self._jpype.JArray(self._jpype.JClass("java.lang.Class"))(classes)
        return self.handles.dropArguments(handle, at, each)

    def permuted(self, handle: Any, arguments: Sequence[Any], result: Any, *order: int) -> Any:
        """The handle given the arguments ``order`` out of ``arguments``."""
        places = self._jpype.JArray(self._jpype.JInt)(order)
        return self.handles.permuteArguments(handle, self.type(result, *arguments), places)

    def with_last(self, handle: Any, value: object) -> Any:
        """The handle with its last argument given."""
        values = self._jpype.JArray(self._jpype.JObject)([value])
        return self.handles.insertArguments(handle, handle.type().parameterCount() - 1, values)

    def less(self) -> Any:
        """``(int, int) -> boolean``: whether the first is less."""
        compare = self.static("java.lang.Integer", "compare", self.int, self.int, self.int)
        equals = self.virtual(self.object, "equals", self.boolean, self.object)
        negative = equals.bindTo(self.boxed(-1)).asType(self.type(self.boolean, self.int))
        return self.handles.filterReturnValue(compare, negative)

    def all_of(self, *tests: Any, state: Sequence[Any]) -> Any:
        """Whether all tests hold, asked in their order."""
        no = self.handles.constant(self.boolean, self._jpype.JClass("java.lang.Boolean").FALSE)
        no = self.dropping(no, 0, *state)
        result = tests[-1]
        for test in reversed(tests[:-1]):
            result = self.handles.guardWithTest(test, result, no)
        return result

    def or_null(self, handle: Any) -> Any:
        """``(T) -> R`` that leaves null alone."""
        kind = handle.type()
        taken = kind.parameterType(0)
        empty = self.static("java.util.Objects", "isNull", self.boolean, self.object)
        empty = empty.asType(self.type(self.boolean, taken))
        nothing = self.dropping(self.handles.constant(kind.returnType(), None), 0, taken)
        return self.handles.guardWithTest(empty, nothing, handle)

    def get(self, name: str, result: str, index: int, *more: Any) -> Any:
        """``(ResultSet) -> result``: a getter of one column."""
        classes = [self.cls("java.lang.Class") for _ in more]
        getter = self.virtual(self.result, name, self.cls(result), self.int, *classes)
        return self._at(getter, index, *more)

    def value(self, reading: Reading, index: int) -> Any:
        """``(ResultSet) -> String``: one column's value as text."""
        to_text = self.static(
            "java.util.Objects", "toString", self.string, self.object, self.string
        )
        to_text = self.with_last(to_text, NULL)
        return self.handles.filterReturnValue(
            self._object(reading, index).asType(self.type(self.object, self.result)), to_text
        )

    def _object(self, reading: Reading, index: int) -> Any:
        if reading == "text":
            return self.get("getString", "java.lang.String", index)
        if reading == "object":
            return self.get("getObject", "java.lang.Object", index)
        if reading == "decimal":
            return self._decimal(index)
        name, formatter = _TEMPORAL[reading]
        found = self.get("getObject", "java.lang.Object", index, self.cls(name))
        if formatter is not None:
            pattern = getattr(self._jpype.JClass("java.time.format.DateTimeFormatter"), formatter)
            accessor = self.cls("java.time.temporal.TemporalAccessor")
            form = self.virtual(
                self.cls("java.time.format.DateTimeFormatter"), "format", self.string, accessor
            )
            form = form.bindTo(pattern).asType(self.type(self.object, self.object))
            found = self.handles.filterReturnValue(found, self.or_null(form))
        # Not every driver knows java.time, and not every value has its place there.
        return self._or_text(found, index)

    def _or_text(self, handle: Any, index: int) -> Any:
        """The handle; the driver's own text where it throws."""
        throwable = self.cls("java.lang.Throwable")
        text = self.get("getString", "java.lang.String", index)
        text = self.dropping(text.asType(self.type(self.object, self.result)), 0, throwable)
        return self.handles.catchException(handle, throwable, text)

    def bytes(self, index: int) -> Any:
        """``(ResultSet) -> Object``: a column's bytes."""
        byte_array = self._jpype.JArray(self._jpype.JByte).class_
        getter = self.virtual(self.result, "getBytes", byte_array, self.int)
        return self._at(getter, index).asType(self.type(self.object, self.result))

    def elements(self, index: int) -> Any:
        """``(ResultSet) -> Object``: the Java array of an SQL array."""
        array = self.cls("java.sql.Array")
        return self.handles.filterReturnValue(
            self.get("getArray", "java.sql.Array", index),
            self.or_null(self.virtual(array, "getArray", self.object)),
        )

    def _at(self, getter: Any, index: int, *more: Any) -> Any:
        """A getter with its column given."""
        values = self._jpype.JArray(self._jpype.JObject)([self.boxed(index), *more])
        return self.handles.insertArguments(getter, 1, values)

    def _decimal(self, index: int) -> Any:
        kind = self.cls("java.math.BigDecimal")
        plain = self.virtual(kind, "toPlainString", self.string)
        plain = plain.asType(self.type(self.object, self.object))
        is_one = self.virtual(self.cls("java.lang.Class"), "isInstance", self.boolean, self.object)
        same = self.handles.identity(self.object)
        chosen = self.handles.guardWithTest(is_one.bindTo(kind), plain, same)
        found = self.get("getObject", "java.lang.Object", index)
        return self._or_text(self.handles.filterReturnValue(found, chosen), index)


_TEMPORAL: Final[dict[str, tuple[str, str | None]]] = {
    "date": ("java.time.LocalDate", "ISO_LOCAL_DATE"),
    "time": ("java.time.LocalTime", "ISO_LOCAL_TIME"),
    "timetz": ("java.time.OffsetTime", "ISO_OFFSET_TIME"),
    "timestamp": ("java.time.LocalDateTime", "ISO_LOCAL_DATE_TIME"),
    "timestamptz": ("java.time.OffsetDateTime", "ISO_OFFSET_DATE_TIME"),
    "duration": ("java.time.Duration", None),
    "period": ("java.time.Period", None),
}


@cache
def _java(jpype: Any) -> _Java:
    return _Java(jpype)


@cache
def block_reader(jpype: Any) -> BlockReader:
    """The process' reader."""
    return BlockReader(jpype)
