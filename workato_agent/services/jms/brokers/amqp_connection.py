"""An AMQP 1.0 connection: Qpid Proton's state machines, their bytes moved by Twisted.

Proton is used without I/O and without threads: what comes from the socket is pushed into its
Transport, what that wants to say is written to the socket, its events go to whom they are about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from attrs import field, frozen
from proton import Collector, Connection, Event, Session, Transport
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import (
    IDelayedCall,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol as ByteProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from workato_tunnel.problems import Problem

from ... import greetings
from ..settings import AmqpSettings
from .amqp_errors import UNREADABLE, Condition, condition_problem, refused_login, wrong_type

MAX_FRAME: Final = 16 * 1024
WINDOW: Final = 2 * 1024 * 1024
"""Bytes of messages that the broker may send on a session before somebody has read them."""
_CHANNELS: Final = 2047
_GOODBYE: Final = 2.0
_PREAMBLE: Final = b"AMQP"
_SASL: Final = b"AMQP\x03\x01\x00\x00"
_OLD: Final = frozenset({b"AMQP\x00\x00\x09\x01", b"AMQP\x01\x01\x00\x09", b"AMQP\x01\x01\x00\x0a"})
"""How AMQP 0-9-1, 0-9 and 0-10 answer to a preamble that is not theirs."""


class ConnectionLost(Exception):
    """The connection ended before the broker had let us in, and AMQP doesn't tell why."""

    def __init__(self, reason: BaseException | None) -> None:
        super().__init__(str(reason))
        self.reason = reason


@frozen
class Login:
    """Who the agent is to the broker.

    :ivar mechanisms: of SASL, those that the agent would use.
    """

    container: str
    virtual_host: str
    mechanisms: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    heartbeat: float = 0.0

    @classmethod
    def of(cls, settings: AmqpSettings, virtual_host: str) -> Login:
        """With a user PLAIN; without one by the client certificate, or as nobody."""
        mechanisms = "PLAIN"
        if settings.username is None:
            shown = settings.tls is not None and settings.tls.certificate is not None
            mechanisms = "EXTERNAL" if shown else "ANONYMOUS"
        return cls(
            container=settings.container_id,
            virtual_host=virtual_host,
            mechanisms=mechanisms,
            username=settings.username,
            password=settings.password,
            heartbeat=settings.heartbeat,
        )


class Channel(Protocol):
    """What a connection tells the owner of a session."""

    def happened(self, event: Event) -> None:
        """Something of the session, its link or its deliveries."""
        ...

    def lost(self, problem: Problem) -> None:
        """The connection is gone."""
        ...

    def wake(self) -> None:
        """There is room to send."""
        ...


