"""Errors of the wire: each carries its code and says whose fault it is."""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """Codes of RESET and GOAWAY. A RESET may also carry a code of :mod:`.problems`."""

    NO_ERROR = "no_error"
    PROTOCOL_ERROR = "protocol_error"
    FLOW_CONTROL_ERROR = "flow_control_error"
    FRAME_TOO_LARGE = "frame_too_large"
    STREAM_CLOSED = "stream_closed"
    REFUSED = "refused"  # not begun: safe to try elsewhere
    CANCELLED = "cancelled"
    FLOOD = "flood"
    DRAINING = "draining"
    REVOKED = "revoked"
    UNSUPPORTED_VERSION = "unsupported_version"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    OVERLOADED = "overloaded"
    TUNNEL_LOST = "tunnel_lost"
    INTERNAL_ERROR = "internal_error"


class TunnelError(Exception):
    """Base of the wire's errors. ``code`` is what the peer is told."""

    code: ErrorCode = ErrorCode.INTERNAL_ERROR

    def __init__(self, message: str, code: ErrorCode | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class LocalProtocolError(TunnelError):
    """We were about to break the protocol: a bug on this side. Nothing was sent."""

    code = ErrorCode.INTERNAL_ERROR


class RemoteProtocolError(TunnelError):
    """The peer broke the protocol; the connection ends with GOAWAY and this code."""

    code = ErrorCode.PROTOCOL_ERROR


class StreamRefused(TunnelError):
    """A stream could not be opened: nothing of it has reached the peer."""

    code = ErrorCode.REFUSED


class StreamReset(TunnelError):
    """A stream ended before its time.

    :ivar reason: the code as it came: an :class:`ErrorCode` or a problem's code.
    :ivar detail: what the peer adds for the caller; may be empty.
    :ivar remote: whether the peer ended it.
    """

    def __init__(
        self, reason: str, message: str = "", detail: str = "", *, remote: bool = True
    ) -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.reason = reason
        self.message = message
        self.detail = detail
        self.remote = remote


class HeadTooLarge(LocalProtocolError):
    """A head, trailers or catalogue is larger than the peer takes. Nothing was sent."""

    code = ErrorCode.FRAME_TOO_LARGE
