"""Connecting to a broker: its addresses in turn, TCP and TLS, and what to say when it fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

from attrs import define, frozen
from OpenSSL.SSL import Error as TLSError
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.protocol import Factory, Protocol

from workato_tunnel.problems import Problem

from ..handshakes import Handshake, TlsSettings, Trust, openssl_words
from .settings import Address

T = TypeVar("T")
P = TypeVar("P", bound=Protocol)
_NEXT: Final = frozenset({"target_unreachable", "target_tls_failed"})
"""Problems of an address after which the next one is tried."""


@frozen
class Dialled(Generic[P]):
    """A connection whose TCP stands; TLS may still fail while the first bytes are awaited."""

    protocol: P
    address: Address
    handshake: Handshake | None

    def problem(self, reason: BaseException | None) -> Problem:
        """Why the connection was lost before the login had ended."""
        return lost_problem(self.address, self.handshake, reason)


@define(eq=False)
class Dialler:
    """Dials the addresses of one profile."""

    _reactor: Any
    addresses: tuple[Address, ...]
    _trust: Trust | None
    _timeout: float

    @classmethod
    def of(
        cls, reactor: Any, addresses: tuple[Address, ...], tls: TlsSettings | None, timeout: float
    ) -> Dialler:
        """Raises ValueError for TLS settings that can't be used."""
        return cls(reactor, addresses, None if tls is None else Trust(tls), timeout)

    async def first(self, attempt: Callable[[Address], Awaitable[T]]) -> T:
        """What ``attempt`` (connecting and logging in) gives for the first address that answers.

        Raises Problem: the only one, or one that tells of every address. One that is not about
        reaching the broker, as a refused login, is final.
        """
        problems: list[Problem] = []
        for address in self.addresses:
            try:
                return await attempt(address)
            except Problem as problem:
                if problem.code not in _NEXT:
                    raise
                problems.append(problem)
        if len(problems) == 1:
            raise problems[0]
        raise Problem(
            "target_unreachable",
            "; ".join(problem.detail for problem in problems),
            hint=problems[0].hint,
        )

    async def dial(self, address: Address, make: Callable[[], P]) -> Dialled[P]:
        """Connect to one address. Raises Problem ``target_unreachable``."""
        timeout = self._timeout
        endpoint: Any = HostnameEndpoint(self._reactor, address.host, address.port, timeout=timeout)
        handshake = None
        if self._trust is not None:
            handshake = self._trust.handshake(address.host)
            endpoint = wrapClientTLS(handshake, endpoint)
        protocol = make()
        connecting: Deferred[Any] = endpoint.connect(_factory(protocol))
        connecting.addTimeout(timeout + 1, self._reactor)
        try:
            await connecting
        except (ConnectError, DNSLookupError, DeferredTimeout, OSError) as error:
            raise _unreachable(address, error, timeout) from None
        return Dialled(protocol, address, handshake)


def _factory(protocol: Protocol) -> Factory:
    return Factory.forProtocol(lambda: protocol)


def lost_problem(
    address: Address, handshake: Handshake | None, reason: BaseException | None
) -> Problem:
    """Why a connection that had no login yet was lost."""
    extra = {"host": address.host, "port": address.port}
    if handshake is not None and handshake.refusal is not None:
        refusal = handshake.refusal
        detail = f"{address}: {refusal.detail}"
        return Problem("target_tls_failed", detail, hint=refusal.hint, extra=extra)
    if isinstance(reason, TLSError):
        return Problem(
            "target_tls_failed",
            f"{address}: the TLS handshake failed: {openssl_words(reason)}",
            hint="check that this port speaks TLS, and whether it asks for a client certificate",
            extra=extra,
        )
    return Problem(
        "target_unreachable",
        f"{address}: the connection was closed before the login had ended",
        hint="check that this port speaks the profile's protocol, and the broker's log",
        extra=extra,
    )


def _unreachable(address: Address, error: Exception, timeout: float) -> Problem:
    if isinstance(error, DNSLookupError):
        why, hint = "the name is not known", "check the profile's url, and DNS"
    elif isinstance(error, Refused):
        why, hint = "the connection was refused", "check the port, and that the broker runs"
    elif isinstance(error, ConnectTimeout | DeferredTimeout):
        why, hint = f"no answer within {timeout:g} s", "check firewalls on the way"
    else:
        why, hint = str(error) or type(error).__name__, "check the network on the agent's side"
    return Problem(
        "target_unreachable",
        f"{address}: {why}",
        hint=hint,
        extra={"host": address.host, "port": address.port},
    )
