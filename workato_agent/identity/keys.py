"""Keys, signing requests and certificates: bytes and values, no files and no sockets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey

SKEW = timedelta(minutes=5)
"""How far two clocks may differ before a certificate counts as not yet valid."""


class CertificateUnfit(Exception):
    """A certificate that this agent can't use. The message is a sentence for the admin."""


def generate_key() -> PrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: PrivateKey) -> bytes:
    """The key as unencrypted PKCS #8: the file's mode protects it, since nobody is there to type
    a passphrase when the agent starts."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def key_from_pem(pem: bytes) -> PrivateKey:
    """Raises ValueError where ``pem`` is not an elliptic-curve private key."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        # The library's own message may quote what it read.
        raise ValueError("not an unencrypted private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic-curve key")
    return key


def signing_request(key: PrivateKey, name: str) -> bytes:
    """A certificate signing request (RFC 2986) in PEM. The gateway decides the final subject."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def certificates_from_pem(pem: bytes) -> list[x509.Certificate]:
    """All certificates of a PEM text. Raises ValueError where there is none or one is malformed."""
    return x509.load_pem_x509_certificates(pem)


def certificates_to_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """The certificates as PEM, one after the other."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def fingerprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 over the certificate's DER form: what an activation code pins."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()


def check_certificate(
    certificate: x509.Certificate,
    key: PrivateKey,
    authorities: Sequence[x509.Certificate],
    *,
    now: datetime | None = None,
) -> None:
    """Make sure that a certificate is for ``key``, from one of ``authorities``, and in force.

    Raises CertificateUnfit. Without this a gateway's mistake would show only at the next
    connection, when the tunnel that could repair it is gone.
    """
    now = now or datetime.now(UTC)
    if certificate.public_key() != key.public_key():
        raise CertificateUnfit("the gateway's certificate is for another key than the agent's")
    if not any(_issued(certificate, authority) for authority in authorities):
        raise CertificateUnfit("the agent's certificate is not signed by the gateway's pinned CA")
    if certificate.not_valid_before_utc > now + SKEW:
        raise CertificateUnfit(
            f"the agent's certificate is valid from {_words(certificate.not_valid_before_utc)}"
            f" but the clock here says {_words(now)}: set the clock (NTP)"
        )
    if certificate.not_valid_after_utc <= now:
        raise CertificateUnfit(
            f"the agent's certificate expired at {_words(certificate.not_valid_after_utc)}"
            f" and the clock here says {_words(now)}"
        )
    if not _for_clients(certificate):
        raise CertificateUnfit("the gateway's certificate is not meant for TLS clients")


def _words(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _for_clients(certificate: x509.Certificate) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in usages
