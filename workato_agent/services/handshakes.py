"""TLS with a target: whom to trust, and in plain words why a certificate was refused."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL.crypto import X509, X509StoreFlags
from OpenSSL.crypto import Error as CryptoError
from OpenSSL.SSL import VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_NONE, VERIFY_PEER, Connection, Context
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

_PEM_END: Final = b"-----END CERTIFICATE-----"
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_REVOKED: Final = 23
_SELF_SIGNED: Final = (18, 19)
_NO_ISSUER: Final = (2, 7, 20, 21)  # 7: a trusted CA has the issuer's name, but not its key


class CertificateRefused(Exception):
    """The target's certificate is not acceptable.

    :ivar cause: ``expired``, ``not_yet_valid``, ``name``, ``unknown_issuer``, ``self_signed``,
        ``revoked`` or ``invalid``.
    """

    def __init__(self, cause: str, detail: str, hint: str) -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail
        self.hint = hint


@frozen
class ClientCertificate:
    """What the agent shows in the TLS handshake, in PEM.

    :ivar chain: the certificate and after it those that lead to a CA the target knows.
    :ivar password: of the key, where it is encrypted.
    """

    chain: bytes
    key: bytes = field(repr=False)
    password: str | None = field(default=None, repr=False)


@frozen
class TlsSettings:
    """How a profile's connections are secured.

    :ivar ca: PEM certificates to trust instead of the system's; a server's own does too.
    :ivar certificate: what the agent shows to a target that asks for it.
    :ivar trust_all: accept any certificate, for any name: whoever sits between can read and change
        all.
    :ivar verify_host: the certificate must name the host.
    :ivar protocols: what is offered by ALPN (RFC 7301).
    :ivar address_key: the key of the profile that has the host, for hints.
    """

    ca: bytes | None = field(default=None, repr=False)
    certificate: ClientCertificate | None = None
    trust_all: bool = False
    verify_host: bool = True
    protocols: tuple[bytes, ...] = ()
    address_key: str = "url"


class Trust:
    """Whom a profile trusts: one TLS context for all its connections.

    Raises ValueError where the CA is no PEM certificate, or the profile's own one is unusable.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._context = _context(settings)

    def handshake(self, host: str) -> Handshake:
        """For one connection."""
        return Handshake(self._context, host, self._settings)


def _context(settings: TlsSettings) -> Context:
    offered = list(settings.protocols) or None
    if settings.trust_all:
        options = CertificateOptions(acceptableProtocols=offered)
    elif settings.ca is None:
        options = CertificateOptions(trustRoot=platformTrust(), acceptableProtocols=offered)
    else:
        trusted = trustRootFromCertificates(_authorities(settings.ca))
        options = CertificateOptions(trustRoot=trusted, acceptableProtocols=offered)
    context = options.getContext()
    store = context.get_cert_store()
    if settings.ca is not None and store is not None:
        # Whoever gives a server's own certificate, or an intermediate CA's, means to trust that.
        store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    if settings.certificate is not None:
        _show(context, settings.certificate)
    return context


def _authorities(ca: bytes) -> list[Certificate]:
    blocks = [block + _PEM_END for block in ca.split(_PEM_END)[:-1]]
    if not blocks:
        raise ValueError("ca holds no PEM certificate")
    try:
        return [Certificate.loadPEM(block) for block in blocks]
    except CryptoError as error:
        raise ValueError(f"ca holds a certificate that can't be read: {error}") from error


def _show(context: Context, shown: ClientCertificate) -> None:
    """Have connections show a certificate to a target that asks for one."""
    password = None if shown.password is None else shown.password.encode()
    try:
        first, *others = x509.load_pem_x509_certificates(shown.chain)
        context.use_certificate(first)
        for each in others:
            context.add_extra_chain_cert(each)
        key = load_pem_private_key(shown.key, password)
        context.use_privatekey(key)  # type: ignore[arg-type]
        context.check_privatekey()
    except (TypeError, ValueError, TLSError) as error:
        raise ValueError(f"the client certificate or its key can't be used: {error}") from error


