"""Brokers through Java that hang, die or can't be trusted, each a real ActiveMQ or a socket."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.portforward import ProxyFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.activemq import ActivemqServer, shared_server
from tests.support.certificates import write_certificates
from tests.support.folders import folder_for
from tests.support.java_brokers import (
    LIMIT,
    activemq_settings,
    java_broker,
    pause,
    publish,
    queue,
    receive,
)
from tests.support.ports import free_port
from workato_agent.services.handshakes import ClientCertificate, TlsSettings
from workato_agent.services.jms.broker import Source
from workato_agent.services.jms.brokers.jms_java import JavaBroker
from workato_agent.services.jms.brokers.jms_java_activemq import bounded_url
from workato_tunnel.problems import Problem

ROOT = Path(__file__).parents[2]


class FailingCase(TestCase):
    timeout = 90

    def setUp(self) -> None:
        self.server: ActivemqServer = shared_server()
        self.url = f"tcp://127.0.0.1:{self.server.ports.openwire}"

    def activemq(self, url: str | None = None, **changes: Any) -> JavaBroker:
        return java_broker(self, activemq_settings(url or self.url, **changes))

    async def problem(self, work: Any, *codes: str) -> Problem:
        try:
            await work
        except Problem as problem:
            self.assertIn(problem.code, codes, problem)
            return problem
        raise AssertionError("no problem was raised")

    async def cancelled(self, work: Any) -> None:
        """Cancel it, and see that it ends."""
        work.cancel()
        try:
            await work
        except CancelledError:
            return
        raise AssertionError("it was not cancelled")

    async def nothing_stuck(self, broker: JavaBroker) -> None:
        """Every thread comes back."""
        workers = broker._links._workers
        while workers.stuck or workers.closing:
            await pause(0.02)


class Hanging(FailingCase):
    def hang(self) -> None:
        self.server.hang()
        self.addCleanup(self.server.go_on)

    async def test_work_on_a_broker_that_hangs_ends_when_it_is_cancelled(self) -> None:
        broker, place = self.activemq(), queue(f"hanging.{free_port()}")
        await publish(broker, place, "kept", "next")
        batch = await receive(broker, place, 1)
        waiting = Deferred.fromCoroutine(broker.receive(Source(queue("hanging.x")), 1, 60, LIMIT))
        await broker.test()
        await pause(0.1)
        self.hang()
        works = [
            waiting,
            Deferred.fromCoroutine(publish(broker, place, "x")),
            # More than fits into the socket: the thread hangs in writing.
            Deferred.fromCoroutine(publish(broker, place, "x" * 8_000_000)),
            Deferred.fromCoroutine(batch.acknowledge()),
            Deferred.fromCoroutine(broker.test()),
        ]
        await pause(0.3)
        began = reactor.seconds()  # type: ignore[attr-defined]
        for work in works[:4]:
            self.assertFalse(work.called)
            await self.cancelled(work)
        self.assertLess(reactor.seconds() - began, 20)  # type: ignore[attr-defined]
        works[4].addErrback(lambda _: None)
        works[4].cancel()
        await self.nothing_stuck(broker)
        self.server.go_on()
        again = await receive(broker, place, 1)
        self.assertIn(again.messages[0].body, ("kept", "next"))
        await again.release()

    async def test_a_broker_that_hangs_is_told_from_one_that_has_nothing(self) -> None:
        self.patch(sys.modules[JavaBroker.__module__], "_PATIENCE", 0.5)
        broker = self.activemq(connect_timeout=1.0)
        await broker.test()
        self.hang()
        work = broker.receive(Source(queue("hanging.y")), 1, 0.2, LIMIT)
        self.assertIn("no answer", (await self.problem(work, "target_unreachable")).detail)
        work = publish(broker, queue("hanging.y"), "x")
        self.assertIn("no connection", (await self.problem(work, "target_unreachable")).detail)

    async def test_closing_ends_though_the_broker_hangs(self) -> None:
        broker, place = self.activemq(), queue(f"hanging.{free_port()}")
        await publish(broker, place, "x")
        batch = await receive(broker, place)
        self.hang()
        sending = Deferred.fromCoroutine(publish(broker, place, "x" * 8_000_000))
        await pause(0.2)
        began = reactor.seconds()  # type: ignore[attr-defined]
        await broker.close()
        self.assertLess(reactor.seconds() - began, 15)  # type: ignore[attr-defined]
        await self.problem(sending, "target_unreachable")
        await self.problem(batch.acknowledge(), "conflict")

    async def test_one_profile_that_hangs_holds_up_no_other(self) -> None:
        port = free_port()
        factory = Factory.forProtocol(Protocol)
        listening: Any = reactor.listenTCP(port, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(listening.stopListening)
        broken = self.activemq(f"tcp://127.0.0.1:{port}", max_sessions=3)
        works = [Deferred.fromCoroutine(broken.test()) for _ in range(8)]
        place = queue(f"other.{port}")
        other = self.activemq()
        await publish(other, place, "x")
        await (await receive(other, place)).acknowledge()
        for work in works:
            await self.cancelled(work)
        await self.nothing_stuck(broken)


class Dying(FailingCase):
    async def test_what_waits_and_what_is_out_when_a_broker_dies(self) -> None:
        broker = self.activemq(f"failover:({self.url})?maxReconnectAttempts=3", connect_timeout=3.0)
        place = queue(f"dying.{free_port()}")
        await publish(broker, place, "a", "b")
        batch = await receive(broker, place, 1)
        empty = Source(queue("dying.empty"))
        waiting = Deferred.fromCoroutine(broker.receive(empty, 1, 2.0, LIMIT))
        await pause(0.2)
        self.server.kill()
        try:
            await self.problem(waiting, "target_unreachable")
            await self.problem(publish(broker, place, "x"), "target_unreachable")
        finally:
            self.server.restart()
        await self.problem(batch.acknowledge(), "conflict", "target_unreachable")
        await publish(broker, place, "c")
        found: list[object] = []
        while len(found) < 3:
            again = await receive(broker, place)
            found += [message.body for message in again.messages]
            await again.acknowledge()
        self.assertEqual(sorted(map(str, found)), ["a", "b", "c"])

    async def test_a_failover_goes_on_to_the_broker_that_answers(self) -> None:
        broker = self.activemq(f"failover:(tcp://127.0.0.1:{free_port()},{self.url})")
        place = queue(f"failover.{free_port()}")
        await publish(broker, place, "x")
        await (await receive(broker, place)).acknowledge()

    async def test_a_failover_to_nobody_ends(self) -> None:
        urls = ",".join(f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        broker = self.activemq(f"failover:({urls})", connect_timeout=60.0)
        problem = await self.problem(broker.test(), "target_unreachable")
        self.assertIn("refused", problem.detail)


class Untrusted(FailingCase):
    def setUp(self) -> None:
        super().setUp()
        self.tls_url = f"ssl://127.0.0.1:{self.server.ports.ssl}"

    def tls(self, **changes: Any) -> TlsSettings:
        return TlsSettings(ca=(self.server.folder / "ca.crt").read_bytes(), **changes)

    async def test_tls_with_the_profiles_authority_and_certificate(self) -> None:
        folder = self.server.folder
        shown = ClientCertificate(
            (folder / "client.crt").read_bytes(), (folder / "client.key").read_bytes()
        )
        failover = f"failover:({self.tls_url})"
        for url, tls in (
            (self.tls_url, self.tls()),
            (failover, self.tls(certificate=shown)),
            (self.tls_url.replace("ssl:", "nio+ssl:"), TlsSettings(trust_all=True)),
        ):
            broker, place = self.activemq(url, tls=tls), queue(f"tls.{free_port()}")
            await publish(broker, place, "x")
            await (await receive(broker, place)).acknowledge()

    async def test_the_profiles_certificate_is_shown(self) -> None:
        # Who gets through TLS there finds STOMP, which waits; who doesn't is hung up on.
        folder, port = self.server.folder, self.server.ports.stomp_mutual
        shown = ClientCertificate(
            (folder / "client.crt").read_bytes(), (folder / "client.key").read_bytes()
        )
        url = f"ssl://127.0.0.1:{port}"
        without = self.activemq(url, tls=self.tls(), connect_timeout=60.0)
        problem = await self.problem(without.test(), "target_tls_failed", "target_unreachable")
        self.assertNotIn("no connection within", problem.detail)
        let_in = self.activemq(url, tls=self.tls(certificate=shown), connect_timeout=1.0)
        problem = await self.problem(let_in.test(), "target_unreachable")
        self.assertIn("no connection within", problem.detail)

    async def test_a_certificate_of_an_authority_that_is_not_trusted(self) -> None:
        folder = folder_for(self)
        write_certificates(folder, "x")
        other = TlsSettings(ca=(folder / "ca.crt").read_bytes())
        for tls in (other, TlsSettings()):
            broker = self.activemq(self.tls_url, tls=tls)
            await self.problem(broker.test(), "target_tls_failed")

    async def test_a_certificate_of_another_name(self) -> None:
        url = f"ssl://127.0.0.2:{_relay(self, self.server.ports.ssl)}"
        broker = self.activemq(url, tls=self.tls())
        await self.problem(broker.test(), "target_tls_failed")
        await self.activemq(url, tls=self.tls(verify_host=False)).test()

    async def test_tls_to_a_port_without_it_and_the_other_way_round(self) -> None:
        plain = f"ssl://127.0.0.1:{self.server.ports.openwire}"
        await self.problem(self.activemq(plain, tls=self.tls()).test(), "target_tls_failed")
        encrypted = f"tcp://127.0.0.1:{self.server.ports.ssl}"
        broker = self.activemq(encrypted, connect_timeout=2.0)
        await self.problem(broker.test(), "target_wrong_type", "target_unreachable")

    async def test_another_protocol_is_told_from_silence(self) -> None:
        stomp = self.activemq(f"tcp://127.0.0.1:{self.server.ports.stomp}", connect_timeout=1.0)
        await self.problem(stomp.test(), "target_wrong_type", "target_unreachable")
        unknown = self.activemq("tcp://no-such-host.invalid:61616")
        problem = await self.problem(unknown.test(), "target_unreachable")
        self.assertIn("name is unknown", problem.hint)


class Bounds(SynchronousTestCase):
    def test_urls_get_the_bounds_that_they_do_not_have(self) -> None:
        plain = bounded_url("tcp://a:1", 2.0, None)
        self.assertEqual(plain, "tcp://a:1?connectionTimeout=2000")
        own = bounded_url("tcp://a:1?connectionTimeout=5&x=y", 2.0, None)
        self.assertEqual(own, "tcp://a:1?connectionTimeout=5&x=y")
        both = bounded_url("failover:tcp://a:1,tcp://b:1?timeout=7", 2.0, TlsSettings())
        self.assertEqual(
            both,
            "failover:(tcp://a:1,tcp://b:1)?timeout=7&startupMaxReconnectAttempts=1"
            "&maxReconnectAttempts=9&nested.connectionTimeout=2000",
        )
        lax = bounded_url("failover:(ssl://a:1?x=y)", 1.0, TlsSettings(verify_host=False))
        self.assertTrue(lax.startswith("failover:(ssl://a:1?x=y)?timeout=1000&"))
        self.assertTrue(lax.endswith("&nested.socket.verifyHostName=false"))


_WITHOUT = """
import sys
from twisted.internet import defer, reactor
from twisted.python.threadpool import ThreadPool
from workato_agent.services.jms.brokers.jms_java import JavaBroker
from workato_agent.services.jms.settings import JavaSettings

