"""Opens PostgreSQL connections: resolves names, tries each address, tells why it failed."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from math import ceil
from pathlib import Path
from typing import Any, Final

import psycopg2
from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from workato_tunnel.problems import Problem

from ..settings import PostgresqlSettings
from ..work import Lane, Threads
from .postgresql_connection import Link, ReactorConnection, ThreadConnection
from .postgresql_errors import connect_problem, refused_by_peer
from .postgresql_probe import identify
from .postgresql_traits import Traits
from .postgresql_types import use_text

_SUSPICION_SECONDS: Final = 2.0
_WATCH: Final = "SET client_connection_check_interval = '2s'"
_WATCH_SINCE: Final = 140000
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


@implementer(IResolutionReceiver)
class _Addresses:
    """Collects what a name resolves to."""

    def __init__(self, done: Deferred[list[str]]) -> None:
        self._done = done
        self._found: list[str] = []

    def resolutionBegan(self, resolution: IHostResolution) -> None:  # noqa: N802
        """The resolver has begun."""

    def addressResolved(self, address: IAddress) -> None:  # noqa: N802
        """One more address."""
        self._found.append(address.host)  # type: ignore[attr-defined]

    def resolutionComplete(self) -> None:  # noqa: N802
        """That was all."""
        if not self._done.called:
            self._done.callback(self._found)


@define
class Login:
    """Opens connections to one server for one user.

    libpq would block in name resolution, so names are resolved by Twisted and it gets addresses;
    it keeps the name for the certificate.
    """

    _reactor: Any
    _settings: PostgresqlSettings
    _threads: Threads
    _cancels: Threads
    _traits: Traits

    async def open(self, kind: str) -> ReactorConnection | ThreadConnection:
        """A connection, logged in. Raises Problem that says how far it came."""
        settings = self._settings
        until = self._reactor.seconds() + settings.connect_timeout
        addresses = await self._resolve()
        failure = Problem("target_unreachable", f"{settings.host} has no address")
        for index, address in enumerate(addresses):
            left = (until - self._reactor.seconds()) / (len(addresses) - index)
            try:
                if kind == ReactorConnection.kind:
                    return await self._open_on_reactor(address, max(0.5, left))
                return await self._open_in_thread(address, max(0.5, left))
            except Problem as problem:
                failure = problem
                if problem.code != "target_unreachable":
                    break
        raise failure

    async def _resolve(self) -> list[str]:
        host = self._settings.host
        if host.startswith("/"):
            return [""]
        try:
            return [str(ip_address(host))]
        except ValueError:
            pass
        done: Deferred[list[str]] = Deferred()
        self._reactor.nameResolver.resolveHostName(_Addresses(done), host)
        found: list[str] = await _in_time(self._reactor, done, self._settings.connect_timeout)
        if not found:
            raise Problem(
                "target_unreachable",
                f"{host}:{self._settings.port}: the name {host} can't be resolved",
                hint="check the profile's host and the DNS of the agent's machine",
            )
        return found

    async def _open_on_reactor(self, address: str, seconds: float) -> ReactorConnection:
        link = Link(self._reactor)
        # It is given up by leaving it to itself: what txpostgres still says of it nobody wants.
        connecting: Deferred[Any] = Deferred()
        link.connect(**self._parameters(address)).addBoth(
            lambda result: None if connecting.called else connecting.callback(result)
        )
        try:
            await self._watched(connecting, address, seconds)
        except BaseException:
            if link.pollable() is not None:
                link.close()
            raise
        use_text(link.pollable().string_types, floats=False)
        connection = ReactorConnection(
            self._reactor, link, self._cancels, renewal=self._traits.renewal
        )
        if link.pollable().server_version >= _WATCH_SINCE:
            try:
                await connection.run(_WATCH)
                connection.watches = True
            except psycopg2.Error:
                # The server's system can't watch sockets.
                connection.watches = False
            except BaseException:
                await connection.close()
                raise
        return connection

    async def _open_in_thread(self, address: str, seconds: float) -> ThreadConnection:
        lane = Lane(self._threads)
        # libpq counts whole seconds, two at least.
        parameters = self._parameters(address) | {"connect_timeout": max(2, ceil(seconds))}
        opening: Deferred[Any] = Deferred.fromCoroutine(lane.run(_thd_connect, parameters))
        abandoned = False

        def keep_or_close(result: Any) -> Any:
            if abandoned and not hasattr(result, "trap"):
                Deferred.fromCoroutine(lane.run(result[0].close))
                return None
            return result

        opening.addBoth(keep_or_close)
        waiting: Deferred[Any] = Deferred()
        opening.addBoth(lambda result: None if waiting.called else waiting.callback(result))
        try:
            raw, watches = await self._watched(waiting, address, seconds + 2)
        except BaseException:
            abandoned = True
            raise
        return ThreadConnection(
            self._reactor, raw, lane, self._cancels, watches, self._traits.renewal
        )

    async def _watched(self, connecting: Deferred[Any], address: str, seconds: float) -> Any:
        """Wait for a connection; when that takes long, have a look at what is there."""
        settings = self._settings
        found: list[str] = []

        async def look() -> None:
            name = await identify(self._reactor, address, settings.port)
            if name is not None and not connecting.called:
                found.append(name)
                connecting.cancel()

        looking: list[Deferred[None]] = []
        suspicion = self._reactor.callLater(
            min(_SUSPICION_SECONDS, settings.connect_timeout / 2),
            lambda: looking.append(Deferred.fromCoroutine(look())),
        )
        try:
            return await _in_time(self._reactor, connecting, seconds)
        except psycopg2.Error as error:
            problem = connect_problem(error, settings)
            if address and refused_by_peer(problem):
                name = await identify(self._reactor, address, settings.port)
                if name is not None:
                    raise self._wrong_type(name) from None
            raise problem from None
        except CancelledError:
            if found:
                raise self._wrong_type(found[0]) from None
            raise
        except TimeoutError:
            raise Problem(
                "target_unreachable",
                f"{settings.host}:{settings.port}: no connection within {seconds:.3g} s",
                hint="check host, port and the firewalls between the agent and the server",
            ) from None
        finally:
            if suspicion.active():
                suspicion.cancel()
            for each in looking:
                each.addErrback(lambda failure: failure.trap(CancelledError))
                each.cancel()

    def _wrong_type(self, name: str) -> Problem:
        settings = self._settings
        return Problem(
            "target_wrong_type",
            f"{settings.host}:{settings.port}: {name} answers there, not PostgreSQL",
            hint="check the profile's host, port and adapter",
        )

    def _parameters(self, address: str) -> dict[str, Any]:
        settings = self._settings
        parameters: dict[str, Any] = {
            "host": settings.host,
            "port": settings.port,
            "dbname": settings.database,
            "user": settings.user,
            "sslmode": settings.tls,
            "gssencmode": "disable",
            "application_name": "workato-agent",
            "client_encoding": "UTF8",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        }
        if address:
            parameters["hostaddr"] = address
        if settings.password:
            parameters["password"] = settings.password
        authority = settings.ca_file
        if authority is None and settings.tls.startswith("verify-"):
            authority = _system_authorities()
        for name, path in (
            ("sslrootcert", authority),
            ("sslcert", settings.certificate_file),
            ("sslkey", settings.key_file),
        ):
            if path is not None:
                parameters[name] = str(path)
        return parameters


def _thd_connect(parameters: dict[str, Any]) -> tuple[Any, bool]:
    raw = psycopg2.connect(**parameters)
    raw.autocommit = True
    use_text(raw.string_types, floats=False)
    if raw.server_version < _WATCH_SINCE:
        return raw, False
    try:
        with raw.cursor() as cursor:
            cursor.execute(_WATCH)
    except psycopg2.Error:
        return raw, False
    return raw, True


def _system_authorities() -> Path | None:
    candidates = (ssl.get_default_verify_paths().cafile, *_BUNDLES)
    return next((Path(each) for each in candidates if each and Path(each).is_file()), None)


async def _in_time(reactor: Any, work: Deferred[Any], seconds: float) -> Any:
    """Wait for a Deferred; TimeoutError and its cancellation when it takes longer."""
    late: list[bool] = []

    def give_up() -> None:
        late.append(True)
        work.cancel()

    timeout = reactor.callLater(seconds, give_up)
    try:
        return await work
    except CancelledError:
        if late:
            raise TimeoutError from None
        raise
    finally:
        if timeout.active():
            timeout.cancel()
