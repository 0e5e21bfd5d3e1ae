"""Credit arithmetic.

Credit is absolute: "you may have sent N bytes on this stream", so a lost or doubled update does no
harm (as MAX_STREAM_DATA in RFC 9000, section 4.1). A sender that runs dry marks its last DATA
``BLOCKED``; a receiver whose consumer keeps up answers by widening the window, and so finds
round-trip time × rate without measuring either.
"""

from __future__ import annotations

from attrs import define

from .errors import ErrorCode, RemoteProtocolError


@define
class CreditBudget:
    """Bytes that may be given out as extra credit to the streams of one or more sessions."""

    left: int

    def take(self, size: int) -> bool:
        """Take ``size`` bytes if there are as many."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.left += size


@define
class SendWindow:
    """What we may send on a stream. Both are totals since the stream began, in bytes."""

    limit: int
    sent: int = 0

    def credit(self) -> int:
        """Bytes that may go now."""
        return self.limit - self.sent

    def raise_to(self, limit: int) -> bool:
        """Take an update in; a lower one than known is old and ignored. True when it changed."""
        if limit <= self.limit:
            return False
        self.limit = limit
        return True


@define
class ReceiveWindow:
    """What we let the peer send on a stream: ``granted`` never exceeds ``consumed + size``.

    :ivar extra: how much of ``size`` was taken from the budgets.
    """

    size: int
    granted: int
    received: int = 0
    consumed: int = 0
    extra: int = 0
    starved: bool = False

    def receive(self, size: int, blocked: bool) -> None:
        """Account for a DATA frame. Raises RemoteProtocolError beyond the grant."""
        self.received += size
        if self.received > self.granted:
            raise RemoteProtocolError(
                f"{self.received} bytes sent where {self.granted} were granted",
                ErrorCode.FLOW_CONTROL_ERROR,
            )
        if blocked:
            self.starved = True

    def consume(self, size: int) -> None:
        """The consumer has taken ``size`` more bytes."""
        self.consumed += size

    def wants_widening(self) -> bool:
        """The peer waits for credit although everything it sent has been taken."""
        return self.starved and self.consumed == self.received

    def widen(self, extra: int) -> None:
        """Make the window ``extra`` bytes wider."""
        self.size += extra
        self.extra += extra

    def next_grant(self) -> int | None:
        """The new total to announce, once it is worth a frame (half a window)."""
        target = self.consumed + self.size
        if target - self.granted < self.size // 2:
            return None
        self.granted = target
        self.starved = False
        return target
