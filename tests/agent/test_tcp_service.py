"""Which calls a tcp profile takes up, and as what; how many connections it makes."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any
from unittest.mock import Mock

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_gateway import MemoryTransport
from workato_agent.requests import Request, Response
from workato_agent.services.tcp.bundle import Bundle, wants_bundle
from workato_agent.services.tcp.forward import Forward, WebSocketForward
from workato_agent.services.tcp.service import TcpService
from workato_agent.services.tcp.settings import TcpSettings
from workato_tunnel.problems import Problem
from workato_tunnel.settings import SUBPROTOCOL

WEBSOCKET = {
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def request(method: str = "CONNECT", **headers: str) -> Request:
    return Request(
        "tcp",
        "erp",
        method,
        "",
        "",
        tuple((name.replace("_", "-"), value) for name, value in headers.items()),
        Mock(),
        "me",
        60.0,
        "",
        "r-1",
    )


class ServiceCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.service = TcpService(
            self.reactor, TcpSettings("10.0.0.1", 5432, max_connections=2, connect_timeout=3)
        )
        self.made = 0

    def handle(self, method: str = "CONNECT", **headers: str) -> Deferred[Response]:
        call: Coroutine[Any, Any, Response] = self.service.handle(request(method, **headers))
        answer = Deferred.fromCoroutine(call)
        self.reactor.advance(0)
        return answer

    @property
    def attempts(self) -> list[Any]:
        """The factories of the connections that are being made."""
        return [client[2] for client in self.reactor.tcpClients[self.made :]]

    def succeed(self) -> MemoryTransport:
        """The oldest attempt does."""
        factory = self.attempts[0]
        self.made += 1
        transport = MemoryTransport()
        transport.protocol = factory.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        return transport

    def fail_next(self, error: Exception) -> None:
        """The oldest attempt does."""
        factory = self.attempts[0]
        self.made += 1
        factory.clientConnectionFailed(None, Failure(error))
        self.reactor.advance(1)  # for further addresses of the name, of which there are none

    def assert_problem(self, code: str, answer: Deferred[Response]) -> Problem:
        problem = self.failureResultOf(answer, Problem).value
        assert isinstance(problem, Problem)
        self.assertEqual(problem.code, code)
        return problem


class RoutingTests(ServiceCase):
    def test_the_subprotocol_is_found_in_any_list_by_its_whole_name(self) -> None:
        for offered in (SUBPROTOCOL, f"a, {SUBPROTOCOL}", f"a,{SUBPROTOCOL} ,b", f" {SUBPROTOCOL}"):
            self.assertTrue(wants_bundle(offered), offered)
        for offered in (None, "", ",", "a, b", SUBPROTOCOL + "0", SUBPROTOCOL.upper(), "onprem"):
            self.assertFalse(wants_bundle(offered), offered)

    def test_a_websocket_that_asks_for_a_bundle_gets_one_and_connects_nothing_yet(self) -> None:
        offered = f"mqtt, {SUBPROTOCOL}"
        answer = self.handle("GET", **WEBSOCKET, sec_websocket_protocol=offered)
        response = self.successResultOf(answer)
        self.assertIsInstance(response.passage, Bundle)
        self.assertEqual(
            (response.status, dict(response.headers)),
            (
                101,
                {
                    "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
                    "sec-websocket-protocol": SUBPROTOCOL,
                },
            ),
        )
        self.assertEqual(self.attempts, [])

    def test_any_other_websocket_is_one_connection_and_selects_no_subprotocol(self) -> None:
        answer = self.handle("GET", **WEBSOCKET, sec_websocket_protocol="mqtt, onprem-tunnel.v0")
        self.succeed()
        response = self.successResultOf(answer)
        self.assertIs(type(response.passage), WebSocketForward)
        self.assertEqual([name for name, _ in response.headers], ["sec-websocket-accept"])

    def test_a_connection_in_a_bundle_is_bytes_as_they_are(self) -> None:
        answer = self.handle()
        self.succeed()
        response = self.successResultOf(answer)
        self.assertEqual((response.status, response.headers), (200, ()))
        self.assertIs(type(response.passage), Forward)

    def test_a_bundle_with_a_handshake_that_is_none_is_refused(self) -> None:
        for change in ({"sec-websocket-version": "8"}, {"sec-websocket-key": ""}):
            headers = WEBSOCKET | {"sec-websocket-protocol": SUBPROTOCOL} | change
            self.assert_problem("bad_request", self.handle("GET", **headers))

    def test_a_plain_get_is_a_test_whatever_subprotocol_it_names(self) -> None:
        self.assertEqual(
            self.service.operation(request("GET", sec_websocket_protocol=SUBPROTOCOL)), "test"
        )
        answer = self.handle("GET", sec_websocket_protocol=SUBPROTOCOL)
        transport = self.succeed()
        self.assertEqual(self.successResultOf(answer).status, 200)
        self.assertTrue(transport.gone)

    def test_the_operation_of_a_connection_in_a_bundle_is_that_of_a_websocket(self) -> None:
        self.assertEqual(self.service.operation(request()), "connect")
        self.assertEqual(self.service.operation(request("GET", **WEBSOCKET)), "connect")
        with self.assertRaises(Problem):
            self.service.operation(request("POST"))


class LimitTests(ServiceCase):
    def test_connections_that_are_being_made_count(self) -> None:
        first, second = self.handle(), self.handle()
        self.assert_problem("overloaded", self.handle())
        self.succeed()
        self.assert_problem("overloaded", self.handle())
        self.succeed()
        self.assert_problem("overloaded", self.handle())
        self.assertEqual(self.made + len(self.attempts), 2)
        self.successResultOf(first)
        self.successResultOf(second)

    def test_one_that_could_not_be_made_counts_no_more(self) -> None:
        first, _ = self.handle(), self.handle()
        self.fail_next(Refused())
        self.assert_problem("target_unreachable", first)
        self.assertNoResult(self.handle())
        self.assert_problem("overloaded", self.handle())

    def test_one_that_nobody_waits_for_any_more_counts_no_more(self) -> None:
        first, _ = self.handle(), self.handle()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertNoResult(self.handle())

    def test_one_that_takes_too_long_counts_no_more(self) -> None:
        first, second = self.handle(), self.handle()
        self.reactor.advance(4)
        for answer in (first, second):
            problem = self.assert_problem("target_unreachable", answer)
            self.assertIn("no answer within 3 s", problem.detail)
        self.assertNoResult(self.handle())
        self.assertNoResult(self.handle())

    def test_one_that_has_ended_counts_no_more(self) -> None:
        self.handle()
        transport = self.succeed()
        self.handle()
        self.succeed()
        self.assert_problem("overloaded", self.handle())
        transport.lose(ConnectionDone())
        self.assertNoResult(self.handle())

    def test_bundles_without_connections_do_not_count(self) -> None:
        for _ in range(5):
            answer = self.handle("GET", **WEBSOCKET, sec_websocket_protocol=SUBPROTOCOL)
            self.successResultOf(answer)

    def test_a_profile_that_is_closed_cuts_what_is_open(self) -> None:
        answer = self.handle()
        transport = self.succeed()
        self.successResultOf(answer)
        self.successResultOf(Deferred.fromCoroutine(self.service.close()))
        self.assertTrue(transport.aborted)
