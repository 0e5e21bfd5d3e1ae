"""A connection to a directory and the pool of them, on memory transports and a clock."""

from __future__ import annotations

from typing import Any

from ldaptor.protocols import pureldap
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.ldap.connection import (
    GOODBYE,
    HIGH_WATER,
    MAX_MESSAGE,
    Exchange,
    LdapConnection,
)
from workato_agent.services.ldap.failures import Lost
from workato_agent.services.ldap.pool import ConnectionPool
from workato_agent.services.ldap.replies import DISCONNECTING, Entry, Result, length_of
from workato_agent.services.ldap.settings import LdapSettings, Server
from workato_tunnel.problems import Problem

SERVER = Server("dc1", 389, secure=False)
DELETE = pureldap.LDAPDelRequest(entry="cn=a")


class Wire(StringTransport):
    """A transport whose end reaches its protocol."""

    protocol: LdapConnection
    over = False

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802 - Twisted's name
        """As TCP has it."""

    def loseConnection(self) -> None:
        self.abortConnection()

    def abortConnection(self) -> None:
        if not self.over:
            self.over = True
            self.protocol.connectionLost(Failure(ConnectionDone()))


def connected(clock: Clock, server: Server = SERVER) -> LdapConnection:
    connection = LdapConnection(server, clock)
    wire = Wire()
    wire.protocol = connection
    connection.makeConnection(wire)
    return connection


def answer(operation: Any, ident: int = 1) -> bytes:
    wire: bytes = pureldap.LDAPMessage(operation, id=ident).toWire()
    return wire


def entry(size: int, ident: int = 1) -> bytes:
    return answer(pureldap.LDAPSearchResultEntry("cn=a", [("cn", [b"x" * size])]), ident)


def kinds(data: bytes) -> list[int]:
    """The tags of the operations that were written."""
    found = []
    while length := length_of(data):
        body, data = data[:length], data[length:]
        found.append(body[5])
    return found


class ConnectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.connection = connected(self.clock)
        self.wire: Wire = self.connection.transport

    def next_of(self, exchange: Exchange) -> Deferred[Any]:
        return Deferred.fromCoroutine(exchange.reply())

    def lost_because(self, waiting: Deferred[Any]) -> str:
        return self.failureResultOf(waiting, Lost).value.reason

    def test_answers_come_in_order_however_they_are_cut(self) -> None:
        exchange = self.connection.send(DELETE)
        waiting = self.next_of(exchange)
        for octet in entry(3) + answer(pureldap.LDAPSearchResultDone(0)):
            self.connection.dataReceived(bytes((octet,)))
        self.assertEqual(self.successResultOf(waiting), Entry("cn=a", (("cn", (b"xxx",)),)))
        self.assertFalse(exchange.over)
        self.assertEqual(self.successResultOf(self.next_of(exchange)), Result(0))
        self.assertTrue(exchange.over)

    def test_a_slow_reader_stops_the_server(self) -> None:
        exchange = self.connection.send(DELETE)
        each = entry(60_000)
        for _ in range(HIGH_WATER // len(each) + 1):
            self.assertEqual(self.wire.producerState, "producing")
            self.connection.dataReceived(each)
        self.assertEqual(self.wire.producerState, "paused")
        self.successResultOf(self.next_of(exchange))
        self.assertEqual(self.wire.producerState, "producing")

    def test_a_message_beyond_bounds_is_not_waited_for(self) -> None:
        waiting = self.next_of(self.connection.send(DELETE))
        self.connection.dataReceived(b"\x30\x84" + (MAX_MESSAGE).to_bytes(4, "big"))
        self.assertEqual(self.lost_because(waiting), "too_large")
        self.assertTrue(self.wire.over)

    def test_another_protocol_is_told_from_a_broken_one(self) -> None:
        waiting = self.next_of(self.connection.send(DELETE))
        self.connection.dataReceived(b"HTTP/1.1 400 Bad Request\r\n")
        self.assertEqual(self.lost_because(waiting), "wrong_type")
        self.assertEqual(self.connection.greeting[:8], b"HTTP/1.1")

    def test_nonsense_behind_an_answer_is_malformed(self) -> None:
        exchange = self.connection.send(DELETE)
        self.connection.dataReceived(answer(pureldap.LDAPDelResponse(0)))
        self.successResultOf(self.next_of(exchange))
        self.connection.dataReceived(b"x")
        waiting = self.assertRaises(Lost, self.connection.send, DELETE)
        self.assertEqual(waiting.reason, "malformed")

    def test_the_servers_notice_ends_it(self) -> None:
        waiting = self.next_of(self.connection.send(DELETE))
        notice = pureldap.LDAPExtendedResponse(52, "", "going down", responseName=DISCONNECTING)
        self.connection.dataReceived(answer(notice, 0))
        failure = self.failureResultOf(waiting, Lost)
        self.assertEqual(failure.value.reason, "notice")
        self.assertIn("going down", failure.value.detail)

    def test_answers_to_others_are_left(self) -> None:
        waiting = self.next_of(self.connection.send(DELETE))
        self.connection.dataReceived(entry(1, 99))
        self.assertNoResult(waiting)
        self.connection.dataReceived(answer(pureldap.LDAPDelResponse(32)))
        self.assertEqual(self.successResultOf(waiting).code, 32)

    def test_giving_up_abandons_the_request_and_says_goodbye(self) -> None:
        waiting = self.next_of(self.connection.send(DELETE))
        self.connection.abandon()
        self.assertEqual(kinds(self.wire.value()), [0x4A, 0x50, 0x42])
        self.assertEqual(self.lost_because(waiting), "closed")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_peer_that_does_not_take_the_goodbye_is_cut_off(self) -> None:
        self.wire.loseConnection = lambda: None  # type: ignore[method-assign]
        self.connection.close()
        self.assertFalse(self.wire.over)
        self.clock.advance(GOODBYE)
        self.assertTrue(self.wire.over)

    def test_what_follows_consent_to_tls_in_the_clear_is_not_taken(self) -> None:
        exchange = self.connection.send(pureldap.LDAPStartTLSRequest())
        self.connection.dataReceived(answer(pureldap.LDAPExtendedResponse(0)) + b"\x30")
        self.successResultOf(self.next_of(exchange))
        lost = self.assertRaises(Lost, self.connection.start_tls, None)
        self.assertEqual(lost.reason, "malformed")

    def test_silence_is_of_what_was_asked(self) -> None:
        self.assertEqual(self.connection.silence(), 0)
        self.connection.send(DELETE)
        self.clock.advance(7)
        self.assertEqual(self.connection.silence(), 7)
        self.connection.dataReceived(entry(1))
        self.assertEqual(self.connection.silence(), 0)


class PoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.connecting: list[Deferred[LdapConnection]] = []
        self.cancelled = 0
        self.healthy = True
        settings = LdapSettings((SERVER,), max_connections=2, wait_timeout=3, idle_timeout=60)
        self.pool = ConnectionPool(self.clock, settings, self.connect, self.works)

    async def connect(self, deadline: float) -> LdapConnection:
        attempt: Deferred[LdapConnection] = Deferred(self.cancel)
        self.connecting.append(attempt)
        return await attempt

    def cancel(self, _attempt: object) -> None:
        self.cancelled += 1

    async def works(self, connection: LdapConnection) -> bool:
        return self.healthy

    def take(self) -> Deferred[LdapConnection]:
        return Deferred.fromCoroutine(self.pool.take(1e9))

    def made(self) -> LdapConnection:
        taking = self.take()
        self.connecting.pop().callback(connected(self.clock))
        return self.successResultOf(taking)

    def test_a_connection_is_used_again(self) -> None:
        connection = self.made()
        self.pool.give_back(connection)
        self.assertIs(self.successResultOf(self.take()), connection)
        self.assertEqual(self.connecting, [])

    def test_callers_beyond_the_limit_wait_in_line(self) -> None:
        first, second = self.made(), self.made()
        third, fourth = self.take(), self.take()
        self.assertEqual(self.connecting, [])
        self.pool.give_back(second)
        self.assertIs(self.successResultOf(third), second)
        self.pool.give_up(first)
        self.assertNoResult(fourth)
        fresh = connected(self.clock)
        self.connecting.pop().callback(fresh)
        self.assertIs(self.successResultOf(fourth), fresh)
        self.assertTrue(first.transport.over)

    def test_the_wait_is_bounded(self) -> None:
        self.made(), self.made()
        waiting = self.take()
        self.clock.advance(3)
        self.assertEqual(self.failureResultOf(waiting, Problem).value.code, "overloaded")

    def test_one_who_leaves_the_line_takes_no_slot(self) -> None:
        first, _ = self.made(), self.made()
        leaving, staying = self.take(), self.take()
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        self.pool.give_back(first)
        self.assertIs(self.successResultOf(staying), first)

    def test_an_attempt_that_fails_or_is_cancelled_gives_its_slot_back(self) -> None:
        for _ in range(5):
            taking = self.take()
            self.connecting.pop().errback(Problem("target_unreachable", "no"))
            self.failureResultOf(taking, Problem)
            taking = self.take()
            taking.cancel()
            self.failureResultOf(taking, CancelledError)
            self.connecting.clear()
        self.assertEqual(self.cancelled, 5)
        self.made(), self.made()

    def test_dead_ones_are_replaced(self) -> None:
        connection = self.made()
        self.pool.give_back(connection)
        connection.transport.loseConnection()
        self.assertIsNot(self.made(), connection)
        other = self.made()
        self.pool.give_back(other)
        self.healthy = False
        self.assertIsNot(self.made(), other)
        self.assertTrue(other.transport.over)

    def test_one_that_dies_in_a_callers_hand_is_not_kept(self) -> None:
        connection = self.made()
        connection.transport.loseConnection()
        self.pool.give_back(connection)
        self.made(), self.made()

    def test_unused_ones_are_closed(self) -> None:
        first, second = self.made(), self.made()
        self.pool.give_back(first)
        self.clock.advance(40)
        self.pool.give_back(second)
        self.clock.advance(20)
        self.assertEqual((first.transport.over, second.transport.over), (True, False))
        self.clock.advance(40)
        self.assertTrue(second.transport.over)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_those_of_a_server_that_hangs_are_forgotten(self) -> None:
        first = self.made()
        self.pool.give_back(first)
        self.pool.forget(Server("dc2", 389, secure=False))
        self.assertFalse(first.transport.over)
        self.pool.forget(SERVER)
        self.assertTrue(first.transport.over)
        self.made(), self.made()

    def test_closing_ends_all_of_it(self) -> None:
        used, idle = self.made(), self.made()
        waiting = self.take()
        self.pool.give_back(idle)
        self.assertIs(self.successResultOf(waiting), idle)
        waiting = self.take()
        closing = Deferred.fromCoroutine(self.pool.close())
        self.successResultOf(closing)
        self.assertTrue(used.transport.over and idle.transport.over)
        self.failureResultOf(waiting, Problem)
        self.failureResultOf(self.take(), Problem)
        self.pool.give_back(used)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_is_made_while_it_closes_is_closed(self) -> None:
        taking = self.take()
        self.successResultOf(Deferred.fromCoroutine(self.pool.close()))
        late = connected(self.clock)
        self.connecting.pop().callback(late)
        self.failureResultOf(taking, Problem)
        self.assertTrue(late.transport.over)
