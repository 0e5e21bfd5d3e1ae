"""What a profile's policy may say, parsed into values that the dispatcher and the services read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal

from attrs import frozen
from pydantic import BeforeValidator, Field, PlainValidator, field_validator
from pydantic.functional_serializers import PlainSerializer

from .errors import suggestion
from .fields import Model, Size, Text, refuse
from .pathpatterns import PathPattern
from .tablepatterns import TablePattern

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MINUTES: Final = 24 * 60


@frozen
class Window:
    """A weekly time window in local time.

    :ivar days: days on which it opens, Monday is 0.
    :ivar start: minute of the day on which it opens.
    :ivar end: minute at which it has closed; not above ``start`` means on the next day.
    """

    text: str
    days: frozenset[int]
    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Window:
        """``Mon-Fri 08:00-18:00``, ``Sat,Sun``, ``22:00-06:00``. Raises ValueError."""
        words = text.lower().split()
        if not 1 <= len(words) <= 2:
            raise ValueError
        hours = words.pop() if ":" in words[-1] else "00:00-24:00"
        match = re.fullmatch(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)", hours)
        if match is None or len(words) > 1:
            raise ValueError
        start_hour, start_minute, end_hour, end_minute = map(int, match.groups())
        start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
        if start >= _MINUTES or end > _MINUTES or max(start_minute, end_minute) > 59:
            raise ValueError
        return cls(text, _days(words[0]) if words else frozenset(range(7)), start, end)

    def contains(self, now: datetime) -> bool:
        """Whether the window is open. ``now`` is in the agent's local time."""
        minute, today = now.hour * 60 + now.minute, now.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= minute < self.end
        if minute >= self.start:
            return today in self.days
        return minute < self.end and (today - 1) % 7 in self.days


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        start = DAYS.index(first[:3]) if _is_day(first) else -1
        end = DAYS.index(last[:3]) if _is_day(last) else -1
        if start < 0 or (dash and end < 0):
            raise ValueError
        span = (end - start) % 7 if dash else 0
        days.update((start + step) % 7 for step in range(span + 1))
    return frozenset(days)


def _is_day(word: str) -> bool:
    full = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    return word in DAYS or word in full


def _window(value: object) -> object:
    if isinstance(value, str):
        try:
            return Window.parse(value)
        except ValueError:
            refuse("expected a weekly window", "for example 'Mon-Fri 08:00-18:00'")
    return value if isinstance(value, Window) else refuse("expected text")


def _path_pattern(value: object) -> object:
    if isinstance(value, str):
        try:
            return PathPattern.parse(value)
        except ValueError:
            refuse("expected a path pattern that begins with /", "for example /api/**")
    return value if isinstance(value, PathPattern) else refuse("expected text")


def _table_pattern(value: object) -> object:
    if isinstance(value, str):
        try:
            return TablePattern.parse(value)
        except ValueError:
            refuse(
                "expected a pattern of table names, in one to three parts",
                "for example sales.*, orders or '\"Stock\"'",
            )
    return value if isinstance(value, TablePattern) else refuse("expected text")


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


_as_text = PlainSerializer(lambda value: value.text, return_type=str)
_sorted = PlainSerializer(sorted, return_type=list[str])

WindowField = Annotated[Window, PlainValidator(_window, json_schema_input_type=str), _as_text]
PathPatternField = Annotated[
    PathPattern, PlainValidator(_path_pattern, json_schema_input_type=str), _as_text
]
TablePatternField = Annotated[
    TablePattern, PlainValidator(_table_pattern, json_schema_input_type=str), _as_text
]
Method = Annotated[str, BeforeValidator(_upper), Field(pattern=r"^[A-Z][A-Z0-9_-]{0,31}$")]


class Policy(Model):
    """What a customer allows of a profile. A rule that is left out (None) allows everything.

    ``operations`` and ``windows`` hold for every service and are enforced before it is called, as
    are ``methods`` and ``paths`` of http; the rest is the service's to enforce.
    """

    known_operations: ClassVar[tuple[str, ...]] = ()

    operations: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    windows: Annotated[tuple[WindowField, ...], Field(min_length=1)] | None = None

    @field_validator("operations")
    @classmethod
    def _known(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for index, operation in enumerate(value or ()):
            if cls.known_operations and operation not in cls.known_operations:
                refuse(
                    f"there is no operation '{operation}'",
                    suggestion(operation, cls.known_operations)
                    or f"expected some of {', '.join(cls.known_operations)}",
                    at=index,
                )
        return value


SqlDialect = Literal["postgresql", "redshift", "mysql", "sqlite", "sqlserver", "oracle"]
"""The databases whose statements can be held to ``tables``."""


class DatabasePolicy(Policy):
    """Policy of a database profile.

    :ivar adhoc: whether callers may send statements of their own; else named queries only.
    :ivar tables: patterns of the tables that such statements may touch.
    :ivar dialect: whose SQL they are written in, for ``tables`` of an odbc or jdbc profile.
    :ivar max_rows: the most rows of one result, ``max_bytes``: the most bytes of them.
    """

    known_operations: ClassVar[tuple[str, ...]] = (
        "query",
        "execute",
        "batch",
        "call",
        "load",
        "schema",
        "queries",
        "sessions",
    )
    read_only: bool = False
    adhoc: bool = True
    tables: Annotated[tuple[TablePatternField, ...], Field(min_length=1)] | None = None
    dialect: SqlDialect | None = None
    max_bytes: Size | None = None
    max_rows: Annotated[int, Field(ge=1)] | None = None


class FilesPolicy(Policy):
    """Policy of a folder.

    :ivar patterns: globs of the files that may be touched.
    :ivar max_bytes: the largest body that one call may read or write.
    """

    known_operations: ClassVar[tuple[str, ...]] = (
        "list",
        "stat",
        "read",
        "write",
        "delete",
        "append",
        "move",
        "copy",
        "folders",
        "csv",
        "watch",
    )

    max_bytes: Size | None = None
    patterns: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None


class HttpPolicy(Policy):
    """Policy of an HTTP application. Its operations are the methods in lower case.

    ``methods`` and ``paths`` may stand in the profile as well.
    """

    later: ClassVar[Mapping[str, str]] = {
        "max_bytes": "this version can't limit the bodies of http: limit methods and paths",
    }

    methods: Annotated[frozenset[Method], Field(min_length=1), _sorted] | None = None
    paths: Annotated[tuple[PathPatternField, ...], Field(min_length=1)] | None = None
