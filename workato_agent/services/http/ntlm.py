"""NTLM over HTTP (MS-NTHT, MS-NLMP): a login that binds a connection, not a request.

The target is asked once per connection, with a request that has no body, for its challenge. The
request itself carries the answer to it; what follows on the connection needs none. So a body is
sent once, to a target that has been asked who it wants to see.
"""

from __future__ import annotations

import binascii
import hmac
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from attrs import evolve
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from twisted.internet.interfaces import ISSLTransport

from . import failures
from .connection import HttpConnection
from .credentials import Ntlm
from .messages import Incoming, Outgoing
from .streaming import IncomingBody
from .target import Origin

if TYPE_CHECKING:
    import spnego
    from OpenSSL.crypto import X509

_REFUSED: Final = 401
_SKIPPED: Final = 1024 * 1024
"""Bytes of an answer that are read only to keep its connection."""
_WORKSTATION: Final = 44  # in AUTHENTICATE_MESSAGE (MS-NLMP 2.2.1.3)
_FLAGS: Final = 60
_MIC: Final = slice(72, 88)
_UNICODE: Final = 0x1


class NtlmLogin:
    """Sends requests on connections that are logged in, and logs in those that are not.

    Raises ValueError where pyspnego is not installed.
    """

    def __init__(self, credentials: Ntlm, origin: Origin) -> None:
        self._step = _client(credentials, origin.host)
        self._workstation = credentials.workstation
        self._origin = origin
        self._lasts = True

    async def exchange(self, connection: HttpConnection, request: Outgoing) -> Incoming:
        """As the connection's own. Raises Problem where a login can't come to its end."""
        try:
            return await self._exchange(connection, evolve(request, hold=True))
        except BaseException:
            connection.abort()
            raise

    async def _exchange(self, connection: HttpConnection, request: Outgoing) -> Incoming:
        again = connection.logged_in
        if again:
            answer = await connection.exchange(request)
            if _challenge(answer) is None:
                connection.let_go()
                return answer
            connection.logged_in = self._lasts = False
            if request.upload is not None:  # sent already; the next one is asked for beforehand
                connection.let_go()
                return answer
            await self._drain(connection, answer)
        context = self._step(connection)
        negotiate = context.step() or b""
        answer = await connection.exchange(_opening(request, negotiate))
        challenge = _challenge(answer)
        if answer.status != _REFUSED and request.upload is not None:
            await self._drain(connection, answer)  # it asks nobody who he is
            answer = await connection.exchange(request)
        elif challenge:
            await self._drain(connection, answer)
            message = self._answer(context, negotiate, challenge)
            answer = await connection.exchange(_with(request, request.head, message))
            refused = answer.status == _REFUSED
            if again:  # or it was not who asks, but what he asks for
                self._lasts = refused
            connection.logged_in = self._lasts and not refused
        connection.let_go()
        return answer

    def _answer(self, context: spnego.ContextProxy, negotiate: bytes, challenge: bytes) -> bytes:
        from spnego.exceptions import SpnegoError  # noqa: PLC0415

        try:
            message = context.step(challenge) or b""
        except (SpnegoError, ValueError, IndexError, struct.error) as error:
            raise failures.no_login(self._origin, "its challenge can't be read") from error
        if self._workstation is None:
            return message
        key: bytes = context.session_key
        return from_workstation(message, self._workstation, key, negotiate + challenge)

    async def _drain(self, connection: HttpConnection, answer: Incoming) -> None:
        if isinstance(answer.body, IncomingBody) and not await answer.body.skip(_SKIPPED):
            raise failures.no_login(self._origin, "its 401 has a body without end")
        if not connection.usable():
            raise failures.no_login(self._origin, "it closed the connection after its challenge")


def from_workstation(message: bytes, name: str, key: bytes, before: bytes) -> bytes:
    """An AUTHENTICATE_MESSAGE that names another workstation than this host.

    :param key: the session's, with which a message that has an integrity code gets another one.
    :param before: the two messages before it.
    """
    altered = bytearray(message)
    (flags,) = struct.unpack_from("<I", message, _FLAGS)
    text = name.encode("utf-16-le" if flags & _UNICODE else "ascii", "replace")
    struct.pack_into("<HHI", altered, _WORKSTATION, len(text), len(text), len(message))
    altered += text
    if _payload(message) >= _MIC.stop and any(message[_MIC]):
        altered[_MIC] = bytes(16)
        altered[_MIC] = hmac.digest(key, before + altered, "md5")
    return bytes(altered)


def _payload(message: bytes) -> int:
    """Where the payload begins: at the lowest of the fields' offsets."""
    offsets: list[int] = [struct.unpack_from("<I", message, at + 4)[0] for at in range(12, 60, 8)]
    return min(offsets)


def _opening(request: Outgoing, negotiate: bytes) -> Outgoing:
    """The request without its body, to be told the challenge."""
    bare = Outgoing(request.method, b"", hold=True)
    return _with(bare, request.opening or request.head, negotiate)


def _with(request: Outgoing, head: bytes, token: bytes) -> Outgoing:
    line = b"Authorization: NTLM " + b64encode(token)
    return evolve(request, head=head[:-2] + line + b"\r\n\r\n")


def _challenge(answer: Incoming) -> bytes | None:
    """The token of a 401 that asks for NTLM: empty where it only offers it; None for the rest."""
    if answer.status != _REFUSED:
        return None
    offered: bytes | None = None
    for name, value in answer.fields:
        if name != "www-authenticate":
            continue
        scheme, _, token = value.partition(" ")
        if scheme.lower() != "ntlm":
            continue
        try:
            offered = offered or b64decode(token.strip(), validate=True)
        except binascii.Error:
            offered = offered or b""
    return offered


def _client(credentials: Ntlm, host: str) -> Callable[[HttpConnection], spnego.ContextProxy]:
    """Makes the client's side of a login on a connection."""
    try:
        import spnego  # noqa: PLC0415
        from spnego.channel_bindings import GssChannelBindings  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(
            "NTLM needs pyspnego, which is not installed: pip install 'workato-agent[ntlm]'"
        ) from error
    domain = credentials.domain
    username = f"{domain}\\{credentials.username}" if domain else credentials.username

    def begin(connection: HttpConnection) -> spnego.ContextProxy:
        bound = _binding(connection)
        return spnego.client(
            username,
            credentials.password,
            hostname=host,
            service="HTTP",
            channel_bindings=None if bound is None else GssChannelBindings(application_data=bound),
            protocol="ntlm",
            options=spnego.NegotiateOptions.use_ntlm,
        )

    return begin


def _binding(connection: HttpConnection) -> bytes | None:
    """What ties the login to the TLS connection it is made on (RFC 5929 section 4)."""
    transport = connection.transport
    if not ISSLTransport.providedBy(transport):
        return None
    certificate = cast("X509", transport.getPeerCertificate()).to_cryptography()
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        algorithm = None
    if algorithm is None or isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    fingerprint: bytes = certificate.fingerprint(algorithm)
    return b"tls-server-end-point:" + fingerprint