@implementer(IOpenSSLClientConnectionCreator)
class Handshake:
    """Makes one TLS connection and remembers why its certificate was refused.

    Twisted's own creator always checks the name and doesn't tell which check failed, hence this
    one. The checks run inside the handshake, before anything of the request is sent.

    :ivar refusal: set when the certificate was not accepted.
    """

    def __init__(self, context: Context, host: str, settings: TlsSettings) -> None:
        self._context = context
        self._host = host
        self._verify = not settings.trust_all
        self._name = settings.verify_host
        self._address_key = settings.address_key
        self.refusal: CertificateRefused | None = None

    def clientConnectionForTLS(self, tls_protocol: TLSMemoryBIOProtocol) -> Connection:
        connection = Connection(self._context, None)
        connection.set_app_data(tls_protocol)
        if not _is_address(self._host):
            encoding = "ascii" if self._host.isascii() else "idna"
            connection.set_tlsext_host_name(self._host.encode(encoding))
        if self._verify:
            connection.set_verify(VERIFY_PEER | VERIFY_FAIL_IF_NO_PEER_CERT, self._checked)
        else:
            connection.set_verify(VERIFY_NONE, lambda *_: True)
        return connection

    def _checked(
        self, _connection: Connection, certificate: X509, error: int, depth: int, valid: int
    ) -> bool:
        """OpenSSL's verify callback, for each certificate; the target's own (depth 0) is last."""
        if not valid:
            self.refusal = _refusal(certificate, error)
            return False
        if depth or not self._name:
            return True
        pattern = IPAddress_ID(self._host) if _is_address(self._host) else DNS_ID(self._host)
        try:
            verify_service_identity(extract_patterns(certificate), [pattern], [])
        except VerificationError:
            self.refusal = _wrong_name(certificate, self._host, self._address_key)
        except Exception as broken:  # noqa: BLE001 - an exception would be lost inside OpenSSL
            self.refusal = CertificateRefused(
                "invalid",
                f"The target's certificate can't be read: {broken}",
                "Replace the certificate",
            )
        return self.refusal is None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _refusal(certificate: X509, error: int) -> CertificateRefused:
    names = certificate.to_cryptography()
    subject, issuer = names.subject.rfc4514_string(), names.issuer.rfc4514_string()
    if error == _EXPIRED:
        when = names.not_valid_after_utc.isoformat()
        return CertificateRefused(
            "expired",
            f"The certificate {subject!r} expired on {when}",
            f"Renew it; the clock of the agent's host says {datetime.now(UTC):%Y-%m-%d}",
        )
    if error == _NOT_YET_VALID:
        when = names.not_valid_before_utc.isoformat()
        return CertificateRefused(
            "not_yet_valid",
            f"The certificate {subject!r} is valid from {when} only",
            f"Check the clock of the agent's host, which says {datetime.now(UTC):%Y-%m-%d %H:%M}Z",
        )
    if error in _SELF_SIGNED:
        return CertificateRefused(
            "self_signed",
            f"The certificate {subject!r} is signed by itself, and not trusted",
            "Give that certificate, or its CA's, as the profile's ca",
        )
    if error in _NO_ISSUER:
        return CertificateRefused(
            "unknown_issuer",
            f"The issuer {issuer!r} of the certificate {subject!r} is not trusted",
            "Give the issuing CA as the profile's ca; intermediate ones must come from the target",
        )
    if error == _REVOKED:
        return CertificateRefused(
            "revoked", f"The certificate {subject!r} is revoked", "Replace it"
        )
    return CertificateRefused(
        "invalid",
        f"The certificate {subject!r} failed verification (OpenSSL's error {error})",
        "Look at the chain with: openssl s_client -connect HOST:PORT -showcerts",
    )


def _wrong_name(certificate: X509, host: str, address_key: str) -> CertificateRefused:
    names = sorted({str(_pattern_text(pattern)) for pattern in extract_patterns(certificate)})
    return CertificateRefused(
        "name",
        f"The certificate is for {', '.join(names) or 'no name at all'}, not for {host}",
        f"Use a name of the certificate in {address_key}; verifyHost: false gives the check up",
    )


def _pattern_text(pattern: object) -> str:
    raw = getattr(pattern, "pattern", pattern)
    text = getattr(raw, "pattern", raw)
    return text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)


def openssl_words(error: Exception) -> str:
    """OpenSSL's reasons: the last member of each entry of its error queue."""
    if isinstance(error, ConnectionClosed):
        return "the connection was closed during the handshake"
    queue = error.args[0] if error.args else ()
    if isinstance(queue, list | tuple):
        reasons = [str(entry[-1]) for entry in queue if isinstance(entry, tuple) and entry]
        if reasons:
            return ", ".join(reasons)
    return str(error) or "the connection was closed during the handshake"
