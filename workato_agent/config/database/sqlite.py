"""Profiles of SQLite files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, ValidationInfo

from ..fields import refuse, resolved
from .base import DatabaseProfile, url_instead


def _sqlite_file(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, (str, Path)):
        refuse("expected the path of a SQLite file or ':memory:'")
    return value if value == ":memory:" else resolved(value, info)


class SqliteProfile(DatabaseProfile):
    """A SQLite file, or ``:memory:``, which lives as long as its connection.

    :ivar create: make the file when it is not there; else a missing one is an error of the call.
    """

    model_config = ConfigDict(json_schema_extra=url_instead)

    adapter: Literal["sqlite"] = "sqlite"
    database: Annotated[
        Path | Literal[":memory:"], BeforeValidator(_sqlite_file, json_schema_input_type=str)
    ]
    create: bool = False
