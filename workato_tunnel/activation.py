"""Activation codes, and the one exchange that turns a code into an identity.

A code is what an operator carries from the gateway to the machine of a new agent. It names the
gateway, holds a secret that opens ``/enrol`` once within an hour, and pins the gateway's CA, so
that the first contact is already authenticated. Pure: shared by agent and gateway.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from typing import Final

import msgspec
from attrs import field, frozen

PREFIX: Final = "onpremcode1_"
SECRET_SIZE: Final = 16
PIN_SIZE: Final = 32
_CHECK_SIZE: Final = 4
_MAX_LENGTH: Final = 512
_AUTHORITY: Final = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)


class ActivationCodeError(ValueError):
    """A text that is no activation code. The message never repeats the text."""


def _to_text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _to_bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


@frozen
class ActivationCode:
    """What a code carries.

    :ivar authority: ``host`` or ``host:port`` of the gateway's tunnel listener (443 by default).
    :ivar secret: 16 random bytes.
    :ivar ca_sha256: SHA-256 of the DER of the gateway's CA certificate. The gateway presents that
        certificate in its TLS chain: the agent accepts the connection when a certificate of the
        chain has this hash and the leaf verifies against it, name included.
    """

    authority: str = field()
    secret: bytes = field(repr=False)
    ca_sha256: bytes = field()

    def __attrs_post_init__(self) -> None:
        if not _AUTHORITY.fullmatch(self.authority):
            raise ActivationCodeError("the gateway's address is not HOST or HOST:PORT")
        if len(self.secret) != SECRET_SIZE or len(self.ca_sha256) != PIN_SIZE:
            raise ActivationCodeError("the secret or the CA's hash has the wrong length")

    @property
    def tunnel_url(self) -> str:
        """Where the agent dials."""
        return f"wss://{self.authority}/tunnel"

    @property
    def enrol_url(self) -> str:
        """Where the code is redeemed: ``POST`` with an :class:`EnrolmentRequest` as JSON."""
        return f"https://{self.authority}/enrol"

    @property
    def secret_text(self) -> str:
        """The secret as :class:`EnrolmentRequest` carries it."""
        return _to_text(self.secret)

    def format(self) -> str:
        """The code as one word: ``onpremcode1_`` and base64url of secret, hash, address, CRC-32."""
        content = self.secret + self.ca_sha256 + self.authority.encode("ascii")
        return PREFIX + _to_text(content + zlib.crc32(content).to_bytes(_CHECK_SIZE, "big"))

    @classmethod
    def parse(cls, text: str) -> ActivationCode:
        """Read a code, with blanks and line breaks that a mail or terminal put around or into it.

        Raises ActivationCodeError.
        """
        word = "".join(text.split())
        if not word.startswith(PREFIX):
            raise ActivationCodeError(f"an activation code begins with {PREFIX}")
        if len(word) > _MAX_LENGTH:
            raise ActivationCodeError("the activation code is too long")
        try:
            raw = _to_bytes(word.removeprefix(PREFIX))
        except (binascii.Error, ValueError) as error:
            raise ActivationCodeError("the activation code has a character too many") from error
        content, check = raw[:-_CHECK_SIZE], raw[-_CHECK_SIZE:]
        if (
            len(content) <= SECRET_SIZE + PIN_SIZE
            or zlib.crc32(content).to_bytes(_CHECK_SIZE, "big") != check
        ):
            raise ActivationCodeError(
                "the activation code is incomplete or mistyped; copy it whole"
            )
        pin_end = SECRET_SIZE + PIN_SIZE
        try:
            authority = content[pin_end:].decode("ascii")
        except UnicodeDecodeError as error:
            raise ActivationCodeError("the gateway's address is not ASCII") from error
        return cls(authority, content[:SECRET_SIZE], content[SECRET_SIZE:pin_end])


def secret_digest(secret_text: str) -> bytes:
    """SHA-256 of a code's secret: all that a gateway keeps. Raises ActivationCodeError."""
    try:
        secret = _to_bytes(secret_text)
    except (binascii.Error, ValueError) as error:
        raise ActivationCodeError("the secret is not base64url") from error
    if len(secret) != SECRET_SIZE:
        raise ActivationCodeError(f"the secret is not {SECRET_SIZE} bytes")
    return hashlib.sha256(secret).digest()


class EnrolmentRequest(msgspec.Struct, frozen=True):
    """Body of ``POST /enrol``.

    :ivar secret: :attr:`ActivationCode.secret_text`.
    :ivar csr: PKCS #10 in PEM. The gateway takes the public key and nothing else from it.
    :ivar name: what the agent would like to be called when its code names no agent; the host name.
    """

    secret: str
    csr: str
    name: str = ""

    def __repr__(self) -> str:
        return f"EnrolmentRequest(name={self.name!r})"


class EnrolmentAnswer(msgspec.Struct, frozen=True):
    """Answer of ``POST /enrol``; certificates in PEM.

    :ivar certificate: the agent's, followed by what links it to the CA, if anything.
    :ivar ca: the certificate that the code pinned: the agent verifies the gateway against it.
    """

    agent_id: str
    group: str
    name: str
    certificate: str
    ca: str
    tunnel_url: str
