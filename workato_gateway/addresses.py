"""Addresses as operators write them: where to listen, how to be reached, who may come."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from attrs import field, frozen

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_HOST: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?")


@frozen
class Listen:
    """Where to listen: an IP address and a port (0: any free one)."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Only this machine gets there."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(value: object) -> Listen:
    """``ADDRESS:PORT``, ``[IPv6]:PORT`` or ``localhost:PORT``. Raises ValueError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+)):(\d{1,5})", str(value))
    if match is None or int(match[3]) > 65535:
        raise ValueError("expected ADDRESS:PORT, as 0.0.0.0:8443 or [::]:8443")
    host = match[1] or match[2]
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ValueError(f"expected an IP address before the port, not {host!r}") from None
    return Listen(str(address), int(match[3]))


@frozen
class PublicUrl:
    """How agents reach the tunnel listener. ``port`` is 443 where the URL has none."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """``host`` or ``host:port``, as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"

    @property
    def tunnel(self) -> str:
        """Where an agent dials."""
        return f"wss://{self.authority}/tunnel"

    def __str__(self) -> str:
        return f"https://{self.authority}"


def parse_public_url(value: object) -> PublicUrl:
    """``https://HOST[:PORT]``. Raises ValueError."""
    expected = "expected https://HOST or https://HOST:PORT, without a path"
    try:
        parts = urlsplit(str(value))
        port = parts.port
    except ValueError:
        raise ValueError(expected) from None
    host = parts.hostname or ""
    if (
        parts.scheme != "https"
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
        or port == 0
    ):
        raise ValueError(expected)
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST.fullmatch(host):
            raise ValueError(expected) from None
    return PublicUrl(host, port or 443)


@frozen
class EndpointUrl:
    """Where events are posted. The path may be a secret of the receiver's: only the host is shown.

    :ivar text: the whole URL.
    """

    text: str = field(repr=False)
    host: str

    @property
    def secure(self) -> bool:
        """HTTPS."""
        return self.text.startswith("https:")


def parse_endpoint_url(value: object) -> EndpointUrl:
    """``https://HOST[:PORT]/PATH``; ``http`` on a loopback address. Raises ValueError."""
    text = str(value)
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    known = bool(host) and parts.scheme in ("http", "https")
    if not known or not text.isascii() or "#" in text:
        raise ValueError("expected https://HOST[:PORT]/PATH")
    if "@" in parts.netloc:
        raise ValueError("holds a user or password: receivers check the signature instead")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("holds a space or a control character")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("plain HTTP is for a loopback address only: use https://")
    return EndpointUrl(text, host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_network(value: object) -> IPNetwork:
    """``10.0.0.0/8``, or one address. Raises ValueError."""
    try:
        return ipaddress.ip_network(str(value))
    except ValueError as error:
        raise ValueError(f"expected a network such as 10.0.0.0/8: {error}") from None


def admits(networks: tuple[IPNetwork, ...], address: str) -> bool:
    """Whether an IP address lies in one of the networks. IPv4 in IPv6 counts as IPv4."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip.version == network.version and ip in network for network in networks)
