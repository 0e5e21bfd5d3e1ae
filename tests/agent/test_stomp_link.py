"""A STOMP connection: receipts, heart-beats, errors, and a broker that misbehaves."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.services.jms.brokers.stomp_frames import Frame, FrameReader
from workato_agent.services.jms.brokers.stomp_link import LinkLost, Refused, StompLink


class Transport(StringTransport):
    """Says when it was aborted."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class LinkCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.transport: Any = Transport()
        self.link = StompLink(self.clock, 1000)
        self.link.makeConnection(self.transport)

    def sent(self) -> list[Frame]:
        """The frames since the last look."""
        data = self.transport.value()
        self.transport.clear()
        return FrameReader(10_000).feed(data)

    def lose(self) -> None:
        """The broker cuts the connection."""
        self.link.connectionLost(Failure(ConnectionLost()))


class Requests(LinkCase):
    def test_a_request_ends_with_its_receipt(self) -> None:
        first = self.link.request("SEND", [("destination", "/queue/a")], b"x")
        second = self.link.request("SEND", [("destination", "/queue/a")], b"y")
        receipts = [frame.headers["receipt"] for frame in self.sent()]
        self.link.dataReceived(f"RECEIPT\nreceipt-id:{receipts[1]}\n\n\0".encode())
        self.successResultOf(second)
        self.assertNoResult(first)
        self.link.dataReceived(f"RECEIPT\nreceipt-id:{receipts[0]}\n\n\0".encode())
        self.successResultOf(first)

    def test_receipts_that_nobody_waits_for_are_nothing(self) -> None:
        request = self.link.request("SEND", [])
        request.cancel()
        self.failureResultOf(request, CancelledError)
        self.link.dataReceived(
            b"RECEIPT\nreceipt-id:1\n\n\0RECEIPT\nreceipt-id:99\n\n\0RECEIPT\n\n\0"
        )
        self.assertIsNone(self.link.lost)

    def test_an_error_ends_the_request_that_it_names_and_the_connection(self) -> None:
        first, second = self.link.request("SEND", []), self.link.request("SEND", [])
        self.link.dataReceived(b"ERROR\nreceipt-id:2\nmessage:not so\n\nin full\n at x\0")
        failure = self.failureResultOf(second, Refused)
        self.assertEqual(str(failure.value), "not so: in full")
        self.failureResultOf(first, LinkLost)
        self.assertTrue(self.transport.disconnecting)
        self.failureResultOf(self.link.request("SEND", []), LinkLost)

    def test_a_lost_connection_fails_what_is_under_way(self) -> None:
        request = self.link.request("SEND", [])
        told = []
        self.link.on_lost = lambda: told.append(True)
        self.lose()
        self.failureResultOf(request, LinkLost)
        self.assertEqual(told, [True])
        self.sent()
        self.link.send("ACK", [])
        self.assertEqual(self.sent(), [])

    def test_a_broker_that_takes_slowly_holds_the_writer_back(self) -> None:
        self.link.pauseProducing()
        first = Deferred.fromCoroutine(self.link.writable())
        second = Deferred.fromCoroutine(self.link.writable())
        self.assertNoResult(first)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.link.resumeProducing()
        self.successResultOf(first)
        self.link.pauseProducing()
        third = Deferred.fromCoroutine(self.link.writable())
        self.lose()
        self.failureResultOf(third, LinkLost)

    def test_messages_go_to_their_subscription(self) -> None:
        got: list[tuple[str, bytes]] = []
        self.link.messages["1"] = lambda frame: got.append(("1", frame.body))
        self.link.strays = lambda frame: got.append(("stray", frame.body))
        self.link.dataReceived(
            b"MESSAGE\nsubscription:1\n\na\0MESSAGE\nsubscription:2\n\nb\0MESSAGE\n\nc\0"
        )
        self.assertEqual(got, [("1", b"a"), ("stray", b"b"), ("stray", b"c")])

    def test_a_brokers_error_in_place_of_a_stray_message_ends_nothing(self) -> None:
        strays: list[Frame] = []
        self.link.strays = strays.append
        self.link.stray_error = re.compile("no current subscription")
        request = self.link.request("ACK", [])
        self.link.dataReceived(b"ERROR\nmessage:x\n\nThere is no current subscription with tag\0")
        self.assertEqual(len(strays), 1)
        self.link.dataReceived(b"RECEIPT\nreceipt-id:1\n\n\0")
        self.successResultOf(request)
        self.link.dataReceived(b"ERROR\nmessage:other\n\n\0")
        self.assertIsNotNone(self.link.lost)

    def test_nonsense_ends_the_connection(self) -> None:
        request = self.link.request("SEND", [])
        self.link.dataReceived(b"220 hello\r\n")
        self.failureResultOf(request, LinkLost)
        self.assertTrue(self.transport.aborted)
        self.link.dataReceived(b"RECEIPT\nreceipt-id:1\n\n\0")

    def test_a_frame_out_of_turn_ends_the_connection(self) -> None:
        for command in (b"CONNECTED", b"SEND", b"WHATEVER"):
            self.setUp()
            self.link.dataReceived(command + b"\n\n\0")
            self.assertIsNotNone(self.link.lost)

    def test_saying_goodbye(self) -> None:
        gone, again = self.link.end(), self.link.end()
        (frame,) = self.sent()
        self.assertEqual(frame.command, "DISCONNECT")
        self.link.dataReceived(b"MESSAGE\nsubscription:1\n\nlate\0")
        self.assertFalse(self.transport.disconnecting)
        self.link.dataReceived(f"RECEIPT\nreceipt-id:{frame.headers['receipt']}\n\n\0".encode())
        self.assertTrue(self.transport.disconnecting)
        self.assertNoResult(gone)
        self.lose()
        self.successResultOf(gone)
        self.successResultOf(again)
        self.successResultOf(self.link.end())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_broker_that_takes_no_goodbye(self) -> None:
        self.link.end()
        self.assertFalse(self.transport.aborted)
        self.clock.advance(2)
        self.assertTrue(self.transport.aborted)


