"""The gateway's ports: bound before the process is ready, open when it is."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import Factory

from .addresses import IPNetwork, Listen, admits

BACKLOG: Final = 1024


class StartError(Exception):
    """The gateway can't start; the message says why."""


class OnlyFrom(Factory):
    """Lets nobody connect but the TLS proxies that the config trusts with plain HTTP."""

    noisy = False

    def __init__(self, inner: Factory, networks: tuple[IPNetwork, ...]) -> None:
        self._inner = inner
        self._networks = networks

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """None closes the connection."""
        if not admits(self._networks, getattr(addr, "host", "")):
            return None
        return self._inner.buildProtocol(addr)


class Listener:
    """A port that takes no connection before it is told to: they wait in the kernel meanwhile."""

    def __init__(self, reactor: Any, listen: Listen, factory: IProtocolFactory) -> None:
        self._reactor = reactor
        self._listen = listen
        self._factory = factory
        self._port: Any = None

    def bind(self) -> None:
        """Raises StartError."""
        try:
            self._port = self._reactor.listenTCP(
                self._listen.port, self._factory, BACKLOG, self._listen.host
            )
        except CannotListenError as error:
            raise StartError(f"can't listen on {self._listen}: {error.socketError}") from error
        self._port.stopReading()

    def begin(self) -> None:
        """Take connections."""
        self._port.startReading()

    @property
    def listening(self) -> bool:
        """The port is bound."""
        return self._port is not None

    async def stop(self) -> None:
        """Let go of the port; connections that are up stay."""
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()
