"""The status where there are no Unix sockets: a port of this machine, and a file that opens it.

The file stands where the socket would. It holds the port and a secret that is made anew at each
start; whoever may read it may ask. The one who asks sends the secret and a line feed first.
"""

from __future__ import annotations

import hmac
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import TimeoutMixin

from .identity.store import write_private

HOST: Final = "127.0.0.1"
PATIENCE: Final = 5.0
"""Seconds that one has to show the secret."""
_LONGEST: Final = 200


class PortFile(msgspec.Struct):
    """What the file holds, as JSON."""

    port: int
    secret: str

    @classmethod
    def new(cls, path: Path, port: int) -> PortFile:
        """Write it, for its owner's eyes only. Raises OSError."""
        made = cls(port, secrets.token_hex(32))
        write_private(path, msgspec.json.encode(made))
        return made

    @classmethod
    def read(cls, path: Path) -> PortFile:
        """Raises OSError, and ValueError where something else is in the file."""
        return msgspec.json.decode(path.read_bytes(), type=cls)


class GuardedAnswer(Protocol, TimeoutMixin):
    """Answers whoever shows the secret, and hangs up on everybody else.

    :param answer: gives the answer, whole.
    """

    def __init__(self, secret: str, answer: Callable[[], bytes]) -> None:
        self._secret = secret.encode("ascii")
        self._answer = answer
        self._shown = b""

    def connectionMade(self) -> None:
        self.setTimeout(PATIENCE)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        """The secret, in one piece or several."""
        self._shown += data
        shown, ended, _ = self._shown.partition(b"\n")
        if not ended and len(self._shown) < _LONGEST:
            return
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        transport: Any = self.transport
        if ended and hmac.compare_digest(shown, self._secret):
            transport.write(self._answer())
        transport.loseConnection()

    def connectionLost(self, reason: object = None) -> None:
        self.setTimeout(None)  # type: ignore[no-untyped-call]


def ask(path: Path, timeout: float) -> socket.socket:
    """A connection on which the secret was shown. Blocking. Raises OSError, ValueError."""
    file = PortFile.read(path)
    link = socket.create_connection((HOST, file.port), timeout)
    link.sendall(file.secret.encode("ascii") + b"\n")
    return link
