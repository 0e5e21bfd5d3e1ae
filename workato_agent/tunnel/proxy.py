"""Out to the gateway through an HTTP proxy: CONNECT (RFC 9110, 9.3.6) with Basic credentials.

TLS with the gateway runs inside, so the proxy sees a name, a port and ciphertext.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final, NoReturn, cast

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,  # noqa: A004
    DNSLookupError,
    NoProtocol,
    NoRouteError,
    TimeoutError,  # noqa: A004
)
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

TIMEOUT: Final = 30.0
LARGEST_HEAD: Final = 16 * 1024
_HTTP: Final = b"HTTP/1."
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: ([^\r\n]*))?\r?\n")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_CHALLENGE: Final = re.compile(rb"^proxy-authenticate:[ \t]*([\w-]+)", re.IGNORECASE | re.MULTILINE)


class ProxyError(ConnectError):
    """The proxy did not let us through. The message is a sentence for the admin."""

    def __init__(self, message: str) -> None:
        super().__init__(string=message)

    def __str__(self) -> str:
        return str(self.args[0])


@frozen
class ConnectProxy:
    """Section ``proxy`` of the config.

    :ivar timeout: seconds for reaching the proxy and hearing its answer to CONNECT.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout: float = TIMEOUT

    def endpoint(self, reactor: Any, host: str, port: int) -> IStreamClientEndpoint:
        """An endpoint whose connections carry plain bytes to and from ``host:port``.

        It fails with :class:`ProxyError`.
        """
        return _ConnectEndpoint(reactor, self, _authority(host, port))

    @property
    def authority(self) -> str:
        """The proxy itself, as errors name it."""
        return _authority(self.host, self.port)


def _authority(host: str, port: int) -> str:
    if re.search(r"[\s\x00-\x20\x7f/@]", host):
        raise ValueError(f"{host!r} is no host name")
    if ":" in host:
        return f"[{host}]:{port}"
    return f"{host if host.isascii() else host.encode('idna').decode()}:{port}"


@implementer(IStreamClientEndpoint)
class _ConnectEndpoint:
    def __init__(self, reactor: Any, proxy: ConnectProxy, target: str) -> None:
        self._reactor = reactor
        self._proxy = proxy
        self._target = target

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        proxy = self._proxy
        connecting = Deferred.fromCoroutine(self._connect(protocolFactory))

        def too_late(_: object, seconds: float) -> NoReturn:
            raise ProxyError(
                f"the proxy {proxy.authority} did not answer within {seconds:g} s:"
                " it is down, or a firewall drops the way to it"
            )

        return connecting.addTimeout(proxy.timeout, self._reactor, onTimeoutCancel=too_late)

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        proxy = self._proxy
        endpoint = HostnameEndpoint(self._reactor, proxy.host, proxy.port, timeout=proxy.timeout)
        try:
            negotiation = await endpoint.connect(_Negotiations(proxy, self._target, factory))
        except (ConnectError, DNSLookupError) as error:
            raise ProxyError(f"the proxy {proxy.authority}: {_reason(error)}") from error
        return await cast("_Negotiation", negotiation).answered


def _reason(error: ConnectError | DNSLookupError) -> str:
    if isinstance(error, DNSLookupError):
        return "its name is unknown to DNS here"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: is it running, and is the port right?"
    if isinstance(error, TimeoutError):
        return "no answer to the connection attempt"
    if isinstance(error, NoRouteError):
        return "no route to it"
    return str(error)


class _Negotiations(Factory):
    noisy = False

    def __init__(self, proxy: ConnectProxy, target: str, factory: IProtocolFactory) -> None:
        self._arguments = (proxy, target, factory)

    def buildProtocol(self, addr: object) -> _Negotiation:
        return _Negotiation(*self._arguments)


class _Negotiation(Protocol):
    """Asks the proxy, then hands the connection over to the protocol that wanted it.

    :ivar answered: fires with that protocol, or fails with ProxyError. Cancelling it aborts.
    """

    def __init__(self, proxy: ConnectProxy, target: str, factory: IProtocolFactory) -> None:
        self.answered: Deferred[IProtocol] = Deferred(self._abort)
        self._proxy = proxy
        self._target = target
        self._factory = factory
        self._head = b""
        self._inner: IProtocol | None = None
        self._over = False

    def connectionMade(self) -> None:
        lines = [
            f"CONNECT {self._target} HTTP/1.1",
            f"Host: {self._target}",
            "User-Agent: workato-agent",
        ]
        if self._proxy.username is not None:
            pair = f"{self._proxy.username}:{self._proxy.password or ''}".encode()
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}")
        self._connection().write("\r\n".join([*lines, "", ""]).encode("ascii"))

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
        elif not self._over:
            self._head += data
            self._read_head()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
            self._factory.doStop()
        elif not self._over:
            self._refuse("it closed the connection instead of answering CONNECT")

    def _read_head(self) -> None:
        end = _HEAD_END.search(self._head)
        status = _STATUS.match(self._head)
        if status is None and not _HTTP.startswith(self._head[: len(_HTTP)]):
            self._refuse("what answers there is not an HTTP proxy")
        elif end is None or status is None:
            if end is not None:
                self._refuse("what answers there is not an HTTP proxy")
            elif len(self._head) > LARGEST_HEAD:
                self._refuse("its answer to CONNECT has no end")
        elif status[1].startswith(b"2"):
            self._hand_over(self._head[end.end() :])
        else:
            self._refuse(self._refusal(int(status[1]), _printable(status[2] or b"")))

    def _refusal(self, status: int, reason: str) -> str:
        if status in (401, 407):  # tinyproxy says 401 to wrong credentials
            schemes = {each.decode().lower() for each in _CHALLENGE.findall(self._head)}
            if schemes and "basic" not in schemes:
                return (
                    f"it wants {', '.join(sorted(schemes))} credentials; only basic is known here"
                )
            if self._proxy.username is None:
                return "it asks for credentials: set proxy.username and proxy.password"
            return "it refuses the credentials of proxy.username and proxy.password"
        answer = f"HTTP {status} {reason}".rstrip()
        if status == 403:
            return f"it forbids the way to {self._target} ({answer}): have its admin allow it"
        if status in (400, 404, 405, 501):
            return f"it does not do CONNECT ({answer})"
        if status in (502, 503, 504):
            return f"it can't reach {self._target} ({answer})"
        return f"it answers {answer} to CONNECT {self._target}"

    def _refuse(self, reason: str) -> None:
        self._over = True
        self._connection().abortConnection()
        self.answered.errback(ProxyError(f"the proxy {self._proxy.authority}: {reason}"))

    def _hand_over(self, early: bytes) -> None:
        self._over = True
        self._head = b""
        connection = self._connection()
        self._factory.doStart()
        inner = self._factory.buildProtocol(connection.getPeer())
        if inner is None:
            self._factory.doStop()
            connection.abortConnection()
            self.answered.errback(NoProtocol())
            return
        self._inner = inner
        inner.makeConnection(connection)
        if early:
            inner.dataReceived(early)
        self.answered.callback(inner)

    def _abort(self, _: Deferred[IProtocol]) -> None:
        self._over = True
        self._connection().abortConnection()

    def _connection(self) -> ITCPTransport:
        if self.transport is None:
            raise RuntimeError("not connected")
        return ITCPTransport(self.transport)


def _printable(text: bytes) -> str:
    return "".join(each for each in text[:200].decode("latin-1") if each.isprintable())
