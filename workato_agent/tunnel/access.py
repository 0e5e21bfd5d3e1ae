"""What the config says of the way to the gateway, as the objects that go it."""

from __future__ import annotations

from pathlib import Path

from ..config.options import GatewayOptions, ProxyOptions
from ..identity.keys import certificates_from_pem
from ..identity.store import Identity, IdentityError, load_identity
from ..identity.tls import PinnedAuthorities
from .proxy import ConnectProxy


def identity_of(gateway: GatewayOptions) -> Identity:
    """The agent's identity, which trusts ``gateway.ca`` where the config names a file.

    Raises NotEnrolled and IdentityError.
    """
    try:
        identity = load_identity(gateway.identity)
    except OSError as error:
        raise IdentityError(
            f"{gateway.identity}: {error.strerror}: ask as the agent's user or as root"
        ) from error
    if isinstance(gateway.ca, Path):
        try:
            pem = gateway.ca.read_bytes()
            identity.trust = PinnedAuthorities(tuple(certificates_from_pem(pem)))
        except OSError as error:
            raise IdentityError(f"gateway.ca: {gateway.ca}: {error.strerror}") from error
        except ValueError as error:
            raise IdentityError(
                f"gateway.ca: {gateway.ca}: not a certificate in PEM: {error}"
            ) from error
    return identity


def route_of(proxy: ProxyOptions | None) -> ConnectProxy | None:
    """The way through the config's proxy; None where there is none."""
    if proxy is None:
        return None
    password = None if proxy.password is None else proxy.password.reveal()
    return ConnectProxy(proxy.host, proxy.port, proxy.username, password)
