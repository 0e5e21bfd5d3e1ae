"""A directory server with little: no pages, no StartTLS, and what its root DSE says it has.

OpenLDAP and Samba have all of it, so that what happens without needs another server. ldaptor's
serves the protocol.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from ldaptor.protocols import pureldap
from ldaptor.protocols.ldap.ldapserver import BaseLDAPServer
from twisted.internet import reactor
from twisted.internet.protocol import Factory

_SUCCESS = 0


class _Connection(BaseLDAPServer):
    directory: PlainDirectory

    def handle_LDAPBindRequest(self, request: Any, controls: Any, reply: Any) -> Any:  # noqa: N802
        return pureldap.LDAPBindResponse(resultCode=_SUCCESS)

    def handle_LDAPSearchRequest(self, request: Any, controls: Any, reply: Any) -> Any:  # noqa: N802
        directory = self.directory
        if request.baseObject == b"":
            reply(pureldap.LDAPSearchResultEntry("", list(directory.root.items())))
        else:
            for number in range(directory.entries):
                reply(pureldap.LDAPSearchResultEntry(f"cn={number},o=x", [("cn", [b"x" * 100])]))
        return pureldap.LDAPSearchResultDone(resultCode=_SUCCESS)

    def handle_LDAPUnbindRequest(self, request: Any, controls: Any, reply: Any) -> None:  # noqa: N802
        self.transport.loseConnection()

    def handle(self, msg: Any) -> None:
        self.directory.asked.append(type(msg.value).__name__)
        super().handle(msg)


@define
class PlainDirectory:
    """Listens on a free port.

    :ivar root: attributes of the root DSE. ``entries``: that each search finds.
    :ivar asked: the kinds of all requests.
    """

    root: dict[str, list[bytes]]
    entries: int = 0
    asked: list[str] = field(factory=list)
    _listening: Any = None

    @classmethod
    def start(cls, case: Any, entries: int = 0, **root: list[bytes]) -> PlainDirectory:
        """One that ends with the test."""
        directory = cls(root, entries)
        factory = Factory.forProtocol(_Connection)
        factory.noisy = False

        def build(_address: object) -> _Connection:
            connection = _Connection()
            connection.factory = factory
            connection.directory = directory
            return connection

        factory.buildProtocol = build  # type: ignore[method-assign]
        listening = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        directory._listening = listening
        case.addCleanup(listening.stopListening)
        return directory

    @property
    def url(self) -> str:
        """Where it is."""
        return f"ldap://127.0.0.1:{self._listening.getHost().port}"
