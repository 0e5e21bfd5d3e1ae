"""One STOMP connection: login, receipts, heart-beats, and frames for those who subscribed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from .stomp_frames import Frame, FrameError, FrameReader, encode

_GRACE: Final = 2.5
"""Heart-beats that may be late before the connection counts as dead."""
CLOSING: Final = 2.0
_GOODBYE: Final = "goodbye"
_SHOWN: Final = 500
"""Characters of a broker's own words in an error."""


class LinkLost(Exception):
    """The connection is gone: whether what was under way has been done is not known.

    :ivar cause: the transport's exception, or a FrameError.
    """

    def __init__(self, text: str, cause: BaseException | None = None) -> None:
        super().__init__(text)
        self.cause = cause


class Refused(Exception):
    """The broker answered with an ERROR frame; its words are the text."""


@implementer(IPushProducer)
class StompLink(Protocol):
    """A connection. It never raises to the reactor; all its failures reach those who wait.

    :ivar lost: why it can't be used any more; None while it can.
    :ivar messages: who gets the MESSAGE frames of a subscription, by its id.
    :ivar strays: gets MESSAGE frames of subscriptions that have been ended.
    :ivar stray_error: matches the ERROR that a broker sends in their place, and goes on.
    """

    transport: Any

    def __init__(self, clock: Any, largest: int) -> None:
        self.lost: LinkLost | None = None
        self.messages: dict[str, Callable[[Frame], None]] = {}
        self.strays: Callable[[Frame], None] = lambda _frame: None
        self.stray_error: re.Pattern[str] | None = None
        self.on_lost: Callable[[], None] = lambda: None
        self._clock = clock
        self._reader = FrameReader(largest)
        self._receipts: dict[str, Deferred[None]] = {}
        self._last_receipt = 0
        self._connected: Deferred[Mapping[str, str]] | None = None
        self._writable = True
        self._writers: list[Deferred[None]] = []
        self._gone: list[Deferred[None]] = []
        self._beat: IDelayedCall | None = None
        self._watch: IDelayedCall | None = None
        self._heard = 0.0
        self._parting = False
        self._closing: IDelayedCall | None = None
        self._ended = False

    # -- what one does with it -------------------------------------------------------------------

    def log_in(self, headers: Iterable[tuple[str, str]]) -> Deferred[Mapping[str, str]]:
        """Send CONNECT. Fires with the headers of CONNECTED; fails with Refused, LinkLost."""
        connected: Deferred[Mapping[str, str]] = Deferred(self._give_up)
        self._connected = connected
        if self.lost is not None:
            self._connected = None
            connected.errback(self.lost)
        else:
            self.transport.write(encode("CONNECT", headers))
        return connected

    def _give_up(self, _connected: object) -> None:
        self._connected = None
        self.abort("the login was given up")

    def keep_alive(self, send_every: float, expect_every: float) -> None:
        """Begin with heart-beats; 0: none."""
        self._heard = self._clock.seconds()
        if send_every:
            self._beat = self._clock.callLater(send_every, self._on_beat, send_every)
        if expect_every:
            self._watch = self._clock.callLater(expect_every, self._on_watch, expect_every)

    def send(self, command: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> None:
        """A frame that nothing answers. After the connection is lost it goes nowhere."""
        if self.lost is None:
            self.transport.write(encode(command, headers, body))

    def request(
        self, command: str, headers: Iterable[tuple[str, str]], body: bytes = b""
    ) -> Deferred[None]:
        """A frame with a receipt. Fires when the broker has done it; fails as :meth:`log_in`.

        Cancelling only stops the waiting: the frame has gone.
        """
        self._last_receipt += 1
        receipt = str(self._last_receipt)
        done: Deferred[None] = Deferred(lambda _: self._forget(receipt))
        if self.lost is not None:
            done.errback(self.lost)
            return done
        self._receipts[receipt] = done
        self.transport.write(encode(command, [*headers, ("receipt", receipt)], body))
        return done

    def _forget(self, receipt: str) -> None:
        self._receipts.pop(receipt, None)

    async def writable(self) -> None:
        """Wait until the broker takes what was written. Raises LinkLost."""
        while not self._writable and self.lost is None:
            waiting: Deferred[None] = Deferred(self._writers.remove)
            self._writers.append(waiting)
            await waiting
        if self.lost is not None:
            raise self.lost

    def end(self) -> Deferred[None]:
        """Say goodbye, and end the connection once the broker has let go. Fires when it is gone."""
        gone: Deferred[None] = Deferred(self._gone.remove)
        if self._ended:
            gone.callback(None)
            return gone
        self._gone.append(gone)
        if self.lost is None:
            self.transport.write(encode("DISCONNECT", [("receipt", _GOODBYE)]))
            self._lose(LinkLost("the connection was closed"))
            self._parting = True
            self._closing = self._clock.callLater(CLOSING, self.transport.abortConnection)
        elif not self._parting:
            self._close()
        return gone

    def abort(self, reason: str) -> None:
        """End the connection at once."""
        self._lose(LinkLost(reason))
        if not self._ended and self.transport is not None:
            self.transport.abortConnection()

    # -- what Twisted tells ----------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Twisted: TCP stands."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Twisted: bytes came in."""
        self._heard = self._clock.seconds()
        if self.lost is not None and not self._parting:
            return
        try:
            frames = self._reader.feed(data)
        except FrameError as error:
            self._parting = False
            self._lose(LinkLost(str(error), error))
            self.transport.abortConnection()
            return
        for frame in frames:
            if self.lost is None:
                self._received(frame)
            elif self._parting and frame.headers.get("receipt-id") == _GOODBYE:
                self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: it is gone."""
        self._ended = True
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self._lose(LinkLost("the broker closed the connection", reason.value))
        gone, self._gone = self._gone, []
        for each in gone:
            each.callback(None)

    def pauseProducing(self) -> None:
        """Twisted: the broker takes slowly."""
        self._writable = False

    def resumeProducing(self) -> None:
        """Twisted: the broker takes again."""
        self._writable = True
        self._wake_writers()

    def stopProducing(self) -> None:
        """Twisted: the connection is lost; connectionLost tells the rest."""

    # -- inside ----------------------------------------------------------------------------------

    def _received(self, frame: Frame) -> None:
        match frame.command:
            case "MESSAGE":
                take = self.messages.get(frame.headers.get("subscription", ""), self.strays)
                take(frame)
            case "RECEIPT":
                done = self._receipts.pop(frame.headers.get("receipt-id", ""), None)
                if done is not None:
                    done.callback(None)
            case "CONNECTED" if self._connected is not None:
                connected, self._connected = self._connected, None
                connected.callback(frame.headers)
            case "ERROR":
                self._error(frame)
            case _:
                self._lose(LinkLost(f"the broker sent {frame.command} out of turn"))
                self.transport.abortConnection()

    def _error(self, frame: Frame) -> None:
        """After an ERROR the standard has the connection end, whoever it was for."""
        words = _words(frame)
        if self.stray_error is not None and self.stray_error.search(words):
            self.strays(frame)
            return
        refused = Refused(words)
        waiting: Deferred[Any] | None = self._connected
        self._connected = None
        if waiting is None:
            waiting = self._receipts.pop(frame.headers.get("receipt-id", ""), None)
        if waiting is None and len(self._receipts) == 1:
            waiting = self._receipts.pop(next(iter(self._receipts)))
        if waiting is not None:
            waiting.errback(refused)
        self._lose(LinkLost(f"the broker reported an error: {refused}", refused))
        self._close()

    def _close(self) -> None:
        """Close when all is written; a broker that takes nothing gets no more time than this."""
        self.transport.loseConnection()
        if not self._ended and self._closing is None:
            self._closing = self._clock.callLater(CLOSING, self.transport.abortConnection)

    def _lose(self, reason: LinkLost) -> None:
        if self.lost is not None:
            return
        self.lost = reason
        for call in (self._beat, self._watch):
            if call is not None and call.active():
                call.cancel()
        receipts, self._receipts = self._receipts, {}
        connected, self._connected = self._connected, None
        if connected is not None and not connected.called:
            connected.errback(reason)
        for done in receipts.values():
            done.errback(reason)
        self._wake_writers()
        self.on_lost()

    def _wake_writers(self) -> None:
        writers, self._writers = self._writers, []
        for each in writers:
            each.callback(None)

    def _on_beat(self, every: float) -> None:
        self.transport.write(b"\n")
        self._beat = self._clock.callLater(every, self._on_beat, every)

    def _on_watch(self, every: float) -> None:
        if self._clock.seconds() - self._heard > _GRACE * every:
            self.abort(f"the broker has said nothing for {_GRACE * every:g} s")
            return
        self._watch = self._clock.callLater(every, self._on_watch, every)


def _words(frame: Frame) -> str:
    """What an ERROR says: its message, and the first line of its body."""
    message = frame.headers.get("message", "").strip()
    lines = frame.body.decode("utf-8", "replace").strip().splitlines()
    detail = lines[0].strip() if lines else ""
    if not detail or detail in message:
        return message[:_SHOWN] or "an error without words"
    return f"{message}: {detail}"[:_SHOWN] if message else detail[:_SHOWN]
