"""Messages to and from Kafka: through the tunnel in batches, beside the same client directly.

``python -m bench.kafka cluster`` runs librdkafka's mock cluster and prints its address;
``python -m bench.kafka write|read SERVERS TOPIC`` is the client, which prints messages a second.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, Producer

from demo.processes import Background, ProgramError, run, usage

from .memory import process_of
from .peers import Way
from .results import Result, Target, compared, interleaved
from .site import GROUP, Site, through
from .transfers import Transfer, transfer

MESSAGES: Final = 20_000
"""The mock cluster keeps 5 MB of a partition."""
BATCH: Final = 2000
VALUE: Final = "a message of some length, as orders and measurements are, " * 3
_ROOT: Final = Path(__file__).parent.parent
_IDLE_SECONDS: Final = 20
_topics = count()


def measure(site: Site) -> list[Result]:
    """One partition, so that order is kept; every message written by all replicas."""
    servers = _start(site)
    deployment, ours = None, None
    if not site.peers_only:
        profile = {"bus": {"url": f"kafka://{servers}", "session.timeout.ms": "6000"}}
        sections = f"kafka: {json.dumps(profile)}\n"
        deployment = site.deploy("kafka", sections=sections)
        ours = through(deployment)
    lines = site.folder / "messages.ndjson"
    lines.write_text(f"{json.dumps({'value': VALUE, 'partition': 0})}\n" * MESSAGES)
    results = _written(servers, ours, lines)
    results += _read(servers, ours)
    if deployment is not None and ours is not None:
        results += _idle(servers, ours, process_of(deployment.agent))
    return results


def _start(site: Site) -> str:
    cluster = Background.start(
        "kafka-cluster",
        [sys.executable, "-m", "bench.kafka", "cluster"],
        cwd=site.folder,
        environment={"PYTHONPATH": str(_ROOT)},
    )
    site.running.append(cluster)
    cluster.wait_until(lambda: "LISTENING " in cluster.output(), "listening")
    return cluster.output().partition("LISTENING ")[2].split()[0]


def _written(servers: str, ours: Way | None, lines: Path) -> list[Result]:
    def through_tunnel(way: Way) -> dict[str, float]:
        topic = f"written-{next(_topics)}"
        moved = transfer(
            Transfer(
                way.port,
                f"/v1/groups/{GROUP}/kafka/bus/topics/{topic}/messages",
                (*way.headers, ("Content-Type", "application/x-ndjson")),
                method="POST",
                send=str(lines),
            )
        )
        if moved.lines != MESSAGES:
            raise ProgramError(f"Kafka: {moved.lines} answers to {MESSAGES} messages")
        return {"messages": MESSAGES / moved.seconds}

    measures: dict[str, Callable[[], dict[str, float]]] = {
        "confluent-kafka": lambda: _directly("write", servers, f"written-{next(_topics)}")
    }
    if ours is not None:
        measures["ours"] = partial(through_tunnel, ours)
    targets = {"confluent-kafka": Target("ratio", least=0.1)}
    return compared("messages/s written to Kafka", interleaved(measures), "messages", targets)


def _read(servers: str, ours: Way | None) -> list[Result]:
    topic = "to-be-read"
    _directly("write", servers, topic)

    measures: dict[str, Callable[[], dict[str, float]]] = {
        "confluent-kafka": lambda: _directly("read", servers, topic)
    }
    if ours is not None:
        measures["ours"] = partial(_receive_all, ours, topic)
    # The peer has all of it in its memory by the time it is asked.
    figure = f"messages/s read from Kafka and acknowledged, by {BATCH:,}"
    return compared(figure, interleaved(measures), "messages")


def _receive_all(way: Way, topic: str) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", way.port, timeout=60)
    group = f"ours-{next(_topics)}"
    found = 0
    _post(connection, way, f"topics/{topic}/receive", {"group": group, "wait": 0, "max": 1})
    began = time.perf_counter()
    while found < MESSAGES - 1:
        wanted = {"group": group, "max": BATCH}
        received = _post(connection, way, f"topics/{topic}/receive", wanted)
        found += len(received["messages"])
        _post(connection, way, f"receipts/{received['receipt']}", {"action": "ack"})
    seconds = time.perf_counter() - began
    connection.close()
    return {"messages": found / seconds}


def _idle(servers: str, ours: Way, agent: int) -> list[Result]:
    """What an agent uses while nothing comes, without a subscription and with one."""
    _directly("write", servers, "quiet")
    without = _share(agent)
    connection = http.client.HTTPConnection("127.0.0.1", ours.port, timeout=120)
    path = f"/v1/groups/{GROUP}/kafka/bus/topics/quiet/subscribe"
    body = json.dumps({"group": "idle", "start": "latest"})
    connection.request("POST", path, body, dict(ours.headers))
    response = connection.getresponse()
    response.readline()
    time.sleep(5)
    subscribed = _share(agent)
    connection.close()
    return [
        Result("agent with idle Kafka clients, % of a CPU", without),
        Result("agent with an idle Kafka subscription too, % of a CPU", subscribed),
    ]


def _share(process: int) -> float:
    before = usage(process).cpu
    time.sleep(_IDLE_SECONDS)
    return (usage(process).cpu - before) / _IDLE_SECONDS * 100


def _post(connection: http.client.HTTPConnection, way: Way, path: str, body: object) -> Any:
    connection.request(
        "POST", f"/v1/groups/{GROUP}/kafka/bus/{path}", json.dumps(body), dict(way.headers)
    )
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise ProgramError(f"Kafka: {path}: {content[:500]!r}")
    return json.loads(content)


def _directly(what: str, servers: str, topic: str) -> dict[str, float]:
    output = run([sys.executable, "-m", "bench.kafka", what, servers, topic], cwd=_ROOT)
    return {"messages": float(output)}


def _cluster() -> None:
    producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
    (broker,) = producer.list_topics(timeout=10).brokers.values()
    print(f"LISTENING {broker.host}:{broker.port}", flush=True)
    while True:
        time.sleep(3600)


def _write(servers: str, topic: str) -> None:
    settings = {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 1}
    producer = Producer(settings)
    value = VALUE.encode()
    # An idempotent producer waits half a second for its id.
    producer.produce(f"{topic}-first", b"")
    producer.flush()
    written = 0

    def delivered(error: object, message: object) -> None:
        nonlocal written
        written += error is None

    began = time.perf_counter()
    for _ in range(MESSAGES):
        while True:
            try:
                producer.produce(topic, value, partition=0, on_delivery=delivered)
            except BufferError:
                producer.poll(0.1)
                continue
            break
        producer.poll(0)
    producer.flush()
    if written != MESSAGES:
        raise ProgramError(f"{written} of {MESSAGES} messages were written")
    print(MESSAGES / (time.perf_counter() - began))


def _consume(servers: str, topic: str) -> None:
    """Batches, each committed before the next is taken."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"direct-{time.time()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    while consumer.poll(1) is None:
        pass
    began = time.perf_counter()
    found = 0
    while found < MESSAGES - 1:
        first = consumer.poll(10)
        if first is None:
            raise ProgramError(f"{found} of {MESSAGES} messages came")
        last = ([first, *consumer.consume(BATCH - 1, 0)])[-1]
        found = last.offset() or 0
        consumer.commit(message=last, asynchronous=False)
    print(found / (time.perf_counter() - began))
    consumer.close()


def main(what: str, *arguments: str) -> None:
    """See the module."""
    if what == "cluster":
        _cluster()
    elif what == "write":
        _write(*arguments)
    else:
        _consume(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
