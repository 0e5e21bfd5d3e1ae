"""The gateway's own certificate authority: ECDSA P-256, X.509 (RFC 5280).

It signs the server certificate of the listeners and a client certificate for each agent. What an
agent's certificate says comes from the store, never from the agent's request.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from workato_tunnel.problems import Problem

AGENT_URN: Final = "urn:onprem:agent:"
CA_LIFETIME: Final = 3650 * 86400.0
SERVER_LIFETIME: Final = 365 * 86400.0
BACKDATED: Final = 3600.0
"""A certificate begins that long before now, for machines whose clock is behind."""
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.InvalidVersion,
)

AgentPublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class AuthorityError(Exception):
    """A certificate or key file can't be used; the message names it."""


@frozen
class Issued:
    """A certificate just signed. ``serial``: lower-case hex; ``not_after``: Unix seconds."""

    pem: str
    serial: str
    not_after: float


def serial_text(certificate: x509.Certificate) -> str:
    """A serial number as the store has it."""
    return format(certificate.serial_number, "x")


def sha256_of(certificate: x509.Certificate) -> bytes:
    """What an activation code pins: SHA-256 of the DER."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()


def pem_of(certificate: x509.Certificate) -> str:
    """PEM text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def agent_id_of(certificate: x509.Certificate) -> str | None:
    """The agent that a certificate speaks for; None when it names none or several."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    ids = [uri.removeprefix(AGENT_URN) for uri in uris if uri.startswith(AGENT_URN)]
    return ids[0] if len(ids) == 1 and ids[0] else None


def read_request(pem: str) -> AgentPublicKey:
    """The public key of a certificate request (PKCS #10); everything else in it is ignored.

    Its signature must be right, so that the requester holds the key. Raises Problem
    ``bad_request`` that says what is wrong with it.
    """
    try:
        request = x509.load_pem_x509_csr(pem.encode("ascii", "replace"))
        key = request.public_key()
        proven = request.is_signature_valid
    except _UNREADABLE as error:
        raise _bad_request("is no PKCS #10 request in PEM with a key of a known kind") from error
    if not proven:
        raise _bad_request("is not signed by the key that it names")
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    if isinstance(key, rsa.RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return key
    raise _bad_request("has a key that is neither EC P-256, P-384, P-521 nor RSA of 2048 bits up")


def _bad_request(what: str) -> Problem:
    return Problem(
        "bad_request",
        f"csr {what}",
        hint="make an EC P-256 key and a request signed with it",
        extra={"field": "csr"},
    )


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)


def _name(common_name: str, organisation: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organisation is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(attributes)


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file in one step; it never exists with a wider mode or half written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if sys.platform != "win32":
                os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@frozen
class Authority:
    """A CA certificate and its key. Made by :meth:`create` and :meth:`load`."""

    certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(repr=False)
    _now: Callable[[], float] = time.time

    @classmethod
    def create(cls, name: str, now: Callable[[], float] = time.time) -> Authority:
        """A new one, good for ten years. ``name`` tells it apart in certificate viewers."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name[:64])
        start = now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_moment(start - BACKDATED))
            .not_valid_after(_moment(start + CA_LIFETIME))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key, now)

    @classmethod
    def load(cls, certificate: Path, key: Path, now: Callable[[], float] = time.time) -> Authority:
        """From PEM files. Raises AuthorityError."""
        loaded = load_chain(certificate)[0]
        try:
            private = serialization.load_pem_private_key(key.read_bytes(), None)
        except OSError as error:
            raise AuthorityError(f"{key}: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise AuthorityError(f"{key}: is no unencrypted private key in PEM") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise AuthorityError(f"{key}: is neither an EC nor an RSA key")
        if private.public_key() != loaded.public_key():
            raise AuthorityError(f"{key}: is not the key of {certificate}")
        if not _is_ca(loaded):
            raise AuthorityError(f"{certificate}: is no CA certificate")
        if loaded.issuer != loaded.subject:
            raise AuthorityError(f"{certificate}: is not self-signed; agents pin a root")
        return cls(loaded, private, now)

    def save(self, certificate: Path, key: Path) -> None:
        """Write both as PEM; the key is for its owner only."""
        write_private(key, _key_pem(self._key))
        write_private(certificate, pem_of(self.certificate).encode("ascii"), 0o644)

    def issue_agent(
        self, key: AgentPublicKey, *, agent_id: str, group: str, lifetime: float
    ) -> Issued:
        """A client certificate; ``lifetime`` in seconds, cut at the CA's own end.

        The agent's id stands in the subject and as ``urn:onprem:agent:ID`` in the alternative
        names, the group in the subject for the eye only: the store decides.
        """
        return self._sign(
            key,
            _name(agent_id, group),
            [x509.UniformResourceIdentifier(AGENT_URN + agent_id)],
            ExtendedKeyUsageOID.CLIENT_AUTH,
            lifetime,
        )

    def issue_server(self, key: ec.EllipticCurvePublicKey, hosts: tuple[str, ...]) -> Issued:
        """A server certificate for host names and IP addresses, good for a year."""
        return self._sign(
            key,
            _name(hosts[0][:64]),
            [_general_name(host) for host in hosts],
            ExtendedKeyUsageOID.SERVER_AUTH,
            SERVER_LIFETIME,
        )

    def _sign(
        self,
        key: AgentPublicKey,
        subject: x509.Name,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        lifetime: float,
    ) -> Issued:
        start = self._now()
        end = min(start + lifetime, self.certificate.not_valid_after_utc.timestamp())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_moment(start - BACKDATED))
            .not_valid_after(_moment(end))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self._authority_key_identifier(), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(
            pem_of(certificate),
            serial_text(certificate),
            certificate.not_valid_after_utc.timestamp(),
        )

    def _authority_key_identifier(self) -> x509.AuthorityKeyIdentifier:
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return found.value.ca


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def load_chain(path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file, leaf first. Raises AuthorityError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise AuthorityError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise AuthorityError(f"{path}: holds no certificate in PEM") from error


def generate_server_key() -> tuple[ec.EllipticCurvePublicKey, bytes]:
    """A new P-256 key: its public half, and the private one as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.public_key(), _key_pem(key)