pool = ThreadPool(0, 5)
settings = JavaSettings("activemq", "x", {"brokerURL": "tcp://127.0.0.1:1"})
broker = JavaBroker.of(reactor, pool, settings)

async def ask():
    try:
        await broker.test()
    except Exception as error:
        print(error.detail, error.hint)

async def main():
    print("jpype" in sys.modules)
    sys.modules["jpype"] = None
    await ask()
    del sys.modules["jpype"]
    import jpype
    def absent():
        raise jpype.JVMNotFoundException("none")
    jpype.getDefaultJVMPath = absent
    await ask()
    pool.stop()
    reactor.stop()

pool.start()
reactor.callWhenRunning(lambda: defer.Deferred.fromCoroutine(main()))
reactor.run()
"""


class Missing(SynchronousTestCase):
    def test_java_is_loaded_on_use_and_what_is_missing_of_it_is_named(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", _WITHOUT],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        loaded, package, runtime = done.stdout.splitlines()
        self.assertEqual(loaded, "False")
        self.assertIn("workato-agent[jms]", package)
        self.assertIn("default-jre-headless", runtime)


def _relay(case: TestCase, port: int) -> int:
    factory = ProxyFactory("127.0.0.1", port)
    relay: Any = reactor.listenTCP(0, factory, interface="127.0.0.2")  # type: ignore[attr-defined]
    case.addCleanup(relay.stopListening)
    return int(relay.getHost().port)
