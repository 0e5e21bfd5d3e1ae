"""ActiveMQ through its Java client: the agent's broker beside that client, called directly.

``python -m bench.brokers ours|client PORT`` measures one of the two and prints figures as JSON.
Both call Java from Python; messages have 1 KB of text, are persistent, and are confirmed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool

from demo.processes import run
from tests.support.activemq import PASSWORD, USER, ActivemqServer
from workato_agent.jvm import PROCESS_JVM
from workato_agent.services.jms.broker import Destination, OutgoingMessage, Source
from workato_agent.services.jms.brokers.jms_java import JavaBroker
from workato_agent.services.jms.brokers.jms_java_activemq import FACTORY, debian_jars
from workato_agent.services.jms.settings import JavaSettings

from .results import Result, compared, interleaved
from .site import Site

BATCH: Final = 100
MANY: Final = 3000
FEW: Final = 300
_TEXT: Final = "x" * 1000
_QUEUE: Final = "bench"
_WAIT: Final = 10.0


def measure(site: Site) -> list[Result]:
    """Messages a second, each beside the same client without anything of ours."""
    broker = ActivemqServer.start()
    ways = ["client"] if site.peers_only else ["client", "ours"]
    try:
        medians = interleaved({way: partial(_apart, way, broker.ports.openwire) for way in ways})
    finally:
        broker.destroy()
    results: list[Result] = []
    for key in medians["client"]:
        results += compared(f"messages/s, ActiveMQ: {key}", medians, key)
    return results


def _apart(way: str, port: int) -> dict[str, float]:
    root = Path(__file__).parent.parent
    figures: dict[str, float] = json.loads(
        run([sys.executable, "-m", "bench.brokers", way, str(port)], cwd=root, seconds=120)
    )
    return figures


def _client(port: int) -> dict[str, float]:
    """A transaction for each batch, as the agent has it, and an acknowledged send."""
    jpype = PROCESS_JVM.thd_start()
    factory = jpype.JClass(FACTORY, loader=PROCESS_JVM.thd_loader(debian_jars()))
    connection = factory(f"tcp://127.0.0.1:{port}").createConnection(USER, PASSWORD)
    connection.start()
    session, single = connection.createSession(True, 0), connection.createSession(False, 1)
    queue = session.createQueue(_QUEUE)
    producer, one = session.createProducer(queue), single.createProducer(queue)
    consumer = session.createConsumer(queue)

    def publish() -> None:
        for _ in range(MANY // BATCH):
            for _ in range(BATCH):
                producer.send(session.createTextMessage(_TEXT))
            session.commit()

    def receive() -> None:
        for _ in range(MANY // BATCH):
            for _ in range(BATCH):
                consumer.receive(int(_WAIT * 1000)).getText()
            session.commit()

    def publish_one() -> None:
        for _ in range(FEW):
            one.send(single.createTextMessage(_TEXT))

    def receive_one() -> None:
        for _ in range(FEW):
            consumer.receive(int(_WAIT * 1000)).getText()
            session.commit()

    publish()
    receive()
    figures = {
        f"published, {BATCH} a call": _rate(MANY, publish),
        f"received, {BATCH} a call": _rate(MANY, receive),
        "published, one a call": _rate(FEW, publish_one),
        "received, one a call": _rate(FEW, receive_one),
    }
    connection.close()
    return figures


def _rate(count: int, work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


async def _ours(port: int, pool: Any) -> dict[str, float]:
    settings = JavaSettings(
        "activemq",
        FACTORY,
        {"brokerURL": f"tcp://127.0.0.1:{port}"},
        username=USER,
        password=PASSWORD,
    )
    broker = JavaBroker.of(reactor, pool, settings)
    queue = Destination("queue", _QUEUE)

    async def publish(calls: int, each: int) -> None:
        for _ in range(calls):
            await broker.publish(queue, [OutgoingMessage(_TEXT)] * each)

    async def receive(calls: int, each: int) -> None:
        left = calls * each
        while left:
            batch = await broker.receive(Source(queue), each, _WAIT, 2**26)
            assert batch is not None
            await batch.acknowledge()
            left -= len(batch.messages)

    await publish(MANY // BATCH, BATCH)
    await receive(MANY // BATCH, BATCH)
    figures = {
        f"published, {BATCH} a call": await _async_rate(MANY, publish(MANY // BATCH, BATCH)),
        f"received, {BATCH} a call": await _async_rate(MANY, receive(MANY // BATCH, BATCH)),
        "published, one a call": await _async_rate(FEW, publish(FEW, 1)),
        "received, one a call": await _async_rate(FEW, receive(FEW, 1)),
    }
    await broker.close()
    return figures


async def _async_rate(count: int, work: Awaitable[None]) -> float:
    began = time.perf_counter()
    await work
    return count / (time.perf_counter() - began)


def main(way: str, port: str) -> None:
    """Measure one way."""
    if way == "client":
        print(json.dumps(_client(int(port))))
        return
    loop: Any = reactor
    pool = ThreadPool(0, 70)
    pool.start()

    def end(result: object) -> object:
        pool.stop()
        loop.stop()
        return result

    def begin() -> None:
        work = Deferred.fromCoroutine(_ours(int(port), pool))
        work.addCallback(lambda figures: print(json.dumps(figures)))
        work.addBoth(end)

    loop.callWhenRunning(begin)
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
