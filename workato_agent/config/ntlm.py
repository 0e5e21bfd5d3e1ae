"""Profiles of the ``ntlm`` section: HTTP applications that know Windows accounts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from .fields import Text, refuse
from .http import HttpTarget
from .secrets import Secret
from .windows import AccountField, NtlmAuth

Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]
Connections = Annotated[int, Field(ge=1, le=1000)]


class NtlmProfile(HttpTarget):
    """An HTTP application that is logged in to with NTLM; callers see it among ``http``.

    :ivar auth: the account; else ``username`` and ``password`` and what else an account has.
    :ivar cm_max_total: connections at a time, ``cm_default_max_per_route``: to one application,
        which is all that a profile has, so the smaller number counts.
    :ivar http_connect_timeout: milliseconds to connect, ``http_connection_request_timeout``: to
        wait for a free connection, ``http_socket_timeout``: without a byte of the answer. 0: no
        limit but the call's own.
    """

    auth: AccountField | None = None
    username: Text | None = None
    password: Secret | None = None
    domain: str | None = None
    workstation: str | None = None
    cm_max_total: Connections = 10
    cm_default_max_per_route: Connections = 5
    http_connect_timeout: Milliseconds = 10_000
    http_connection_request_timeout: Milliseconds = 10_000
    http_socket_timeout: Milliseconds = 10_000

    @model_validator(mode="after")
    def _one_account(self) -> NtlmProfile:
        own = (self.username, self.password, self.domain, self.workstation)
        if self.auth is not None:
            if any(each is not None for each in own):
                refuse("holds the account already", "keep auth or username and password", at="auth")
        elif self.username is None or self.password is None:
            refuse("expected auth, or username and password", "auth: user:password@domain")
        else:
            self.account()
        return self

    def account(self) -> NtlmAuth:
        """The account, however it is written."""
        if self.auth is not None:
            return self.auth
        return NtlmAuth.model_validate(
            {
                "username": self.username,
                "password": self.password,
                "domain": self.domain,
                "workstation": self.workstation,
            }
        )
