"""One authenticated lifetime of a tunnel: it owns the streams and outlives its sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from workato_tunnel.connection import Role, TunnelConnection
from workato_tunnel.errors import ErrorCode, StreamRefused, StreamReset
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

    :ivar ended: nothing more comes of this session; ``end_code`` says why.
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
        self._idle: list[Deferred[None]] = []
        self._on: dict[type[Event], Callable[[Any], None]] = {
            StreamOpened: self._on_opened,
            HeadReceived: self._on_head,
            DataReceived: self._on_data,
            DataEnded: self._on_data_end,
            StreamFinished: self._on_finished,
            StreamTerminated: self._on_terminated,
            CatalogueReceived: self._on_catalogue,
            GoawayReceived: self._on_goaway,
            ConnectionFailed: self._on_failed,
        }

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
        stream = TunnelStream(self, stream_id)
        stream.receiver = receiver
        self._streams[stream_id] = stream
        self.wake()
        return stream

    def announce(self, catalogue: Catalogue) -> None:
        """Tell the gateway what this agent offers."""
        self.connection.announce(catalogue)
        self.wake()

    def drain(self, code: str = ErrorCode.DRAINING, message: str = "") -> Deferred[None]:
        """Take no new streams. Fires when those in flight, both ways, have ended."""
        if not self.ended:
            self.connection.go_away(code, message)
            self.wake()
        if self.ended or self._at_rest():
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._idle.remove)
        self._idle.append(waiting)
        return waiting

    def terminate(
        self, code: str, message: str = "", *, close_code: int = CLOSE_GOING_AWAY
    ) -> None:
        """End the session for good: streams are lost, the socket is closed."""
        if self.ended:
            return
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
        if self._link is not None:
            self._drop()
        if resume is not None:
            self.connection.resume(resume)
            self.resumptions += 1
        self._cancel("_hold_call")
        self._link = link
        self._outbound = Outbound(self.connection, link, self._on_drained)
        link.register(self._outbound)
        self._outbound.send()

    def link_lost(self, link: Link) -> None:
        """The socket is gone; wait for the next one. Ignored for a socket replaced already."""
        if link is not self._link:
            return
        self._detach()
        self.connection.suspend()
        if self.ended:
            return
        if self.connection.failed or self.hold <= 0:
            self._end(ErrorCode.TUNNEL_LOST, "the tunnel broke")
        else:
            self._hold_call = self._clock.callLater(self.hold, self._expired)

    def supersede(self) -> int:
        """Give up the present socket for one that is about to come; the count for our HELLO."""
        self._drop()
        return self.connection.received_count

    def message_received(self, link: Link, message: bytes) -> None:
        """A message came over a socket. Ignored for a socket replaced already."""
        if link is not self._link:
            return
        self.bytes_received += len(message)
        for event in self.connection.receive_message(message, self._clock.seconds()):
            self._on[type(event)](event)
        if self._ack_call is None and not self.ended:
            self._ack_call = self._clock.callLater(ACK_DELAY, self._acknowledge)
        if self._outbound is not None:
            self._outbound.send()
        if self._idle:
            self._check_idle()

    # -- for streams ---------------------------------------------------------------------------

    def wake(self) -> None:
        """Something is to be sent: pack it together with all that this reactor turn brings."""
        if self._flush_call is None and self._outbound is not None:
            self._flush_call = self._clock.callLater(0, self._flush)

    def forget(self, stream_id: int) -> None:
        """A stream takes no further events."""
        self._streams.pop(stream_id, None)
        if self._idle:
            self.wake()

    # -- inside --------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_call = None
        if self._outbound is not None:
            self._outbound.send()
        if self._idle:
            self._check_idle()

    def _acknowledge(self) -> None:
        self._ack_call = None
        if self._outbound is not None and self.connection.acknowledge():
            self._outbound.send()

    def _on_drained(self, stream_ids: list[int]) -> None:
        for stream_id in stream_ids:
            stream = self._streams.get(stream_id)
            if stream is not None:
                stream.drained()

    def _at_rest(self) -> bool:
        return not self.connection.streams and not self.connection.busy_slots

    def _check_idle(self) -> None:
        if self.ended or self._at_rest():
            waiting, self._idle = self._idle, []
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

    def _expired(self) -> None:
        self._hold_call = None
        self._end(
            ErrorCode.TUNNEL_LOST, f"the tunnel broke and did not come back in {self.hold:g} s"
        )

    def _end(self, code: str, message: str) -> None:
        self.ended = True
        self.end_code = str(code)
        for name in ("_flush_call", "_ack_call", "_hold_call"):
            self._cancel(name)
        for stream in list(self._streams.values()):
            self.connection.reset_stream(stream.stream_id, code)
            stream.incoming_reset(StreamReset(ErrorCode.TUNNEL_LOST, message))
        self._check_idle()
        self.on_end()

    # -- events --------------------------------------------------------------------------------

    def _on_opened(self, event: StreamOpened) -> None:
        stream = TunnelStream(self, event.stream)
        if self._accept is None:
            stream.reset(ErrorCode.REFUSED, "this side takes no streams")
            stream.release()
            return
        self._streams[event.stream] = stream
        stream.request_ended = event.end
        stream.receiver = self._accept(stream, event.head)
        if event.end and not stream.closed:
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
        self.on_catalogue(event.catalogue)

    def _on_goaway(self, event: GoawayReceived) -> None:
        self.on_goaway(event.goaway)

    def _on_failed(self, event: ConnectionFailed) -> None:
        self._log.error(
            "The peer broke the protocol: {code}: {reason}", code=event.code, reason=event.message
        )
        self.terminate(event.code, event.message, close_code=CLOSE_PROTOCOL_ERROR)
