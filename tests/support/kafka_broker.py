"""A process of its own that runs librdkafka's mock cluster: the wire protocol with topics, groups
and offsets, kept in memory.

    python -m tests.support.kafka_broker BROKERS

Prints where it listens, then obeys a line of JSON at a time: ``["create", topic, partitions]``,
``["down", broker]``, ``["up", broker]``, ``["topic_error", topic, code]`` and
``["errors", request, [code, …]]``, each answered by a line. It ends with its standard input. The
functions are those of librdkafka's ``rdkafka_mock.h``.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any, Final

import confluent_kafka

_PRODUCER: Final = 0


def _library() -> Any:
    """The librdkafka that comes with confluent-kafka."""
    bundled = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    (found,) = bundled.glob("librdkafka*.so*")
    library = ctypes.CDLL(str(found))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return library


class MockCluster:
    """The cluster in this process."""

    def __init__(self, brokers: int) -> None:
        self._library = _library()
        reason = ctypes.create_string_buffer(512)
        settings = ctypes.c_void_p(self._library.rd_kafka_conf_new())
        for name, value in ((b"bootstrap.servers", b"127.0.0.1:1"), (b"log_level", b"0")):
            self._library.rd_kafka_conf_set(settings, name, value, None, ctypes.c_size_t(0))
        handle = self._library.rd_kafka_new(_PRODUCER, settings, reason, ctypes.c_size_t(512))
        if not handle:
            raise RuntimeError(reason.value.decode())
        cluster = self._library.rd_kafka_mock_cluster_new(ctypes.c_void_p(handle), brokers)
        self._cluster = ctypes.c_void_p(cluster)
        # A group's first member is not kept waiting for others.
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)

    def servers(self) -> str:
        """``HOST:PORT`` of each broker, with commas."""
        servers: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return servers.decode()

    def create(self, topic: str, partitions: int) -> None:
        self._check(
            self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)
        )

    def down(self, broker: int) -> None:
        """Cut its connections and refuse new ones; it keeps what it has."""
        self._check(self._library.rd_kafka_mock_broker_set_down(self._cluster, broker))

    def up(self, broker: int) -> None:
        self._check(self._library.rd_kafka_mock_broker_set_up(self._cluster, broker))

    def topic_error(self, topic: str, code: int) -> None:
        """Answer that about the topic from now on; 0 for none."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), code)

    def errors(self, request: int, codes: list[int]) -> None:
        """Answer the next requests of that kind (the protocol's API key) with these errors."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(request), ctypes.c_size_t(len(codes)), array
        )

    def _check(self, code: int) -> None:
        if code:
            raise RuntimeError(f"librdkafka says {code}")


def main(brokers: str) -> None:
    """Serve until standard input ends."""
    cluster = MockCluster(int(brokers))
    print(cluster.servers(), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        getattr(cluster, name)(*arguments)
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
