"""The contract of message brokers, for ActiveMQ through its Java client (OpenWire)."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.support.activemq import shared_server
from tests.support.java_brokers import activemq_settings, java_broker
from workato_agent.services.jms.broker import Broker

from . import contract


class JavaBrokerTests(contract.BrokerContract):
    target: ClassVar[str] = "ActiveMQ"
    type: ClassVar[str] = "activemq"
    browsing_marks: ClassVar[bool] = True  # the server's persistJMSRedelivered

    def make_broker(self, **settings: Any) -> Broker:
        return self.broker_at(shared_server().ports.openwire, **settings)

    def broker_at(self, port: int, **settings: Any) -> Broker:
        return java_broker(self, activemq_settings(f"tcp://127.0.0.1:{port}", **settings))

    def rejected_broker(self) -> Broker:
        return self.make_broker(password="wrong-password")

    def kill_server(self) -> None:
        shared_server().kill()

    def restart_server(self) -> None:
        shared_server().restart()
