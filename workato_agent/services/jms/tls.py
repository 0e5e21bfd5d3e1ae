"""TLS with a broker, and in plain words why its certificate was refused."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL.crypto import X509
from OpenSSL.crypto import Error as CryptoError
from OpenSSL.SSL import VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_NONE, VERIFY_PEER, Connection, Context
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from .settings import ClientCertificate, TlsSettings

_PEM_END: Final = b"-----END CERTIFICATE-----"
_REASONS: Final = {
    9: "is not valid yet: compare the clock of the agent's host",
    10: "has expired",
    18: "is signed by itself and not trusted: give it, or its CA's, as the profile's ca",
    19: "is signed by itself and not trusted: give it, or its CA's, as the profile's ca",
    23: "is revoked",
}
_UNKNOWN_ISSUER: Final = frozenset({2, 7, 20, 21})


class Trust:
    """Whom a profile trusts: one TLS context for all its connections.

    Raises ValueError where the CA is no PEM certificate, or the profile's own one is unusable.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._context = _context(settings)

    def handshake(self, host: str) -> Handshake:
        """For one connection to a host."""
        return Handshake(self._context, host, self._settings)


def _context(settings: TlsSettings) -> Context:
    if settings.trust_all:
        context = CertificateOptions().getContext()
    elif settings.ca is None:
        context = CertificateOptions(trustRoot=platformTrust()).getContext()
    else:
        trusted = trustRootFromCertificates(_authorities(settings.ca))
        context = CertificateOptions(trustRoot=trusted).getContext()
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
    password = None if shown.password is None else shown.password.encode()
    try:
        first, *others = x509.load_pem_x509_certificates(shown.chain)
        context.use_certificate(first)
        for each in others:
            context.add_extra_chain_cert(each)
        context.use_privatekey(load_pem_private_key(shown.key, password))  # type: ignore[arg-type]
        context.check_privatekey()
    except (TypeError, ValueError, TLSError) as error:
        raise ValueError(f"the client certificate or its key can't be used: {error}") from error


@implementer(IOpenSSLClientConnectionCreator)
class Handshake:
    """Makes one TLS connection and remembers why its certificate was refused.

    The checks run inside the handshake, before anything of ours is sent.

    :ivar refusal: in words, when the certificate was not accepted.
    """

    def __init__(self, context: Context, host: str, settings: TlsSettings) -> None:
        self._context = context
        self._host = host
        self._verify = not settings.trust_all
        self._name = settings.verify_host
        self.refusal: str | None = None

    def clientConnectionForTLS(self, tls_protocol: TLSMemoryBIOProtocol) -> Connection:
        """Twisted: a connection that has not begun."""
        connection = Connection(self._context, None)
        connection.set_app_data(tls_protocol)
        if not _is_address(self._host):
            connection.set_tlsext_host_name(self._host.encode("idna"))
        if self._verify:
            connection.set_verify(VERIFY_PEER | VERIFY_FAIL_IF_NO_PEER_CERT, self._checked)
        else:
            connection.set_verify(VERIFY_NONE, lambda *_: True)
        return connection

    def _checked(
        self, _connection: Connection, certificate: X509, error: int, depth: int, valid: int
    ) -> bool:
        """OpenSSL's verify callback, for each certificate; the broker's own (depth 0) is last."""
        if not valid:
            self.refusal = _refusal(certificate, error)
            return False
        if depth or not self._name:
            return True
        pattern = IPAddress_ID(self._host) if _is_address(self._host) else DNS_ID(self._host)
        try:
            verify_service_identity(extract_patterns(certificate), [pattern], [])
        except VerificationError:
            names = sorted({_name(each) for each in extract_patterns(certificate)})
            shown = ", ".join(names) or "no name at all"
            self.refusal = f"the certificate is for {shown}, not for {self._host}"
        except Exception as broken:  # noqa: BLE001 - an exception would be lost inside OpenSSL
            self.refusal = f"the certificate can't be read: {broken}"
        return self.refusal is None


def _refusal(certificate: X509, error: int) -> str:
    names = certificate.to_cryptography()
    subject, issuer = names.subject.rfc4514_string(), names.issuer.rfc4514_string()
    if error in _UNKNOWN_ISSUER:
        return f"the issuer {issuer!r} of the certificate {subject!r} is not trusted"
    reason = _REASONS.get(error, f"failed verification (OpenSSL's error {error})")
    return f"the certificate {subject!r} {reason}"


def _name(pattern: object) -> str:
    raw = getattr(pattern, "pattern", pattern)
    text = getattr(raw, "pattern", raw)
    return text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
