"""A Kafka service as the agent builds it from its config, called as the dispatcher does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Coroutine
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from attrs import define, field, frozen
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.support.files import Chunks
from tests.support.kafka import KafkaCluster
from workato_agent.config.load import parse_config
from workato_agent.requests import Body, Request, Response
from workato_agent.services.kafka.service import KafkaService
from workato_agent.serving import ProfileParts, build_service
from workato_agent.serving_databases import DatabaseContext
from workato_tunnel.problems import Problem

reactor: Any = _reactor
JOINED_AGAIN = {"session__timeout__ms": "2000", "heartbeat__interval__ms": "300"}
"""For groups that change: the mock cluster waits a second less than the session's timeout for the
members that it had."""
T = TypeVar("T")


@cache
def shared_cluster() -> KafkaCluster:
    """One for all tests that leave it up; it ends with the process."""
    return KafkaCluster.start()


@frozen
class Answered:
    """What a call gave back."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


@define(eq=False)
class Lines:
    """The lines of an answer that goes on, read as the test wants them."""

    _body: AsyncIterator[bytes]
    _ready: list[Any] = field(factory=list)

    async def next(self) -> Any:
        """The next line."""
        while not self._ready:
            self._ready += [json.loads(line) for line in (await anext(self._body)).splitlines()]
        return self._ready.pop(0)

    async def messages(self, count: int) -> list[Any]:
        """The next lines that are messages."""
        found: list[Any] = []
        while len(found) < count:
            line = await self.next()
            if line["type"] == "message":
                found.append(line)
        return found

    async def close(self) -> None:
        """As the dispatcher does when the caller leaves."""
        await self._body.aclose()  # type: ignore[attr-defined]


class KafkaCase(TestCase):
    """``self.topic`` and ``self.group`` are the test's own; the topic is there, empty."""

    timeout = 60
    partitions = 1
    # An idempotent producer waits half a second for its id before the first message.
    keys: ClassVar[dict[str, object]] = {
        "enable.idempotence": "false",
        "reconnect.backoff.max.ms": "100",
    }

    def setUp(self) -> None:
        self.cluster = self.start_cluster()
        self.topic = f"{type(self).__name__}.{self._testMethodName}"[-200:]
        self.group = f"group-{self.topic}"
        self.cluster.create(self.topic, self.partitions)
        self.service = self.serve()

    def start_cluster(self) -> KafkaCluster:
        """Another one than the shared, for who breaks it."""
        return shared_cluster()

    def own_cluster(self, brokers: int = 1) -> KafkaCluster:
        """A cluster that ends with the test."""
        cluster = KafkaCluster.start(brokers)
        self.addCleanup(cluster.stop)
        return cluster

    def serve(self, url: str | None = None, **keys: object) -> KafkaService:
        """A service of a profile with these keys; ``_`` stands for a dot."""
        profile = {
            "url": url or self.cluster.url,
            **self.keys,
            **{key.replace("__", "."): value for key, value in keys.items()},
        }
        config = parse_config(json.dumps({"kafka": {"k": profile}}), Path("config.yml"))
        parts = ProfileParts(reactor, DatabaseContext("agent-1"))
        service = build_service(parts, "k", config.profiles["kafka"]["k"])
        assert isinstance(service, KafkaService)
        for pool in parts.pools:
            pool.start()
            self.addCleanup(pool.stop)
        self.addCleanup(lambda: Deferred.fromCoroutine(service.close()))
        return service

    def request(
        self,
        method: str,
        path: str,
        body: Body | bytes | object = b"",
        seconds: float = 30.0,
        caller: str = "alice",
        content: str = "application/json",
    ) -> Request:
        if isinstance(body, dict | list):
            body = json.dumps(body).encode()
        return Request(
            service="kafka",
            profile="k",
            method=method,
            path=path,
            query="",
            headers=(("content-type", content),),
            body=Chunks([body]) if isinstance(body, bytes) else body,  # type: ignore[arg-type]
            caller=caller,
            deadline=reactor.seconds() + seconds,
            trace="",
            request_id="r1",
        )

    async def call(
        self, method: str, path: str, body: Any = b"", *, on: KafkaService | None = None, **how: Any
    ) -> Answered:
        request = self.request(method, path, body, **how)
        response = await (on or self.service).handle(request)
        return Answered(response.status, await whole(response))

    async def fails(
        self, code: str, method: str, path: str, body: Any = b"", **how: Any
    ) -> Problem:
        try:
            answer = await self.call(method, path, body, **how)
        except Problem as problem:
            self.assertEqual(problem.code, code, problem)
            return problem
        raise AssertionError(f"not refused: {answer}")

    async def produce(self, *values: str, **how: Any) -> Any:
        body = {"messages": [{"value": value} for value in values]}
        return (await self.call("POST", f"topics/{self.topic}/messages", body, **how)).json

    async def receive(self, most: int = 100, wait: float = 10.0, **more: Any) -> Any:
        how = {key: more.pop(key) for key in ("on", "caller", "seconds") if key in more}
        body = {"group": self.group, "max": most, "wait": wait, **more}
        return (await self.call("POST", f"topics/{self.topic}/receive", body, **how)).json

    async def receive_all(self, count: int, **more: Any) -> tuple[list[Any], list[str]]:
        """So many messages, by as many calls as it takes, and their receipts."""
        messages: list[Any] = []
        receipts = []
        while len(messages) < count:
            received = await self.receive(count - len(messages), **more)
            assert received["receipt"], f"only {len(messages)} messages came"
            messages += received["messages"]
            receipts.append(received["receipt"])
        return messages, receipts

    async def settle(self, receipt: str, action: str = "ack", **more: Any) -> Any:
        how = {key: more.pop(key) for key in ("on", "caller", "seconds") if key in more}
        return (
            await self.call("POST", f"receipts/{receipt}", {"action": action, **more}, **how)
        ).json

    async def subscribe(self, seconds: float = 30.0, **more: Any) -> Lines:
        body = {"group": self.group, **more}
        request = self.request("POST", f"topics/{self.topic}/subscribe", body, seconds)
        response = await self.service.handle(request)
        assert not isinstance(response.body, bytes)
        lines = Lines(response.body)
        self.addCleanup(lambda: Deferred.fromCoroutine(lines.close()))
        return lines

    def committed(self) -> list[int]:
        """The group's offsets, asked directly."""
        return self.cluster.committed(self.group, self.topic, self.partitions)


async def whole(response: Response) -> bytes:
    """The body of an answer, closed at its end."""
    if isinstance(response.body, bytes):
        return response.body
    try:
        return b"".join([chunk async for chunk in response.body])
    finally:
        close = getattr(response.body, "aclose", None)
        if close is not None:
            await close()


def values(received: Any) -> list[Any]:
    """Of the messages."""
    return [each["value"] for each in received["messages"]]


def begun(work: Coroutine[Any, Any, T]) -> Deferred[T]:
    """A call that runs beside the test."""
    return Deferred.fromCoroutine(work)


async def pause(seconds: float) -> None:
    """Let the reactor run."""
    await deferLater(reactor, seconds)
