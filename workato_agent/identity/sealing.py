"""Secrets of the config file that only this agent can read: ``{encrypted: '…'}``.

``secret.key`` in the identity folder holds 32 random bytes, 0600. It is made when the first secret
is encrypted and never changes: renewing the certificate or enrolling again leaves it as it is. A
sealed text is ``v1.`` and, in unpadded base64url (RFC 4648), a nonce of 12 bytes with what AES-256
in Galois/counter mode makes of the text (NIST SP 800-38D), its tag last.
"""

from __future__ import annotations

import base64
import binascii
import os
import sys
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..system import is_superuser
from .store import IdentityError, check_private, prepare_directory, write_private

KEY_FILE: Final = "secret.key"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_PREFIX: Final = "v1."
_PURPOSE: Final = b"workato-agent config secret"


class SealError(Exception):
    """A text can't be sealed or opened. The message says why, and nothing of what is sealed."""


class SealingKey:
    """An agent's own key for secrets at rest."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        """Raises SealError for a key of another length."""
        if len(key) != _KEY_BYTES:
            raise SealError(f"the key has {len(key)} bytes, not {_KEY_BYTES}")
        self._cipher = AESGCM(key)

    @classmethod
    def load(cls, identity: Path) -> SealingKey:
        """The key of an identity folder. Raises SealError where there is none that is usable."""
        path = identity / KEY_FILE
        if not path.exists():
            raise SealError(
                f"{path}: there is no key; texts encrypted elsewhere can't be read here, "
                "encrypt them with workato-agent encrypt on this machine"
            )
        try:
            check_private(path)
            return cls(path.read_bytes())
        except IdentityError as error:
            raise SealError(str(error)) from error
        except OSError as error:
            raise SealError(f"{path}: {error.strerror}") from error
        except SealError as error:
            raise SealError(f"{path}: {error}") from error

    @classmethod
    def load_or_make(cls, identity: Path) -> SealingKey:
        """The key of an identity folder, made where there is none. Raises SealError."""
        path = identity / KEY_FILE
        if not path.exists():
            try:
                prepare_directory(identity)
                write_private(path, os.urandom(_KEY_BYTES))
                _give_to_owner_of(identity, path)
            except IdentityError as error:
                raise SealError(str(error)) from error
            except OSError as error:
                raise SealError(f"{path}: {error.strerror}") from error
        return cls.load(identity)

    def seal(self, text: str) -> str:
        """A sealed text, another one each time."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), _PURPOSE)
        return _PREFIX + base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, sealed: str) -> str:
        """The text. Raises SealError."""
        if not sealed.startswith(_PREFIX):
            raise SealError("this is no text that workato-agent encrypt has printed")
        encoded = sealed[len(_PREFIX) :]
        try:
            raw = base64.b64decode(
                encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True
            )
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _PURPOSE).decode()
        except (ValueError, binascii.Error) as error:
            raise SealError(
                "the encrypted text is damaged: copy it whole, between quotes"
            ) from error
        except InvalidTag as error:
            raise SealError(
                "the encrypted text is damaged, or was encrypted with another agent's key"
            ) from error


def _give_to_owner_of(folder: Path, path: Path) -> None:
    """Root may encrypt for the agent's user, who has to read the key."""
    if sys.platform != "win32" and is_superuser():
        owner = folder.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
