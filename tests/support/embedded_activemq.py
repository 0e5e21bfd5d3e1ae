"""A real ActiveMQ within the tests' own JVM, for what the shared one is not configured for.

It keeps its messages in memory and starts in a fraction of a second. Its classes have a loader of
their own, beside the client's that are tested.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from attrs import define

from workato_agent.jvm import PROCESS_JVM, expand

from .activemq import HOME, PASSWORD, USER
from .ports import free_port

_SILENT: Final = Path("/usr/share/java/slf4j-nop.jar")


@define(eq=False)
class EmbeddedActivemq:
    """A running broker for :data:`USER` with :data:`PASSWORD`; no scheduler.

    :ivar jpype: the module, with the JVM running. ``loader``: of the broker's classes.
    """

    port: int
    jpype: Any
    loader: Any
    service: Any

    @classmethod
    def start(cls, *, readable: str = ">", options: str = "") -> EmbeddedActivemq:
        """A new one.

        :param readable: the queues that the user may receive from; it may publish to all.
        :param options: of its transport, as ``wireFormat.maxFrameSize=100000``.
        """
        jpype = PROCESS_JVM.thd_start()
        loader = PROCESS_JVM.thd_loader(expand([HOME / "lib" / "*", _SILENT]))
        jpype.JClass("java.lang.Thread").currentThread().setContextClassLoader(loader)
        broker = cls(free_port(), jpype, loader, None)
        service = broker.made("org.apache.activemq.broker.BrokerService")
        service.setPersistent(False)
        service.setUseJmx(False)
        service.setUseShutdownHook(False)
        service.setSchedulerSupport(False)
        service.getSystemUsage().setSendFailIfNoSpace(True)
        service.setBrokerName(f"embedded{broker.port}")
        plugin = jpype.JClass("org.apache.activemq.broker.BrokerPlugin", loader=loader)
        arrays = jpype.JClass("java.lang.reflect.Array")
        plugins = arrays.newInstance(plugin.class_, 2)
        arrays.set(plugins, 0, broker._users())
        arrays.set(plugins, 1, broker._rights(readable))
        service.setPlugins(plugins)
        service.addConnector(f"tcp://127.0.0.1:{broker.port}?{options}")
        service.start()
        service.waitUntilStarted()
        broker.service = service
        return broker

    def stop(self) -> None:
        """Stop it."""
        self.service.stop()
        self.service.waitUntilStopped()

    def made(self, name: str, *arguments: Any) -> Any:
        """An object of one of the broker's classes."""
        return self.jpype.JClass(name, loader=self.loader)(*arguments)

    def session(self) -> tuple[Any, Any]:
        """A connection and a session of the broker's own client, with nothing of ours between."""
        factory = self.made(
            "org.apache.activemq.ActiveMQConnectionFactory", f"tcp://127.0.0.1:{self.port}"
        )
        factory.setWatchTopicAdvisories(False)
        connection = factory.createConnection(USER, PASSWORD)
        connection.start()
        return connection, connection.createSession(False, 1)

    def _users(self) -> Any:
        user = self.made("org.apache.activemq.security.AuthenticationUser", USER, PASSWORD, "users")
        plugin = self.made("org.apache.activemq.security.SimpleAuthenticationPlugin")
        plugin.setUsers(self.jpype.JClass("java.util.Arrays").asList([user]))
        return plugin

    def _rights(self, readable: str) -> Any:
        entries = []
        for kind in ("Queue", "Topic"):
            for name, rights in ((">", "Write Admin"), (readable, "Read Write Admin")):
                entry = self.made("org.apache.activemq.security.AuthorizationEntry")
                getattr(entry, f"set{kind}")(name)
                for right in rights.split():
                    getattr(entry, f"set{right}")("users")
                entries.append(entry)
        rights_map = self.made("org.apache.activemq.security.DefaultAuthorizationMap")
        rights_map.setAuthorizationEntries(self.jpype.JClass("java.util.ArrayList")(entries))
        return self.made("org.apache.activemq.security.AuthorizationPlugin", rights_map)