class Login(LinkCase):
    def test_connected(self) -> None:
        login = self.link.log_in([("accept-version", "1.2"), ("passcode", "a:b")])
        self.assertIn(b"passcode:a:b\n", self.transport.value())
        self.link.dataReceived(b"CONNECTED\nversion:1.2\n\n\0")
        self.assertEqual(self.successResultOf(login), {"version": "1.2"})

    def test_refused(self) -> None:
        login = self.link.log_in([])
        self.link.dataReceived(b"ERROR\nmessage:Bad CONNECT\n\nAccess refused\n\0")
        failure = self.failureResultOf(login, Refused)
        self.assertEqual(str(failure.value), "Bad CONNECT: Access refused")

    def test_given_up(self) -> None:
        login = self.link.log_in([])
        login.cancel()
        self.failureResultOf(login, CancelledError)
        self.assertTrue(self.transport.aborted)

    def test_on_a_connection_that_is_lost(self) -> None:
        self.lose()
        self.failureResultOf(self.link.log_in([]), LinkLost)


class HeartBeats(LinkCase):
    def test_they_are_sent(self) -> None:
        self.link.keep_alive(10, 0)
        self.clock.pump([10] * 3)
        self.assertEqual(self.transport.value(), b"\n\n\n")
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_broker_that_falls_silent_is_given_up(self) -> None:
        self.link.keep_alive(0, 10)
        request = self.link.request("SEND", [])
        for _ in range(5):
            self.clock.advance(10)
            self.link.dataReceived(b"\n")
        self.assertNoResult(request)
        self.clock.pump([10] * 3)
        failure = self.failureResultOf(request, LinkLost)
        self.assertIn("said nothing for 25 s", str(failure.value))
        self.assertTrue(self.transport.aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])
