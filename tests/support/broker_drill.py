"""Messages through gateway, agent and broker, each of which is killed meanwhile; and the accounts.

Publishers send numbered texts and repeat what was not confirmed. Consumers receive batches and
acknowledge them, and ask again for an answer that they lost. Whatever is killed, at the end every
text that was confirmed has been delivered, and no delivery of a message but its first is unmarked.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from demo.deployment import Deployment
from demo.processes import Background, free_port

from . import activemq
from .cutting_relay import CuttingRelay

GROUP: Final = "plant"
QUEUE: Final = "queues/drill"
RECEIVED: Final = 100
_PREFIX: Final = f"/v1/groups/{GROUP}/jms/q"
_PATIENCE: Final = 120.0

_SECTIONS: Final = """\
jms:
  q:
    provider: activemq
    url: stomp://127.0.0.1:{port}
    username: {user}
    password: {password}
    ack_timeout: 5
"""


@define
class Accounts:
    """What callers have seen.

    :ivar confirmed: texts whose publishing was confirmed.
    :ivar delivered: how often each message (by its id) has come.
    :ivar bodies: the text of each message.
    :ivar acknowledged: how often a caller was told that a message is acknowledged.
    :ivar unmarked: ids of messages that came again without a mark.
    :ivar revived: ids that came again although a caller had been told that they are acknowledged.
    """

    confirmed: set[str] = field(factory=set)
    delivered: Counter[str] = field(factory=Counter)
    bodies: dict[str, str] = field(factory=dict)
    acknowledged: Counter[str] = field(factory=Counter)
    unmarked: set[str] = field(factory=set)
    revived: set[str] = field(factory=set)
    repeated: int = 0
    lock: threading.Lock = field(factory=threading.Lock)

    def deliver(self, messages: list[dict[str, Any]]) -> None:
        """Messages have come."""
        with self.lock:
            for message in messages:
                identifier = message["id"]
                if self.delivered[identifier] and not message["redelivered"]:
                    self.unmarked.add(identifier)
                if self.acknowledged[identifier]:
                    self.revived.add(identifier)
                self.delivered[identifier] += 1
                self.bodies[identifier] = message["body"]

    def acknowledge(self, messages: list[dict[str, Any]]) -> None:
        """A caller was told that they are acknowledged."""
        with self.lock:
            self.acknowledged.update(message["id"] for message in messages)

    @property
    def lost(self) -> set[str]:
        """Texts that were confirmed and have never come."""
        return self.confirmed - set(self.bodies.values())

    @property
    def twice(self) -> list[str]:
        """Messages that were told to be acknowledged twice."""
        return [each for each, times in self.acknowledged.items() if times > 1]

    @property
    def again(self) -> int:
        """Deliveries beyond the first of each message."""
        return sum(times - 1 for times in self.delivered.values())


@define
class Drill:
    """A deployment with a broker of its own."""

    folder: Path
    broker: activemq.ActivemqServer
    deployment: Deployment
    relay: CuttingRelay
    token: str = ""
    accounts: Accounts = field(factory=Accounts)
    stopping: threading.Event = field(factory=threading.Event)
    failures: list[BaseException] = field(factory=list)

    @classmethod
    def start(cls, folder: Path, broker: activemq.ActivemqServer) -> Drill:
        """Gateway, agent and a relay between them."""
        port = free_port()
        sections = _SECTIONS.format(
            port=broker.ports.stomp,
            user=activemq.USER,
            password=json.dumps(activemq.PASSWORD),
        )
        deployment = Deployment(folder, GROUP, sections, public_port=port)
        relay = CuttingRelay(port, deployment.tunnel_port)
        relay.start()
        drill = cls(folder, broker, deployment, relay)
        deployment.start()
        drill.token = deployment.token("tester", f"{GROUP}:*:*:*")
        return drill

    def stop(self) -> None:
        """End the deployment; the broker is its owner's."""
        self.deployment.stop()
        self.relay.stop()

    # -- calls -----------------------------------------------------------------------------------

    def call(
        self, method: str, path: str, body: object = None, timeout: float = 30, **fields: str
    ) -> tuple[int, Any]:
        """Status and decoded answer; status 0 for a connection that broke."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.deployment.api_port, timeout=timeout + 10
        )
        headers = {"Authorization": f"Bearer {self.token}", "X-Timeout": f"{timeout}", **fields}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, f"{_PREFIX}/{path}".rstrip("/"), data, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        except (OSError, http.client.HTTPException, ValueError):
            return 0, None
        finally:
            connection.close()

    def until_done(self, send: Callable[[], tuple[int, Any]], *ends: int) -> tuple[int, Any]:
        """Repeat a call until it has one of these statuses."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            status, answer = send()
            if status in ends:
                return status, answer
            if time.monotonic() > deadline:
                raise RuntimeError(f"no end of it: {status} {answer}")
            time.sleep(0.05)

    def publish(self, texts: list[str]) -> None:
        """Publish until it is confirmed: what was not may be there twice."""
        body = {"messages": [{"body": text} for text in texts]}
        attempts = 0

        def send() -> tuple[int, Any]:
            nonlocal attempts
            attempts += 1
            return self.call("POST", f"{QUEUE}/messages", body)

        self.until_done(send, 200)
        with self.accounts.lock:
            self.accounts.confirmed.update(texts)
            self.accounts.repeated += attempts - 1

    def receive(self, wait: float) -> int:
        """Receive a batch and acknowledge it; how many messages came."""
        status, answer = self.call("POST", f"{QUEUE}/receive", {"max": RECEIVED, "wait": wait})
        if status != 200:
            time.sleep(0.05)
            return 0
        messages = answer["messages"]
        if not messages:
            return 0
        self.accounts.deliver(messages)
        path = f"receipts/{answer['receipt']}"
        status, _ = self.until_done(
            lambda: self.call("POST", path, {"action": "ack"}, timeout=10), 200, 404, 409
        )
        if status == 200:
            self.accounts.acknowledge(messages)
        return len(messages)

    # -- the drill -------------------------------------------------------------------------------

    def run(
        self,
        count: int,
        batch: int,
        kills: list[str],
        seed: int,
        pause: tuple[float, float] = (0.2, 1.5),
    ) -> None:
        """Publish and consume while things are killed, at moments of chance.

        :param pause: seconds between two kills, at least and at most.
        """
        texts = [f"m{number}" for number in range(count)]
        parts = [texts[start : start + batch] for start in range(0, count, batch)]
        dice = random.Random(seed)
        workers = [
            self._thread(self._publishing, parts[0::2], "p1"),
            self._thread(self._publishing, parts[1::2], "p2"),
            *(self._thread(self._consuming, f"c{number}") for number in range(3)),
        ]
        try:
            for each in kills:
                self._wait(lambda: bool(self.failures), dice.uniform(*pause))
                self.kill(each)
            for worker in workers[:2]:
                worker.join(_PATIENCE * 5)
            self._wait(lambda: not self.accounts.lost or bool(self.failures), _PATIENCE)
        finally:
            self.stopping.set()
            for worker in workers:
                worker.join(_PATIENCE)
        if self.failures:
            raise self.failures[0]
        self.drain()

    def drain(self) -> None:
        """Take what has come back, until nothing is left."""
        quiet = 0
        deadline = time.monotonic() + _PATIENCE
        # Together longer than ack_timeout: what a killed caller had is back by then.
        while quiet < 2 and time.monotonic() < deadline:
            quiet = 0 if self.receive(3) else quiet + 1

    def kill(self, what: str) -> None:
        """kill -9 of a process, which is started again; or a cut of the tunnel."""
        match what:
            case "tunnel":
                self.relay.cut()
            case "broker":
                self.broker.kill()
                self.broker.restart()
            case "agent":
                _kill(self.deployment.agent)
                self.deployment.start_agent()
            case "gateway":
                _kill(self.deployment.gateway)
                self.deployment.start_gateway()
                gateway = self.deployment.gateway
                if gateway is not None:
                    gateway.wait_until(self.deployment.connected, "connected to its agent", 60)

    def summary(self) -> Mapping[str, int]:
        """The accounts in numbers."""
        found = self.accounts
        return {
            "confirmed": len(found.confirmed),
            "lost": len(found.lost),
            "acknowledged twice": len(found.twice),
            "delivered again": found.again,
            "again without a mark": len(found.unmarked),
            "again after acknowledged": len(found.revived),
            "publishing repeated": found.repeated,
        }

    def _publishing(self, parts: list[list[str]], _name: str) -> None:
        for part in parts:
            if self.stopping.is_set():
                return
            self.publish(part)

    def _consuming(self, _name: str) -> None:
        while not self.stopping.is_set():
            self.receive(1)

    def _thread(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        def run() -> None:
            try:
                work(*arguments)
            except BaseException as error:  # noqa: BLE001 - the test's thread tells of it
                self.failures.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)


def _kill(process: Background | None) -> None:
    if process is not None:
        process.process.kill()
        process.process.wait(30)
