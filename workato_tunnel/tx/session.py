"""One authenticated lifetime of a tunnel: it owns the streams and outlives its sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from workato_tunnel.connection import Role, TunnelConnection
from workato_tunnel.errors import ErrorCode, LocalProtocolError, StreamRefused, StreamReset
from workato_tunnel.events import (
    CatalogueReceived,
    ConnectionFailed,
    DataEnded,
    DataReceived,
    Event,
    GoawayReceived,
    HeadReceived,
    StreamFinished,
    StreamOpened,
    StreamTerminated,
)
from workato_tunnel.frames import Catalogue, Goaway, Hello, Open
from workato_tunnel.settings import Settings
from workato_tunnel.windows import CreditBudget

from .outbound import Link, Outbound
from .stream import TunnelStream
from .transport import StreamReceiver, StreamTransport

Accept = Callable[[StreamTransport, Open], StreamReceiver]

ACK_DELAY: Final = 1.0
CLOSE_NORMAL: Final = 1000
CLOSE_GOING_AWAY: Final = 1001
CLOSE_PROTOCOL_ERROR: Final = 1002
CLOSE_POLICY: Final = 1008


class Session:
    """Drives one :class:`TunnelConnection` over one socket after another.

    A socket that is lost may be replaced, and the streams go on. A WebSocket that the peer *closes*
    is the end of the session: nobody closes what is to be resumed.

    :ivar ended: nothing more comes of this session; ``end_code`` says why. Only responses that are
        complete go on to their consumers.
    :ivar on_end: called once, when that happens.
    :param secret: names the session when it is to be resumed.
    :param hold: seconds for which a lost socket may be replaced.
    :param accept: called for each stream that the peer opens; None refuses them.
    """

    _log = Logger()

    def __init__(
        self,
        role: Role,
        clock: IReactorTime,
        settings: Settings,
        peer: Hello,
        secret: bytes,
        *,
        hold: float,
        accept: Accept | None = None,
        shared_budget: CreditBudget | None = None,
    ) -> None:
        self.role = role
        self.secret = secret
        self.peer = peer
        self.hold = hold
        self.connection = TunnelConnection(role, settings, peer.limits, shared_budget=shared_budget)
        self.catalogue = Catalogue()
        self.ended = False
        self.end_code = ""
        self.resumptions = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.on_catalogue: Callable[[Catalogue], None] = lambda _catalogue: None
        self.on_goaway: Callable[[Goaway], None] = lambda _goaway: None
        self.on_end: Callable[[], None] = lambda: None
        self._clock = clock
        self._accept = accept
        self._streams: dict[int, TunnelStream] = {}
        self._link: Link | None = None
        self._outbound: Outbound | None = None
        self._flush_call: IDelayedCall | None = None
        self._ack_call: IDelayedCall | None = None
        self._hold_call: IDelayedCall | None = None
        self._at_rest: list[Deferred[None]] = []
        self._settle_call: IDelayedCall | None = None
        self._receiving = False

    # -- what both ends ask --------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether a socket is attached."""
        return self._link is not None

    @property
    def available(self) -> bool:
        """Whether a stream opened now would reach the peer."""
        connection = self.connection
        return (
            self._link is not None
            and not connection.failed
            and not connection.draining
            and not connection.peer_draining
        )

    @property
    def streams(self) -> int:
        """Streams that this side opened and that have not ended."""
        return self.connection.open_streams

    def open_stream(
        self, head: Open, receiver: StreamReceiver, *, end: bool = False
    ) -> StreamTransport:
        """Open a stream; ``end``: it has no body.

        Raises StreamRefused where it can't reach the peer, HeadTooLarge for a head too large.
        """
        if self._link is None:
            raise StreamRefused("the tunnel is down", ErrorCode.TUNNEL_LOST)
        stream_id = self.connection.open_stream(head, end)
        stream = self._streams[stream_id] = TunnelStream(self, stream_id, receiver)
        self.wake()
        return stream

    def announce(self, catalogue: Catalogue) -> None:
        """Tell the gateway what this agent offers. Raises HeadTooLarge for too much."""
        if not self.ended:
            self.connection.announce(catalogue)
            self.wake()

    def drain(self, code: str = ErrorCode.DRAINING, message: str = "") -> Deferred[None]:
        """Take no new streams. Fires when those in flight, both ways, have ended, and the peer has
        the end of each: nothing is lost if the socket is closed then."""
        if not self.ended:
            self.connection.go_away(code, message)
            self.wake()
        if self.ended or self.connection.at_rest:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._at_rest.remove)
        self._at_rest.append(waiting)
        return waiting

    def terminate(
        self, code: str, message: str = "", *, close_code: int = CLOSE_GOING_AWAY
    ) -> None:
        """End the session for good: streams are lost, the socket is closed."""
        if self.ended:
            return
        self.ended = True
        self.connection.go_away(code, message)
        link, outbound = self._link, self._outbound
        if link is not None and outbound is not None:
            outbound.send()
            self._detach()
            link.close(close_code, message)
        self._end(code, message)

    # -- sockets -------------------------------------------------------------------------------

    def attach(self, link: Link, resume: int | None = None) -> None:
        """Go on over this socket; ``resume``: the peer's count of what it received.

        Raises RemoteProtocolError where the count can't be: the session is to be ended.
        """
        if self.ended:
            raise LocalProtocolError("the session has ended")
        if self._link is not None:
            self._drop()
        if resume is not None:
            self.connection.resume(resume)
            self.resumptions += 1
        self._cancel("_hold_call")
        self._link = link
        self._outbound = Outbound(self, link)
        link.register(self._outbound)
        self._outbound.send()

    def link_lost(self, link: Link) -> None:
        """The socket is gone; wait for the next one. Ignored for a socket replaced already."""
        if link is self._link:
            self._detach()
            self.connection.suspend()
            self._wait_for_link()

    def link_closed(self, link: Link, reason: str) -> None:
        """The peer closed the WebSocket: it has ended the session. Ignored as above."""
        if link is self._link:
            self._detach()
            self._end(ErrorCode.TUNNEL_LOST, f"the other side closed the tunnel: {reason}")

    def supersede(self) -> int:
        """Give up the present socket for one that is about to come; the count for our HELLO."""
        if self._link is not None:
            self._drop()
            self._wait_for_link()
        return self.connection.received_count

    def message_received(self, link: Link, message: bytes) -> None:
        """A message came over a socket. Ignored for a socket replaced already."""
        if link is not self._link:
            return
        self.bytes_received += len(message)
        self._receiving = True
        try:
            for event in self.connection.receive_message(message, self._clock.seconds()):
                self._on[type(event)](self, event)
                if self.ended:
                    return
        finally:
            self._receiving = False
        if self._outbound is not None:
            if self._ack_call is None:
                self._ack_call = self._clock.callLater(ACK_DELAY, self._acknowledge)
            self._outbound.send()
        self._check_soon()

    # -- for streams ---------------------------------------------------------------------------

    def wake(self) -> None:
        """Something is to be sent: pack it together with all that this reactor turn brings."""
        if self._flush_call is None and self._outbound is not None and not self._receiving:
            self._flush_call = self._clock.callLater(0, self._flush)

    def flush(self) -> None:
        """Send what is ready, without waiting for the rest of the turn."""
        if self._outbound is not None and not self._receiving:
            self._outbound.send()

    def forget(self, stream_id: int) -> None:
        """A stream takes no further events."""
        self._streams.pop(stream_id, None)
        self._check_soon()

    def released(self) -> None:
        """The work behind a stream has ended."""
        self._check_soon()

    # -- for the socket's producer -------------------------------------------------------------

    def writers_may_go_on(self, stream_ids: list[int]) -> None:
        """Less than the low-water mark is queued on these streams."""
        for stream_id in stream_ids:
            stream = self._streams.get(stream_id)
            if stream is not None:
                stream.drained()

    def all_sent(self) -> None:
        """Nothing more can be sent now."""
        self._check_soon()

    # -- inside --------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_call = None
        if self._outbound is not None:
            self._outbound.send()

    def _acknowledge(self) -> None:
        self._ack_call = None
        if self._outbound is not None and self.connection.acknowledge():
            self._outbound.send()

    def _check_soon(self) -> None:
        if self._at_rest and self._settle_call is None and not self.ended:
            self._settle_call = self._clock.callLater(0, self._check)

    def _check(self) -> None:
        self._settle_call = None
        if self.ended or self.connection.at_rest:
            waiting, self._at_rest = self._at_rest, []
            for deferred in waiting:
                deferred.callback(None)

    def _cancel(self, name: str) -> None:
        call: IDelayedCall | None = getattr(self, name)
        if call is not None:
            setattr(self, name, None)
            call.cancel()

    def _detach(self) -> None:
        if self._outbound is not None:
            self.bytes_sent += self._outbound.bytes_sent
            self._outbound.stopProducing()
        self._link = None
        self._outbound = None
        self._cancel("_flush_call")
        self._cancel("_ack_call")

    def _drop(self) -> None:
        link = self._link
        if link is not None:
            self._detach()
            self.connection.suspend()
            link.abort()

    def _wait_for_link(self) -> None:
        if self.ended or self._link is not None or self._hold_call is not None:
            return
        if self.hold <= 0:
            self._end(ErrorCode.TUNNEL_LOST, "the tunnel broke")
        else:
            self._hold_call = self._clock.callLater(self.hold, self._expired)

    def _expired(self) -> None:
        self._hold_call = None
        self._end(
            ErrorCode.TUNNEL_LOST, f"the tunnel broke and did not come back in {self.hold:g} s"
        )

    def _end(self, code: str, message: str) -> None:
        self.ended = True
        self.end_code = str(code)
        for name in ("_flush_call", "_ack_call", "_hold_call", "_settle_call"):
            self._cancel(name)
        # The owner first: who is told of a lost stream may look for another session.
        self._tell(self.on_end)
        streams = list(self._streams.values())
        for stream_id in list(self.connection.streams):
            self.connection.reset_stream(stream_id, code)
        for stream in streams:
            if not stream.complete:
                stream.incoming_reset(StreamReset(ErrorCode.TUNNEL_LOST, message))
        self._check()

    def _tell(self, call: Callable[..., None], *args: object) -> None:
        try:
            call(*args)
        except Exception:  # noqa: BLE001 - the owner's fault must not end the reading of the socket
            self._log.failure("The owner of a tunnel's session failed", event="session_owner_broke")

    # -- events --------------------------------------------------------------------------------

    def _on_opened(self, event: StreamOpened) -> None:
        stream = TunnelStream(self, event.stream, request_ended=event.end)
        if self._accept is None:
            stream.reset(ErrorCode.REFUSED, "this side takes no streams")
            stream.release()
            return
        self._streams[event.stream] = stream
        try:
            receiver = self._accept(stream, event.head)
        except Exception:  # noqa: BLE001 - one stream's fault must not end the session's others
            self._log.failure(
                "Stream {stream} could not be begun", event="stream_not_begun", stream=event.stream
            )
            stream.reset(ErrorCode.INTERNAL_ERROR, "the stream could not be begun")
            stream.release()
            return
        stream.begin(receiver)
        if event.end:
            stream.incoming_end()

    def _on_head(self, event: HeadReceived) -> None:
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.incoming_head(event.head)

    def _on_data(self, event: DataReceived) -> None:
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.incoming_data(event.data)

    def _on_data_end(self, event: DataEnded) -> None:
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.incoming_end()

    def _on_finished(self, event: StreamFinished) -> None:
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.incoming_trailers(event.trailers)

    def _on_terminated(self, event: StreamTerminated) -> None:
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.incoming_reset(
                StreamReset(event.reason, event.message, event.detail, remote=event.remote)
            )

    def _on_catalogue(self, event: CatalogueReceived) -> None:
        self.catalogue = event.catalogue
        self._tell(self.on_catalogue, event.catalogue)

    def _on_goaway(self, event: GoawayReceived) -> None:
        self._tell(self.on_goaway, event.goaway)

    def _on_failed(self, event: ConnectionFailed) -> None:
        self._log.error(
            "The peer broke the protocol: {code}: {reason}",
            event="peer_broke_protocol",
            code=event.code,
            reason=event.message,
        )
        self.terminate(event.code, event.message, close_code=CLOSE_PROTOCOL_ERROR)

    _on: ClassVar[dict[type[Event], Callable[[Session, Any], None]]] = {
        StreamOpened: _on_opened,
        HeadReceived: _on_head,
        DataReceived: _on_data,
        DataEnded: _on_data_end,
        StreamFinished: _on_finished,
        StreamTerminated: _on_terminated,
        CatalogueReceived: _on_catalogue,
        GoawayReceived: _on_goaway,
        ConnectionFailed: _on_failed,
    }
