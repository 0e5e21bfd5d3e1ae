"""URLs of message brokers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from .fields import refuse, split_url

STOMP_PORTS: Final = {"stomp": 61613, "stomp+ssl": 61614}
AMQP_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_JAVA: Final = ("tcp", "ssl", "nio", "nio+ssl")
_EXAMPLE: Final = (
    "tcp://broker:61616, stomp+ssl://broker:61614, failover:(ssl://a:61617,ssl://b:61617)"
)
_SECRETS: Final = re.compile(r"(?i)passw|secret|username=|userinfo")


@frozen
class BrokerUrl:
    """Where a broker, or those that stand in for one another, listen.

    :ivar text: as it was written, for a Java client.
    :ivar scheme: of all of them.
    :ivar addresses: host and port of each.
    """

    text: str
    scheme: str
    addresses: tuple[tuple[str, int], ...]

    @property
    def java(self) -> bool:
        """Whether ActiveMQ's own protocol is spoken, by its Java client."""
        return self.scheme in _JAVA

    @property
    def encrypted(self) -> bool:
        """Whether it is TLS."""
        return self.scheme.endswith("ssl") or self.scheme == "amqps"


def activemq_url(text: str) -> BrokerUrl:
    """Parse ActiveMQ's ways to write a URL. Refuses others, unquoted."""
    _check(text)
    inner, options = text, ""
    failover = re.fullmatch(r"failover:(?://)?(?:\(([^()]*)\)|([^()?]+))(\?.*)?", text)
    if failover is not None:
        inner, options = failover[1] or failover[2] or "", failover[3] or ""
    elif text.startswith("failover:"):
        refuse("expected failover:(URL,URL)", f"for example {_EXAMPLE}")
    urls = inner.split(",") if failover is not None else [inner]
    found = _gather(
        text, urls, {**STOMP_PORTS, "tcp": 61616, "ssl": 61617, "nio": 61616, "nio+ssl": 61617}
    )
    if not found.java and (options or "?" in inner):
        refuse("options of a URL are the Java client's: with stomp:// there are none")
    return found


def amqp_urls(text: str) -> BrokerUrl:
    """Parse one amqp:// or amqps:// URL, or several with commas between. Refuses others."""
    _check(text)
    found = _gather(text, text.split(","), AMQP_PORTS)
    if re.search(r"[?#]", text) or re.search(r"://[^/,]*/[^,]", text):
        refuse("expected a URL without path and options", "for example amqps://broker:5671")
    return found


def _check(text: str) -> None:
    if re.search(r"(?i)(^|[:(,/])vm:", text):
        refuse(
            "vm:// is a broker inside a Java program: the agent has none",
            "give the URL of a broker's transport connector, for example tcp://broker:61616",
        )
    if re.search(r"[\s\x00-\x1f\x7f]", text):
        refuse("a URL holds no spaces or control characters")
    if "@" in text or _SECRETS.search(text):
        refuse("expected a URL without credentials", "write username and password as keys")


def _gather(text: str, urls: list[str], ports: Mapping[str, int]) -> BrokerUrl:
    addresses, schemes = [], []
    for url in urls:
        parts = split_url(url, tuple(ports), _EXAMPLE if "tcp" in ports else "amqps://broker:5671")
        schemes.append(parts.scheme)
        addresses.append((parts.hostname or "", parts.port or ports[parts.scheme]))
    if len(set(schemes)) != 1:
        refuse("expected the same protocol in every URL")
    return BrokerUrl(text, schemes[0], tuple(addresses))
