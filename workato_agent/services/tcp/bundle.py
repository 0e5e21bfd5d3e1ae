"""Many connections of one caller in one WebSocket: a session of the tunnel's own protocol in it.

The caller takes the gateway's part and opens a stream for each connection. What is written at about
the same time then travels in one message, through the gateway as well, which passes it on unseen.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from websockets.frames import CloseCode
from websockets.protocol import Protocol, Side, State

from workato_tunnel.binary import BinaryMessages
from workato_tunnel.connection import Role
from workato_tunnel.errors import RemoteProtocolError
from workato_tunnel.frames import Hello, Open
from workato_tunnel.handshake import decode_hello, encode_hello
from workato_tunnel.settings import MAX_MESSAGE, SUBPROTOCOL, Settings
from workato_tunnel.tx.session import Session
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport
from workato_tunnel.windows import CreditBudget

from ...requests import BeginInner, CallerLine, Passage

METHOD: Final = "CONNECT"
"""Of the inner calls (RFC 9110, section 9.3.6): bytes both ways, as they are."""
SETTINGS: Final = Settings(
    streams=64,
    budget=16 * 1024 * 1024,
    resumable=False,
    # Each stream makes a connection to the target; those who only open and reset are slowed down.
    resets_burst=1000,
    resets_per_second=100.0,
)


def wants_bundle(offered: str | None) -> bool:
    """Whether a handshake's ``Sec-WebSocket-Protocol`` asks for one."""
    return SUBPROTOCOL in [name.strip() for name in (offered or "").split(",")]


class Bundle(Passage):
    """The agent's end.

    :param begin_inner: begins the call that is one of the connections.
    :param shared: memory that all bundles of a profile may promise together.
    """

    def __init__(self, clock: Any, begin_inner: BeginInner, shared: CreditBudget) -> None:
        super().__init__()
        self._clock = clock
        self._begin_inner = begin_inner
        self._shared = shared
        self._messages = BinaryMessages(
            Protocol(Side.SERVER, state=State.OPEN, max_size=MAX_MESSAGE),
            whole=True,
            largest=MAX_MESSAGE,
        )
        self._socket = _Socket(self)
        self._session: Session | None = None

    # -- the passage

    def begin(self, caller: CallerLine) -> Deferred[None]:
        done = super().begin(caller)
        self.send(encode_hello(Hello(limits=SETTINGS.limits(), hold=0)))
        return done

    def close(self) -> None:
        self._caller = self._done = None
        if self._session is not None:
            self._session.link_lost(self._socket)

    def data_received(self, data: bytes) -> None:
        messages = self._messages
        if self._caller is None or not messages.open:
            return
        for message in messages.receive(data):
            if self._session is not None:
                self._session.message_received(self._socket, message)
            elif not self._shake_hands(message):
                break
        if messages.answer_due:
            self._answer()

    def end_received(self) -> None:
        self._finish()

    def pauseProducing(self) -> None:
        """The caller takes slowly."""
        self._socket.pace(paused=True)

    def resumeProducing(self) -> None:
        """The caller takes again."""
        self._socket.pace(paused=False)
        self._answer()

    # -- for the session's socket

    def send(self, message: bytes) -> None:
        """Send a message to the caller."""
        if self._messages.open:
            self._write(self._messages.message(message))

    def say_goodbye(self, code: int, reason: str) -> None:
        """Close the WebSocket; nothing waits for the caller's own close."""
        self._messages.close(CloseCode(code), reason[:120])
        self._write(self._messages.answers())
        self._finish()

    def drop(self) -> None:
        """End the call, and with it all connections."""
        self._finish()

    # -- inside

    def _answer(self) -> None:
        self._write(self._messages.answers(later=self._socket.paused))
        if not self._messages.open:
            self._finish()

    def _write(self, data: bytes) -> None:
        if data and self._caller is not None:
            self.sent += len(data)
            self._caller.write_now(data)

    def _shake_hands(self, message: bytes) -> bool:
        try:
            hello = decode_hello(message)
        except RemoteProtocolError as error:
            self.say_goodbye(CloseCode.PROTOCOL_ERROR, str(error))
            return False
        self._session = Session(
            Role.AGENT,
            self._clock,
            SETTINGS,
            hello,
            b"",
            hold=0,
            accept=self._accept,
            shared_budget=self._shared,
        )
        self._session.attach(self._socket)
        return True

    def _accept(self, stream: StreamTransport, _head: Open) -> StreamReceiver:
        # What the caller may reach was decided with the call that this is part of.
        return self._begin_inner(stream, METHOD)


class _Socket:
    """What the session takes for its socket (:class:`workato_tunnel.tx.outbound.Link`).

    :ivar paused: the caller takes slowly.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._producer: IPushProducer | None = None
        self.paused = False

    def send_message(self, message: bytes) -> None:
        self._bundle.send(message)

    def register(self, producer: IPushProducer) -> None:
        self._producer = producer
        if self.paused:
            producer.pauseProducing()

    def close(self, code: int, reason: str) -> None:
        self._bundle.say_goodbye(code, reason)

    def abort(self) -> None:
        self._bundle.drop()

    def pace(self, *, paused: bool) -> None:
        """The caller takes slowly, or again."""
        self.paused = paused
        if self._producer is None:
            return
        if paused:
            self._producer.pauseProducing()
        else:
            self._producer.resumeProducing()
