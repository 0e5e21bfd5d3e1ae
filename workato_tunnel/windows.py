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

    def keeps_up(self, size: int) -> bool:
        """The consumer has taken at least ``size`` bytes, and all there are."""
        return self.consumed >= size and self.consumed == self.received

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


class ExtraCredit:
    """What a session has given its streams beyond their first windows, within its budgets.

    Credit is a promise of memory, so a stream's extra comes back only when its bytes have been
    taken: a stream that is complete may still wait for its consumer.
    """

    def __init__(self, own: CreditBudget, shared: CreditBudget | None) -> None:
        self._own = own
        self._shared = shared
        self._undelivered: dict[int, ReceiveWindow] = {}

    @property
    def left(self) -> int:
        """Bytes of the session's own budget that are not given out."""
        return self._own.left

    def widen(self, window: ReceiveWindow, limit: int) -> None:
        """Double a window, up to ``limit``, as far as the budgets allow."""
        extra = min(window.size, limit - window.size)
        if extra <= 0 or not self._own.take(extra):
            return
        if self._shared is not None and not self._shared.take(extra):
            self._own.give(extra)
            return
        window.widen(extra)

    def keep(self, stream_id: int, window: ReceiveWindow) -> None:
        """The stream is complete; what is not consumed goes on counting."""
        if window.consumed < window.received:
            self._undelivered[stream_id] = window
        else:
            self.give(window)

    def consumed(self, stream_id: int, size: int) -> None:
        """The consumer has taken bytes of a stream that is complete."""
        window = self._undelivered.get(stream_id)
        if window is not None:
            window.consume(size)
            if window.consumed >= window.received:
                self.forget(stream_id)

    def forget(self, stream_id: int) -> None:
        """Nobody will consume the rest of a stream that is complete. No-op for any other."""
        window = self._undelivered.pop(stream_id, None)
        if window is not None:
            self.give(window)

    def give(self, window: ReceiveWindow) -> None:
        """Take a window's extra back."""
        if window.extra:
            self._own.give(window.extra)
            if self._shared is not None:
                self._shared.give(window.extra)
