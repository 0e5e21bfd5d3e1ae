"""Factories of JMS client libraries: by class, by JNDI, of either package, with what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from tests.support.activemq import PASSWORD, USER
from tests.support.folders import folder_for
from tests.support.jakarta import write_jakarta_jar
from tests.support.java_brokers import (
    JARS,
    LIMIT,
    JavaCase,
    pause,
    publish,
    queue,
    receive,
)
from workato_agent.jvm import PROCESS_JVM
from workato_agent.services.database.adapters.jdbc import JdbcDriver
from workato_agent.services.database.settings import DatabasePolicy, JdbcSettings
from workato_agent.services.jms.broker import OutgoingMessage, Source
from workato_agent.services.jms.brokers import jms_java_activemq, jms_java_provider
from workato_agent.services.jms.brokers.jms_java_beans import thd_bean
from workato_agent.services.jms.settings import JndiSettings
from workato_tunnel.problems import Problem


class Beans(SynchronousTestCase):
    """On classes that Java brings, in this thread."""

    def bean(self, name: str, **properties: str) -> Any:
        jpype = PROCESS_JVM.thd_start()
        return thd_bean(jpype, jpype.JClass(name).class_, properties)

    def test_properties_get_the_type_of_their_setter(self) -> None:
        made = self.bean(
            "java.text.DecimalFormat",
            roundingMode="ceiling",
            maximumFractionDigits="1",
            positivePrefix="+",
            parseBigDecimal="true",
        )
        self.assertEqual(str(made.format(1.21)), "+1.3")
        self.assertTrue(made.isParseBigDecimal())
        self.assertEqual(self.bean("java.util.Date", time="86400000").getTime(), 86_400_000)
        error = self.assertRaises(Problem, self.bean, "java.text.DecimalFormat", roundingMode="x")
        self.assertIn("expected one of UP, DOWN, CEILING", error.detail)

    def test_a_url_is_the_argument_where_the_constructor_wants_one(self) -> None:
        self.assertEqual(str(self.bean("java.net.URI", uri="tcp://a:1")), "tcp://a:1")
        protection = "java.security.KeyStore$PasswordProtection"
        self.assertEqual(len(self.bean(protection, url="abc").getPassword()), 3)
        self.assertEqual(self.bean("java.lang.Double", address="0.5"), 0.5)
        error = self.assertRaises(Problem, self.bean, "java.net.URI", host="a")
        self.assertIn("url, uri, remoteuri, brokerurl", error.hint)


class Factories(JavaCase):
    async def test_a_class_with_its_properties(self) -> None:
        await self.round_trip(
            self.custom(
                username=None,
                password=None,
                properties={
                    "brokerURL": self.url,
                    "userName": USER,
                    "password": PASSWORD,
                    "producerWindowSize": "100000",
                    "useCompression": "TRUE",
                    "clientidprefix": "any-case",
                },
            )
        )

    async def test_a_library_of_which_nothing_is_known(self) -> None:
        # ActiveMQ's, as any other: it is sent messages ahead and closed by JMS' own means alone.
        known = self.activemq()
        await known.test()
        self.patch(jms_java_provider, "_is_activemq", lambda _: False)
        url = f"{self.url}?jms.watchTopicAdvisories=false"
        broker = self.custom(properties={"brokerURL": url})
        self.assertEqual(broker.type, "jms")
        place = queue("open.unknown")
        await publish(broker, place, *"abc")
        batch = await receive(broker, place)
        self.assertEqual([message.body for message in batch.messages], ["a", "b", "c"])
        await batch.release()
        batch = await receive(known, place, 2)
        self.assertEqual([message.deliveries for message in batch.messages], [2, 2])
        await batch.acknowledge()
        delayed = broker.publish(place, [OutgoingMessage("x", delay=1.0)])
        await self.problem(delayed, "bad_request")
        waiting = Deferred.fromCoroutine(broker.receive(Source(queue("open.none")), 1, 60, LIMIT))
        await pause(0.1)
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)

    async def test_jndi(self) -> None:
        jndi = JndiSettings(
            initial_context="org.apache.activemq.jndi.ActiveMQInitialContextFactory",
            url=self.url,
            factory="ConnectionFactory",
            environment={"queue.orders": "open.orders", "topic.news": "open.news"},
            destinations=True,
        )
        broker = self.custom(factory=None, jndi=jndi)
        await publish(broker, queue("orders"), "x")
        batch = await receive(self.activemq(), queue("open.orders"))
        await batch.acknowledge()
        await self.problem(publish(broker, queue("news"), "x"), "target_not_found")
        await self.problem(publish(broker, queue("nothing"), "x"), "target_not_found")
        for url in ("ldap://127.0.0.1:1/x", "rmi://127.0.0.1:1/x", "java:comp/env"):
            await self.problem(publish(broker, queue(url), "x"), "bad_request")

    async def test_a_library_of_jakarta_messaging(self) -> None:
        folder = folder_for(self)
        for jar in JARS[:2]:
            write_jakarta_jar(jar, folder / jar.name)
        for jar in JARS[2:]:
            shutil.copy(jar, folder)
        broker = self.custom(classpath=(folder,), properties={"brokerURL": self.url})
        await self.round_trip(broker)
        batch_of_bytes = OutgoingMessage(b"\0\1")
        await broker.publish(queue("open.j"), [batch_of_bytes])
        batch = await receive(broker, queue("open.j"))
        self.assertEqual(batch.messages[0].body, b"\0\1")
        await batch.acknowledge()

    async def test_properties_that_the_class_does_not_have(self) -> None:
        for properties, said in (
            ({"brokerUrl2": "x"}, "did you mean 'brokerURL'?"),
            ({"producerWindowSize": "many"}, "does not fit"),
            ({"producerWindowSize": str(2**31)}, "does not fit"),
            ({"useCompression": "yes"}, "does not fit"),
        ):
            broker = self.custom(properties=properties)
            problem = await self.problem(broker.test(), "target_not_found")
            self.assertIn(said, problem.hint)

    async def test_a_url_as_the_constructors_argument(self) -> None:
        broker = self.custom(factory="java.net.URI", properties={"uri": "tcp://x:1"})
        problem = await self.problem(broker.test(), "target_not_found")
        self.assertIn("java.net.URI is no ConnectionFactory", problem.detail)

    async def test_classes_and_jars_that_are_missing(self) -> None:
        other = "com.ibm.mq.jms.MQConnectionFactory"
        for changes, said in (
            ({"factory": other}, "is in none of the jars (/usr/share/java/activemq-client.jar"),
            ({"factory": other, "classpath": ()}, "server.classpath is empty"),
            ({"factory": "org.apache.activemq.spring.ActiveMQConnectionFactory",
              "classpath": (JARS[0].with_name("activemq-spring.jar"),)},
             "needs a class that is in none of the jars"),
        ):  # fmt: skip
            problem = await self.problem(self.custom(**changes).test(), "target_not_found")
            self.assertIn(said, problem.detail)
            self.assertIn("server.classpath", problem.hint)

    async def test_debians_jars_serve_where_none_are_named(self) -> None:
        await self.round_trip(self.activemq(classpath=()))
        self.patch(jms_java_activemq, "_PLACE", folder_for(self))
        problem = await self.problem(self.activemq().test(), "target_not_found")
        self.assertIn("libactivemq-java", problem.hint)

    async def test_no_secret_of_the_factory_is_told(self) -> None:
        secret = "hidden-s3cret"
        urls = (
            f"tcp://127.0.0.1:1?jms.userName=x&jms.password={secret}",
            f"failover:(tcp://127.0.0.1:1)?jms.password={secret}",
            f"tcp://127.0.0.1:1?nonsense.password={secret}&x={{",
        )
        for url in urls:
            broker = self.custom(properties={"brokerURL": url, "password": secret})
            problem = await self.problem(broker.test(), "target_unreachable")
            self.assertNotIn(secret, f"{problem} {problem.hint} {broker!r}")
            self.assertIn("127.0.0.1:1", problem.detail)

    async def test_a_database_through_java_goes_on_beside_it(self) -> None:
        settings = JdbcSettings(
            url="jdbc:h2:mem:beside",
            driver_class="org.h2.Driver",
            classpath=[Path("/usr/share/java/h2.jar")],
        )
        broker = self.activemq()
        opening = deferToThread(JdbcDriver.build(settings, DatabasePolicy()).thd_open)
        await self.round_trip(broker)
        connection = await opening
        self.assertIn("H2", str(connection.thd_facts()["target"]))
        await self.round_trip(broker)
        connection.thd_close()

    async def test_the_reactor_turns_while_messages_come(self) -> None:
        broker, place = self.activemq(), queue("open.many")
        turns: list[None] = []

        def turn() -> None:
            turns.append(None)
            self.turning = reactor.callLater(0.001, turn)  # type: ignore[attr-defined]

        turn()
        await publish(broker, place, *("x" * 100 for _ in range(1000)))
        before = len(turns)
        batch = await receive(broker, place, 1000)
        self.assertEqual(len(batch.messages), 1000)
        self.assertGreater(len(turns) - before, 10)
        self.turning.cancel()
        await batch.acknowledge()
