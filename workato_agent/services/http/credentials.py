"""The profile's own credentials: added to every call, shown to nobody."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final

from attrs import Attribute, field, frozen

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN68: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


def _no_control(_instance: object, attribute: Attribute[str], value: str) -> None:
    if _CONTROL.search(value):
        raise ValueError(f"the {attribute.name} holds a control character")


def _no_colon(_instance: object, attribute: Attribute[str], value: str) -> None:
    if ":" in value:
        raise ValueError(
            f"the {attribute.name} holds a colon, which basic authentication can't carry"
        )


def _token68(_instance: object, attribute: Attribute[str], value: str) -> None:
    if not _TOKEN68.fullmatch(value):
        raise ValueError(
            f"the {attribute.name} is empty or holds a character that no bearer token has"
        )


@frozen
class Ntlm:
    """A Windows account, for NTLM.

    :ivar domain: where the account is; None leaves it to the target, or to a name as ``u@domain``.
    :ivar workstation: what the target is told this host is called; None: its own name.
    """

    username: str = field(repr=False)
    password: str = field(repr=False)
    domain: str | None = None
    workstation: str | None = None


@frozen
class Basic:
    """User and password (RFC 7617), sent as UTF-8.

    Raises ValueError for what the scheme can't carry.
    """

    username: str = field(repr=False, validator=[_no_control, _no_colon])
    password: str = field(repr=False, validator=_no_control)

    def authorization(self) -> str:
        """The value of the Authorization field."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + b64encode(pair).decode("ascii")


@frozen
class Bearer:
    """A bearer token (RFC 6750). Raises ValueError for what is no token."""

    token: str = field(repr=False, validator=_token68)

    def authorization(self) -> str:
        """The value of the Authorization field."""
        return "Bearer " + self.token
