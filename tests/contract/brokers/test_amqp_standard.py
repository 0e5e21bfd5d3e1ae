"""The contract of message brokers, for AMQP 1.0 with a broker that has what the standard has."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor

from tests.support.amqp_peer import Peer
from workato_agent.services.jms.broker import Broker
from workato_agent.services.jms.brokers.amqp import AmqpBroker
from workato_agent.services.jms.settings import Address, AmqpSettings

from . import contract


class AmqpStandardTests(contract.BrokerContract):
    target = r"^Peer 1\.0$"
    type = "amqp"
    survives = False

    def setUp(self) -> None:
        self.peer = Peer()
        self.port = self.peer.listen()
        self.addCleanup(self.peer.stop)

    def make_broker(self, **settings: Any) -> Broker:
        return self._broker(self.port, **settings)

    def broker_at(self, port: int, **settings: Any) -> Broker | None:
        return self._broker(port, **settings)

    def rejected_broker(self) -> Broker | None:
        return None

    def _broker(self, port: int, **settings: Any) -> AmqpBroker:
        return AmqpBroker.of(reactor, AmqpSettings((Address("127.0.0.1", port),), **settings))