@implementer(IPushProducer)
class AmqpConnection(ByteProtocol):
    """One connection.

    :ivar opened: fires when the broker has let us in; fails with Problem or ConnectionLost.
    :ivar gone: why it can't be used any more; None while it can.
    :ivar senders: owners that wait for room to send; they are woken when some was sent.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, where: str, login: Login) -> None:
        self.opened: Deferred[None] = Deferred()
        self.gone: Problem | None = None
        self.proton = Connection()
        self._clock = clock
        self._where = where
        self._login = login
        self._collector = Collector()
        self._engine = Transport()
        self._sessions: dict[Session, Channel] = {}
        self._kept: list[Session] = []
        self.senders: set[Channel] = set()
        self._heard = b""
        self._writable = True
        self._pumping = False
        self._let_in = False
        self._tick: IDelayedCall | None = None
        self._closed: list[Deferred[None]] | None = None
        self._stopping: Callable[[], Problem] | None = None

    # What Twisted calls.

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        login, connection, engine = self._login, self.proton, self._engine
        connection.collect(self._collector)
        connection.container = login.container
        connection.hostname = login.virtual_host
        if login.username is not None:
            connection.user = login.username
            connection.password = login.password or ""
        sasl = engine.sasl()
        sasl.allowed_mechs(login.mechanisms)
        # The profile decides whether there is TLS, which proton knows nothing of.
        sasl.allow_insecure_mechs = True
        engine.max_frame_size = MAX_FRAME
        engine.channel_max = _CHANNELS
        engine.idle_timeout = 2 * login.heartbeat
        engine.bind(connection)
        connection.open()
        self.pump()

    def dataReceived(self, data: bytes) -> None:
        if len(self._heard) < len(_SASL):
            self._heard += data[: greetings.ENOUGH]
            if not self._speaks_amqp():
                return
        while data and self._stopping is None:
            room = self._engine.capacity()
            if room <= 0:
                break
            try:
                self._engine.push(data[:room])
                self.pump()
            except UNREADABLE as error:
                # Text that is no UTF-8, a map that is none: proton finds out when it is asked.
                self._rules_broken(str(error))
                self.abort()
            data = data[room:]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._tick is not None and self._tick.active():
            self._tick.cancel()
        if self._stopping is not None:
            problem = self._stopping()
        else:
            problem = Problem(
                "target_unreachable",
                f"{self._where}: the connection was lost: {reason.getErrorMessage()}",
                hint="look into the broker's log, and for a firewall that cuts idle connections",
            )
        self._end(problem, reason)
        for each in self._closed or ():
            if not each.called:
                each.callback(None)

    def pauseProducing(self) -> None:
        """Twisted: the socket is full."""
        self._writable = False

    def resumeProducing(self) -> None:
        """Twisted: it takes again."""
        self._writable = True
        self.pump()

    def stopProducing(self) -> None:
        """Twisted: the connection is lost; connectionLost tells the rest."""

    # What the owners of sessions call; each change is sent by a pump.

    def session(self, owner: Channel) -> Session:
        """A session whose events go to ``owner``: one that is kept, or a new one.

        Raises Problem where there is none left.
        """
        if self.gone is not None:
            raise self.gone
        if self._kept:
            session = self._kept.pop()
        elif len(self._sessions) > min(_CHANNELS, self._engine.remote_channel_max):
            raise Problem("overloaded", f"{self._where}: too much is going on at once")
        else:
            session = self.proton.session()
            session.incoming_capacity = WINDOW
            session.open()
        self._sessions[session] = owner
        return session

    def keep(self, session: Session) -> None:
        """It has no link any more, and is for whoever wants one next."""
        if self._sessions.pop(session, None) is not None:
            self._kept.append(session)

    def forget(self, session: Session) -> None:
        """It has ended."""
        self._sessions.pop(session, None)

    def pump(self) -> None:
        """Tell events and send what there is to send."""
        if self._pumping or self.gone is not None:
            return
        self._pumping = True
        try:
            due = self._engine.tick(self._clock.seconds())
            while self._tell() or self._send():
                pass
        finally:
            self._pumping = False
        self._schedule(due)
        if self._let_in and self._stopping is None and not self.opened.called:
            # Not before what came with it has been seen: the refusal may follow at once.
            self.opened.callback(None)
        for owner in tuple(self.senders):
            owner.wake()

    async def close(self) -> None:
        """Take leave in order, within seconds. Idempotent."""
        if self.transport is None or self.gone is not None:
            return
        if self._closed is None:
            self._closed = []
            self.proton.close()
            self.pump()
        ended: Deferred[None] = Deferred()
        ended.addTimeout(_GOODBYE, self._clock)
        self._closed.append(ended)
        try:
            await ended
        except DeferredTimeout:
            self.abort()

    def abort(self) -> None:
        """End it at once."""
        if self.transport is not None:
            self.transport.abortConnection()

    def _tell(self) -> bool:
        event = self._collector.peek()
        if event is None:
            return False
        kind = event.type
        if kind == Event.CONNECTION_REMOTE_OPEN:
            self._opened()
        elif kind == Event.CONNECTION_REMOTE_CLOSE:
            condition = Condition.of(self.proton.remote_condition)
            self._stop(lambda: condition_problem(self._where, condition, "closed the connection"))
            self.proton.close()
        elif kind == Event.TRANSPORT_ERROR:
            self._broken()
        elif event.session is not None:
            owner = self._sessions.get(event.session)
            if owner is not None:
                owner.happened(event)
            elif kind == Event.SESSION_REMOTE_CLOSE and event.session in self._kept:
                self._kept.remove(event.session)
                event.session.close()
                event.session.free()
        self._collector.pop()
        return True

    def _opened(self) -> None:
        # A broker that refuses says so in the open, then closes (part 2 section 2.7.1).
        told = self.proton.remote_properties
        refused = told and "amqp:connection-establishment-failed" in {str(each) for each in told}
        self._let_in = not refused

    def _broken(self) -> None:
        condition = Condition.of(self._engine.condition)
        login = self._login
        if condition is not None and condition.name == "amqp:unauthorized-access":
            self._stop(lambda: refused_login(self._where, condition, login.mechanisms))
        elif not self.opened.called:
            self._stop(lambda: wrong_type(self._where, greetings.describe(self._heard)))
        elif condition is not None and "local-idle-timeout" in condition.text:
            self._stop(
                lambda: Problem(
                    "target_unreachable",
                    f"{self._where}: the broker has been silent for {2 * login.heartbeat:g} s",
                    hint="check that it runs, and the network between it and the agent",
                )
            )
        else:
            self._rules_broken(str(condition))

    def _rules_broken(self, what: str) -> None:
        self._stop(
            lambda: Problem(
                "target_unreachable",
                f"{self._where}: the broker broke the rules of AMQP 1.0: {what}",
                hint="look into the broker's log; it may be something that only resembles AMQP",
            )
        )

    def _stop(self, problem: Callable[[], Problem]) -> None:
        """Remember why; the first reason counts."""
        if self._stopping is None:
            self._stopping = problem

    def _send(self) -> bool:
        """Write what there is to write; whether there was anything."""
        sent = False
        while self._writable and (waiting := self._engine.pending()) > 0:
            self.transport.write(bytes(self._engine.peek(waiting)))
            self._engine.pop(waiting)
            sent = True
        if self._engine.pending() < 0 and not self.transport.disconnecting:
            # That it has come to an end, and why, is an event of its own.
            while self._tell():
                pass
            self._stop(
                lambda: Problem("target_unreachable", f"{self._where}: the connection was closed")
            )
            # TLS would wait for a producer.
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        return sent

    def _schedule(self, due: float) -> None:
        """Heartbeats, both ways."""
        if self._tick is not None and self._tick.active():
            self._tick.cancel()
        if due and self.gone is None and self._stopping is None:
            wait = max(due - self._clock.seconds(), 0.01)
            self._tick = self._clock.callLater(wait, self.pump)

    def _speaks_amqp(self) -> bool:
        """Whether what has come so far may be AMQP 1.0 with SASL; else the connection is ended."""
        heard = self._heard[: len(_SASL)]
        if heard == _SASL[: len(heard)]:
            return True
        if heard in _OLD:
            hint = "RabbitMQ speaks AMQP 1.0 with its plugin rabbitmq_amqp1_0 only"
            self._stop(lambda: wrong_type(self._where, "an older AMQP", hint))
        elif heard[:4] == _PREAMBLE:
            hint = "it does without SASL, or wants TLS: check the url's amqp:// or amqps://"
            self._stop(lambda: wrong_type(self._where, "another layer of AMQP", hint))
        else:
            self._stop(lambda: wrong_type(self._where, greetings.describe(self._heard)))
        self.abort()
        return False

    def _end(self, problem: Problem, reason: Failure) -> None:
        self.gone = problem
        owners = list(self._sessions.values())
        self._sessions.clear()
        self._kept.clear()
        while self._collector.peek() is not None:
            self._collector.pop()
        for owner in owners:
            owner.lost(problem)
        self.senders.clear()
        self._engine.unbind()
        # The parts have been let go before (SessionUser).
        del self.proton, self._collector, self._engine
        if not self.opened.called:
            unknown = ConnectionLost(reason.value)
            self.opened.errback(Failure(unknown if self._stopping is None else problem))
