"""Profiles of the ``database`` section."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .errors import suggestion
from .fields import ConfigPath, Model, Port, Seconds, Text, refuse, resolved
from .policies import DatabasePolicy
from .profiles import ProfileConfig
from .secrets import Secret

LATER_ADAPTERS: Final = ("sqlserver", "oracle", "mysql", "redshift", "odbc", "jdbc")
_DRIVERS: Final = {"mariadb": "mysql"}
_EXAMPLE: Final = "for example jdbc:postgresql://db.intra:5432/sales or jdbc:sqlite:/srv/sales.db"

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


class Pool(Model):
    """A profile's connections.

    :ivar idle: seconds until an unused connection above ``min`` is closed.
    :ivar wait: seconds that a call waits for a free one before it is refused as overloaded.
    """

    min: Annotated[int, Field(ge=0)] = 0
    max: Annotated[int, Field(ge=1, le=1000)] = 5
    idle: Seconds = 60
    wait: Seconds = 10

    @model_validator(mode="after")
    def _order(self) -> Pool:
        if self.min > self.max:
            refuse(f"min ({self.min}) is above max ({self.max})")
        return self


class DatabaseProfile(ProfileConfig):
    """What profiles of every adapter have.

    :ivar timeout: seconds to connect.
    :ivar statement_timeout: seconds that a statement may run; 0 for as long as the call's deadline.
    :ivar debug: statements, never their parameters, go to the log.
    """

    service: ClassVar[str] = "database"
    later: ClassVar[Mapping[str, str]] = {
        "queries": "this version has no named queries: callers send the statement itself",
    }

    adapter: str
    pool: Pool = Pool()
    timeout: Seconds = 30
    statement_timeout: Seconds = 0
    debug: bool = False
    policy: DatabasePolicy = DatabasePolicy()

    @classmethod
    def variant(cls, data: dict[str, object]) -> tuple[type[ProfileConfig], dict[str, object]]:
        """The adapter's model; a jdbc: URL is taken apart into its keys."""
        if (url := data.get("url")) is not None:
            data = _from_jdbc(data, url)
        adapter = data.get("adapter")
        if adapter is None:
            refuse("missing: expected an adapter or a jdbc: url", _served(), at="adapter")
        name = adapter.lower() if isinstance(adapter, str) else ""
        if name in LATER_ADAPTERS:
            _not_served(name, "adapter")
        if name not in ADAPTERS:
            known = (*ADAPTERS, *LATER_ADAPTERS)
            hint = suggestion(name, known) or _served()
            refuse(f"expected one of {', '.join(known)}", hint, at="adapter")
        return ADAPTERS[name], {**data, "adapter": name}

    @classmethod
    def variants(cls) -> tuple[type[ProfileConfig], ...]:
        """One model for each adapter."""
        return tuple(ADAPTERS.values())


def _url_instead(schema: dict[str, Any]) -> None:
    """In the JSON Schema: a jdbc: URL stands for the keys that are required otherwise."""
    required = [name for name in schema.pop("required", ()) if name != "username"]
    users = [
        {"required": [name]} for name in ("username", "user") if "username" in schema["properties"]
    ]
    own: dict[str, Any] = {"required": required}
    if users:
        own["anyOf"] = users
        schema["properties"]["user"] = {"type": "string", "description": "the same as username"}
    schema["properties"]["url"] = {"type": "string", "pattern": "^jdbc:"}
    schema["properties"]["driverClass"] = {"type": "string"}
    schema["anyOf"] = [own, {"required": ["url"]}]


def _sqlite_file(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, (str, Path)):
        refuse("expected the path of a SQLite file or ':memory:'")
    return value if value == ":memory:" else resolved(value, info)


class SqliteProfile(DatabaseProfile):
    """A SQLite file, or ``:memory:``, which lives as long as its connection.

    :ivar create: make the file when it is not there; else a missing one is an error of the call.
    """

    model_config = ConfigDict(json_schema_extra=_url_instead)

    adapter: Literal["sqlite"] = "sqlite"
    database: Annotated[
        Path | Literal[":memory:"], BeforeValidator(_sqlite_file, json_schema_input_type=str)
    ]
    create: bool = False


