"""What the models of all sections are made of: the base model and the field types they share."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, ClassVar, Final, NoReturn
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError


def refuse(message: str, hint: str | None = None, *, at: str | int | None = None) -> NoReturn:
    """Fail a validation. The message must not quote a value that may be secret.

    :param at: the key or index at fault, where a mapping or list as a whole is validated.
    """
    context = {"message": message, "hint": hint, "at": at}
    raise PydanticCustomError("refused", "{message}", context)


def authority_file(value: Path | None, *, at: str | None = None) -> Path | None:
    """A CA's file that is there. For validators: fails the validation."""
    if value is not None and not value.is_file():
        refuse("there is no such file", "expected a CA's certificate in PEM form", at=at)
    return value


def authority_digest(ca: Path | None) -> bytes:
    """Of what the file under the key ``ca`` holds: a reload sees by it that it holds others."""
    if ca is None:
        return b""
    try:
        return sha256(ca.read_bytes()).digest()
    except OSError as error:
        refuse(f"can't be read: {error.strerror}", at="ca")


class Model(BaseModel):
    """Base of every section and profile: frozen, no unknown keys, values never in errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,
        validate_default=True,
        # An agent has few of the kinds of profiles that there are.
        defer_build=True,
    )

    later: ClassVar[Mapping[str, str]] = {}
    """Keys of the documented format that this version does not serve, each with what to do."""


_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smhd]?)", value.strip())
    if match is None:
        refuse("expected a time in seconds, or as 30s, 5m, 1h, 2d")
    return float(match[1]) * _UNITS[match[2]]


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+) ?([kmgt]?)(?:i?b)?", value.strip().lower())
    if match is None:
        refuse("expected a size in bytes, or as 500KiB, 64MiB, 2GiB")
    return int(match[1]) * _SIZES[match[2]]


def resolved(value: object, info: ValidationInfo) -> object:
    """A path as text made absolute, from the folder that the validation's context names."""
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        refuse("expected a path")
    folder = info.context["folder"] if info.context else Path()
    return Path(os.path.normpath(folder / Path(value).expanduser()))


def _text(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        refuse("expected text, found an empty value")
    return value


Seconds = Annotated[
    float,
    BeforeValidator(_seconds, json_schema_input_type=float | str),
    Field(ge=0, le=30 * 86400),
]
PositiveSeconds = Annotated[Seconds, Field(gt=0)]
Size = Annotated[
    int, BeforeValidator(_size, json_schema_input_type=int | str), Field(ge=0, le=2**50)
]
ConfigPath = Annotated[Path, BeforeValidator(resolved, json_schema_input_type=str)]
"""A path; a relative one starts from the config file's folder."""
Text = Annotated[str, BeforeValidator(_text)]
Port = Annotated[int, Field(ge=1, le=65535)]


def split_url(value: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    """The parts of a URL with a host. Refuses others unquoted, for one may hold a password."""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        refuse("expected a URL, this one is malformed", f"for example {example}")
    if parts.scheme not in schemes or not host:
        refuse(
            f"expected a URL with {' or '.join(f'{s}://' for s in schemes)}",
            f"for example {example}",
        )
    if re.search(r"[\s\x00-\x1f\x7f]", value):
        refuse("a URL holds no spaces or control characters")
    return parts


def _listen(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([^:\[\]]+)):(\d{1,5})", value)
    if match is None or int(match[3]) > 65535:
        refuse("expected ADDRESS:PORT", "for example 127.0.0.1:9464")
    host = match[1] or match[2]
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        refuse(
            "expected a loopback address (127.0.0.1, [::1] or localhost)",
            "put an authenticating proxy in front of it to read it from elsewhere",
        )
    return ("127.0.0.1" if host == "localhost" else host, int(match[3]))


LoopbackAddress = Annotated[tuple[str, int], BeforeValidator(_listen, json_schema_input_type=str)]
"""``(host, port)`` on this machine; port 0 takes a free one."""
