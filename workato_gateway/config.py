"""``gateway.yml``: read once into frozen objects; every error at once, each with its line."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

from .addresses import (
    EndpointUrl,
    IPNetwork,
    Listen,
    PublicUrl,
    parse_endpoint_url,
    parse_listen,
    parse_network,
    parse_public_url,
)
from .webhooks.events import EventType
from .webhooks.signing import SigningSecret
from .yaml_lines import Document, YamlError, parse

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZES: Final = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


class ConfigError(Exception):
    """The file can't be used. Its text is one line for each thing that is wrong with it."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def seconds_of(value: object) -> float:
    """``30d``, ``12h``, ``5m``, ``90s`` or a number of seconds. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?) ?([smhdw]?)", str(value).strip())
    if match is None or isinstance(value, bool):
        raise ValueError("expected a duration such as 30d, 12h, 5m or 90s")
    return float(match[1]) * _UNITS[match[2] or "s"]


def _size(value: object) -> object:
    match = re.fullmatch(r"(\d{1,15}) ?(|KiB|MiB|GiB|TiB)", str(value).strip())
    if match is None or isinstance(value, bool):
        raise ValueError("expected a number of bytes, or one with KiB, MiB, GiB or TiB")
    return int(match[1]) * _SIZES[match[2]]


def _folder(info: ValidationInfo) -> Path:
    folder: Path = (info.context or {})["folder"]
    return folder


def _resolved(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str | Path) or value == "":
        raise ValueError("expected a path")
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "$CREDENTIALS_DIRECTORY")
    return _folder(info) / str(value).replace("$CREDENTIALS_DIRECTORY", credentials)


def _storage(value: object, info: ValidationInfo) -> Path:
    scheme, _, rest = str(value).partition(":")
    if scheme != "sqlite" or not rest or (rest.startswith("//") and not rest.startswith("///")):
        raise ValueError("expected sqlite:///ABSOLUTE/PATH or sqlite:PATH beside this file")
    return _folder(info) / rest.removeprefix("//")


def _switch(value: object) -> object:
    """YAML reads a bare ``off`` as false."""
    return "off" if value is False else value


def _access(value: object, info: ValidationInfo) -> object:
    word = _switch(value)
    return word if word in ("stdout", "off") else _resolved(word, info)


def _signing_secret(value: object, info: ValidationInfo) -> SigningSecret:
    """A text, or ``{file: PATH}``."""
    if isinstance(value, dict) and set(value) == {"file"}:
        path = _folder(info) / str(value["file"])
        try:
            value = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{path}: is no UTF-8 text") from None
    if not isinstance(value, str):
        raise ValueError("expected whsec_…, or {file: PATH} of a file that holds it")
    return SigningSecret.parse(value)


def _form_of_tls(value: object) -> str:
    return "pair" if isinstance(value, dict | BaseModel) else "word"


Duration = Annotated[float, BeforeValidator(seconds_of)]
Size = Annotated[int, BeforeValidator(_size)]
FilePath = Annotated[Path, BeforeValidator(_resolved)]
Network = Annotated[IPNetwork, BeforeValidator(parse_network)]
Level = Literal["debug", "info", "warn", "error", "critical"]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, validate_default=True
    )


class KeyPair(_Section):
    """PEM files: the certificate with its chain, leaf first, and its key."""

    certificate: FilePath
    key: FilePath


Tls = Annotated[
    Annotated[Literal["own", "off"], Tag("word")] | Annotated[KeyPair, Tag("pair")],
    Discriminator(_form_of_tls),
    BeforeValidator(_switch),
]


class Tunnel(_Section):
    """The listener for agents. Without a certificate of its own it uses one of the gateway's CA.

    ``client_ca``: PEM bundle that agents' certificates are checked against; the CA by default.
    ``session_hold``: for how long a session outlives its socket.
    """

    listen: Annotated[Listen, BeforeValidator(parse_listen)] = Listen("0.0.0.0", 8443)  # noqa: S104
    certificate: FilePath | None = None
    key: FilePath | None = None
    client_ca: FilePath | None = None
    session_hold: Annotated[Duration, Field(ge=0, le=3600)] = 60.0

    @model_validator(mode="after")
    def _pair(self) -> Tunnel:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or none")
        return self


class Api(_Section):
    """The listener for callers.

    ``tls`` None: plain HTTP on a loopback address, the CA's certificate elsewhere.
    """

    listen: Annotated[Listen, BeforeValidator(parse_listen)] = Listen("127.0.0.1", 8080)
    tls: Tls | None = None
    trusted_proxies: tuple[Network, ...] = ()

    @model_validator(mode="after")
    def _never_plain_on_a_network(self) -> Api:
        if self.tls == "off" and not self.listen.loopback and not self.trusted_proxies:
            raise ValueError(
                f"plain HTTP on {self.listen} would show tokens to the network: remove tls: off, "
                "listen on 127.0.0.1, or name the TLS proxy in trusted_proxies"
            )
        return self

    @property
    def plain(self) -> bool:
        """Plain HTTP, not TLS."""
        return self.tls == "off" or (self.tls is None and self.listen.loopback)


class Ca(_Section):
    """The gateway's own authority. ``agent_lifetime``: of the certificates it gives to agents."""

    certificate: FilePath = Path("ca.crt")
    key: FilePath = Path("ca.key")
    server: FilePath = Path("server.pem")
    agent_lifetime: Annotated[Duration, Field(ge=600, le=825 * 86400)] = 30 * 86400.0