class PostgresqlProfile(DatabaseProfile):
    """A PostgreSQL server.

    :ivar host: a name, an address, or the folder of a Unix socket.
    :ivar sslmode: as in libpq. Left out it is ``verify-full`` with an ``sslrootcert`` and
        ``prefer`` without one.
    :ivar sslrootcert: PEM file of the authority; None verifies against the system's trust store,
        which ``system`` in the file asks for.
    """

    model_config = ConfigDict(json_schema_extra=_url_instead)

    adapter: Literal["postgresql"] = "postgresql"
    host: Text = "localhost"
    port: Port = 5432
    database: Text
    username: Text = Field(validation_alias=AliasChoices("username", "user"))
    password: Secret | None = None
    sslmode: SslMode = "prefer"
    sslrootcert: ConfigPath | None = Field(
        None, validation_alias=AliasChoices("sslrootcert", "ssl_ca")
    )
    sslcert: ConfigPath | None = None
    sslkey: ConfigPath | None = None

    @model_validator(mode="before")
    @classmethod
    def _verify_by_default(cls, data: object) -> object:
        """An authority to verify against is there to be used."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if data.get("sslmode") is None:
            data.pop("sslmode", None)
            if data.get("sslrootcert") is not None or data.get("ssl_ca") is not None:
                data["sslmode"] = "verify-full"
        for key in ("sslrootcert", "ssl_ca"):
            if data.get(key) == "system":
                if data.get("sslmode") != "verify-full":
                    # Anybody can get a certificate from an authority that the system trusts.
                    refuse("'system' needs sslmode verify-full", "leave sslmode out", at=key)
                data[key] = None
        return data

    @field_validator("sslrootcert", "sslcert", "sslkey")
    @classmethod
    def _file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            refuse("there is no such file", "expected a file in PEM form")
        return value

    @model_validator(mode="after")
    def _key_pair(self) -> PostgresqlProfile:
        if (self.sslcert is None) != (self.sslkey is None):
            refuse("sslcert and sslkey go together: one of them is missing")
        return self


ADAPTERS: Final[Mapping[str, type[DatabaseProfile]]] = {
    "sqlite": SqliteProfile,
    "postgresql": PostgresqlProfile,
}

_PROPERTIES: Final = {
    "user": "username",
    "password": "password",
    "sslmode": "sslmode",
    "sslrootcert": "sslrootcert",
    "loginTimeout": "timeout",
    "connectTimeout": "timeout",
}


def _served() -> str:
    return f"this version serves {' and '.join(ADAPTERS)}"


def _not_served(adapter: str, at: str) -> NoReturn:
    refuse(
        f"adapter '{adapter}' is not served by this version",
        f"{_served()}: remove the profile",
        at=at,
    )


def _from_jdbc(data: dict[str, object], url: object) -> dict[str, object]:
    """A profile with the parts of its jdbc: URL under their own keys.

    The profile's own user name and password win over those in the URL. The driver's class has no
    meaning where the native driver takes over.
    """
    if not isinstance(url, str) or not url.lower().startswith("jdbc:"):
        refuse("expected a jdbc: URL", _EXAMPLE, at="url")
    driver, _, rest = url[len("jdbc:") :].partition(":")
    driver = driver.lower()
    stated = data.get("adapter")
    if stated is not None and stated not in ("jdbc", driver):
        adapter = stated
    else:
        adapter = _DRIVERS.get(driver, driver if driver in (*ADAPTERS, *LATER_ADAPTERS) else "jdbc")
    if adapter == driver == "sqlite":
        parts = _from_sqlite_url(rest)
    elif adapter == driver == "postgresql":
        parts = _from_postgresql_url(rest)
    elif isinstance(adapter, str) and adapter in LATER_ADAPTERS:
        _not_served(adapter, "adapter" if stated is not None else "url")
    else:
        refuse("the URL is not of this adapter", _EXAMPLE, at="url")
    for key in ("host", "port", "database"):
        if key in data:
            refuse("given by the url as well", "keep one of the two", at=key)
    if "user" in data or "username" in data:
        parts.pop("username", None)
    own = {key: value for key, value in data.items() if key not in ("url", "driverClass")}
    return {**parts, **own, "adapter": driver}


def _from_sqlite_url(rest: str) -> dict[str, object]:
    if not rest or rest.startswith("file:") or "?" in rest:
        refuse("expected jdbc:sqlite: and a path, without properties", _EXAMPLE, at="url")
    return {"database": rest}


def _from_postgresql_url(rest: str) -> dict[str, object]:
    """``//host:port/database?property=value``, or ``database`` alone for the local server."""
    try:
        split = urlsplit(rest)
        host, port = split.hostname, split.port
        pairs = parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query))
    except ValueError:
        hint = "a list of hosts is not supported" if "," in rest.partition("?")[0] else _EXAMPLE
        refuse("the URL is malformed", hint, at="url")
    if split.scheme or split.fragment or "@" in split.netloc or "," in split.netloc:
        refuse(
            "expected jdbc:postgresql://HOST:PORT/DATABASE with a single host", _EXAMPLE, at="url"
        )
    parts: dict[str, object] = {"database": unquote(split.path.lstrip("/"))}
    if host:
        parts["host"] = host
    if port is not None:
        parts["port"] = str(port)
    for name, value in pairs:
        if name == "ssl":
            if value.lower() in ("", "true"):
                parts.setdefault("sslmode", "verify-full")
        elif name in _PROPERTIES:
            parts[_PROPERTIES[name]] = value
        else:
            known = ", ".join(("ssl", *_PROPERTIES))
            refuse(f"the URL's property '{name}' is not supported", f"known: {known}", at="url")
    return parts
