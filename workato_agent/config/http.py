"""Profiles of the ``http`` section."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import ConfigDict, Field, PrivateAttr, field_validator, model_validator

from .clientcertificates import CertificateAuth
from .fields import (
    ConfigPath,
    Model,
    PositiveSeconds,
    Text,
    authority_digest,
    authority_file,
    refuse,
    split_url,
)
from .policies import HttpPolicy
from .profiles import ProfileConfig
from .secrets import Secret
from .windows import AccountField

_RULES: Final = ("methods", "paths")


class HttpOptions(Model):
    """Keys of the section: the defaults of its profiles."""

    trust_all: bool = Field(False, alias="trustAll")
    verify_host: bool = Field(True, alias="verifyHost")


class BasicAuth(Model):
    """RFC 7617."""

    username: Text
    password: Secret

    @field_validator("username")
    @classmethod
    def _colon(cls, value: str) -> str:
        if ":" in value:
            refuse("a user name for basic authentication holds no colon")
        return value


class HttpAuth(Model):
    """How the agent shows who it is: a certificate, or a field of each request, or both."""

    basic: BasicAuth | None = None
    bearer: Secret | None = None
    ntlm: AccountField | None = None
    certificate: CertificateAuth | None = None

    @model_validator(mode="after")
    def _one(self) -> HttpAuth:
        kinds = [each for each in (self.basic, self.bearer, self.ntlm) if each is not None]
        if len(kinds) > 1 or not (kinds or self.certificate):
            refuse("expected one of basic, bearer and ntlm, or a certificate, alone or beside it")
        return self


class HttpPool(Model):
    """A profile's connections: as a database's pool, without a minimum."""

    max: Annotated[int, Field(ge=1, le=1000)] = 64
    idle: PositiveSeconds = 30
    wait: PositiveSeconds = 10


def _rules_here_too(schema: dict[str, Any]) -> None:
    """In the JSON Schema: methods and paths may stand in the profile."""
    for key in _RULES:
        schema["properties"][key] = {"type": "array", "items": {"type": "string"}, "minItems": 1}


class HttpTarget(ProfileConfig):
    """What profiles of HTTP applications share.

    :ivar base_url: what a caller's path is appended to; without a slash at its end.
    :ivar ca: PEM file to trust instead of the system's store.
    :ivar trust_all: verify nothing. ``verify_host``: verify the certificate's name.
    :ivar redirects: follow those that stay with the application.
    """

    service: ClassVar[str] = "http"
    model_config = ConfigDict(json_schema_extra=_rules_here_too)

    base_url: Text
    ca: ConfigPath | None = None
    trust_all: bool = Field(False, alias="trustAll")
    verify_host: bool = Field(True, alias="verifyHost")
    redirects: bool = False
    policy: HttpPolicy = HttpPolicy()
    # A reload sees by it that the file of the same name holds other authorities.
    _trusted: bytes = PrivateAttr(b"")

    @model_validator(mode="before")
    @classmethod
    def _gather_rules(cls, data: object) -> object:
        """``methods`` and ``paths`` may stand in the profile itself: they are policy too."""
        if not isinstance(data, dict) or not any(key in data for key in _RULES):
            return data
        policy = data.get("policy") or {}
        if not isinstance(policy, dict):
            return data
        for key in _RULES:
            if key in data and key in policy:
                refuse("given in the policy as well", "keep one of the two", at=key)
        moved = {key: data[key] for key in _RULES if key in data}
        kept = {key: value for key, value in data.items() if key not in _RULES}
        return {**kept, "policy": {**policy, **moved}}

    @field_validator("base_url")
    @classmethod
    def _absolute(cls, value: str) -> str:
        parts = split_url(value, ("http", "https"), "https://crm.intra/api")
        if parts.username is not None or parts.password is not None:
            refuse("expected a URL without credentials", "write them under auth: {basic: …}")
        if parts.query or parts.fragment:
            refuse("expected a URL without query or fragment")
        return value.rstrip("/")

    @field_validator("ca")
    @classmethod
    def _ca(cls, value: Path | None) -> Path | None:
        return authority_file(value)

    @model_validator(mode="after")
    def _look_at_ca(self) -> HttpTarget:
        self._trusted = authority_digest(self.ca)
        return self

    def remarks(self) -> tuple[str, ...]:
        """Says where verification is off."""
        if not self.base_url.startswith("https:"):
            return ()
        if self.trust_all:
            return ("trustAll is on: its certificate is not verified at all",)
        if not self.verify_host:
            return ("verifyHost is off: its certificate's name is not verified",)
        return ()


class HttpProfile(HttpTarget):
    """An HTTP application.

    :ivar timeout: seconds to connect: name, TCP and TLS.
    """

    options: ClassVar[type[Model] | None] = HttpOptions

    auth: HttpAuth | None = None
    pool: HttpPool = HttpPool()
    timeout: PositiveSeconds = 10

    @model_validator(mode="after")
    def _certificate_needs_tls(self) -> HttpProfile:
        shown = self.auth is not None and self.auth.certificate is not None
        if shown and not self.base_url.startswith("https:"):
            refuse("a certificate is shown in TLS only", "base_url: https://…", at="auth")
        return self

    def remarks(self) -> tuple[str, ...]:
        """Says too that the agent's own certificate has expired."""
        shown = self.auth.certificate if self.auth is not None else None
        if shown is None or not shown.expired():
            return super().remarks()
        return (*super().remarks(), f"the client certificate {shown.cert} has expired")
