"""Turning an activation code into an identity: one exchange with the gateway, no trust needed.

The code pins the gateway's CA, so the gateway is authenticated before the code's secret leaves.
The key is made here and stays here; only a signing request goes out.
"""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol
from urllib.parse import urlsplit

import msgspec
import treq
from attrs import frozen
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,  # noqa: A004
    DNSLookupError,
    NoRouteError,
    TimeoutError,  # noqa: A004
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI, Agent, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from workato_tunnel.activation import (
    ActivationCode,
    ActivationCodeError,
    EnrolmentAnswer,
    EnrolmentRequest,
)

from .keys import (
    CertificateUnfit,
    PrivateKey,
    certificates_from_pem,
    check_certificate,
    fingerprint,
    generate_key,
    signing_request,
)
from .store import (
    Credentials,
    Facts,
    Identity,
    IdentityError,
    NotEnrolled,
    load_identity,
    prepare_directory,
    save_identity,
)
from .tls import GatewayTLS, PinnedFingerprint, tls_failure

TIMEOUT: Final = 30.0
_LARGEST_ANSWER: Final = 256 * 1024


class EnrolmentError(Exception):
    """The agent could not be enrolled. The message is for the admin and never holds the code."""


class Route(Protocol):
    """A way out to the gateway other than a direct one, as an HTTP proxy.

    Its endpoints fail with ConnectError subclasses whose text an admin understands.
    """

    def endpoint(self, reactor: Any, host: str, port: int) -> IStreamClientEndpoint:
        """An endpoint whose connections carry plain bytes to and from ``host:port``."""
        ...


@frozen
class EnrolmentResult:
    """Who the agent is now."""

    directory: Path
    agent_id: str
    name: str
    group: str
    gateway_url: str
    expires: datetime


async def enrol(
    code: str,
    directory: Path,
    *,
    reactor: Any,
    name: str | None = None,
    proxy: Route | None = None,
    force: bool = False,
    timeout: float = TIMEOUT,
) -> EnrolmentResult:
    """Redeem an activation code and store the identity in ``directory``.

    :param name: what the agent would like to be called; the host name by default.
    :param force: replace an identity that is already there.
    :param timeout: seconds for the exchange with the gateway.
    :raises EnrolmentError: for every failure. A code that reached the gateway may be used up.
    """
    try:
        activation = ActivationCode.parse(code)
    except ActivationCodeError as error:
        raise EnrolmentError(str(error)) from error
    _prepare(directory, force)
    key = generate_key()
    wanted = name or socket.gethostname()
    request = EnrolmentRequest(
        secret=activation.secret_text, csr=signing_request(key, wanted).decode(), name=wanted
    )
    exchange = Deferred.fromCoroutine(_exchange(activation, request, reactor, proxy))

    def too_late(_: object, seconds: float) -> NoReturn:
        raise EnrolmentError(
            f"the gateway at {activation.authority} did not answer within {seconds:g} s:"
            " a firewall that drops, or it needs the proxy"
        )

    answer = await exchange.addTimeout(timeout, reactor, onTimeoutCancel=too_late)
    identity = _identity(activation, key, answer, directory)
    try:
        save_identity(identity)
    except (IdentityError, OSError) as error:
        raise EnrolmentError(
            f"enrolled as {answer.name}, but the identity can't be stored: {error};"
            " repair that and enrol again with a new code"
        ) from error
    return EnrolmentResult(
        directory, answer.agent_id, answer.name, answer.group, answer.tunnel_url, identity.expires
    )


