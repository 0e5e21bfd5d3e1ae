"""Real processes and a real broker: callers who leave, and everything killed while messages go
through. None is lost."""

from __future__ import annotations

import atexit
import http.client
import json
import shutil
import socket
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.activemq import ActivemqServer
from tests.support.broker_drill import GROUP, Drill
from tests.support.cutting_relay import wait_until

COUNT = 1_000
KILLS = ["agent", "tunnel", "broker", "gateway"]


@cache
def shared_drill() -> Drill:
    """One deployment for these tests; it ends with the process."""
    folder = Path(tempfile.mkdtemp(prefix="drill-"))
    broker = ActivemqServer.start()
    drill = Drill.start(folder, broker)

    def end() -> None:
        drill.stop()
        broker.destroy()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return drill


class Messages(SynchronousTestCase):
    def setUp(self) -> None:
        self.drill = shared_drill()
        # The last kill of another test may not be over yet.
        wait_until(self.drill.deployment.connected)

    def opened(self, path: str, body: object) -> http.client.HTTPConnection:
        """A call whose answer has not been read."""
        port = self.drill.deployment.api_port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Authorization": f"Bearer {self.drill.token}", "X-Timeout": "60"}
        url = f"/v1/groups/{GROUP}/jms/q/{path}"
        connection.request("POST", url, json.dumps(body), headers)
        return connection

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The answer of a call that goes well."""
        status, answer = self.drill.call(method, path, body)
        self.assertEqual(status, 200, answer)
        return answer

    def publish(self, queue: str, *texts: str) -> None:
        messages = {"messages": [{"body": text} for text in texts]}
        self.call("POST", f"queues/{queue}/messages", messages)

    def take(self, queue: str, count: int) -> list[dict[str, Any]]:
        """Receive so many messages, and acknowledge them."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            answer = self.call("POST", f"queues/{queue}/receive", {"max": count, "wait": 20})
            self.assertIsNotNone(answer["receipt"])
            found += answer["messages"]
            self.call("POST", f"receipts/{answer['receipt']}", {"action": "ack"})
        return found

    def test_the_profiles_test(self) -> None:
        self.assertRegex(self.call("GET", "")["target"], r"^ActiveMQ 5\.")

    def test_a_subscription_streams_and_gives_back_when_its_caller_leaves(self) -> None:
        connection = self.opened("queues/streamed/subscribe", {"max_unacknowledged": 2})
        response = connection.getresponse()
        self.assertEqual(response.status, 200)
        self.assertEqual(json.loads(response.readline()), {"receipt": None, "messages": []})
        self.publish("streamed", "a", "b", "c")
        lines = [json.loads(response.readline()) for _ in range(2)]
        bodies = [line["messages"][0]["body"] for line in lines]
        self.assertEqual(bodies, ["a", "b"])
        path = f"receipts/{lines[0]['receipt']}"
        self.assertEqual(self.call("POST", path, {"action": "ack"})["outcome"], "acknowledged")
        third = json.loads(response.readline())
        self.assertEqual(third["messages"][0]["body"], "c")
        response.close()
        connection.close()
        left = self.take("streamed", 2)
        self.assertEqual({each["body"] for each in left}, {"b", "c"})
        self.assertTrue(all(each["redelivered"] for each in left))

    def test_a_caller_who_leaves_a_long_poll_takes_nothing(self) -> None:
        connection = self.opened("queues/polled/receive", {"wait": 50})
        assert connection.sock is not None
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        self.publish("polled", "x")
        (message,) = self.take("polled", 1)
        self.assertEqual(message["body"], "x")

    def test_nothing_is_lost_whatever_is_killed(self) -> None:
        self.drill.run(COUNT, 20, KILLS, seed=4711)
        found = self.drill.accounts
        self.assertEqual(len(found.confirmed), COUNT)
        self.assertEqual(found.lost, set())
        self.assertEqual(found.twice, [])
        self.assertEqual(found.revived, set())
        self.assertEqual(found.unmarked, set())
