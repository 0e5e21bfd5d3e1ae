"""One relayed call: how it ends, whoever ends it, and where else it may be done."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_gateway import HttpGateway, MemoryTransport, parse_answer
from tests.support.memory_agents import MemoryAgent
from workato_tunnel.errors import ErrorCode, StreamRefused
from workato_tunnel.problems import PROBLEM_TYPES


def problem_of(transport: MemoryTransport) -> dict[str, Any]:
    answer = parse_answer(transport.take())
    document: dict[str, Any] = json.loads(answer.body)
    return document | {"retry_after": answer.headers.get("retry-after")}


class Endings(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = HttpGateway()

    def ended_by(self, reason: str, *said: str, remote: bool = True) -> dict[str, Any]:
        transport = self.gateway.call()
        self.gateway.stream.agent_resets(reason, *said, remote=remote)
        self.assertEqual(self.gateway.relay.calls, 0)
        return problem_of(transport)

    def test_a_problems_code_becomes_that_problem(self) -> None:
        for code in set(PROBLEM_TYPES) - {"internal_error", "tunnel_lost", "deadline_exceeded"}:
            found = self.ended_by(code, "inner", "for the caller")
            self.assertEqual((found["code"], found["detail"]), (code, "for the caller"))
            self.assertEqual(found["status"], PROBLEM_TYPES[code].status)

    def test_a_lost_tunnel_says_that_the_work_may_have_been_done(self) -> None:
        for reason in ("tunnel_lost", "cancelled", "revoked", "no_error"):
            found = self.ended_by(reason, remote=False)
            self.assertEqual((found["code"], found["status"]), ("tunnel_lost", 502))
            self.assertIn("may have been done", found["detail"])
            self.assertIn("agent-1", found["detail"])

    def test_codes_of_the_wire_are_mapped(self) -> None:
        for reason, code in (
            (ErrorCode.DEADLINE_EXCEEDED, "deadline_exceeded"),
            (ErrorCode.OVERLOADED, "overloaded"),
            (ErrorCode.FLOOD, "overloaded"),
            (ErrorCode.PROTOCOL_ERROR, "internal_error"),
            (ErrorCode.FLOW_CONTROL_ERROR, "internal_error"),
            (ErrorCode.INTERNAL_ERROR, "internal_error"),
            (ErrorCode.REFUSED, "agent_inactive"),
            (ErrorCode.DRAINING, "agent_inactive"),
        ):
            self.assertEqual(self.ended_by(reason)["code"], code)
        self.assertEqual(self.ended_by("never heard of")["code"], "internal_error")

    def test_overloaded_and_inactive_say_when_to_come_again(self) -> None:
        for reason in ("overloaded", "refused"):
            self.assertIsNotNone(self.ended_by(reason)["retry_after"])

    def test_after_the_head_the_connection_is_cut(self) -> None:
        for headers in ((), (("content-length", "5"),)):
            transport = self.gateway.call()
            self.gateway.stream.agent_begins(200, headers)
            self.gateway.stream.agent_sends(b"hell")
            self.gateway.stream.agent_resets("target_unreachable")
            self.assertTrue(transport.aborted)

    def test_the_caller_who_leaves_cancels_at_every_stage(self) -> None:
        upload = b"Content-Length: 100\r\n"
        for headers, stage in ((b"", 0), (upload, 0), (upload, 1), (b"", 2), (upload, 2), (b"", 3)):
            transport = self.gateway.call(b"PUT", headers=headers)
            stream = self.gateway.stream
            if stage == 1:
                transport.protocol.dataReceived(b"x" * 50)
            if stage >= 2:
                stream.agent_begins(200)
            if stage == 3:
                stream.agent_sends(b"data")
            transport.abortConnection()
            self.assertEqual(stream.reset_code, "cancelled")
            self.assertEqual((self.gateway.relay.calls, self.gateway.agent.streams), (0, 0))

    def test_the_deadline_ends_a_call_whose_agent_is_silent(self) -> None:
        transport = self.gateway.call(headers=b"X-Timeout: 3\r\n")
        self.gateway.clock.pump([0.5] * 7)
        self.assertEqual(bytes(transport.written), b"")
        self.gateway.clock.pump([0.5] * 2)
        found = problem_of(transport)
        self.assertEqual((found["code"], found["status"]), ("deadline_exceeded", 504))
        self.assertIn("3 s", found["detail"])
        self.assertEqual(self.gateway.stream.reset_code, "deadline_exceeded")
        self.assertFalse(transport.gone)

    def test_the_deadline_cuts_an_answer_that_has_begun_and_a_stalled_upload(self) -> None:
        transport = self.gateway.call(headers=b"X-Timeout: 3\r\n")
        self.gateway.stream.agent_begins(200)
        stalled = self.gateway.call(b"PUT", headers=b"X-Timeout: 3\r\nContent-Length: 9\r\n")
        self.gateway.clock.pump([0.5] * 9)
        self.assertTrue(transport.aborted)
        answer = parse_answer(stalled.take())
        self.assertEqual(answer.status, 504)
        self.assertEqual(
            {each.reset_code for each in self.gateway.agent.opened}, {"deadline_exceeded"}
        )

    def test_an_agent_may_answer_before_the_body_ends(self) -> None:
        transport = self.gateway.call(b"PUT", headers=b"Content-Length: 9\r\n")
        transport.protocol.dataReceived(b"1234")
        self.gateway.stream.agent_answers(403, (("content-length", "2"),), b"no")
        self.assertEqual(parse_answer(transport.take()).status, 403)
        self.assertIsNone(self.gateway.stream.reset_code)
        transport.protocol.dataReceived(b"56789")
        self.assertEqual(bytes(self.gateway.stream.body), b"1234")
        self.assertFalse(transport.gone)

    def test_both_ways_at_once(self) -> None:
        transport = self.gateway.call(b"POST", headers=b"Transfer-Encoding: chunked\r\n")
        stream = self.gateway.stream
        stream.agent_begins(200)
        for n in range(5):
            transport.protocol.dataReceived(b"1\r\n%d\r\n" % n)
            stream.agent_sends(b"%d" % n)
            self.assertEqual(bytes(stream.body), b"01234"[: n + 1])
            self.assertTrue(transport.written.endswith(b"1\r\n%d\r\n" % n))
        transport.protocol.dataReceived(b"0\r\n\r\n")
        stream.agent_finishes()
        self.assertEqual(parse_answer(transport.take()).body, b"01234")

    def test_a_caller_that_reads_slowly_loses_nothing_at_the_end(self) -> None:
        transport = self.gateway.call()
        stream = self.gateway.stream
        stream.agent_begins(200, (("content-length", "1000000"),))
        for _ in range(100):
            stream.agent_sends(b"x" * 10_000)
        stream.agent_finishes()
        self.assertTrue(stream.paused)
        while not transport.gone and transport.take(30_000):
            self.assertLessEqual(len(transport.written), 140_000)
        self.assertEqual(len(parse_answer(bytes(transport.taken)).body), 1_000_000)
        self.assertEqual(self.gateway.relay.calls, 0)


class Elsewhere(SynchronousTestCase):
    def setUp(self) -> None:
        self.one, self.two = MemoryAgent("one"), MemoryAgent("two")
        self.two.streams = 1  # so that one is asked first
        self.gateway = HttpGateway(agents=(self.one, self.two))

    def test_a_call_that_was_not_begun_goes_to_the_next_agent(self) -> None:
        for reason in ("refused", "draining"):
            transport = self.gateway.call(headers=b"X-Timeout: 10\r\n")
            self.gateway.clock.advance(0.25)
            self.one.opened[-1].agent_resets(reason)
            stream = self.two.opened[-1]
            self.assertEqual(stream.head.timeout, 9_750)
            stream.agent_answers(200, (), b"from two")
            self.assertEqual(parse_answer(transport.take()).body, b"from two")
        self.gateway.log.flush()
        self.assertIn(b" two\n", self.gateway.lines.data)

    def test_a_small_body_goes_with_it(self) -> None:
        transport = self.gateway.call(b"POST", headers=b"Content-Length: 10\r\n")
        transport.protocol.dataReceived(b"12345")
        self.one.opened[0].agent_resets("refused")
        stream = self.two.opened[0]
        self.assertEqual((bytes(stream.body), stream.ended), (b"12345", False))
        transport.protocol.dataReceived(b"67890")
        self.assertEqual((bytes(stream.body), stream.ended), (b"1234567890", True))

    def test_a_small_body_that_has_ended_goes_with_it(self) -> None:
        for headers, body in (
            (b"Content-Length: 5\r\n", b"12345"),
            (b"Transfer-Encoding: chunked\r\n", b"5\r\n12345\r\n0\r\n\r\n"),
            (b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        ):
            transport = self.gateway.call(b"POST", headers=headers)
            transport.protocol.dataReceived(body)
            sent = bytes(self.one.opened[-1].body)
            self.one.opened[-1].agent_resets("refused")
            stream = self.two.opened[-1]
            self.assertEqual((bytes(stream.body), stream.ended), (sent, True))
            stream.agent_answers(204)
            self.assertEqual(parse_answer(transport.take()).status, 204)

    def test_a_large_body_does_not(self) -> None:
        transport = self.gateway.call(b"POST", headers=b"Content-Length: 1000000\r\n")
        for _ in range(2):
            transport.protocol.dataReceived(bytes(40_000))
        self.one.opened[0].agent_resets("refused")
        self.assertEqual(self.two.opened, [])
        self.assertEqual(parse_answer(transport.take()).status, 503)

    def test_nor_does_what_was_begun_or_failed_otherwise(self) -> None:
        transport = self.gateway.call()
        self.one.opened[0].agent_begins(200)
        self.one.opened[0].agent_resets("refused")
        self.assertTrue(transport.aborted)
        for reason in ("tunnel_lost", "overloaded", "internal_error", "target_unreachable"):
            transport = self.gateway.call()
            self.one.opened[-1].agent_resets(reason)
            self.assertGreaterEqual(parse_answer(transport.take()).status, 400)
        self.assertEqual(self.two.opened, [])

    def test_when_all_refuse_the_last_one_is_named(self) -> None:
        transport = self.gateway.call()
        self.two.refusal = StreamRefused("going away", ErrorCode.DRAINING)
        self.one.opened[0].agent_resets("refused")
        found = problem_of(transport)
        self.assertEqual(found["code"], "agent_inactive")
        self.assertIn("two", found["detail"])
        self.assertEqual(self.gateway.relay.calls, 0)

    def test_the_caller_may_leave_after_the_change(self) -> None:
        transport = self.gateway.call()
        self.one.opened[0].agent_resets("draining")
        transport.abortConnection()
        self.assertEqual(self.two.opened[0].reset_code, "cancelled")

    def test_a_slow_reader_is_respected_by_the_next_agent(self) -> None:
        transport = self.gateway.call()
        transport.protocol.pauseProducing()
        self.one.opened[0].agent_resets("draining")
        self.assertTrue(self.two.opened[0].paused)
        transport.protocol.resumeProducing()
        self.assertFalse(self.two.opened[0].paused)
