"""Calls to a jms service around a broker in memory, on a Clock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.files import Chunks
from workato_agent.requests import Request, Response
from workato_agent.services.jms.broker import Destination, OutgoingMessage, Source
from workato_agent.services.jms.memory import MemoryServer
from workato_agent.services.jms.service import JmsService
from workato_agent.services.jms.settings import JmsPolicy, JmsSettings
from workato_tunnel.problems import Problem

QUEUE = Destination("queue", "orders")


def request(
    method: str,
    path: str,
    body: object = None,
    *,
    chunks: Sequence[bytes] | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    query: str = "",
    caller: str = "alice",
    deadline: float = 60.0,
) -> Request:
    """A call as the dispatcher hands it over."""
    if chunks is None:
        chunks = [] if body is None else [json.dumps(body).encode()]
    return Request(
        service="jms",
        profile="q",
        method=method,
        path=path,
        query=query,
        headers=headers,
        body=Chunks(chunks),
        caller=caller,
        deadline=deadline,
        trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        request_id="request-1",
    )


class Answering:
    """An answer whose body the test takes piece by piece."""

    def __init__(self, response: Response) -> None:
        assert not isinstance(response.body, bytes)
        self.response = response
        self.body: Any = response.body

    def next(self) -> Deferred[bytes]:
        """The next piece."""
        return Deferred.fromCoroutine(self.body.__anext__())

    def leave(self) -> Deferred[None]:
        """The dispatcher gives it up."""
        return Deferred.fromCoroutine(self.body.aclose())


class JmsCase(SynchronousTestCase):
    """A service for one profile, whose ``ack_timeout`` is 30 s."""

    policy = JmsPolicy()
    max_batches = 4

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = MemoryServer(self.clock)
        self.broker = self.server.client()
        settings = JmsSettings(
            agent="agent-1",
            max_batches=self.max_batches,
            max_message=10_000,
            policy=self.policy,
        )
        self.service = JmsService(self.clock, self.broker, settings)
        self.addCleanup(self.end)

    def end(self) -> None:
        """Nothing is left behind."""
        self.successResultOf(Deferred.fromCoroutine(self.service.close()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def start(self, method: str, path: str, body: object = None, **more: Any) -> Deferred[Response]:
        """Begin a call."""
        more.setdefault("deadline", self.clock.seconds() + 60)
        sent = request(method, path, body, **more)
        return Deferred.fromCoroutine(self.service.handle(sent))

    def answer(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        """The decoded answer of a call that ends at once."""
        return self.read(self.successResultOf(self.start(method, path, body, **more)))

    def read(self, response: Response) -> Any:
        """The decoded body, read to its end."""

        async def whole() -> bytes:
            body = response.body
            if isinstance(body, bytes):
                return body
            return b"".join([chunk async for chunk in body])

        return json.loads(self.successResultOf(Deferred.fromCoroutine(whole())))

    def problem(self, *call: Any, code: str, **more: Any) -> Problem:
        """The problem that a call ends with."""
        failure = self.failureResultOf(self.start(*call, **more), Problem)
        self.assertEqual(failure.value.code, code, failure.value)
        return failure.value

    def publish(self, *bodies: str) -> None:
        """Put texts into the queue."""
        messages = [OutgoingMessage(body) for body in bodies]
        self.successResultOf(Deferred.fromCoroutine(self.broker.publish(QUEUE, messages)))

    def receive(self, most: int = 10, wait: float = 0, **more: Any) -> Any:
        """What ``receive`` answers at once."""
        return self.answer("POST", "queues/orders/receive", {"max": most, "wait": wait}, **more)

    def waiting(self) -> list[str]:
        """The texts that the broker would give somebody now."""
        batch = self.successResultOf(
            Deferred.fromCoroutine(self.broker.receive(Source(QUEUE), 100, 0.0, 10**9))
        )
        if batch is None:
            return []
        bodies = [str(message.body) for message in batch.messages]
        self.successResultOf(Deferred.fromCoroutine(batch.release()))
        return bodies

    def settle(self, receipt: str, action: str = "ack", **more: Any) -> Any:
        """What settling answers."""
        return self.answer("POST", f"receipts/{receipt}", {"action": action}, **more)
