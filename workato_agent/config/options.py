"""The sections that hold the agent's own settings."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ..system import longest_socket_path, state_folder
from .fields import (
    ConfigPath,
    LoopbackAddress,
    Model,
    Port,
    Seconds,
    Size,
    Text,
    refuse,
    resolved,
    split_url,
)
from .secrets import Secret

DEFAULT_IDENTITY: Final = state_folder()
MAX_SOCKET_PATH: Final = longest_socket_path()

Level = Literal["debug", "info", "warn", "error", "critical"]
_LEVELS: Final = {"warning": "warn", "trace": "debug", "fatal": "critical"}


def _level(value: object) -> object:
    if isinstance(value, str):
        return _LEVELS.get(value.lower(), value.lower())
    return value


LevelField = Annotated[Level, BeforeValidator(_level)]


class ConfigOptions(Model):
    """``config``: how the file itself is treated.

    :ivar auto_reload: take over changes of the file without being asked to.
    """

    auto_reload: bool = Field(False, alias="autoReload")


class AgentOptions(Model):
    """``agent``: of the documented format.

    :ivar disable_response_buffering: accepted, whatever it says: no response is ever buffered.
    """

    disable_response_buffering: bool = False


class GatewayOptions(Model):
    """``gateway``: where the tunnel goes. Left out, ``url`` and ``ca`` come from the identity.

    :ivar ca: PEM file of whom to trust as the gateway; ``system`` for the system's trust store.
    :ivar drain: seconds that calls in flight have to end when the agent is stopped.
    """

    url: Text | None = None
    ca: Literal["system"] | ConfigPath | None = None
    identity: ConfigPath = DEFAULT_IDENTITY
    drain: Seconds = 30

    @field_validator("url")
    @classmethod
    def _wss(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if value.startswith("ws://"):
            refuse("the tunnel is never plain text: expected wss://")
        parts = split_url(value, ("wss",), "wss://gateway.example:8443/tunnel")
        if parts.username is not None or parts.query or parts.fragment:
            refuse("expected a URL without credentials, query or fragment")
        return value if parts.path.strip("/") else f"{value.rstrip('/')}/tunnel"

    @field_validator("ca")
    @classmethod
    def _ca(cls, value: str | Path | None) -> str | Path | None:
        if isinstance(value, Path) and not value.is_file():
            refuse("there is no such file", "expected a CA's certificate in PEM form, or system")
        return value


class ProxyOptions(Model):
    """``proxy``: the HTTP proxy through which the tunnel is dialled (CONNECT)."""

    host: Text
    port: Port
    username: Text | None = None
    password: Secret | None = None

    @model_validator(mode="after")
    def _pair(self) -> ProxyOptions:
        if self.password is not None and self.username is None:
            refuse("a password without a username", "add username")
        return self


def _entries(value: object, info: ValidationInfo) -> object:
    """A class path as one text, or a list of them."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = re.split(rf"[,;{re.escape(os.pathsep)}]", value)
    if not isinstance(value, (list, tuple)):
        refuse("expected a path, or a list of them")
    entries = []
    for index, entry in enumerate(value):
        if not isinstance(entry, (str, Path)):
            refuse("expected a path", at=index)
        if str(entry).strip():
            text = entry.strip() if isinstance(entry, str) else entry
            entries.append(resolved(text, info))
    return tuple(entries)


_GLOB: Final = re.compile(r"[*?\[]")


class ServerOptions(Model):
    """``server``: where Java finds drivers.

    :ivar classpath: jars, folders of jars, and globs of both.
    :ivar staging: accepted, whatever it says: nothing is staged on disk.
    """

    classpath: Annotated[
        tuple[Path, ...], BeforeValidator(_entries, json_schema_input_type=str | list[str] | None)
    ] = ()
    staging: Annotated[Any, Field(exclude=True)] = None

    def missing(self) -> tuple[Path, ...]:
        """The entries that lead to nothing."""
        return tuple(entry for entry in self.classpath if not _found(entry))

    def jars(self) -> tuple[Path, ...]:
        """What the entries lead to: a folder stands for itself and the jars in it."""
        there: dict[Path, None] = {}
        for entry in self.classpath:
            for path in _found(entry):
                there[path] = None
                if path.is_dir():
                    there.update(dict.fromkeys(sorted(path.glob("*.jar"))))
        return tuple(there)


def _found(entry: Path) -> list[Path]:
    if _GLOB.search(str(entry)) and not entry.exists():
        return sorted(Path(entry.anchor).glob(str(entry.relative_to(entry.anchor))))
    return [entry] if entry.exists() else []


def _loggers_as_keys(schema: dict[str, Any]) -> None:
    """In the JSON Schema: further keys are loggers."""
    level = schema["properties"].pop("loggers")["additionalProperties"]
    schema["additionalProperties"] = {**level, "description": "the level of this logger"}


class LoggingOptions(Model):
    """``logging``: ``level`` for all, ``loggers`` for those named as further keys of the section.

    Without ``path`` the log goes to standard error; with it to a file, rotated at ``max_size``.
    """

    model_config = ConfigDict(json_schema_extra=_loggers_as_keys)

    level: LevelField = "info"
    format: Literal["text", "json"] = "text"
    path: ConfigPath | None = None
    max_size: Annotated[Size, Field(ge=4096)] = 64 * 2**20
    keep: Annotated[int, Field(ge=1, le=1000)] = 5
    loggers: Mapping[Text, LevelField] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _collect_loggers(cls, data: object) -> object:
        if not isinstance(data, dict) or "loggers" in data:
            return data
        known = cls.model_fields.keys()
        options = {key: value for key, value in data.items() if key in known}
        loggers = {key: value for key, value in data.items() if key not in known}
        return {**options, "loggers": loggers}


class AuditOptions(Model):
    """``audit``: the local record of calls. ``path`` defaults to a folder within the identity's."""

    path: ConfigPath | None = None
    max_size: Annotated[Size, Field(ge=4096)] = 64 * 2**20
    keep: Annotated[int, Field(ge=1, le=10_000)] = 10
    """How many full files are kept beside the one being written."""


class MetricsOptions(Model):
    """``metrics``: Prometheus metrics over plain HTTP on this machine; off without ``listen``."""

    listen: LoopbackAddress | None = None


class StatusOptions(Model):
    """``status``: the socket that ``workato-agent status`` asks."""

    socket: ConfigPath | None = None

    @field_validator("socket")
    @classmethod
    def _length(cls, value: Path | None) -> Path | None:
        if value is not None and len(str(value).encode()) > MAX_SOCKET_PATH:
            refuse(f"a socket's path has at most {MAX_SOCKET_PATH} bytes")
        return value
