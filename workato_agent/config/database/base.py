"""What database profiles of every adapter have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_args

from pydantic import AliasChoices, BeforeValidator, Field, field_validator, model_validator

from ..fields import ConfigPath, Model, PositiveSeconds, Seconds, Text, refuse
from ..policies import DatabasePolicy, SqlDialect
from ..profiles import ProfileConfig
from .properties import Rules
from .urls import ADAPTERS

QUERY_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


def _host(value: object) -> object:
    """Without the spaces that copying brings along; one host and nothing else."""
    if not isinstance(value, str):
        return value
    host = value.strip()
    if host.startswith("/"):
        return host
    if re.fullmatch(r"[^:]*:\d+|\[[^\]]*\]:\d+", host):
        refuse("expected a host, this has a port as well", "the port has a key of its own")
    if not host or re.search(r"[\s,;/@?]", host):
        refuse("expected the name or address of one host")
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


Host = Annotated[str, BeforeValidator(_host)]
"""A name, an address, or the path of a Unix socket where an adapter takes one."""


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
    :ivar session_timeout: seconds until a session that nobody uses is rolled back and ended.
    :ivar queries: statements that callers may send by name.
    :ivar debug: statements, never their parameters, go to the log.
    """

    service: ClassVar[str] = "database"
    rules: ClassVar[Rules] = Rules()
    """What the driver properties mean that the documented format allows as further keys."""

    other_names: ClassVar[tuple[str, ...]] = ()
    """What ``adapter`` may say as well."""

    adapter: str
    pool: Pool = Pool()
    timeout: PositiveSeconds = 30
    statement_timeout: Seconds = 0
    session_timeout: PositiveSeconds = 60
    queries: Mapping[str, Text] = Field(default_factory=dict)
    debug: bool = False
    policy: DatabasePolicy = DatabasePolicy()

    @field_validator("queries")
    @classmethod
    def _query_names(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name in value:
            if QUERY_NAME.fullmatch(name) is None:
                refuse("a query's name is made of A-Z a-z 0-9 _ -", at=name)
        return value

    @model_validator(mode="after")
    def _dialect_where_it_is_needed(self) -> Self:
        """``tables`` are found in statements only if it is known what SQL they are."""
        drivers = self.adapter in ("odbc", "jdbc")
        if self.policy.dialect is not None and not drivers:
            refuse(f"policy.dialect is {self.adapter}'s own: remove it", at="policy")
        if self.policy.tables is not None and drivers and self.policy.dialect is None:
            refuse(
                f"policy.tables needs policy.dialect with {self.adapter}",
                f"one of {', '.join(get_args(SqlDialect))}, by the database behind the driver",
                at="policy",
            )
        return self


PROPERTY: Final[Mapping[str, Any]] = {"type": ["string", "number", "boolean"]}
"""In the JSON Schema: the value of a driver's property."""


def url_instead(schema: dict[str, Any], model: type[DatabaseProfile]) -> None:
    """In the JSON Schema: a jdbc: URL stands for the keys that are required otherwise.

    Of a driver's properties those that are known may stand beside them.
    """
    if known := sorted(map(re.escape, model.rules.known.keys() - schema["properties"].keys())):
        schema["patternProperties"] = {f"^({'|'.join(known)})$": dict(PROPERTY)}
    required = [name for name in schema.pop("required", ()) if name != "username"]
    users = [
        {"required": [name]} for name in ("username", "user") if "username" in schema["properties"]
    ]
    names = [model.model_fields["adapter"].default, *model.other_names]
    own: dict[str, Any] = {
        "required": ["adapter", *required],
        "properties": {"adapter": {"enum": names}},
    }
    schema["properties"]["adapter"] = {"enum": [*names, "jdbc"], "type": "string"}
    if users:
        own["anyOf"] = users
        schema["properties"]["user"] = {"type": "string", "description": "the same as username"}
    drivers = [driver for driver, adapter in ADAPTERS.items() if adapter == names[0]]
    schema["properties"]["url"] = {"type": "string", "pattern": f"^jdbc:({'|'.join(drivers)}):"}
    schema["properties"]["driverClass"] = {"type": "string"}
    schema["anyOf"] = [own, {"required": ["url"]}]


class TlsProfile(DatabaseProfile):
    """What profiles of servers with TLS by PEM files have, in libpq's words.

    :ivar sslmode: left out it is ``verify-full`` with an ``sslrootcert`` and ``prefer`` without.
    :ivar sslrootcert: PEM file of the authority; None verifies against the system's trust store,
        which ``system`` in the file asks for.
    """

    host: Host = "localhost"
    sslmode: SslMode = "prefer"
    sslrootcert: ConfigPath | None = Field(
        None, validation_alias=AliasChoices("sslrootcert", "ssl_ca")
    )
    sslcert: ConfigPath | None = Field(None, validation_alias=AliasChoices("sslcert", "ssl_cert"))
    sslkey: ConfigPath | None = Field(None, validation_alias=AliasChoices("sslkey", "ssl_key"))

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
        return pem_file(value)

    @model_validator(mode="after")
    def _key_pair(self) -> TlsProfile:
        if (self.sslcert is None) != (self.sslkey is None):
            refuse("sslcert and sslkey go together: one of them is missing")
        return self

    def warnings(self, facts: Mapping[str, object]) -> tuple[str, ...]:
        verified = self.sslmode.startswith("verify")
        return tls_warnings(
            self.host, facts, verified, "sslrootcert: the authority of its certificate"
        )


def tls_warnings(
    host: str, facts: Mapping[str, object], verified: bool, hint: str
) -> tuple[str, ...]:
    """What is to be said of a connection over a network, by the ``tls`` that a test reported."""
    if host == "localhost" or host.startswith(("/", "127.", "::1")) or "tls" not in facts:
        return ()
    if not facts["tls"]:
        return (f"the connection is not encrypted ({hint})",)
    return () if verified else (f"encrypted, but anybody could be the server ({hint})",)


def pem_file(value: Path | None) -> Path | None:
    """A file that is there."""
    if value is not None and not value.is_file():
        refuse("there is no such file", "expected a file in PEM form")
    return value
