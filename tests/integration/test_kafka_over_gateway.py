"""Kafka calls as a caller makes them, through a gateway and agents that are killed meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from attrs import define
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from demo.deployment import Deployment
from demo.processes import command, run
from tests.support.cutting_relay import CuttingRelay, wait_until
from tests.support.kafka import KafkaCluster
from tests.support.ports import free_port

GROUP = "plant"
PROFILE = {
    "timeout": 20_000,
    "session.timeout.ms": "2000",
    "heartbeat.interval.ms": "300",
    "ack_timeout": "20s",
}


@define
class Site:
    """A gateway and an agent with a relay between them, and a cluster behind the agent."""

    folder: Path
    cluster: KafkaCluster
    deployment: Deployment
    relay: CuttingRelay
    token: str = ""

    @classmethod
    def start(cls) -> Site:
        """All of it, in some seconds."""
        folder = Path(tempfile.mkdtemp(prefix="kafka-"))
        cluster = KafkaCluster.start()
        port = free_port()
        sections = f"kafka: {json.dumps({'k': {'url': cluster.url, **PROFILE}})}\n"
        deployment = Deployment(folder / "one", GROUP, sections, public_port=port)
        site = cls(folder, cluster, deployment, CuttingRelay(port, deployment.tunnel_port))
        try:
            site.relay.start()
            deployment.folder.mkdir()
            deployment.start()
            site.token = deployment.token("alice", f"{GROUP}:kafka:*:*")
        except BaseException:
            site.stop()
            raise
        return site

    def stop(self) -> None:
        """End it and remove the folder."""
        self.deployment.stop()
        self.relay.stop()
        self.cluster.stop()
        shutil.rmtree(self.folder)


_running: list[Site] = []


def site() -> Site:
    """The one of this process; it ends with it."""
    if not _running:
        _running.append(Site.start())
        reactor.addSystemEventTrigger("after", "shutdown", lambda: _running.pop().stop())
    return _running[0]


class GatewayCase(SynchronousTestCase):
    def setUp(self) -> None:
        whole = site()
        self.cluster, self.site, self.folder = whole.cluster, whole.deployment, whole.folder
        self.relay, self.token = whole.relay, whole.token
        self.topic = self._testMethodName
        self.at = f"/topics/{self.topic}"

    def call(
        self, method: str, path: str, body: object = None, kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """Status and body; status 0 where the connection broke."""
        connection = http.client.HTTPConnection("127.0.0.1", self.site.api_port, timeout=40)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        try:
            connection.request(method, f"/v1/groups/{GROUP}/kafka/k{path}", data, fields)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def post(self, path: str, body: object) -> Any:
        status, answer = self.call("POST", path, body)
        self.assertEqual(status, 200, answer)
        return json.loads(answer)


class Calls(GatewayCase):
    def test_what_goes_in_comes_out_and_is_in_the_catalogue_and_the_audit(self) -> None:
        self.cluster.create(self.topic, 2)
        lines = b"".join(b'{"key": "k%d", "value": "v%d"}\n' % (n, n) for n in range(5000))
        status, body = self.call("POST", f"{self.at}/messages", lines, "application/x-ndjson")
        self.assertEqual(status, 200, body[-500:])
        places = [json.loads(line) for line in body.splitlines()]
        self.assertEqual(len({(each["partition"], each["offset"]) for each in places}), 5000)
        found: dict[str, str] = {}
        while len(found) < 5000:
            received = self.post(f"{self.at}/receive", {"group": self.topic, "max": 2000})
            found |= {each["key"]: each["value"] for each in received["messages"]}
            receipt = received["receipt"]
            self.assertTrue(self.post(f"/receipts/{receipt}", {"action": "ack"})["committed"])
        self.assertEqual(found, {f"k{n}": f"v{n}" for n in range(5000)})
        self.assertEqual(sum(self.cluster.committed(self.topic, self.topic, 2)), 5000)
        status, answer = self.call("POST", "/topics/nowhere/receive", {"group": self.topic})
        self.assertEqual((status, json.loads(answer)["code"]), (502, "target_not_found"))
        self.check_what_others_see(receipt.partition("~")[2])

    def check_what_others_see(self, secret: str) -> None:
        status, body = self.site.get(f"/v1/groups/{GROUP}/agents", self.site.admin_token)
        (agent,) = json.loads(body)["agents"]
        (profile,) = agent["profiles"]
        self.assertEqual((status, profile["service"], profile["name"]), (200, "kafka", "k"))
        self.assertEqual(profile["operations"], ["test", "topics", "produce", "consume"])
        checked = run(
            [command("workato-agent"), "check", "kafka/k", f"--config={self.site.config}"],
            cwd=self.site.folder,
        )
        self.assertRegex(checked, r"ok +kafka/k +Kafka cluster \S+, 1 broker")
        files = [*self.folder.rglob("*.log"), *self.folder.rglob("audit*")]

        def written() -> str:
            return "".join(path.read_text() for path in files if path.is_file())

        wait_until(lambda: '"operation":"consume"' in written())
        wait_until(lambda: "receipts/" in written())
        self.assertNotIn(secret, written())
        self.assertIn('"rows":5000', written())

    def test_a_long_poll_of_a_caller_that_was_killed_keeps_nothing(self) -> None:
        self.cluster.create(self.topic)
        self.post(f"{self.at}/receive", {"group": self.topic, "wait": 0})
        body = json.dumps({"group": self.topic, "max": 10, "wait": 50})
        url = f"{self.site.url}/v1/groups/{GROUP}/kafka/k/topics/{self.topic}/receive"
        argv = ["curl", "-sS", "-H", f"Authorization: Bearer {self.token}", "--json", body, url]
        caller = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        wait_until(lambda: self.in_flight() == 1)
        caller.kill()
        caller.wait(10)
        wait_until(lambda: self.in_flight() == 0)
        self.cluster.produce(self.topic, ["a"])
        received = self.post(f"{self.at}/receive", {"group": self.topic})
        self.assertEqual([each["value"] for each in received["messages"]], ["a"])

    def in_flight(self) -> int:
        status, body = self.site.get("/metrics")
        self.assertEqual(status, 200)
        (line,) = re.findall(r"^onprem_gateway_streams\S* (\S+)$", body.decode(), re.MULTILINE)
        return int(float(line))


class AtLeastOnce(GatewayCase):
    """Messages are read and acknowledged while everything between is killed, cut and started
    again: each one is acknowledged in the end, and none is committed before."""

    def test_no_crash_loses_a_message(self) -> None:
        self.cluster.create(self.topic)
        total = 60
        self.cluster.produce(self.topic, [str(n) for n in range(total)])
        acknowledged: set[str] = set()
        accidents = [
            self.kill_agent,
            self.kill_gateway,
            self.cut_tunnel,
            self.crash_broker,
            self.hang_broker,
        ]
        while len(acknowledged) < total:
            received = self.receive()
            values = [each["value"] for each in received["messages"]]
            accident = accidents.pop(0) if accidents else lambda: None
            offset = self.cluster.committed(self.topic, self.topic)[0]
            self.assertLessEqual(offset, len(acknowledged), "committed before it was acknowledged")
            accident()
            status, _ = self.call("POST", f"/receipts/{received['receipt']}", {"action": "ack"})
            if status == 200:
                acknowledged.update(values)
        self.assertEqual(acknowledged, {str(n) for n in range(total)})
        self.assertEqual(accidents, [])
        self.assertEqual(self.cluster.committed(self.topic, self.topic), [total])

    def receive(self) -> Any:
        """Messages, however often that has to be tried."""
        found: list[Any] = []

        def tried() -> bool:
            body = {"group": self.topic, "max": 10, "wait": 3}
            status, answer = self.call("POST", f"{self.at}/receive", body)
            if status == 200:
                found.append(json.loads(answer))
            return status == 200 and bool(found[-1]["messages"])

        wait_until(tried, 60)
        return found[-1]

    def kill_agent(self) -> None:
        agent = self.site.agent
        assert agent is not None
        agent.process.kill()
        agent.process.wait(10)
        wait_until(lambda: not self.site.connected())
        self.site.start_agent()

    def kill_gateway(self) -> None:
        gateway = self.site.gateway
        assert gateway is not None
        gateway.process.kill()
        gateway.process.wait(10)
        self.site.start_gateway()
        wait_until(self.site.connected, 60)

    def cut_tunnel(self) -> None:
        self.relay.cut()

    def crash_broker(self) -> None:
        self.cluster.down()
        self.cluster.up()

    def hang_broker(self) -> None:
        self.cluster.hang()
        with contextlib.closing(_Going(self.cluster)):
            path, body = f"{self.at}/messages", {"value": "x"}
            connection = http.client.HTTPConnection("127.0.0.1", self.site.api_port, timeout=40)
            fields = {"Authorization": f"Bearer {self.token}", "X-Timeout": "1"}
            connection.request(
                "POST", f"/v1/groups/{GROUP}/kafka/k{path}", json.dumps(body), fields
            )
            answer = connection.getresponse()
            self.assertIn(answer.status, (502, 504), answer.read())
            connection.close()


class _Going:
    """Lets a cluster go on when it is closed."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self.close = cluster.go_on
