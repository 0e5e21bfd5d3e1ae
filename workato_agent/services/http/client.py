"""An HTTP/1.1 client for one origin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, cast

from OpenSSL.SSL import Error as TLSError
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import ConnectingCancelledError, ConnectionClosed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from workato_tunnel.problems import Problem

from .. import greetings
from ..handshakes import Trust
from . import failures
from .connection import HttpConnection
from .credentials import Ntlm
from .failures import CONNECT_FAILURES, ConnectionDied
from .messages import Incoming, Outgoing
from .ntlm import NtlmLogin
from .pool import ConnectionPool
from .settings import HttpSettings
from .suspicion import identify
from .target import Origin

_IDEMPOTENT: Final = frozenset(
    {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PROPFIND", "REPORT", "SEARCH"}
)
"""Methods that may be sent twice (RFC 9110 section 9.2.2, RFC 4918, 3253, 5323)."""


Exchange = Callable[[HttpConnection, Outgoing], Awaitable[Incoming]]
"""Sends a request on a connection and waits for the head of its answer."""


class HttpClient:
    """Sends requests to one origin over kept connections.

    :param reactor: IReactorTime, IReactorTCP and IReactorPluggableNameResolver.
    """

    def __init__(self, reactor: IReactorTime, settings: HttpSettings, origin: Origin) -> None:
        self._reactor = reactor
        self._origin = origin
        self._timeout = settings.connect_timeout
        self.read_timeout = settings.read_timeout
        self._exchange: Exchange = HttpConnection.exchange
        if isinstance(settings.auth, Ntlm):
            self._exchange = NtlmLogin(settings.auth, origin).exchange
        self._trust = Trust(settings.tls()) if origin.secure else None
        self._endpoint = _endpoint(reactor, origin, self._timeout)
        self._answered = False
        self.pool = ConnectionPool(reactor, settings, self._connect)

    async def call(self, request: Outgoing, deadline: float) -> Incoming:
        """Send a request and wait for its response's head.

        A request that a kept connection proved too dead for is sent once more on a new one, where
        that can't do anything twice. Raises Problem, and what the request's body raises.
        """
        connection = self.pool.take() or await self.pool.fresh(deadline)
        reused = connection.served > 0
        try:
            answer = await self._exchange(connection, request)
        except ConnectionDied as died:
            if not (reused and _repeatable(request, died)):
                name = greetings.describe(connection.greeting) or await self._other_name()
                raise self._unanswered(request, died, name, reused=False) from died
        else:
            self._answered = True
            return answer
        connection = await self.pool.fresh(deadline)
        try:
            return await self._exchange(connection, request)
        except ConnectionDied as died:
            raise self._unanswered(request, died, None, reused=True) from died

    def _unanswered(
        self, request: Outgoing, died: ConnectionDied, name: str | None, *, reused: bool
    ) -> Problem:
        if name is not None:
            return failures.another(self._origin, name)
        if died.reason is not None and died.reason.check(TLSError):
            # In TLS 1.3 a server may refuse the client when that has its handshake behind it.
            return failures.tls_failed(self._origin, cast("TLSError", died.reason.value))
        safe = request.method in _IDEMPOTENT
        return failures.closed_early(self._origin, reused=reused, idempotent=safe)

    async def _other_name(self) -> str | None:
        """Who hung up, unless that is an HTTP application for all we know."""
        return None if self._answered else await identify(self._reactor, self._endpoint)

    async def close(self) -> None:
        """Close every connection."""
        await self.pool.close()

    async def _connect(self) -> HttpConnection:
        started = self._reactor.seconds()
        try:
            return await self._attempt(started)
        except CONNECT_FAILURES as error:
            raise failures.not_connected(self._origin, error, self._timeout) from error

    async def _attempt(self, started: float) -> HttpConnection:
        factory = _ConnectionFactory(self._reactor, self._origin, self)
        endpoint = self._endpoint
        handshake = self._trust.handshake(self._origin.host) if self._trust is not None else None
        if handshake is not None:
            endpoint = wrapClientTLS(handshake, endpoint)
        connecting = endpoint.connect(factory)
        connecting.addTimeout(self._timeout, self._reactor, onTimeoutCancel=_timed_out)
        try:
            connection = cast("HttpConnection", await connecting)
        except ConnectingCancelledError as error:
            raise CancelledError from error
        if handshake is None:
            return connection
        left = self._timeout - (self._reactor.seconds() - started)
        connection.secured.addTimeout(max(left, 0), self._reactor)
        try:
            await connection.secured
        except CONNECT_FAILURES as error:
            if handshake.refusal is not None:
                raise failures.tls_failed(self._origin, handshake.refusal) from error
            if isinstance(error, ConnectionClosed) and (name := await self._other_name()):
                raise failures.another(self._origin, name) from error
            raise failures.tls_failed(self._origin, error) from error
        finally:
            if not connection.is_secured:
                connection.abort()
        return connection


class _ConnectionFactory(Factory):
    noisy = False

    def __init__(self, clock: IReactorTime, origin: Origin, client: HttpClient) -> None:
        self._clock = clock
        self._origin = origin
        self._client = client

    def buildProtocol(self, _address: object) -> HttpConnection:
        client = self._client
        return HttpConnection(self._clock, self._origin, client.pool, client.read_timeout)


def _endpoint(reactor: IReactorTime, origin: Origin, timeout: float) -> IStreamClientEndpoint:
    """An address is dialled as it is; a name is resolved each time, all its addresses tried."""
    for kind, recognised in (
        (TCP4ClientEndpoint, isIPAddress),
        (TCP6ClientEndpoint, isIPv6Address),
    ):
        if recognised(origin.host):
            return kind(reactor, origin.host, origin.port, timeout=timeout)
    return HostnameEndpoint(reactor, origin.host, origin.port, timeout=timeout)


def _timed_out(_cancelled: object, seconds: float) -> NoReturn:
    raise DeferredTimeout(seconds)


def _repeatable(request: Outgoing, died: ConnectionDied) -> bool:
    """Whether sending a request again can't do its work twice."""
    upload = request.upload
    if upload is None:
        return died.unsent or request.method in _IDEMPOTENT
    if not upload.begun:
        return True  # the target never had the whole request
    return upload.replayable and (died.unsent or request.method in _IDEMPOTENT)
