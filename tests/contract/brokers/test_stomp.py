"""The contract of message brokers, for STOMP to ActiveMQ and to RabbitMQ."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import evolve
from twisted.internet import reactor

from tests.support import activemq, rabbitmq
from workato_agent.services.jms.broker import Broker
from workato_agent.services.jms.brokers.stomp import StompBroker
from workato_agent.services.jms.settings import Address, StompSettings

from . import contract


class StompContract(contract.BrokerContract):
    type = "stomp"
    typed_properties = False
    user: ClassVar[str]
    password: ClassVar[str]
    support: ClassVar[Any]

    def setUp(self) -> None:
        self.server = self.support.shared_server()

    def make_broker(self, **settings: Any) -> Broker:
        return self.client(self.server.ports.stomp, **settings)

    def broker_at(self, port: int, **settings: Any) -> Broker | None:
        return self.client(port, **settings)

    def rejected_broker(self) -> Broker | None:
        return self.client(self.server.ports.stomp, password="wrong-password")

    def client(self, port: int, **settings: Any) -> StompBroker:
        plain = StompSettings(
            addresses=(Address("127.0.0.1", port),),
            username=self.support.USER,
            password=self.support.PASSWORD,
        )
        return StompBroker.of(reactor, evolve(plain, **settings))

    def kill_server(self) -> None:
        self.server.kill()

    def restart_server(self) -> None:
        self.server.restart()


class ActivemqStompTests(StompContract):
    target = r"^ActiveMQ 5\."
    support = activemq
    nul = False
    # As long as it has persistJMSRedelivered, which is what marks messages after a crash.
    browsing_marks = True


class RabbitmqStompTests(StompContract):
    target = r"^RabbitMQ 3\."
    support = rabbitmq
    selectors = False
    browsing = False
    delay = False
    durable_batches = True
    keeps_acknowledgements = False


del StompContract