class Limits(_Section):
    """Bounds of what one gateway takes on.

    :ivar connections: open sockets of callers.
    :ivar calls: calls in flight.
    :ivar calls_per_token: calls in flight of one token.
    :ivar default_timeout: of a call that names none; ``max_timeout``: the longest it may name.
    :ivar header_bytes: of a request's head. No more than the default: a larger one fits no frame
        of the tunnel.
    :ivar body: bytes of a request's body; None: any number, as bodies are streamed.
    :ivar tunnel_memory: bytes that all tunnels together may have in flight beyond each one's own
        first share.
    :ivar enrolment_failures: wrong activation codes a minute and address.
    """

    connections: Annotated[int, Field(ge=1)] = 10_000
    calls: Annotated[int, Field(ge=1)] = 10_000
    calls_per_token: Annotated[int, Field(ge=1)] = 1_000
    default_timeout: Annotated[Duration, Field(gt=0)] = 60.0
    max_timeout: Annotated[Duration, Field(gt=0, le=30 * 86400)] = 86_400.0
    header_bytes: Annotated[Size, Field(ge=4 << 10, le=64 << 10)] = 64 << 10
    body: Annotated[Size, Field(ge=1)] | None = None
    tunnel_memory: Annotated[Size, Field(ge=1 << 20)] = 512 << 20
    enrolment_failures: Annotated[int, Field(ge=1)] = 10

    @model_validator(mode="after")
    def _default_within_maximum(self) -> Limits:
        if self.default_timeout > self.max_timeout:
            raise ValueError("default_timeout is longer than max_timeout")
        return self


class Metrics(_Section):
    """Who may read ``/metrics`` without a token; others need one with the scope ``admin``."""

    allowed_networks: tuple[Network, ...] = (
        ipaddress.ip_network("127.0.0.0/8"),
        ipaddress.ip_network("::1/128"),
    )


