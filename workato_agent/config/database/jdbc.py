"""Profiles of databases that only a JDBC driver reaches."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field
from pydantic.functional_serializers import PlainSerializer

from ..fields import Text, refuse
from ..secrets import Secret
from .base import PROPERTY, DatabaseProfile
from .odbc import Properties
from .properties import SENSITIVE

_CLASS: Final = re.compile(r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*)*")


def _url(value: object) -> object:
    if not isinstance(value, str) or not re.match(r"(?i)jdbc:[a-z0-9]", value):
        refuse("expected a jdbc: URL", "as the driver's manual writes it")
    if re.search(r"[\x00-\x1f\x7f]", value):
        refuse("a URL holds no control characters")
    return value


def _without_secrets(url: str) -> str:
    """What comes after the first sign of a password is left out, wherever it ends."""
    signs = (SENSITIVE, re.compile(r"//[^/?;]*@"), re.compile(r":[^:/@]*/[^@]*@"))
    found = [match.start() for sign in signs if (match := sign.search(url))]
    return url[: min(found, default=len(url))]


def _class(value: object) -> object:
    if isinstance(value, str) and _CLASS.fullmatch(value.strip()) is None:
        refuse("expected the name of a Java class", "for example org.h2.Driver")
    return value.strip() if isinstance(value, str) else value


def _further_keys(schema: dict[str, Any]) -> None:
    """In the JSON Schema: any other key is the driver's own."""
    schema["properties"]["user"] = {"type": "string", "description": "the same as username"}
    schema["required"] = ["url", "driverClass"]
    schema["additionalProperties"] = {**PROPERTY, "description": "the JDBC driver's property"}


class JdbcProfile(DatabaseProfile):
    """Any database with a JDBC driver.

    :ivar url: may hold a password, so it shows nowhere.
    :ivar properties: the driver's: in the file, any other key of the profile.
    """

    model_config = ConfigDict(json_schema_extra=_further_keys)

    adapter: Literal["jdbc"] = "jdbc"
    url: Annotated[
        str,
        BeforeValidator(_url, json_schema_input_type=str),
        PlainSerializer(_without_secrets, return_type=str),
    ] = Field(repr=False)
    driver_class: Annotated[Text, BeforeValidator(_class, json_schema_input_type=str)] = Field(
        validation_alias=AliasChoices("driverClass", "driver_class")
    )
    username: Text | None = Field(None, validation_alias=AliasChoices("username", "user"))
    password: Secret | None = None
    properties: Properties = Field(default_factory=dict, repr=False)
