"""The agent's tunnel client without a network: pace of dialling, HELLO, resumption, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.identities import make_identity
from tests.support.sessions import Recorder
from workato_agent.tunnel import client as client_module
from workato_agent.tunnel.client import MAX_DELAY, RESUME_DELAY, State, TunnelClient
from workato_gateway.identity.authority import Authority
from workato_tunnel import frames
from workato_tunnel.errors import ErrorCode
from workato_tunnel.frames import Catalogue, FrameType, Goaway, Hello, Profile
from workato_tunnel.handshake import decode_hello, encode_hello
from workato_tunnel.testing import FrameFactory, split
from workato_tunnel.tx.testing import MemoryLink

make = FrameFactory()
SECRET = b"s" * 16


class Socket(MemoryLink):
    """An open WebSocket, as the client sees it."""

    established = False
    lost_reason = None
    round_trip = None


class Dialler:
    """A way out on which every connection waits for the test."""

    def __init__(self) -> None:
        self.dialled: list[Deferred[Any]] = []

    def endpoint(self, reactor: Any, host: str, port: int) -> Dialler:
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        self.dialled.append(Deferred())
        return self.dialled[-1]


class ClientCase(SynchronousTestCase):
    def setUp(self) -> None:
        identity = make_identity(Path(self.mktemp()), Authority.create("test"))
        self.clock = Clock()
        self.dialler = Dialler()
        self.catalogue = Catalogue((Profile("http", "app"),))
        # The longest wait that chance may choose.
        self.patch(client_module.random, "uniform", lambda _low, high: high)
        route: Any = self.dialler
        self.client = TunnelClient(
            self.clock,
            identity,
            "wss://gateway.example/tunnel",
            lambda stream, head: Recorder(),
            lambda: self.catalogue,
            proxy=route,
        )
        self.client.running = 1

    def connect(self, *, received: int | None = None, secret: bytes = SECRET) -> Socket:
        """A socket on which HELLO has been exchanged."""
        socket = self.open()
        self.say(socket, Hello(session=secret, received=received, hold=60.0))
        return socket

    def open(self) -> Socket:
        socket: Any = Socket()
        self.client.opened(socket)
        return socket  # type: ignore[no-any-return]

    def say(self, socket: Any, hello: Hello) -> None:
        self.client.hello(socket, encode_hello(hello))

    def lose(self, socket: Any, reason: str = "lost", *, refused: bool = False) -> float:
        """The socket is gone; how long the client waits then."""
        self.client.closed(socket, reason, refused)
        return self.client._delay(1)

    def hello_of(self, socket: Socket) -> Hello:
        return decode_hello(socket.sent[0])


class PaceTests(ClientCase):
    def test_waits_double_from_half_a_second_to_a_minute(self) -> None:
        waits = []
        for _ in range(10):
            self.client._lost("refused")
            waits.append(self.client._delay(1))
        self.assertEqual(waits, [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60])

    def test_a_minute_of_connection_starts_them_anew_and_less_does_not(self) -> None:
        waits = []
        for held in (0.0, 10.0, 59.0, 60.0):
            socket = self.connect()
            assert self.client.session is not None
            self.client.session.terminate("no_error")
            self.clock.advance(held)
            waits.append(self.lose(socket))
        self.assertEqual(waits, [0.5, 1, 2, 0.5])

    def test_while_a_session_may_be_resumed_no_wait_is_long(self) -> None:
        for _ in range(8):
            self.client._lost("down")
            self.client._delay(1)
        socket = self.connect()
        self.assertEqual(self.lose(socket), RESUME_DELAY)
        self.clock.advance(61)  # the session has been given up
        self.client._lost("down")
        self.assertEqual(self.client._delay(1), MAX_DELAY)

    def test_a_refusal_waits_long_and_says_why_once(self) -> None:
        denial = 'connection was closed uncleanly ("upgrade failed [403]: the agent was revoked")'
        socket = self.open()
        self.assertEqual(self.lose(socket, denial.replace('")', ")")), MAX_DELAY)
        self.assertEqual(self.client.state, State.REFUSED)
        self.assertIn("refuses this agent: the agent was revoked", self.client.problem)
        self.client._lost("connection refused")
        self.assertEqual(self.client.state, State.WAITING)
        self.assertLess(self.client._delay(1), MAX_DELAY)

    def test_a_hello_that_the_gateway_does_not_like_is_a_refusal(self) -> None:
        socket = self.open()
        reason = "the peer speaks versions [1], this side 2"
        self.assertEqual(self.lose(socket, reason, refused=True), MAX_DELAY)
        self.assertEqual(self.client.state, State.REFUSED)
        self.assertIn("versions [1]", self.client.problem)

    def test_a_gateway_of_another_version_is_a_refusal(self) -> None:
        socket = self.open()
        self.say(socket, Hello(versions=(2,), session=SECRET))
        self.assertEqual(socket.closed_with[0], 1002)  # type: ignore[index]
        self.assertEqual(self.lose(socket), MAX_DELAY)
        self.assertEqual(self.client.state, State.REFUSED)

    def test_a_revocation_in_mid_session_is_a_refusal(self) -> None:
        socket = self.connect()
        goaway = Goaway(ErrorCode.REVOKED, "revoked by an admin")
        self.client.message(
            socket,  # type: ignore[arg-type]
            frames.encode_map(FrameType.GOAWAY, 0, goaway),
        )
        self.client.session_closed(socket, "revoked by an admin")  # type: ignore[arg-type]
        self.assertEqual(self.lose(socket, "revoked by an admin"), MAX_DELAY)
        self.assertEqual(self.client.state, State.REFUSED)

    def test_a_dial_that_fails_is_tried_again_by_the_service(self) -> None:
        self.client.running = 0
        self.client.startService()
        self.assertEqual(len(self.dialler.dialled), 1)
        self.dialler.dialled[0].errback(ConnectError())
        self.assertEqual(self.client.state, State.WAITING)
        self.clock.advance(0.4)
        self.assertEqual(len(self.dialler.dialled), 1)
        self.clock.advance(0.2)
        self.assertEqual(len(self.dialler.dialled), 2)
        self.client.stopService()
        self.assertTrue(self.dialler.dialled[1].called)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class HelloTests(ClientCase):
    def test_a_first_hello_asks_for_nothing_and_the_catalogue_follows(self) -> None:
        socket = self.connect()
        self.assertEqual(self.hello_of(socket).session, None)
        self.assertEqual(self.hello_of(socket).received, None)
        kinds = [kind for kind, *_ in split(socket.sent[1])]
        self.assertEqual(kinds, [FrameType.CATALOGUE])
        self.assertEqual(self.client.state, State.CONNECTED)
        self.successResultOf(self.client.connected_once)

    def test_after_a_cut_it_asks_for_its_session_with_its_count(self) -> None:
        socket = self.connect()
        session = self.client.session
        self.client.message(socket, make.open(1) + make.open(3))  # type: ignore[arg-type]
        self.lose(socket)
        again = self.open()
        self.assertEqual((self.hello_of(again).session, self.hello_of(again).received), (SECRET, 2))
        self.say(again, Hello(session=SECRET, received=1))
        self.assertIs(self.client.session, session)
        self.assertEqual(self.client.reconnections, 1)

    def test_a_gateway_that_has_forgotten_the_session_begins_a_new_one(self) -> None:
        socket = self.connect()
        old = self.client.session
        assert old is not None
        self.lose(socket)
        again = self.connect(secret=b"n" * 16)
        self.assertTrue(old.ended)
        self.assertIsNot(self.client.session, old)
        kinds = [kind for kind, *_ in split(again.sent[1])]
        self.assertEqual(kinds, [FrameType.CATALOGUE])
        self.assertEqual(self.client.reconnections, 0)

    def test_a_session_that_the_gateway_closed_is_not_asked_for(self) -> None:
        socket = self.connect()
        self.client.session_closed(socket, "going down")  # type: ignore[arg-type]
        self.lose(socket, "going down")
        self.assertIsNone(self.hello_of(self.open()).session)

    def test_hellos_that_make_no_sense_are_closed(self) -> None:
        for words in (
            b"",
            b"garbage",
            encode_hello(Hello()),
            encode_hello(Hello(session=b"")),
            encode_hello(Hello(session=SECRET, hold=float("nan"))),
            make.open(1),
        ):
            socket: Any = self.open()
            self.client.hello(socket, words)
            self.assertEqual(socket.closed_with[0], 1002, words)
            self.assertFalse(socket.established)
            self.assertLess(self.lose(socket), MAX_DELAY)
            self.client._failures = 0
        self.flushLoggedErrors()

    def test_a_count_that_can_not_be_ends_in_a_new_session(self) -> None:
        socket = self.connect()
        old = self.client.session
        self.lose(socket)
        again: Any = self.open()
        self.say(again, Hello(session=SECRET, received=999))
        self.assertEqual(again.closed_with[0], 1002)
        assert old is not None
        self.assertTrue(old.ended)
        self.lose(again)
        self.assertIsNone(self.hello_of(self.open()).session)

    def test_a_catalogue_that_does_not_fit_is_logged_and_the_tunnel_stands(self) -> None:
        self.catalogue = Catalogue(
            tuple(Profile("http", f"a-profile-with-quite-a-long-name-{n}") for n in range(2000))
        )
        socket = self.connect()
        self.assertEqual(self.client.state, State.CONNECTED)
        self.assertEqual(len(socket.sent), 1)
        self.catalogue = Catalogue()
        self.client.announce()
        self.clock.advance(0)
        self.assertEqual(len(socket.sent), 2)


class EndTests(ClientCase):
    def test_draining_waits_for_calls_and_not_longer_than_it_may(self) -> None:
        self.successResultOf(self.client.drain(5))
        self.client.state = State.CONNECTING
        socket = self.connect()
        self.client.message(socket, make.open(1))  # type: ignore[arg-type]
        drained = self.client.drain(5)
        self.assertEqual(self.client.state, State.DRAINING)
        self.clock.advance(4.9)
        self.assertNoResult(drained)
        self.clock.advance(0.2)
        self.successResultOf(drained)
        again = self.client.drain(5)
        self.client.message(socket, make.reset(1))  # type: ignore[arg-type]
        session = self.client.session
        assert session is not None
        session.connection.release(1)
        session.released()
        self.clock.advance(0)
        self.successResultOf(again)

    def test_stopping_ends_the_session_and_closes_the_socket(self) -> None:
        socket = self.connect()
        self.client.message(socket, make.open(1))  # type: ignore[arg-type]
        self.client.stopService()
        self.assertEqual(socket.closed_with, (1001, "the agent stops"))
        self.assertEqual(self.client.state, State.STOPPED)
        self.assertEqual(self.clock.getDelayedCalls(), [])
