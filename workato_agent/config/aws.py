"""What everything that speaks to AWS shares: the keys, and what its refusals of them mean."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

from attrs import field, frozen

MISSING_LIBRARY: Final = "install the extra: aws"
_CLOCK: Final = "check the secret key, and the machine's clock"
_EXPIRED: Final = "the session's credentials have expired: give new ones"

LOGIN_HINTS: Final = {
    "UnrecognizedClientException": "check accessKey and secretKey",
    "InvalidClientTokenId": "check accessKey, and that the region is one of its account",
    "InvalidSignatureException": _CLOCK,
    "SignatureDoesNotMatch": _CLOCK,
    "RequestExpired": _CLOCK,
    "RequestTimeTooSkewed": _CLOCK,
    "IncompleteSignature": "check accessKey and secretKey: they hold odd characters",
    "MissingAuthenticationToken": "check accessKey and secretKey",
    "MissingAuthenticationTokenException": "check accessKey and secretKey",
    "AuthFailure": "check accessKey and secretKey",
    "InvalidSecurity": "check accessKey and secretKey",
    "NotAuthorized": "check accessKey and secretKey",
    "OptInRequired": "the account has not subscribed to this service in this region",
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
}
"""By the code of an error: AWS did not take who we say we are (AWS's "Common Errors")."""


def installed() -> bool:
    """Whether the library that signs requests is there."""
    return find_spec("botocore") is not None


@frozen
class AwsKeys:
    """Who signs.

    :ivar token: of temporary credentials.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    def arguments(self) -> dict[str, Any]:
        """For a client of botocore's."""
        return {
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "aws_session_token": self.token,
        }

    def sign(
        self, service: str, region: str, url: str, headers: dict[str, str], body: bytes
    ) -> dict[str, str]:
        """The header fields of a signed POST (Signature Version 4), those given among them."""
        from botocore.auth import SigV4Auth  # noqa: PLC0415 - an extra
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.credentials import Credentials  # noqa: PLC0415

        credentials = Credentials(self.access_key, self.secret_key, self.token)
        request = AWSRequest("POST", url, headers=headers, data=body)
        SigV4Auth(credentials, service, region).add_auth(request)
        return dict(request.headers.items())
