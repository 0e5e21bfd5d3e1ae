"""Profiles of the ``ldap`` section."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import (
    AliasChoices,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.functional_serializers import PlainSerializer

from .distinguishednames import Name
from .fields import Model, PositiveSeconds, Size, Text, refuse, resolved, split_url
from .policies import Policy
from .profiles import ProfileConfig
from .secrets import Secret

MOST_SERVERS: Final = 16
_PORTS: Final = {"ldap": 389, "ldaps": 636}
_EXAMPLE: Final = "ldaps://dc1.intra,ldaps://dc2.intra"
_PEM: Final = "-----BEGIN "
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+")


def _name(value: object) -> object:
    if isinstance(value, str):
        try:
            return Name.parse(value)
        except ValueError as error:
            refuse(f"is no DN: {error}", "for example dc=acme,dc=com")
    return value if isinstance(value, Name) else refuse("expected text")


def _attribute(value: object) -> object:
    if not isinstance(value, str) or _ATTRIBUTE.fullmatch(value) is None:
        refuse("expected the name of an attribute", "for example mail; options don't count here")
    return value.lower()


NameField = Annotated[
    Name,
    PlainValidator(_name, json_schema_input_type=str),
    PlainSerializer(lambda name: name.text, return_type=str),
]
AttributeField = Annotated[str, PlainValidator(_attribute, json_schema_input_type=str)]


class LdapPolicy(Policy):
    """Policy of a directory.

    :ivar bases: subtrees; relative to the profile's base unless they end with it.
    :ivar read_attributes: that callers may see, compare and search by, ``write_attributes``: that
        they may give a value.
    :ivar max_entries: of one search. ``max_bytes``: of its answer.
    """

    known_operations: ClassVar[tuple[str, ...]] = (
        "search",
        "add",
        "modify",
        "delete",
        "rename",
        "compare",
        "password",
    )

    bases: Annotated[tuple[NameField, ...], Field(min_length=1)] | None = None
    read_attributes: Annotated[tuple[AttributeField, ...], Field(min_length=1)] | None = None
    write_attributes: Annotated[tuple[AttributeField, ...], Field(min_length=1)] | None = None
    max_entries: Annotated[int, Field(ge=1)] | None = None
    max_bytes: Size | None = None


class LdapSsl(Model):
    """TLS, in the documented format's words.

    :ivar cert: whom to trust instead of the system's authorities: a CA's certificate, or the
        server's own. A file, or its content; ``pem`` and ``key`` likewise.
    :ivar pem: the agent's own certificate, with those that lead to a CA that the directory knows.
    :ivar key: of ``pem``. ``password``: of the key, where it is encrypted.
    :ivar trust_all: verify nothing. ``verify_host``: verify the certificate's name.
    """

    cert: Text | None = None
    pem: Text | None = None
    key: Secret | None = None
    password: Secret | None = None
    trust_all: bool = Field(False, alias="trustAll")
    verify_host: bool = Field(True, alias="verifyHost")

    @field_validator("cert", "pem", "key", mode="before")
    @classmethod
    def _content(cls, value: object, info: ValidationInfo) -> object:
        """What a file holds takes its name's place, so a reload sees that it has changed."""
        if not isinstance(value, str) or _PEM in value or not value.strip():
            return value
        path = resolved(value, info)
        try:
            return Path(str(path)).read_text(encoding="ascii")
        except FileNotFoundError:
            refuse("there is no such file", "expected a file in PEM form, or its content")
        except OSError as error:
            refuse(f"can't be read: {error.strerror}")
        except UnicodeDecodeError:
            refuse("is not in PEM form", "openssl x509 -inform der -in FILE writes it so")

    @field_validator("cert", "pem")
    @classmethod
    def _certificate(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                x509.load_pem_x509_certificates(value.encode())
            except ValueError:
                refuse("holds no certificate in PEM form", "openssl x509 -in FILE shows one")
        return value

    @model_validator(mode="after")
    def _pair(self) -> LdapSsl:
        if (self.pem is None) != (self.key is None):
            refuse("pem and key go together: one of them is missing")
        if self.pem is not None and self.key is not None:
            certificate = x509.load_pem_x509_certificates(self.pem.encode())[0]
            password = None if self.password is None else self.password.reveal().encode()
            try:
                key = load_pem_private_key(self.key.reveal().encode(), password)
            except (TypeError, ValueError, UnsupportedAlgorithm):
                refuse("is no private key in PEM form that this password opens", at="key")
            if certificate.public_key() != key.public_key():
                refuse("is not the key of the certificate", at="key")
        return self


class LdapPool(Model):
    """A profile's connections: as a database's pool, without a minimum."""

    max: Annotated[int, Field(ge=1, le=1000)] = 5
    idle: PositiveSeconds = 60
    wait: PositiveSeconds = 10


@frozen
class LdapUrl:
    """One server of ``url``."""

    host: str
    port: int
    secure: bool

    def is_near(self) -> bool:
        """Whether what is sent there stays on this machine."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False


def _other_names(schema: dict[str, Any]) -> None:
    """In the JSON Schema: the user's other name."""
    schema["properties"]["userDN"] = {
        "type": "string",
        "description": "the same as username",
    }


class LdapProfile(ProfileConfig):
    """A directory: Active Directory, OpenLDAP and their like.

    :ivar url: of its servers, with commas between; the next is tried when one does not answer.
    :ivar base: all names are relative to it, and nothing outside can be reached.
    :ivar timeout: seconds to connect and log in, for each server.
    :ivar start_tls: begin in the clear and go on with TLS, for ``ldap:`` URLs.
    """

    service: ClassVar[str] = "ldap"
    model_config = ConfigDict(json_schema_extra=_other_names)

    url: Text
    username: Text | None = Field(None, validation_alias=AliasChoices("username", "userDN"))
    password: Secret | None = None
    base: NameField = Field(default_factory=Name)
    timeout: PositiveSeconds = 30
    start_tls: bool = Field(False, alias="startTls")
    ssl: LdapSsl = Field(default_factory=lambda: LdapSsl.model_validate({}))
    pool: LdapPool = LdapPool()
    page_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    policy: LdapPolicy = LdapPolicy()

    @field_validator("url")
    @classmethod
    def _servers(cls, value: str) -> str:
        if len(_urls(value)) > MOST_SERVERS:
            refuse(f"more than {MOST_SERVERS} servers")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> LdapProfile:
        if (self.username is None) != (self.password is None):
            refuse("username and password go together: one is missing", "without both: anonymous")
        if self.password is not None and not self.password:
            # With a name and an empty password the login is anonymous (RFC 4513, 5.1.2).
            refuse("is empty", "leave out username and password to be anonymous", at="password")
        if self.start_tls and any(server.secure for server in self.servers()):
            refuse("ldaps:// has TLS already", "startTls goes with ldap:// only", at="startTls")
        return self

    def servers(self) -> tuple[LdapUrl, ...]:
        """The servers of ``url``, in order."""
        return tuple(_urls(self.url))

    def remarks(self) -> tuple[str, ...]:
        """Says what is not secured, and what is open."""
        found = []
        secured = self.start_tls or all(server.secure for server in self.servers())
        if not secured and not all(server.is_near() or server.secure for server in self.servers()):
            found.append("the password and all entries pass unencrypted (ldaps://, or startTls)")
        if self.start_tls or any(server.secure for server in self.servers()):
            if self.ssl.trust_all:
                found.append("trustAll is on: anybody could be the server and take the password")
            elif not self.ssl.verify_host:
                found.append("verifyHost is off: the certificate's name is not verified")
        elif self.ssl.cert is not None or self.ssl.pem is not None:
            found.append("ssl has no effect without ldaps:// or startTls")
        if not self.base.parts and self.policy.bases is None:
            found.append("without base all of the directory can be reached")
        return tuple(found)


def _urls(value: str) -> list[LdapUrl]:
    urls = []
    for text in re.split(r"[\s,]+", value.strip()):
        parts = split_url(text, ("ldap", "ldaps"), _EXAMPLE)
        if parts.username is not None or parts.password is not None:
            refuse("expected a URL without credentials", "username and password are keys")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            refuse("expected a URL of scheme, host and port", "base is a key of its own")
        if not parts.netloc.isascii():
            refuse("expected a host in ASCII letters", "an international name as xn--…")
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
        urls.append(LdapUrl(parts.hostname or "", port, parts.scheme == "ldaps"))
    return urls
