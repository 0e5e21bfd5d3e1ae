"""Brokers that are spoken to through Java, for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from workato_agent.services.jms.broker import (
    Batch,
    Broker,
    Destination,
    OutgoingMessage,
    Source,
)
from workato_agent.services.jms.brokers.jms_java import JavaBroker
from workato_agent.services.jms.settings import JavaSettings
from workato_tunnel.problems import Problem

from .activemq import PASSWORD, USER
from .embedded_activemq import EmbeddedActivemq

FACTORY: Final = "org.apache.activemq.ActiveMQConnectionFactory"
LIMIT: Final = 2**24
WAIT: Final = 20.0
JARS: Final = tuple(
    Path("/usr/share/java", name)
    for name in (
        "activemq-client.jar",
        "geronimo-jms_1.1_spec.jar",
        "geronimo-j2ee-management-1.1-spec.jar",
        "hawtbuf.jar",
        "slf4j-api.jar",
        "slf4j-nop.jar",
    )
)


def activemq_settings(url: str, **changes: Any) -> JavaSettings:
    """Of a profile with ``provider: activemq``."""
    settings = JavaSettings(
        type="activemq",
        factory=FACTORY,
        properties={"brokerURL": url},
        username=USER,
        password=PASSWORD,
        max_sessions=30,
    )
    return evolve(settings, **changes)


def custom_settings(**changes: Any) -> JavaSettings:
    """Of a profile with ``provider: custom``, which names its jars itself."""
    settings = JavaSettings(
        type="jms",
        factory=FACTORY,
        username=USER,
        password=PASSWORD,
        max_sessions=10,
        classpath=JARS,
    )
    return evolve(settings, **changes)


def java_broker(case: TestCase, settings: JavaSettings) -> JavaBroker:
    """A broker with threads of its own; it ends with the test."""
    pool = ThreadPool(0, settings.max_sessions + 1, "jms")
    pool.start()
    case.addCleanup(pool.stop)
    broker = JavaBroker.of(reactor, pool, settings)
    case.addCleanup(lambda: Deferred.fromCoroutine(broker.close()))
    return broker


def queue(name: str) -> Destination:
    """A queue."""
    return Destination("queue", name)


async def publish(broker: Broker, place: Destination, *bodies: str) -> list[str]:
    """Publish texts."""
    return await broker.publish(place, [OutgoingMessage(body) for body in bodies])


async def receive(broker: Broker, place: Destination, limit: int = 10) -> Batch:
    """A batch; the test fails if none comes."""
    batch = await broker.receive(Source(place), limit, WAIT, LIMIT)
    assert batch is not None, "nothing has come"
    return batch


def pause(seconds: float) -> Deferred[None]:
    """Let the reactor turn for a while."""
    return deferLater(reactor, seconds, lambda: None)  # type: ignore[arg-type]


@cache
def embedded_server() -> EmbeddedActivemq:
    """One for all tests, whose user may read the queues ``open.…`` only."""
    return EmbeddedActivemq.start(readable="open.>", options="wireFormat.maxFrameSize=1000000")


class JavaCase(TestCase):
    """With a broker in the tests' own JVM, which lets its user read the queues ``open.…`` only."""

    timeout = 60

    def setUp(self) -> None:
        self.server = embedded_server()

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.server.port}"

    def activemq(self, **changes: Any) -> JavaBroker:
        return java_broker(self, activemq_settings(self.url, **changes))

    def custom(self, **changes: Any) -> JavaBroker:
        return java_broker(self, custom_settings(**changes))

    async def problem(self, work: Any, code: str) -> Problem:
        try:
            await work
        except Problem as problem:
            self.assertEqual(problem.code, code, problem)
            return problem
        raise AssertionError("no problem was raised")

    async def round_trip(self, broker: Broker) -> None:
        """A message goes through."""
        place = queue(f"open.{self.id()}")
        (published,) = await publish(broker, place, "through")
        batch = await receive(broker, place)
        self.assertEqual(
            [(each.id, each.body) for each in batch.messages], [(published, "through")]
        )
        await batch.acknowledge()

    async def foreign(self, fill: Any) -> None:
        """Have another program send what ``fill`` makes with a session to ``open.foreign``."""

        def thd_send() -> None:
            connection, session = self.server.session()
            producer = session.createProducer(session.createQueue("open.foreign"))
            for message in fill(session):
                producer.send(message)
            connection.close()

        await deferToThread(thd_send)
