"""A Kafka cluster of one's own, as librdkafka's mock cluster in a process that can be stopped."""

from __future__ import annotations

import atexit
import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self

from attrs import define, field
from confluent_kafka import Consumer, Producer, TopicPartition

from .cutting_relay import wait_until

_ROOT: Final = Path(__file__).parents[2]


@define(eq=False)
class KafkaCluster:
    """A running cluster. ``servers``: ``HOST:PORT``, of the first broker first."""

    process: subprocess.Popen[str]
    servers: tuple[str, ...]
    _stopped: bool = field(default=False, init=False)

    @classmethod
    def start(cls, brokers: int = 1) -> Self:
        """A new one without topics, in a tenth of a second."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.kafka_broker", str(brokers)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        servers = tuple(process.stdout.readline().strip().split(","))
        if not servers[0]:
            raise RuntimeError(f"the mock cluster ended with {process.wait(5)}")
        cluster = cls(process, servers)
        atexit.register(cluster.stop)
        return cluster

    @property
    def url(self) -> str:
        """As a profile's ``url`` has it."""
        return ",".join(f"kafka://{server}" for server in self.servers)

    @property
    def port(self) -> int:
        """Of the first broker."""
        return int(self.servers[0].rpartition(":")[2])

    def create(self, topic: str, partitions: int = 1) -> None:
        """A topic."""
        self._order("create", topic, partitions)

    def down(self, broker: int = 1) -> None:
        """End a broker, as a crash does: its connections are cut, new ones refused."""
        self._order("down", broker)

    def up(self, broker: int = 1) -> None:
        """Start it again, with what it had."""
        self._order("up", broker)

    def topic_error(self, topic: str, code: int) -> None:
        """Let the brokers answer that about a topic; 0 for no more."""
        self._order("topic_error", topic, code)

    def errors(self, request: int, *codes: int) -> None:
        """Let the next requests of that kind (the protocol's API key) fail with these codes."""
        self._order("errors", request, list(codes))

    def hang(self) -> None:
        """Its connections stay and nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")

    def go_on(self) -> None:
        """After :meth:`hang`."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End all of it at once, with all it had."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """For good."""
        atexit.unregister(self.stop)
        if self.process.poll() is None:
            self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def produce(self, topic: str, values: Iterable[str], **options: Any) -> None:
        """Write messages directly."""
        producer = Producer({"bootstrap.servers": ",".join(self.servers)})
        failed: list[object] = []

        def delivered(error: object, _message: object) -> None:
            if error is not None:
                failed.append(error)

        for value in values:
            producer.produce(topic, value.encode(), on_delivery=delivered, **options)
        assert producer.flush(20) == 0
        assert not failed, failed

    def read(self, topic: str, partitions: int = 1, seconds: float = 10.0) -> list[Any]:
        """All messages of a topic, by partition, read directly and without a group."""
        consumer = Consumer(
            {
                "bootstrap.servers": ",".join(self.servers),
                "group.id": "direct",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,
            }
        )
        consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        found: list[Any] = []
        ended: set[int | None] = set()
        while len(ended) < partitions:
            message = consumer.poll(seconds)
            assert message is not None, f"{topic} does not end within {seconds} s"
            if message.error():
                ended.add(message.partition())
            else:
                found.append(message)
        consumer.close()
        return found

    def committed(self, group: str, topic: str, partitions: int = 1) -> list[int]:
        """A group's offset in each partition; -1001 where it has none."""
        consumer = Consumer({"bootstrap.servers": ",".join(self.servers), "group.id": group})
        wanted = [TopicPartition(topic, number) for number in range(partitions)]
        found = consumer.committed(wanted, timeout=10)
        consumer.close()
        return [each.offset for each in found]

    def _order(self, *order: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if answer != "done":
            raise RuntimeError(f"the mock cluster ended with {self.process.wait(5)}")
