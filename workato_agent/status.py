"""The running agent's state, as JSON over a local socket.

One connection, one answer: the server writes a JSON object and closes. The socket is its owner's
alone (0600), so whoever may read the agent's key may ask. Where there are no such sockets, as on
Windows, a port and a secret do (:mod:`.status_port`).
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from twisted.application.service import Service
from twisted.internet.interfaces import IListeningPort, ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from .status_port import HOST, GuardedAnswer, PortFile, ask
from .system import PRIVATE, lock_alone

Provider = Callable[[], Mapping[str, object]]
"""Gives the state of the moment, made of what JSON has. Called on the reactor for each question."""

UNIX_SOCKETS: Final = hasattr(socket, "AF_UNIX")
TIMEOUT: Final = 5.0
_LARGEST: Final = 4 * 1024 * 1024


class StatusSocketError(Exception):
    """The socket can't be opened; the message says why and what to do."""


class StatusUnavailable(Exception):
    """No agent answers; the message says why and what to do."""


class _Answer(Protocol):
    def __init__(self, answer: Callable[[], bytes]) -> None:
        self._answer = answer

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(self._answer())
        transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Nothing is expected; a chatty client is cut off."""
        transport: ITransport | None = self.transport
        if transport is not None:
            transport.loseConnection()


class StatusSocket(Service):
    """Serves the status while it runs.

    ``startService`` raises StatusSocketError where another agent has the socket.

    :param unix: False for a port and a file instead of a socket.
    """

    log = Logger()

    def __init__(
        self, path: Path, provider: Provider, reactor: Any, *, unix: bool = UNIX_SOCKETS
    ) -> None:
        self.setName("status")  # type: ignore[no-untyped-call]
        self._path = path
        self._provider = provider
        self._reactor = reactor
        self._unix = unix
        self._port: IListeningPort | None = None
        self._lock = -1

    def startService(self) -> None:
        """Take the socket over from an agent that is dead, never from one that lives."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            self._path.unlink(missing_ok=True)
            if self._unix:
                self._listen_on_socket()
            else:
                self._listen_on_port()
        except Exception as error:
            self._release()
            if isinstance(error, StatusSocketError):
                raise
            reason = getattr(error, "strerror", None) or str(error)
            raise StatusSocketError(
                f"the status socket {self._path} can't be opened: {reason}"
                " (status.socket in config.yml says where it goes)"
            ) from error
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Any:
        """Close the socket and remove it."""
        super().stopService()  # type: ignore[no-untyped-call]
        port, self._port = self._port, None
        if port is not None and not self._unix:
            self._path.unlink(missing_ok=True)
        self._release()
        return port.stopListening() if port is not None else None

    def _listen_on_socket(self) -> None:
        factory: Any = Factory.forProtocol(lambda: _Answer(self._told))
        factory.noisy = False
        # Under a narrow umask, so that the socket is never open to others, not for a moment.
        before = os.umask(0o177)
        try:
            self._port = self._reactor.listenUNIX(str(self._path), factory, backlog=16, mode=0o600)
        finally:
            os.umask(before)

    def _listen_on_port(self) -> None:
        made: list[PortFile] = []
        factory: Any = Factory.forProtocol(lambda: GuardedAnswer(made[0].secret, self._told))
        factory.noisy = False
        port = self._reactor.listenTCP(0, factory, backlog=16, interface=HOST)
        try:
            made.append(PortFile.new(self._path, port.getHost().port))
        except OSError:
            port.stopListening()
            raise
        self._port = port

    def _told(self) -> bytes:
        try:
            content = msgspec.json.encode(dict(self._provider()), enc_hook=str)
        except Exception:  # noqa: BLE001 - a question must never end the agent
            self.log.failure("Telling the status failed", event="status_broke")
            content = b'{"error": "the agent failed to tell its status; its log says why"}'
        return content + b"\n"

    def _take_lock(self) -> None:
        """The kernel drops the lock of a process that died, whatever killed it."""
        self._lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | PRIVATE, 0o600)
        try:
            lock_alone(self._lock)
        except BlockingIOError as error:
            raise StatusSocketError(
                f"another agent is running with the status socket {self._path}:"
                " stop it, or give this one an identity of its own"
            ) from error

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def read_status(path: Path, timeout: float = TIMEOUT) -> dict[str, object]:
    """Ask the agent behind a socket. Blocking. Raises StatusUnavailable."""
    chunks: list[bytes] = []
    try:
        with _connected(path, timeout) as link:
            while chunk := link.recv(65536):
                chunks.append(chunk)
                if sum(map(len, chunks)) > _LARGEST:
                    raise StatusUnavailable(f"{path}: the answer is too long to be a status")
    except ValueError as error:
        raise StatusUnavailable(f"{path}: is no file that an agent has written") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise StatusUnavailable(
            f"no agent is running with the status socket {path}"
            " (start it with 'workato-agent run', or name its config with --config)"
        ) from error
    except PermissionError as error:
        raise StatusUnavailable(
            f"{path}: permission denied; ask as the agent's user or as root"
        ) from error
    except TimeoutError as error:
        raise StatusUnavailable(
            f"{path}: the agent did not answer within {timeout:g} s; it is busy or stuck"
        ) from error
    except OSError as error:
        raise StatusUnavailable(f"{path}: {error.strerror or error}") from error
    try:
        return msgspec.json.decode(b"".join(chunks), type=dict[str, object])
    except msgspec.DecodeError as error:
        raise StatusUnavailable(f"{path}: what answers there is not an agent") from error


def _connected(path: Path, timeout: float) -> socket.socket:
    """Raises OSError, ValueError."""
    if stat.S_ISREG(path.stat().st_mode):
        return ask(path, timeout)
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.settimeout(timeout)
        link.connect(str(path))
    except OSError:
        link.close()
        raise
    return link
