"""TLS towards the gateway: who is trusted, and plain words for what went wrong.

The verification is OpenSSL's (chain, signatures, dates, purpose) and service_identity's (the name,
RFC 9525). What is added here is the pin by fingerprint that an activation code needs, and a reason
that an admin understands: OpenSSL alone says "certificate verify failed" to all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

from attrs import frozen
from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from .keys import PrivateKey, fingerprint

# openssl/x509_vfy.h
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_SELF_SIGNED_IN_CHAIN: Final = 19
_UNTRUSTED: Final = frozenset({2, 18, 19, 20, 21, 24, 27, 28})


class Fault(StrEnum):
    """What is wrong with a certificate."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    UNTRUSTED = "untrusted"
    NAME = "name"
    OTHER = "other"


class CertificateRejected(Exception):
    """The gateway's certificate was refused. The message is a sentence for the admin."""

    def __init__(self, message: str, fault: Fault = Fault.OTHER) -> None:
        super().__init__(message)
        self.fault = fault


@frozen
class PinnedAuthorities:
    """Trust these CA certificates and no other."""

    certificates: tuple[x509.Certificate, ...]

    refusal = (
        "is not signed by the pinned CA: a proxy that inspects TLS sits between,"
        " it is the wrong gateway, or the gateway has a new CA (then enrol again)"
    )

    def accepts(self, code: int, certificate: crypto.X509, depth: int) -> bool:
        """Whether a verification error of OpenSSL's is to be passed over: never."""
        return False


@frozen
class PinnedFingerprint:
    """Trust the CA with this SHA-256, taken from the chain that the gateway sends."""

    sha256: bytes

    refusal = (
        "does not come from the CA that the code was made for:"
        " a proxy that inspects TLS sits between, or it is the wrong gateway"
    )

    def accepts(self, code: int, certificate: crypto.X509, depth: int) -> bool:
        """The only fault of a complete chain up to the pinned CA is that no store holds its root.
        OpenSSL goes on after this with signatures, dates and purpose of the whole chain."""
        return (
            code == _SELF_SIGNED_IN_CHAIN
            and depth > 0
            and fingerprint(certificate.to_cryptography()) == self.sha256
        )


@frozen
class SystemAuthorities:
    """Trust what the operating system trusts."""

    refusal = (
        "is not signed by an authority of the system's trust store:"
        " set gateway.ca to the gateway's own CA, or install the authority"
    )

    def accepts(self, code: int, certificate: crypto.X509, depth: int) -> bool:
        """Whether a verification error of OpenSSL's is to be passed over: never."""
        return False


Trust = PinnedAuthorities | PinnedFingerprint | SystemAuthorities


@implementer(IOpenSSLClientConnectionCreator)
class GatewayTLS:
    """Makes the TLS connections to one gateway: TLS 1.2 or newer, chain and name verified.

    A refusal reaches ``connectionLost`` as :class:`CertificateRejected`.

    :param hostname: the name or IP address that the certificate has to show.
    :param chain: our certificate first; empty at enrolment, when there is none yet.
    """

    def __init__(
        self,
        hostname: str,
        trust: Trust,
        *,
        key: PrivateKey | None = None,
        chain: Sequence[x509.Certificate] = (),
    ) -> None:
        self._hostname = hostname
        self._is_address = isIPAddress(hostname) or isIPv6Address(hostname)
        self._trust = trust
        options = CertificateOptions(
            privateKey=None if key is None else crypto.PKey.from_cryptography_key(key),
            certificate=crypto.X509.from_cryptography(chain[0]) if chain else None,
            extraCertChain=[crypto.X509.from_cryptography(each) for each in chain[1:]] or None,
            lowerMaximumSecurityTo=TLSVersion.TLSv1_3,
            insecurelyLowerMinimumTo=TLSVersion.TLSv1_2,
        )
        self._context: SSL.Context = options.getContext()
        if isinstance(trust, SystemAuthorities):
            self._context.set_default_verify_paths()
        elif isinstance(trust, PinnedAuthorities):
            store = self._context.get_cert_store()
            if store is None:
                raise CertificateRejected("OpenSSL has no place for the pinned CA")
            for authority in trust.certificates:
                store.add_cert(crypto.X509.from_cryptography(authority))

    def clientConnectionForTLS(
        self,
        tlsProtocol: TLSMemoryBIOProtocol,  # noqa: N803
    ) -> SSL.Connection:
        """A connection on which nothing of ours leaves before the gateway is known to be right."""
        connection = SSL.Connection(self._context, None)
        if not self._is_address:
            connection.set_tlsext_host_name(self._hostname.encode("idna"))
        verification = _Verification(self._hostname, self._is_address, self._trust, tlsProtocol)
        connection.set_verify(
            SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verification.certificate_seen
        )
        return connection


