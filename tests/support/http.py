"""Calls of the http service without a tunnel, targets to be called, and certificates for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, CertificateOptions, PrivateCertificate
from twisted.python.failure import Failure

from workato_agent.requests import Headers, Request, Response

from .files import Chunks


def http_request(
    method: str = "GET",
    path: str = "",
    query: str = "",
    headers: Headers = (),
    body: object = (),
    deadline: float = 2**40,
) -> Request:
    """A call as the dispatcher hands it over. ``body``: chunks, or a Body."""
    return Request(
        "http",
        "app",
        method,
        path,
        query,
        headers,
        Chunks(body) if isinstance(body, Iterable) and not isinstance(body, Chunks) else body,  # type: ignore[arg-type]
        "tester",
        deadline,
        "",
        "r-1",
    )


async def whole_body(response: Response) -> bytes:
    """A response's body, however it comes."""
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([chunk async for chunk in response.body])


class Peer(Protocol):
    """The target's end of one connection: it remembers, the script answers.

    :ivar received: all bytes that came.
    :ivar requests: whole heads that came (requests without a body).
    """

    def __init__(self, target: RawTarget) -> None:
        self.target = target
        self.received = bytearray()
        self.lost: Deferred[None] = Deferred()
        self.answered = 0

    def connectionMade(self) -> None:
        self.target.peers.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.target.script(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.target.lost += 1
        self.lost.callback(None)

    @property
    def requests(self) -> int:
        return self.received.count(b"\r\n\r\n")

    def write(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]

    def close(self) -> None:
        self.transport.loseConnection()  # type: ignore[union-attr]

    def reset(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]


@define
class RawTarget(Factory):
    """A TCP server whose script is called each time bytes have come in on a connection."""

    script: Callable[[Peer], object]
    peers: list[Peer] = field(factory=list)
    lost: int = 0
    port: IListeningPort | None = None
    noisy = False

    def buildProtocol(self, _address: object) -> Peer:
        return Peer(self)


def answering(response: bytes) -> Callable[[Peer], None]:
    """A script that answers each request head with the same bytes."""

    def script(peer: Peer) -> None:
        while peer.answered < peer.requests:
            peer.answered += 1
            peer.write(response)

    return script


@frozen
class Identity:
    """A certificate and its key in files."""

    certificate: Path
    key: Path

    def server(self, *clients: bytes) -> CertificateOptions:
        """What a listening port needs to serve it.

        :param clients: CAs in PEM; a client must show a certificate of one of them.
        """
        pem = self.certificate.read_bytes() + self.key.read_bytes()
        authorities = [Certificate.loadPEM(each) for each in clients]
        return PrivateCertificate.loadPEM(pem).options(*authorities)


class TestAuthority:
    """A CA that issues what tests need, well or badly."""

    __test__ = False

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=400))
            .not_valid_after(now + timedelta(days=400))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, *names: str, since: int = -1, until: int = 30) -> Identity:
        """A server certificate for DNS names and addresses, valid for the days around now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        alternatives: list[x509.GeneralName] = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=since))
            .not_valid_after(now + timedelta(days=until))
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        serial = f"{certificate.serial_number:x}"
        identity = Identity(self._folder / f"{serial}.pem", self._folder / f"{serial}.key")
        identity.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        identity.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return identity
