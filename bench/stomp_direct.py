"""The agent's own STOMP client used directly: ``python -m bench.stomp_direct PORT COUNT BATCH``.

Prints as JSON the messages a second that it published, and received and acknowledged.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.support.activemq import PASSWORD, USER
from workato_agent.services.jms.broker import Destination, OutgoingMessage, Source
from workato_agent.services.jms.brokers.stomp import StompBroker
from workato_agent.services.jms.settings import Address, StompSettings

from .messaging import TEXT

QUEUE = Destination("queue", "bench.direct")
_BATCH_BYTES = 2**26


async def run(reactor: Any, port: int, count: int, batch: int) -> None:
    """Publish, then receive all of it."""
    settings = StompSettings((Address("127.0.0.1", port),), username=USER, password=PASSWORD)
    broker = StompBroker.of(reactor, settings)
    messages = [OutgoingMessage(TEXT)] * batch
    began = time.perf_counter()
    for _ in range(count // batch):
        await broker.publish(QUEUE, messages)
    published = count / (time.perf_counter() - began)
    began, received = time.perf_counter(), 0
    while received < count:
        found = await broker.receive(Source(QUEUE), batch, 10.0, _BATCH_BYTES)
        if found is None:
            raise RuntimeError(f"only {received} messages came")
        received += len(found.messages)
        await found.acknowledge()
    rate = count / (time.perf_counter() - began)
    print(json.dumps({"publish": published, "receive": rate}))
    await broker.close()


def main(reactor: Any, *argv: str) -> Deferred[None]:
    """As a program."""
    port, count, batch = map(int, argv)
    return Deferred.fromCoroutine(run(reactor, port, count, batch))


if __name__ == "__main__":
    react(main, sys.argv[1:])
