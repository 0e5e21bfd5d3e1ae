"""Connections that look at what answers as the gateway, and take no session of an agent's."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, Final

from attrs import frozen
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from workato_tunnel.tx.tls import PromptTLSFactory

from ..identity.tls import tls_failure
from .protocol import AgentTunnel, AgentTunnelFactory

LARGEST_HEAD: Final = 16 * 1024
_DATE: Final = re.compile(rb"^date:[ \t]*([^\r\n]{1,64})", re.IGNORECASE | re.MULTILINE)
_CLOSE_NORMAL: Final = 1000
_UPGRADE_REFUSED: Final = re.compile(r"upgrade failed \[(\d{3})\]: ?(.*?)\)?$")


@implementer(IOpenSSLClientConnectionCreator)
class Unverified:
    """TLS that takes any certificate and shows none: for looking at what comes, nothing else."""

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        self._context: SSL.Context = CertificateOptions(verify=False).getContext()

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N803
        """See the interface."""
        connection = SSL.Connection(self._context, None)
        if not (isIPAddress(self._hostname) or isIPv6Address(self._hostname)):
            connection.set_tlsext_host_name(self._hostname.encode("idna"))
        return connection


@implementer(IHandshakeListener)
class HeadRequest(Protocol):
    """Asks for the head of ``/``.

    :ivar secured: fires when the TLS handshake is done, with the server's certificates, its own
        first; fails with why the connection was lost before.
    :ivar date: fires with the ``Date`` of the answer, None where none comes, and our clock's Unix
        seconds halfway between question and answer.
    """

    def __init__(self, authority: str) -> None:
        self.secured: Deferred[Sequence[x509.Certificate]] = Deferred()
        self.date: Deferred[tuple[str | None, float]] = Deferred()
        self._authority = authority
        self._head = b""
        self._asked_at = 0.0

    def handshakeCompleted(self) -> None:  # noqa: N802
        """See IHandshakeListener."""
        transport: Any = self.transport
        chain = transport.getHandle().get_peer_cert_chain() or []
        if not self.secured.called:
            self.secured.callback([each.to_cryptography() for each in chain])
        self._asked_at = time.time()
        request = f"HEAD / HTTP/1.1\r\nHost: {self._authority}\r\nConnection: close\r\n\r\n"
        transport.write(request.encode("idna" if not self._authority.isascii() else "ascii"))

    def dataReceived(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > LARGEST_HEAD:
            found = _DATE.search(self._head)
            if not self.date.called:
                date = None if found is None else found[1].decode("latin-1").strip()
                self.date.callback((date, (self._asked_at + time.time()) / 2))
            self.drop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.secured.called:
            self.secured.errback(reason)
        if not self.date.called:
            self.date.callback((None, time.time()))

    def drop(self) -> None:
        """End the connection."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


@frozen
class Verdict:
    """Whether the gateway would let the agent in.

    :ivar status: of its HTTP answer, where it refused with one.
    """

    admitted: bool
    reason: str = ""
    status: int | None = None


class Doorstep:
    """Goes as far as the gateway's answer to the WebSocket handshake, and leaves without HELLO.

    The gateway judges the agent before it answers; a session begins, or changes hands, with HELLO
    only. So a running agent's session is not touched. (A :class:`.protocol.TunnelOwner`.)

    :ivar verdict: fires when the connection is over.
    """

    def __init__(self, reactor: Any, url: str, software: str) -> None:
        self.verdict: Deferred[Verdict] = Deferred()
        self._admitted = False
        self._socket: AgentTunnel | None = None
        self._factory = AgentTunnelFactory(url, self, reactor, software)

    async def connect(
        self, endpoint: IStreamClientEndpoint, tls: IOpenSSLClientConnectionCreator, reactor: Any
    ) -> Verdict:
        """The gateway's verdict. Raises what connecting raises."""
        wrapped = await endpoint.connect(PromptTLSFactory(tls, True, self._factory, reactor))
        socket: Any = wrapped.wrappedProtocol  # type: ignore[attr-defined]  # TLSMemoryBIOProtocol's
        try:
            return await self.verdict
        finally:
            socket.abort()

    def opened(self, socket: AgentTunnel) -> None:
        """Let in: that is all we came for."""
        self._admitted = True
        socket.close(_CLOSE_NORMAL, "only a check")

    def hello(self, socket: AgentTunnel, message: bytes) -> None:
        """Not asked for."""

    def message(self, socket: AgentTunnel, message: bytes) -> None:
        """Not asked for."""

    def session_closed(self, socket: AgentTunnel, reason: str) -> None:
        """There is none."""

    def closed(self, socket: AgentTunnel, reason: str, refused: bool) -> None:
        """The end, one way or the other."""
        if self.verdict.called:
            return
        if self._admitted:
            self.verdict.callback(Verdict(admitted=True))
            return
        error = socket.lost_reason.value if socket.lost_reason is not None else None
        answer = _UPGRADE_REFUSED.search(reason)
        if answer is not None:
            verdict = Verdict(admitted=False, reason=answer[2], status=int(answer[1]))
        else:
            words = (error is not None and tls_failure(error)) or reason
            verdict = Verdict(admitted=False, reason=words)
        self.verdict.callback(verdict)


def head_request(authority: str) -> tuple[HeadRequest, Factory[HeadRequest]]:
    """The protocol, and a factory that gives it to the one connection."""
    probe = HeadRequest(authority)
    factory = Factory.forProtocol(lambda: probe)
    factory.noisy = False
    return probe, factory
