"""New connections: which server, TLS, and the agent's login."""

from __future__ import annotations

from math import ceil
from typing import Any, Final

from attrs import define, field, frozen
from ldaptor.protocols import pureldap
from OpenSSL.SSL import Error as TLSError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError, ConnectionClosed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from workato_tunnel.problems import Problem

from ..handshakes import Handshake, Trust
from . import failures
from .connection import LdapConnection
from .failures import CONNECT_FAILURES, Lost
from .settings import LdapSettings, Server

AVOIDED: Final = 30.0
"""Seconds for which a server that did not answer is tried after the others."""
LOGIN_PAUSE: Final = 10.0
"""Seconds after a refused login in which none is tried, since directories lock accounts. Each time
it is refused again the pause is twice as long, up to :data:`LONGEST_PAUSE`."""
LONGEST_PAUSE: Final = 300.0
LEAST: Final = 1.0
"""Seconds that each server gets however many there are."""


@define
class _Attempt:
    """One server being tried. ``stage``: what is waited for: ``connect``, ``tls`` or ``login``."""

    server: Server
    stage: str = "connect"


@frozen
class _Refusal:
    """A login that was refused, and until when none is tried."""

    problem: Problem
    pause: float
    until: float

    def again(self, now: float) -> Problem:
        """The problem for one who comes in the meantime."""
        problem = self.problem
        left = ceil(self.until - now)
        return Problem(
            problem.code,
            problem.detail,
            hint=f"{problem.hint}; directories lock accounts, so it is tried again in {left} s",
            extra=problem.extra,
        )


@define(eq=False)
class Connector:
    """Makes connections for one profile.

    Raises ValueError for certificates that can't be used.
    """

    _reactor: Any
    _settings: LdapSettings
    _trust: Trust | None = field(init=False, default=None)
    _failed: dict[Server, float] = field(init=False, factory=dict)
    _refusal: _Refusal | None = field(init=False, default=None)
    _log: Logger = field(init=False, factory=Logger)

    def __attrs_post_init__(self) -> None:
        settings = self._settings
        if settings.starttls or any(server.secure for server in settings.servers):
            self._trust = Trust(settings.tls)

    def suspect(self, server: Server) -> None:
        """A server hangs: try it after the others for a while."""
        self._failed[server] = self._reactor.seconds()

    async def connect(self, deadline: float) -> LdapConnection:
        """A connection on which the agent is logged in, to the first server that answers.

        ``deadline`` is absolute. Raises Problem. A refused login is not tried elsewhere: the
        servers hold the same directory, and locked accounts.
        """
        now = self._reactor.seconds()
        if self._refusal is not None and now < self._refusal.until:
            raise self._refusal.again(now)
        problems: list[Problem] = []
        servers = self._in_order(now)
        for index, server in enumerate(servers):
            left = deadline - self._reactor.seconds()
            share = max(left / (len(servers) - index), LEAST)
            try:
                limit = min(self._settings.connect_timeout, share)
                connection = await self._try(_Attempt(server), limit)
            except Problem as problem:
                if problem.code == "target_login_failed":
                    self._refused(problem)
                    raise
                self.suspect(server)
                problems.append(problem)
                if len(servers) > 1:
                    self._log.warn(
                        "A directory server can't be used: {why}",
                        event="ldap_server_unusable",
                        why=problem.detail,
                    )
            else:
                self._refusal = None
                return connection
        raise failures.together(problems)

    def _refused(self, problem: Problem) -> None:
        before = self._refusal
        pause = LOGIN_PAUSE if before is None else min(before.pause * 2, LONGEST_PAUSE)
        self._refusal = _Refusal(problem, pause, self._reactor.seconds() + pause)

    def _in_order(self, now: float) -> list[Server]:
        self._failed = {
            server: when for server, when in self._failed.items() if now - when < AVOIDED
        }
        return sorted(self._settings.servers, key=lambda server: server in self._failed)

    async def _try(self, attempt: _Attempt, limit: float) -> LdapConnection:
        """Connect to one server within ``limit`` seconds. Raises Problem."""
        connecting = Deferred.fromCoroutine(self._establish(attempt, limit))
        connecting.addTimeout(limit, self._reactor)
        try:
            return await connecting
        except DeferredTimeout:
            raise failures.silent(attempt.server, attempt.stage, limit) from None

    async def _establish(self, attempt: _Attempt, limit: float) -> LdapConnection:
        server = attempt.server
        handshake = self._trust.handshake(server.host) if self._trust is not None else None
        endpoint: IStreamClientEndpoint = HostnameEndpoint(
            self._reactor, server.host, server.port, timeout=limit
        )
        if server.secure and handshake is not None:
            endpoint = wrapClientTLS(handshake, endpoint)
        connection = await self._open(attempt, endpoint)
        try:
            if server.secure and handshake is not None:
                await self._secured(attempt, connection, handshake)
            elif self._settings.starttls and handshake is not None:
                await self._starttls(attempt, connection, handshake)
            await self._log_in(attempt, connection)
        except Lost as error:
            raise failures.lost(server, error, connection.greeting, login=True) from error
        except BaseException:
            connection.fail("closed", "the agent could not log in on it")
            raise
        self._failed.pop(server, None)
        return connection

    async def _open(self, attempt: _Attempt, endpoint: IStreamClientEndpoint) -> LdapConnection:
        server = attempt.server
        factory = _ConnectionFactory.of(lambda: LdapConnection(server, self._reactor))
        connecting = endpoint.connect(factory)
        given_up = False

        def give_up(_opened: object) -> None:
            nonlocal given_up
            given_up = True
            connecting.cancel()

        # An endpoint's own failures on cancellation can't be told from others: a name is "unknown".
        opened: Deferred[Any] = Deferred(give_up)
        connecting.addCallbacks(opened.callback, opened.errback)
        try:
            connection: LdapConnection = await opened
        except (*CONNECT_FAILURES, ConnectingCancelledError) as error:
            if given_up:
                raise CancelledError from error
            raise failures.not_connected(server, error) from error
        return connection

    async def _secured(
        self, attempt: _Attempt, connection: LdapConnection, handshake: Handshake
    ) -> None:
        attempt.stage = "tls"
        try:
            await connection.secured
        except (ConnectionClosed, TLSError) as error:
            raise failures.tls_failed(attempt.server, handshake.refusal or error) from error

    async def _starttls(
        self, attempt: _Attempt, connection: LdapConnection, handshake: Handshake
    ) -> None:
        attempt.stage = "login"
        result = await connection.send(pureldap.LDAPStartTLSRequest()).result()
        if result.code != failures.SUCCESS:
            raise failures.no_starttls(attempt.server, result)
        connection.start_tls(handshake)
        await self._secured(attempt, connection, handshake)

    async def _log_in(self, attempt: _Attempt, connection: LdapConnection) -> None:
        attempt.stage = "login"
        settings = self._settings
        request = pureldap.LDAPBindRequest(dn=settings.username, auth=settings.password)
        result = await connection.send(request).result()
        if result.code != failures.SUCCESS:
            what = f"{attempt.server}: the login"
            raise failures.refused(result, what, login=True)


class _ConnectionFactory(Factory):
    noisy = False

    @classmethod
    def of(cls, make: Any) -> _ConnectionFactory:
        factory = cls()
        factory.protocol = make
        return factory

    def buildProtocol(self, _address: object) -> LdapConnection:
        connection: LdapConnection = self.protocol()  # type: ignore[assignment,misc]
        return connection
