"""The contract of message brokers, for the one in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor

from workato_agent.services.jms.broker import Broker
from workato_agent.services.jms.memory import MemoryServer

from . import contract


class MemoryBrokerTests(contract.BrokerContract):
    target = "^memory$"
    type = "memory"
    short = 0.02
    selectors = False
    durable_batches = True

    def setUp(self) -> None:
        self.server = MemoryServer(reactor)

    def make_broker(self, **settings: Any) -> Broker:
        return self.server.client(**settings)

    def broker_at(self, port: int, **settings: Any) -> Broker | None:
        return None

    def rejected_broker(self) -> Broker | None:
        return None

    def kill_server(self) -> None:
        self.server.crash()

    def restart_server(self) -> None:
        self.server.restart()