class Logging(BaseModel):
    """What is logged. Other keys are loggers, as ``workato_gateway.api: debug``.

    ``access``: where a line for each request goes: ``stdout``, ``off`` or a path.
    ``path``: a file instead of standard error, rotated at ``max_size`` bytes; ``keep`` old ones
    stay.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Level]

    level: Level = "info"
    format: Literal["text", "json"] = "text"
    access: Annotated[Literal["stdout", "off"] | Path, BeforeValidator(_access)] = "stdout"
    path: FilePath | None = None
    max_size: Annotated[Size, Field(ge=4096)] = 64 << 20
    keep: Annotated[int, Field(ge=1, le=1000)] = 5

    @property
    def levels(self) -> dict[str, Level]:
        """Levels by logger."""
        return dict(self.__pydantic_extra__ or {})


class WebhookEndpoint(_Section):
    """A receiver of events.

    ``events``: which; left out: all. ``name``: in logs and metrics; left out: the URL's host.
    ``ca``: PEM of who signed the receiver's certificate, instead of the system's trust store.
    """

    url: Annotated[EndpointUrl, BeforeValidator(parse_endpoint_url)]
    secret: Annotated[SigningSecret, BeforeValidator(_signing_secret)]
    events: tuple[EventType, ...] | None = None
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    ca: FilePath | None = None

    @property
    def called(self) -> str:
        """Its name."""
        return self.name or self.url.host


class Webhooks(_Section):
    """Events that are posted.

    ``grace``: for how long an agent has to be gone, or back, until it is told.
    ``give_up``: how old an event gets that can't be handed over.
    """

    grace: Annotated[Duration, Field(ge=0, le=86400)] = 60.0
    give_up: Annotated[Duration, Field(ge=0, le=7 * 86400)] = 86400.0
    endpoints: Annotated[tuple[WebhookEndpoint, ...], Field(max_length=20)] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Webhooks:
        names = [each.called for each in self.endpoints]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two endpoints are called {name}: give each a name of its own")
        return self


class Audit(_Section):
    """The record of what administrators did. ``keep``: for how long."""

    keep: Annotated[Duration, Field(ge=86400)] = 400 * 86400.0


class Config(_Section):
    """The whole file. ``drain``: seconds that calls in flight get when the gateway stops."""

    public_url: Annotated[PublicUrl, BeforeValidator(parse_public_url)]
    tunnel: Tunnel = Field(default_factory=dict, validate_default=True)
    api: Api = Field(default_factory=dict, validate_default=True)
    storage: Annotated[Path, BeforeValidator(_storage)] = Path("sqlite:gateway.db")
    ca: Ca = Field(default_factory=dict, validate_default=True)
    limits: Limits = Field(default_factory=dict, validate_default=True)
    metrics: Metrics = Field(default_factory=dict, validate_default=True)
    logging: Logging = Field(default_factory=dict, validate_default=True)
    audit: Audit = Field(default_factory=dict, validate_default=True)
    webhooks: Webhooks = Field(default_factory=dict, validate_default=True)
    drain: Annotated[Duration, Field(ge=0, le=3600)] = 30.0


def load(path: Path) -> Config:
    """Read and check a file. Raises ConfigError with every error."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is no UTF-8 text"]) from error
    return read(text, path)


def read(text: str, path: Path) -> Config:
    """The config in a text; relative paths in it count from the folder of ``path``.

    Raises ConfigError.
    """
    try:
        document = parse(text)
    except YamlError as error:
        raise ConfigError([f"{path}:{error.line}: {error.message}"]) from error
    if not isinstance(document.content, dict):
        raise ConfigError([f"{path}:1: expected keys with values, as public_url: https://…"])
    # A section that is written but empty is as one left out.
    content = {key: {} if value is None else value for key, value in document.content.items()}
    try:
        return Config.model_validate(content, context={"folder": path.absolute().parent})
    except ValidationError as error:
        found = [_explained(details, document) for details in error.errors(include_url=False)]
        raise ConfigError([f"{path}:{line}: {text}" for line, text in sorted(found)]) from error


def _explained(details: ErrorDetails, document: Document) -> tuple[int, str]:
    """The line of an error, and its path with what is wrong."""
    place = tuple(part for part in details["loc"] if part not in ("word", "pair"))
    name = ".".join(str(part) for part in place) or "the file"
    kind, message = details["type"], details["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = _known_keys(place[:-1])
        close = difflib.get_close_matches(str(place[-1]), known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}"
        message = f"unknown key; {hint}"
    elif kind == "missing":
        message = "is missing"
    return document.line_of(place), f"{name}: {message}"


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at a path."""
    section: type[BaseModel] = Config
    for part in place:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        named = annotation if isinstance(annotation, type) else (*get_args(annotation), None)[0]
        section = named if isinstance(named, type) and issubclass(named, _Section) else KeyPair
    return list(section.model_fields)
