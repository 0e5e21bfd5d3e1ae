"""Where the gateway is and who calls, from the command line or the environment."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from attrs import field, frozen


class SettingsError(ValueError):
    """Something is missing or can't be. The message says what to set."""


@frozen
class Settings:
    """How to reach a group's profiles.

    :ivar url: of the gateway's API, without a path.
    :ivar ca: PEM file of whom to trust instead of the system's authorities.
    """

    url: str
    group: str
    token: str = field(repr=False)
    ca: Path | None = None

    @classmethod
    def of(
        cls,
        url: str | None = None,
        group: str | None = None,
        ca: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Settings:
        """What is given, and for the rest ONPREM_URL, ONPREM_GROUP, ONPREM_CA; the token from
        ONPREM_TOKEN, since a command line is seen by others. Raises SettingsError."""
        environ = os.environ if environ is None else environ
        url = url or environ.get("ONPREM_URL", "")
        group = group or environ.get("ONPREM_GROUP", "")
        token = environ.get("ONPREM_TOKEN", "")
        authority = ca or environ.get("ONPREM_CA", "")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError("set ONPREM_URL or --url to the gateway, as https://gw.example")
        if not group:
            raise SettingsError("set ONPREM_GROUP or --group to the group of agents")
        if not token:
            raise SettingsError("set ONPREM_TOKEN to a token of the gateway")
        if authority and not Path(authority).is_file():
            raise SettingsError(f"{authority}: there is no such file (ONPREM_CA)")
        return cls(url.rstrip("/"), group, token, Path(authority) if authority else None)

    def socket_url(self, service: str, profile: str) -> str:
        """The WebSocket's URL of a profile."""
        path = "/".join(quote(part, safe="") for part in (self.group, service, profile))
        return f"ws{self.url.removeprefix('http')}/v1/groups/{path}"

    def tls(self) -> ssl.SSLContext | None:
        """How to verify the gateway; None for plain HTTP."""
        if self.url.startswith("http:"):
            return None
        return ssl.create_default_context(cafile=self.ca)
