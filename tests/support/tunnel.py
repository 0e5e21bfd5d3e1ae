"""A gateway's tunnel port and an agent's client in this process, over real TLS on 127.0.0.1."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import deferLater

from tests.support.ports import free_port
from workato_agent.identity.enrolment import enrol
from workato_agent.identity.store import load_identity
from workato_agent.tunnel.client import TunnelClient
from workato_gateway.addresses import PublicUrl
from workato_gateway.agents.registry import LiveAgent, Registry
from workato_gateway.identity.admission import Admission
from workato_gateway.identity.authority import Authority
from workato_gateway.identity.enrolment import Enrolment, issue_code
from workato_gateway.identity.tls import ServerTls, ensure_server_certificate
from workato_gateway.storage.interface import Group
from workato_gateway.storage.sqlite import SqliteStore
from workato_gateway.tunnel.factory import TunnelFactory
from workato_tunnel.frames import Catalogue, Head, Profile, Trailers
from workato_tunnel.settings import Settings
from workato_tunnel.tx.session import Accept
from workato_tunnel.tx.tls import PromptTLSFactory

reactor: Any = _reactor
CATALOGUE = Catalogue(profiles=(Profile("http", "app", "http", ("get",)),))
NOW = 1.7e9


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Let the reactor run until ``condition()`` holds."""
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError(f"not within {seconds} s: {condition}")


class Collector:
    """A receiver that remembers everything, and may answer when the body has ended."""

    def __init__(self, on_end: Any = None) -> None:
        self.head: Head | None = None
        self.data = bytearray()
        self.ended = False
        self.trailers: Trailers | None = None
        self.reset: Exception | None = None
        self.done: Deferred[Collector] = Deferred()
        self._on_end = on_end

    def head_received(self, head: Head) -> None:
        self.head = head

    def data_received(self, data: bytes) -> None:
        self.data += data

    def end_received(self) -> None:
        self.ended = True
        if self._on_end is not None:
            self._on_end(self)

    def finished(self, trailers: Trailers) -> None:
        self.trailers = trailers
        self.done.callback(self)

    def reset_received(self, reason: Exception) -> None:
        self.reset = reason
        self.done.callback(self)


class TunnelGateway:
    """The gateway's tunnel port with its own CA and store in ``folder``."""

    def __init__(
        self,
        folder: Path,
        *,
        hold: float = 10.0,
        host: str = "localhost",
        agent_lifetime: float = 86400.0,
    ) -> None:
        self.folder = folder
        self._agent_lifetime = agent_lifetime
        self.url = PublicUrl(host, free_port())
        self.authority = Authority.create("test CA")
        self.registry = Registry()
        self.enrolled: set[str] = set()
        self._hold = hold
        self._port: Any = None

    async def start(self, *, names: tuple[str, ...] = ("localhost", "127.0.0.1")) -> None:
        path = self.folder / "server.pem"
        ensure_server_certificate(self.authority, path, names)
        self.store = SqliteStore.open_here(self.folder / "gateway.db", create=True)
        await self.store.write(lambda t: t.add_group(Group("g", (), created=NOW)))
        self.enrolment = Enrolment(
            self.store,
            self.authority,
            self.url,
            agent_lifetime=self._agent_lifetime,
            failures_a_minute=60,
        )
        self.factory = TunnelFactory(
            reactor,
            self.registry,
            Admission(self.store),
            self.enrolment,
            settings=Settings(),
            hold=self._hold,
            software="test-gateway",
        )
        tls = ServerTls(path, path, (self.authority.certificate,))
        await self.listen(tls)

    async def listen_again(self) -> None:
        """Open the port anew, for the present ``factory``; sockets stay."""
        await self.stop_listening()
        path = self.folder / "server.pem"
        await self.listen(ServerTls(path, path, (self.authority.certificate,)))

    async def stop_listening(self) -> None:
        """Close the port; sockets stay."""
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()

    async def listen(self, tls: ServerTls) -> None:
        wrapped = PromptTLSFactory(tls, False, self.factory.site())
        endpoint = TCP4ServerEndpoint(reactor, self.url.port, interface="127.0.0.1")
        self._port = await endpoint.listen(wrapped)

    async def code(self, name: str = "one") -> str:
        issued = await self.store.write(
            lambda t: issue_code(t, group="g", name=name, created_by="test", now=time.time())
        )
        return self.enrolment.code_text(issued)

    async def agent(self, accept: Accept, name: str = "one", **options: Any) -> TunnelClient:
        """Enrol an agent with a real code and start its client."""
        directory = self.folder / name
        if name not in self.enrolled:
            self.enrolled.add(name)
            await enrol(await self.code(name), directory, reactor=reactor, name=name)
        client = TunnelClient(
            reactor,
            load_identity(directory),
            self.url.tunnel,
            accept,
            lambda: CATALOGUE,
            **options,
        )
        client.startService()
        return client

    @property
    def live(self) -> LiveAgent:
        """The one agent that is there."""
        (live,) = self.registry.group("g")
        return live

    async def stop(self) -> None:
        for live in self.registry:
            live.terminate("draining", "test over")
        await self.stop_listening()
        await self.store.close()
