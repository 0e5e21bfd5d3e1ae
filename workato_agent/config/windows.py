"""Windows accounts, as NTLM knows them."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import unquote

from pydantic import BeforeValidator, field_validator, model_validator

from .fields import Model, Text, refuse
from .secrets import Secret

_EXAMPLE: Final = "for example scott:tiger@SALES/AGENT7"


class NtlmAuth(Model):
    """A Windows account.

    :ivar username: alone, as ``DOMAIN\\user`` or as ``user@domain.example``.
    :ivar workstation: what the target is told the agent's host is called; None: its own name.
    """

    username: Text
    password: Secret
    domain: str | None = None
    workstation: str | None = None

    @field_validator("username", "domain", "workstation")
    @classmethod
    def _printable(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            refuse("a name holds no control characters")
        return value or None

    @model_validator(mode="after")
    def _one_domain(self) -> NtlmAuth:
        if self.domain and "\\" in self.username:
            refuse("the user name has a domain already", "keep one of the two", at="domain")
        return self


def account(text: str) -> dict[str, str]:
    """The keys of an account written as ``user:password@domain/workstation``.

    The last ``@`` and the first ``:`` part it, so a password may hold both. Each part is
    percent-decoded. Refuses what has no user or password.
    """
    credentials, at, place = text.rpartition("@")
    if not at:
        credentials, place = text, ""
    username, colon, password = credentials.partition(":")
    if not colon or not username:
        refuse("expected user:password@domain/workstation", _EXAMPLE)
    domain, _, workstation = place.partition("/")
    named = {"domain": domain, "workstation": workstation}
    parts = {"username": username, "password": password}
    parts |= {key: value for key, value in named.items() if value}
    return {key: unquote(value) for key, value in parts.items()}


def _from_text(value: object) -> object:
    return account(value) if isinstance(value, str) else value


AccountField = Annotated[
    NtlmAuth, BeforeValidator(_from_text, json_schema_input_type=str | NtlmAuth)
]
"""A mapping with an account's keys, or a text as :func:`account` reads it."""
