"""How a receiver knows that an event is from this gateway, as Standard Webhooks has it.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hmac
from hashlib import sha256
from typing import Final

from attrs import field, frozen

PREFIX: Final = "whsec_"
_SIZES: Final = range(24, 65)


@frozen
class SigningSecret:
    """A key that gateway and receiver share."""

    _key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> SigningSecret:
        """``whsec_`` and the Base64 of 24 to 64 bytes. Raises ValueError, which never quotes it."""
        encoded = text.strip()
        try:
            key = base64.b64decode(encoded.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not encoded.startswith(PREFIX) or len(key) not in _SIZES:
            raise ValueError(
                "expected whsec_ and the Base64 of 24 to 64 random bytes, as from:"
                ' echo "whsec_$(openssl rand -base64 32)"'
            )
        return cls(key)

    def fields(self, event_id: str, seconds: int, body: bytes) -> dict[str, str]:
        """The header fields of one attempt. ``seconds``: Unix time of the attempt."""
        signed = f"{event_id}.{seconds}.".encode() + body
        signature = base64.b64encode(hmac.digest(self._key, signed, sha256)).decode("ascii")
        return {
            "webhook-id": event_id,
            "webhook-timestamp": str(seconds),
            "webhook-signature": f"v1,{signature}",
        }
