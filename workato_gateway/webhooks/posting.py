"""One attempt to hand an event over: a POST over HTTPS, whose answer is its status alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from attrs import frozen
from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from ..addresses import EndpointUrl
from ..identity.authority import pem_of

CONNECT_TIMEOUT: Final = 10.0
ATTEMPT_TIMEOUT: Final = 20.0
"""Seconds that a receiver has from the connection's beginning to its status."""


@frozen
class Reply:
    """What a receiver answered. ``retry_after``: seconds that it asks for."""

    status: int
    retry_after: float | None = None

    @property
    def taken(self) -> bool:
        """The event is the receiver's now."""
        return 200 <= self.status < 300


class Post(Protocol):
    """Posts; any exception means that the event was not handed over."""

    async def __call__(self, url: EndpointUrl, fields: Mapping[str, str], body: bytes) -> Reply: ...


class HttpsPost:
    """A :class:`Post` over a connection of its own. Redirections are not followed.

    :param authorities: whom to trust instead of the system's trust store.
    """

    def __init__(self, reactor: Any, authorities: tuple[x509.Certificate, ...] = ()) -> None:
        self._reactor = reactor
        trusted = (
            trustRootFromCertificates(
                [Certificate.loadPEM(pem_of(each).encode()) for each in authorities]
            )
            if authorities
            else platformTrust()
        )
        self._agent = Agent(
            reactor,
            BrowserLikePolicyForHTTPS(trusted),
            connectTimeout=CONNECT_TIMEOUT,
            pool=HTTPConnectionPool(reactor, persistent=False),
        )

    async def __call__(self, url: EndpointUrl, fields: Mapping[str, str], body: bytes) -> Reply:
        """See :class:`Post`."""
        posted = Deferred.fromCoroutine(self._post(url, fields, body))
        return await posted.addTimeout(ATTEMPT_TIMEOUT, self._reactor)

    async def _post(self, url: EndpointUrl, fields: Mapping[str, str], body: bytes) -> Reply:
        headers = Headers({name: [value] for name, value in fields.items()})
        response: IResponse = await self._agent.request(
            b"POST", url.text.encode("ascii"), headers, _Body(body)
        )
        reply = Reply(response.code, _retry_after(response.headers))
        hung_up = _HangUp()
        response.deliverBody(hung_up)
        await hung_up.done
        return reply


def _retry_after(headers: Headers) -> float | None:
    """In seconds; the form with a date is not needed by any receiver known."""
    for value in headers.getRawHeaders("retry-after", []):
        if value.isdigit() and len(value) < 7:
            return float(value)
    return None


@implementer(IBodyProducer)
class _Body:
    """Small enough to be written at once."""

    def __init__(self, content: bytes) -> None:
        self.length = len(content)
        self._content = content

    def startProducing(self, consumer: Any) -> Deferred[None]:  # noqa: N802
        consumer.write(self._content)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def pauseProducing(self) -> None:
        """Nothing goes on."""

    def resumeProducing(self) -> None:
        """Nothing waits."""

    def stopProducing(self) -> None:
        """Nothing to stop."""


class _HangUp(TwistedProtocol):
    """Whatever the receiver has to say beyond its status, nobody reads it."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.loseConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.done.callback(None)