def _prepare(directory: Path, force: bool) -> None:
    """Find out what would prevent storing before the code is spent."""
    try:
        prepare_directory(directory)
        if not force:
            present = load_identity(directory)
            raise EnrolmentError(
                f"{directory}: this is already the agent {present.name}"
                f" of {present.facts.gateway_url}; --force replaces its identity"
            )
    except NotEnrolled:
        return
    except IdentityError as error:
        raise EnrolmentError(str(error)) from error


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Endpoints for one gateway: pinned TLS over the route."""

    def __init__(self, reactor: Any, options: GatewayTLS, route: Route | None) -> None:
        self._reactor = reactor
        self._options = options
        self._route = route

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: N802
        host, port = uri.host.decode("ascii").strip("[]"), uri.port
        if self._route is None:
            plain: IStreamClientEndpoint = HostnameEndpoint(self._reactor, host, port)
        else:
            plain = self._route.endpoint(self._reactor, host, port)
        return wrapClientTLS(self._options, plain)


async def _exchange(
    activation: ActivationCode, request: EnrolmentRequest, reactor: Any, proxy: Route | None
) -> EnrolmentAnswer:
    where = activation.authority
    host = urlsplit(activation.enrol_url).hostname or where
    options = GatewayTLS(host, PinnedFingerprint(activation.ca_sha256))
    endpoints = _Endpoints(reactor, options, proxy)
    agent = Agent.usingEndpointFactory(reactor, endpoints)
    try:
        response = await HTTPClient(agent).post(
            activation.enrol_url,
            data=msgspec.json.encode(request),
            headers=Headers({"content-type": ["application/json"], "accept": ["application/json"]}),
            allow_redirects=False,
            unbuffered=True,
        )
        body = await _bounded(response)
    except (ConnectError, DNSLookupError, RequestTransmissionFailed, ResponseFailed) as error:
        raise EnrolmentError(_connection_words(where, error)) from error
    if response.code not in (200, 201):
        raise EnrolmentError(_refusal_words(where, response.code, body))
    try:
        return msgspec.json.decode(body, type=EnrolmentAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EnrolmentError(f"{where} answered something that is no identity: {error}") from error


async def _bounded(response: Any) -> bytes:
    received = bytearray()

    def collect(chunk: bytes) -> None:
        received.extend(chunk)
        if len(received) > _LARGEST_ANSWER:
            raise EnrolmentError("the gateway's answer is too long to be an identity")

    await treq.collect(response, collect)
    return bytes(received)


def _identity(
    activation: ActivationCode, key: PrivateKey, answer: EnrolmentAnswer, directory: Path
) -> Identity:
    try:
        chain = tuple(certificates_from_pem(answer.certificate.encode()))
        authorities = tuple(certificates_from_pem(answer.ca.encode()))
    except ValueError as error:
        raise EnrolmentError("the gateway's answer holds a malformed certificate") from error
    if [fingerprint(each) for each in authorities] != [activation.ca_sha256]:
        raise EnrolmentError("the gateway's answer names another CA than the code: it is refused")
    try:
        check_certificate(chain[0], key, authorities)
    except CertificateUnfit as error:
        raise EnrolmentError(f"{error}; ask for a new code") from error
    url = urlsplit(answer.tunnel_url)
    if url.scheme != "wss" or not url.hostname:
        raise EnrolmentError(f"the gateway's tunnel URL is not wss://: {answer.tunnel_url!r}")
    facts = Facts(answer.agent_id, answer.tunnel_url, answer.name, answer.group)
    return Identity(directory, facts, authorities, Credentials(key, chain, datetime.now(UTC)))


def _connection_words(where: str, error: Exception) -> str:
    tls = tls_failure(error)
    if tls is not None:
        return f"{where}: {tls}"
    if isinstance(error, DNSLookupError):
        return f"{where}: the name is unknown to DNS here: check the code's gateway and resolv.conf"
    if isinstance(error, ConnectionRefusedError):
        return f"{where}: connection refused: is the gateway running, and is this its tunnel port?"
    if isinstance(error, TimeoutError):
        return f"{where}: no answer to the connection attempt: a firewall, or it needs the proxy"
    if isinstance(error, NoRouteError):
        return f"{where}: no route to the gateway"
    if isinstance(error, RequestTransmissionFailed | ResponseFailed):
        return f"{where}: the connection was closed before an answer came: is this a gateway?"
    return f"{where}: {error}"


def _refusal_words(where: str, status: int, body: bytes) -> str:
    try:
        problem = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"{where} answered HTTP {status}: this is no gateway, or something sits before it"
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"the gateway refuses: {problem.detail}{hint}"


class _Refusal(msgspec.Struct):
    """The members of a problem document that an admin needs."""

    detail: str
    hint: str | None = None
