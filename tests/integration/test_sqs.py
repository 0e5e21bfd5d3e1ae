"""Amazon SQS: FIFO queues, keys, limits of time, and answers that are none."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable
from email.utils import formatdate
from pathlib import Path
from typing import Any

from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.support import sqs
from tests.support.certificates import write_certificates
from tests.support.folders import folder_for
from workato_agent.services.handshakes import TlsSettings
from workato_agent.services.jms.broker import Batch, Destination, OutgoingMessage, Source
from workato_agent.services.jms.brokers.sqs import SqsBroker
from workato_agent.services.jms.settings import SqsSettings
from workato_tunnel.problems import Problem

MANY = 1 << 24
TYPES = "com.amazonaws.sqs#"


class SqsCase(TestCase):
    timeout = 60

    def broker(self, endpoint: str, **settings: Any) -> SqsBroker:
        given = {
            "access_key": "AKIAX",
            "secret_key": "hush-hush",
            "poll": 1,
            "tls": None,
            **settings,
        }
        broker = SqsBroker.of(reactor, SqsSettings(sqs.REGION, endpoint=endpoint, **given))
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
        return broker

    async def problem(self, work: Awaitable[Any], *codes: str) -> Problem:
        try:
            await work
        except Problem as problem:
            self.assertIn(problem.code, codes, problem)
            self.assertNotIn("hush-hush", f"{problem} {problem.hint}")
            return problem
        raise AssertionError("no problem was raised")


class MotoTests(SqsCase):
    def setUp(self) -> None:
        self.server = sqs.shared_server()
        self.client = self.broker(self.server.url)

    def queue(self, suffix: str = "", **attributes: str) -> Destination:
        name = f"sqs-{secrets.token_hex(6)}{suffix}"
        self.server.make_queue(name, **attributes)
        return Destination("queue", name)

    async def batch(self, queue: Destination, limit: int = 10) -> Batch:
        batch = await self.client.receive(Source(queue), limit, 20.0, MANY)
        assert batch is not None
        return batch

    async def test_a_fifo_queue_keeps_order_in_a_group_and_drops_what_came_twice(self) -> None:
        queue = self.queue(".fifo", FifoQueue="true")
        messages = [
            OutgoingMessage(
                str(n), {"JMSXGroupID": "orders", "JMS_SQS_DeduplicationId": f"d{n}", "n": n}
            )
            for n in range(23)
        ]
        await self.client.publish(queue, messages)
        await self.client.publish(queue, messages[:2])
        bodies: list[Any] = []
        while len(bodies) < 23:
            batch = await self.batch(queue)
            bodies += [message.body for message in batch.messages]
            first = batch.messages[0].properties
            self.assertEqual(first["JMSXGroupID"], "orders")
            self.assertEqual(first["JMS_SQS_DeduplicationId"], f"d{first['n']}")
            await batch.acknowledge()
        self.assertEqual(bodies, [str(n) for n in range(23)])

    async def test_what_a_fifo_queue_can_not_do(self) -> None:
        queue = self.queue(".fifo", FifoQueue="true")
        for message, words in (
            (OutgoingMessage("x"), "JMSXGroupID"),
            (OutgoingMessage("x", {"JMSXGroupID": "g"}, delay=1.0), "FIFO"),
        ):
            problem = await self.problem(self.client.publish(queue, [message]), "bad_request")
            self.assertIn(words, problem.detail)

    async def test_a_batch_is_too_late_once_its_messages_are_seen_again(self) -> None:
        queue = self.queue()
        client = self.broker(self.server.url, visibility=1.0)
        await client.publish(queue, [OutgoingMessage("x")])
        batch = await client.receive(Source(queue), 1, 20.0, MANY)
        assert batch is not None
        again = await self.batch(queue)
        self.assertEqual(again.messages[0].deliveries, 2)
        problem = await self.problem(batch.acknowledge(), "conflict")
        self.assertIn("in time", problem.detail)
        await batch.release()
        await again.acknowledge()

    async def test_a_queue_that_is_not_there(self) -> None:
        none = Destination("queue", "none-such")
        await self.problem(self.client.publish(none, [OutgoingMessage("x")]), "target_not_found")
        await self.problem(self.client.receive(Source(none), 1, 1.0, MANY), "target_not_found")
        queue = self.queue()
        await self.client.publish(queue, [OutgoingMessage("x")])
        url = self.server.ask("GetQueueUrl", {"QueueName": queue.name})["QueueUrl"]
        self.server.ask("DeleteQueue", {"QueueUrl": url})
        await self.problem(self.client.receive(Source(queue), 1, 1.0, MANY), "target_not_found")
        self.server.make_queue(queue.name)
        self.assertIsNone(await self.client.receive(Source(queue), 1, 0.0, MANY))

    async def test_topics_are_another_service(self) -> None:
        topic = Destination("topic", "t")
        for work in (
            self.client.publish(topic, [OutgoingMessage("x")]),
            self.client.receive(Source(topic), 1, 1.0, MANY),
        ):
            problem = await self.problem(work, "bad_request")
            self.assertIn("SNS", problem.hint)

    async def test_a_server_that_hangs(self) -> None:
        queue = self.queue()
        await self.client.publish(queue, [OutgoingMessage("x")])
        batch = await self.batch(queue)
        hasty = self.broker(self.server.url, connect_timeout=0.2)
        self.server.hang()
        try:
            for work in (
                self.client.publish(queue, [OutgoingMessage("x")]),
                self.client.receive(Source(queue), 1, 1.0, MANY),
                batch.acknowledge(),
            ):
                running = Deferred.fromCoroutine(work)
                running.addTimeout(0.2, reactor)  # type: ignore[arg-type]
                await self.assertFailure(running, DeferredTimeout)
            problem = await self.problem(hasty.test(), "target_unreachable")
            self.assertIn("no answer within", problem.detail)
        finally:
            self.server.go_on()


class Answer(Resource):
    """Answers everything with the same."""

    isLeaf = True  # noqa: N815 - Twisted's name

    def __init__(self, status: int, body: bytes, date: str | None = None, *, never: bool = False):
        super().__init__()
        self.status, self.body, self.date, self.never = status, body, date, never
        self.requests: list[Any] = []
        self.ended: list[Any] = []

    def render_POST(self, request: Any) -> Any:  # noqa: N802 - Twisted's name
        self.requests.append(request)
        request.setResponseCode(self.status)
        if self.date is not None:
            request.setHeader(b"date", self.date.encode())
        if self.never:
            self.ended.append(request.notifyFinish())
            request.write(self.body)
            return NOT_DONE_YET
        return self.body


class AnswerTests(SqsCase):
    def serve(self, answer: Answer) -> str:
        port: Any = reactor.listenTCP(0, Site(answer), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        return f"http://127.0.0.1:{port.getHost().port}"

    async def told(self, kind: str, words: str, *codes: str, **more: Any) -> Problem:
        body = json.dumps({"__type": TYPES + kind, "message": words}).encode()
        broker = self.broker(self.serve(Answer(400, body, **more)))
        work = broker.receive(Source(Destination("queue", "q")), 1, 1.0, MANY)
        return await self.problem(work, *codes)

    async def test_errors_have_codes(self) -> None:
        for kind, code in (
            ("UnrecognizedClientException", "target_login_failed"),
            ("InvalidClientTokenId", "target_login_failed"),
            ("SignatureDoesNotMatch", "target_login_failed"),
            ("ExpiredToken", "target_login_failed"),
            ("QueueDoesNotExist", "target_not_found"),
            ("AWS.SimpleQueueService.NonExistentQueue", "target_not_found"),
            ("RequestThrottled", "overloaded"),
            ("OverLimit", "overloaded"),
            ("KmsAccessDenied", "target_permission_denied"),
            ("InvalidMessageContents", "bad_request"),
            ("BatchRequestTooLong", "payload_too_large"),
            ("ReceiptHandleIsInvalid", "conflict"),
            ("ServiceUnavailable", "target_unreachable"),
        ):
            problem = await self.told(kind, "in its words", code)
            self.assertIn("in its words", problem.detail)

    async def test_a_clock_that_is_wrong_is_told(self) -> None:
        date = formatdate(time.time() - 3600, usegmt=True)
        words = "Signature expired"
        problem = await self.told(
            "InvalidSignatureException", words, "target_login_failed", date=date
        )
        self.assertRegex(problem.hint, r"clock is 3[56]\d\d s ahead")

    async def test_keys_without_the_right_to_list_pass_the_test(self) -> None:
        body = json.dumps({"__type": TYPES + "AccessDeniedException", "message": "no"}).encode()
        facts = await self.broker(self.serve(Answer(403, body))).test()
        self.assertEqual(facts["lists_queues"], False)

    async def test_requests_are_signed(self) -> None:
        answer = Answer(200, b"{}")
        await self.broker(self.serve(answer), session_token="temporary").test()
        headers = answer.requests[0].requestHeaders
        (signature,) = headers.getRawHeaders("authorization")
        self.assertRegex(
            signature,
            r"^AWS4-HMAC-SHA256 Credential=AKIAX/\d{8}/eu-west-1/sqs/aws4_request, SignedHeaders="
            r"[a-z0-9;-]*x-amz-date[a-z0-9;-]*, Signature=[0-9a-f]{64}$",
        )
        self.assertEqual(headers.getRawHeaders("x-amz-target"), ["AmazonSQS.ListQueues"])
        self.assertEqual(headers.getRawHeaders("x-amz-security-token"), ["temporary"])

    async def test_answers_that_are_not_of_sqs(self) -> None:
        for status, body, code in (
            (200, b"<html>", "target_wrong_type"),
            (200, b"[1]", "target_wrong_type"),
            (404, b"", "target_wrong_type"),
            (302, b"", "target_wrong_type"),
            (503, b"later", "target_unreachable"),
            (400, b'{"__type": 7}', "target_wrong_type"),
        ):
            await self.problem(self.broker(self.serve(Answer(status, body))).test(), code)

    async def test_a_failure_of_some_messages_is_counted(self) -> None:
        answer = {
            "QueueUrl": "https://sqs/1/q",
            "Successful": [{"Id": "0", "MessageId": "m-0"}, {"Id": "2", "MessageId": "m-2"}],
            "Failed": [
                {"Id": "1", "Code": "InvalidMessageContents", "Message": "no", "SenderFault": True}
            ],
        }
        broker = self.broker(self.serve(Answer(200, json.dumps(answer).encode())))
        work = broker.publish(Destination("queue", "q"), [OutgoingMessage(each) for each in "abc"])
        problem = await self.problem(work, "bad_request")
        self.assertEqual(problem.extra["published"], 2)

    async def test_an_answer_that_does_not_end_is_given_up(self) -> None:
        answer = Answer(200, b"{", never=True)
        broker = self.broker(self.serve(answer), connect_timeout=0.2)
        await self.problem(broker.test(), "target_unreachable")
        running = Deferred.fromCoroutine(self.broker(self.serve(answer)).test())
        running.addTimeout(0.2, reactor)  # type: ignore[arg-type]
        await self.assertFailure(running, DeferredTimeout)
        for ended in answer.ended:
            await self.assertFailure(ended, ConnectionDone, ConnectionLost)


class TlsTests(SqsCase):
    def setUp(self) -> None:
        self.folder: Path = folder_for(self)
        write_certificates(self.folder, "client")
        context = ssl.DefaultOpenSSLContextFactory(
            str(self.folder / "server.key"), str(self.folder / "server.crt")
        )
        site = Site(Answer(200, b"{}"))
        port: Any = reactor.listenSSL(0, site, context, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port

    async def test_the_certificate_is_verified(self) -> None:
        authority = (self.folder / "ca.crt").read_bytes()
        facts = await self.broker(
            f"https://localhost:{self.port}", tls=TlsSettings(ca=authority)
        ).test()
        self.assertEqual(facts["target"], "Amazon SQS eu-west-1")
        for tls in (TlsSettings(), TlsSettings(ca=(self.folder / "client.crt").read_bytes())):
            broker = self.broker(f"https://localhost:{self.port}", tls=tls)
            problem = await self.problem(broker.test(), "target_tls_failed")
            self.assertIn("Test CA", problem.detail)