class _Verification:
    """The verdict over one handshake."""

    def __init__(
        self, hostname: str, is_address: bool, trust: Trust, tls: TLSMemoryBIOProtocol
    ) -> None:
        self._hostname = hostname
        self._is_address = is_address
        self._trust = trust
        self._tls: TLSMemoryBIOProtocol | None = tls

    def certificate_seen(
        self, connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int
    ) -> bool:
        """OpenSSL's callback: once for every error, and once for every certificate that is good."""
        sentence, fault = None, _FAULTS.get(code, Fault.OTHER)
        if not ok:
            if not self._trust.accepts(code, certificate, depth):
                sentence = self._describe(code, certificate, depth)
        elif depth == 0:
            sentence, fault = self._check_name(certificate), Fault.NAME
        if sentence is None:
            return True
        if self._tls is not None:
            failure = Failure(CertificateRejected(sentence, fault))
            self._tls.failVerification(failure)
            self._tls = None
        return False

    def _describe(self, code: int, certificate: crypto.X509, depth: int) -> str:
        facts = certificate.to_cryptography()
        subject = f"the certificate of {self._hostname}"
        if depth > 0 and code not in _UNTRUSTED:
            subject = f"the CA ({facts.subject.rfc4514_string()}) of {self._hostname}"
        if code == _EXPIRED:
            return (
                f"{subject} expired at {facts.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
                " (is the clock here right?)"
            )
        if code == _NOT_YET_VALID:
            return (
                f"{subject} is valid only from {facts.not_valid_before_utc:%Y-%m-%d %H:%M} UTC:"
                " the clock here or the gateway's is wrong"
            )
        if code in _UNTRUSTED:
            return f"{subject} {self._trust.refusal}. Its issuer is {facts.issuer.rfc4514_string()}"
        return f"{subject} was refused: {_OTHER.get(code, f'OpenSSL verification error {code}')}"

    def _check_name(self, certificate: crypto.X509) -> str | None:
        shown = certificate.to_cryptography()
        verify = verify_certificate_ip_address if self._is_address else verify_certificate_hostname
        try:
            verify(shown, self._hostname)
        except (VerificationError, CertificateError, ValueError):
            return (
                f"the certificate of {self._hostname} is made out for {_names(shown)}:"
                " it is the wrong gateway, or its public name has changed"
            )
        return None


def _names(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return "no host name at all"
    return ", ".join(str(each.value) for each in list(names)[:8]) or "no host name at all"


def tls_failure(error: BaseException) -> str | None:
    """A sentence for an error of a TLS connection to the gateway; None where it is not one of TLS.

    Unwraps what ``twisted.web.client`` packs into lists of failures.
    """
    for cause in _causes(error):
        if isinstance(cause, CertificateRejected):
            return str(cause)
        if isinstance(cause, SSL.Error):
            words = " ".join(part for entry in _entries(cause) for part in entry)
            for token, sentence in _ALERTS:
                if token in words:
                    return sentence
            return f"the TLS handshake failed ({words or 'closed without a reason'})"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    yield error
    for reason in getattr(error, "reasons", None) or ():
        if isinstance(reason, Failure) and reason.value is not None:
            yield from _causes(reason.value)


def _entries(error: SSL.Error) -> list[tuple[str, ...]]:
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return [tuple(str(part) for part in entry if part) for entry in entries]


_FAULTS: Final[Mapping[int, Fault]] = {
    _EXPIRED: Fault.EXPIRED,
    _NOT_YET_VALID: Fault.NOT_YET_VALID,
    **dict.fromkeys(_UNTRUSTED, Fault.UNTRUSTED),
}

_OTHER: Final[Mapping[int, str]] = {
    7: "its signature is wrong",
    26: "it is not meant for servers",
    66: "its key is too small",
    68: "its signature algorithm is too weak",
    79: "its CA is not allowed to sign certificates",
}

_ALERTS: Final = (
    ("wrong version number", "the gateway's port does not speak TLS"),
    ("http request", "the gateway's port does not speak TLS"),
    (
        "certificate expired",
        "the gateway says that the agent's certificate has expired: enrol again",
    ),
    (
        "certificate revoked",
        "the gateway says that the agent's certificate is revoked: enrol again",
    ),
    ("unknown ca", "the gateway says that the agent's certificate is not from its CA: enrol again"),
    ("bad certificate", "the gateway refuses the agent's certificate: enrol again"),
    ("certificate unknown", "the gateway refuses the agent's certificate: enrol again"),
    ("certificate required", "the gateway wants a client certificate: enrol first"),
    ("protocol version", "agent and gateway have no TLS version in common (at least 1.2)"),
    ("handshake failure", "agent and gateway have no TLS parameters in common"),
)
