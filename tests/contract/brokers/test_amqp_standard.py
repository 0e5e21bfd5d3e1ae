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

    # What is the same whatever the broker, and tried on RabbitMQ.
    test_large_message = None
    test_publishing_side_by_side = None
    test_time_to_live = None
    test_a_killed_broker_loses_nothing = None
    test_nobody_listens = None
    test_a_broker_that_says_nothing = None
    test_something_else_listens = None
    test_wrong_password = None
    test_releasing_many_times_loses_nothing = None
    test_what_is_not_settled_is_nobody_elses = None

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
