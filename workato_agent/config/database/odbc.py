"""Profiles of ODBC data sources, and the syntax of ODBC's connection strings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, ConfigDict, Field, field_validator, model_validator
from pydantic.functional_serializers import PlainSerializer

from ..fields import Text, refuse
from ..secrets import Secret
from .base import PROPERTY, DatabaseProfile
from .properties import SENSITIVE

USER_KEYS: Final = frozenset({"uid", "user", "username"})
PASSWORD_KEYS: Final = frozenset({"pwd", "password"})
_PAIR: Final = re.compile(
    r"\s*(?P<key>[^=;{}\x00]+?)\s*=\s*(?:\{(?P<braced>(?:[^}]|\}\})*)\}\s*|(?P<plain>[^;{][^;]*)|)(?:;|$)"
)


def _covered(properties: Mapping[str, str]) -> dict[str, str]:
    return {
        name: "(secret)" if SENSITIVE.search(name) else value for name, value in properties.items()
    }


Properties = Annotated[Mapping[str, str], PlainSerializer(_covered, return_type=dict[str, str])]
"""A driver's own settings; those that speak of secrets are covered when they are dumped."""


def connection_keys(text: str) -> dict[str, str]:
    """The keys of a connection string: ``Driver={FreeTDS};Server=db;PWD={a;b}}c}``.

    A value in braces may hold anything, with its own ``}`` doubled. Of a key that is given twice
    the first counts, as it does for ODBC. Raises ValueError, which quotes nothing.
    """
    keys: dict[str, str] = {}
    given: set[str] = set()
    position = 0
    while position < len(text):
        if not text[position:].strip(" \t\r\n;"):
            break
        match = _PAIR.match(text, position)
        if match is None:
            raise ValueError(f"after {len(keys)} keys it goes on with something that is none")
        braced, key = match["braced"], match["key"]
        if key.lower() not in given:
            given.add(key.lower())
            keys[key] = (
                (match["plain"] or "").strip() if braced is None else braced.replace("}}", "}")
            )
        position = match.end()
    return keys


def _further_keys(schema: dict[str, Any]) -> None:
    """In the JSON Schema: any other key is the driver's own."""
    schema["properties"]["user"] = {"type": "string", "description": "the same as username"}
    schema["required"] = ["adapter"]
    schema["anyOf"] = [{"required": [key]} for key in ("connection_string", "driver", "dsn")]
    schema["additionalProperties"] = {**PROPERTY, "description": "the ODBC driver's own key"}


class OdbcProfile(DatabaseProfile):
    """Any ODBC data source, by connection string, driver or data source name.

    :ivar connection_string: as ODBC has it; the profile's own keys win over those in it.
    :ivar driver: name of an installed driver, or the path of its library.
    :ivar dsn: name of a data source in odbc.ini.
    :ivar properties: further keys of the connection string: in the file, any other key of the
        profile.
    """

    model_config = ConfigDict(json_schema_extra=_further_keys)

    adapter: Literal["odbc"] = "odbc"
    connection_string: Secret | None = None
    driver: Text | None = None
    dsn: Text | None = None
    username: Text | None = Field(None, validation_alias=AliasChoices("username", "user"))
    password: Secret | None = None
    properties: Properties = Field(default_factory=dict, repr=False)

    @field_validator("connection_string")
    @classmethod
    def _syntax(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            try:
                connection_keys(value.reveal())
            except ValueError as error:
                refuse(
                    f"not a connection string: {error}",
                    "expected KEY=value;KEY={value with ; or =};…",
                )
        return value

    @field_validator("properties")
    @classmethod
    def _clean(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name, text in value.items():
            if re.search(r"[=;{}\[\]()?*!@\x00]", name) or "\x00" in text:
                refuse("not a key of a connection string", at=name)
        return value

    @model_validator(mode="after")
    def _names_a_driver(self) -> OdbcProfile:
        keys = {key.lower() for key in self.keys()}
        if not keys & {"driver", "dsn", "filedsn"}:
            refuse(
                "names no driver and no data source",
                "add driver: NAME (odbcinst -q -d lists them), dsn: NAME, or a connection_string",
            )
        return self

    def keys(self) -> dict[str, str]:
        """The connection string's keys without the login."""
        given = self._from_string()
        stated = {**self.properties}
        if self.driver is not None:
            stated["Driver"] = self.driver
        if self.dsn is not None:
            stated["DSN"] = self.dsn
        own = {key.lower() for key in stated}
        kept = {key: value for key, value in given.items() if key.lower() not in own}
        # The driver comes first: driver managers look no further than that to choose it.
        keys = {**kept, **stated}
        login = USER_KEYS | PASSWORD_KEYS
        return {
            key: keys[key]
            for key in sorted(keys, key=lambda key: key.lower() not in ("driver", "dsn"))
            if key.lower() not in login
        }

    def login(self) -> tuple[str | None, str | None]:
        """User name and password: the profile's own, or those in the connection string."""
        given = {key.lower(): value for key, value in self._from_string().items()}
        user = self.username
        password = None if self.password is None else self.password.reveal()
        if user is None:
            user = next((given[key] for key in sorted(USER_KEYS) if key in given), None)
        if password is None:
            password = next((given[key] for key in sorted(PASSWORD_KEYS) if key in given), None)
        return user, password

    def _from_string(self) -> dict[str, str]:
        if self.connection_string is None:
            return {}
        return connection_keys(self.connection_string.reveal())
