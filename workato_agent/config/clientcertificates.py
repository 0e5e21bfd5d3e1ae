"""A certificate by which the agent shows a target who it is, and the key to it."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import PrivateAttr, model_validator

from .fields import ConfigPath, Model, refuse
from .secrets import Secret


class CertificateAuth(Model):
    """TLS client authentication.

    :ivar cert: PEM file: the certificate, and after it those that lead to a CA the target knows.
    :ivar key: PEM file of its private key. ``password``: of the key, where it is encrypted.
    """

    cert: ConfigPath
    key: ConfigPath
    password: Secret | None = None
    # A reload sees by it that files of the same names hold another pair.
    _seen: bytes = PrivateAttr(b"")

    @model_validator(mode="after")
    def _fit(self) -> CertificateAuth:
        certificate = self._certificate()
        if certificate.public_key() != self._key().public_key():
            refuse(
                "is not the key of the certificate",
                "the pair must have been made together",
                at="key",
            )
        both = _content(self.cert, "cert") + _content(self.key, "key")
        self._seen = sha256(both).digest()
        return self

    def expired(self) -> bool:
        """Whether the certificate's time is over."""
        return self._certificate().not_valid_after_utc < datetime.now(UTC)

    def _certificate(self) -> x509.Certificate:
        content = _content(self.cert, "cert")
        try:
            return x509.load_pem_x509_certificates(content)[0]
        except ValueError:
            refuse("holds no certificate in PEM form", "openssl x509 -in FILE shows one", at="cert")

    def _key(self) -> PrivateKeyTypes:
        content = _content(self.key, "key")
        password = None if self.password is None else self.password.reveal().encode()
        try:
            return load_pem_private_key(content, password)
        except TypeError:
            if password is None:
                refuse("is encrypted", "give its password as well", at="key")
            refuse("the key is not encrypted", "leave the password out", at="password")
        except (ValueError, UnsupportedAlgorithm):
            if b"ENCRYPTED" in content and password is not None:
                refuse("can't be decrypted with this password", at="key")
            refuse("holds no private key in PEM form", "openssl pkey -in FILE shows one", at="key")


def _content(path: Path, at: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        refuse("there is no such file", at=at)
    except OSError as error:
        refuse(f"can't be read: {error.strerror}", at=at)
