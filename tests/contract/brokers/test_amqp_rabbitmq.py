"""The contract of message brokers, for AMQP 1.0 with a real RabbitMQ."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor

from tests.support import rabbitmq
from workato_agent.services.jms.broker import Broker
from workato_agent.services.jms.brokers.amqp import AmqpBroker
from workato_agent.services.jms.settings import Address, AmqpSettings

from . import contract


class AmqpRabbitmqTests(contract.BrokerContract):
    target = r"^RabbitMQ 3\."
    type = "amqp"
    selectors = False
    browsing = False
    topics = False
    delay = False
    # Its journal is not on disk yet when it has confirmed.
    keeps_acknowledgements = False

    def make_broker(self, **settings: Any) -> Broker:
        return self._broker(rabbitmq.shared_server().ports.amqp, **settings)

    def broker_at(self, port: int, **settings: Any) -> Broker | None:
        return self._broker(port, **settings)

    def rejected_broker(self) -> Broker | None:
        return self.make_broker(password="wrong-password")

    def _broker(self, port: int, **settings: Any) -> AmqpBroker:
        login = {"username": rabbitmq.USER, "password": rabbitmq.PASSWORD, **settings}
        return AmqpBroker.of(reactor, AmqpSettings((Address("127.0.0.1", port),), **login))

    def kill_server(self) -> None:
        rabbitmq.shared_server().kill()

    def restart_server(self) -> None:
        rabbitmq.shared_server().restart()
