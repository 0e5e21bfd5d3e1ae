"""What stands behind the firewall in the tests of errors: real servers that work, and what is wrong
with the others. Threads of this process serve the HTTP applications and the odd ports.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .ports import free_port

HTTP_USER: Final = "connector"
HTTP_PASSWORD: Final = "s3cret-http-pässword"


class _Application(BaseHTTPRequestHandler):
    """``/slow`` answers when the client has gone, ``/cut`` breaks off, ``/private`` wants a login,
    ``/status/N`` says N; anything else is answered with the request line."""

    protocol_version = "HTTP/1.1"
    server: HttpApplication

    def answer(self) -> None:
        """Any method."""
        if self.path.startswith("/slow"):
            self.server.waiting.set()
            with contextlib.suppress(ConnectionResetError):
                self.connection.recv(1)
            self.server.left.set()
            self.close_connection = True
        elif self.path.startswith("/cut"):
            self._begin(200, 2_000_000)
            self.wfile.write(b"x" * 1_000_000)
            self.close_connection = True
        elif self.path.startswith("/private") and not self._is_known():
            self._begin(401, 0)
        elif self.path.startswith("/status/"):
            self._begin(int(self.path.rpartition("/")[2]), 0)
        else:
            body = self.requestline.encode()
            self._begin(200, len(body))
            if self.command != "HEAD":
                self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server's names

    def _begin(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _is_known(self) -> bool:
        known = base64.b64encode(f"{HTTP_USER}:{HTTP_PASSWORD}".encode()).decode()
        return self.headers["Authorization"] == f"Basic {known}"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Nobody wants it."""


class HttpApplication(ThreadingHTTPServer):
    """The application on a free port, over TLS with a certificate.

    :ivar waiting: a request for ``/slow`` is there; ``left``: who sent it has hung up.
    """

    daemon_threads = True

    def __init__(self, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", free_port()), _Application)
        self.waiting = threading.Event()
        self.left = threading.Event()
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that break off are the point of the tests."""

    def stop(self) -> None:
        """End it."""
        self.shutdown()
        self.server_close()


@define
class OddPort:
    """A port on which something says ``banner`` to whoever comes, and no more."""

    banner: bytes
    port: int = field(factory=free_port)
    _socket: socket.socket = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self.port), backlog=50)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        links = []
        while True:
            try:
                link, _ = self._socket.accept()
            except OSError:
                break
            links.append(link)
            link.sendall(self.banner)
        for link in links:
            link.close()

    def stop(self) -> None:
        """End it."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@define
class BlackHole:
    """A port that lets no connection through and refuses none: its queue is full."""

    port: int = field(factory=free_port)
    _sockets: list[socket.socket] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sockets = [socket.create_server(("127.0.0.1", self.port), backlog=0)]
        for _ in range(20):
            link = socket.socket()
            self._sockets.append(link)
            link.settimeout(0.1)
            try:
                link.connect(("127.0.0.1", self.port))
            except TimeoutError:
                return
        raise RuntimeError("the queue does not fill up")

    def stop(self) -> None:
        """End it."""
        for each in self._sockets:
            each.close()


def self_signed(path: Path, *names: str) -> Path:
    """Write a certificate for the names, which is its own authority, and its key to one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    path.chmod(0o600)
    return path


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
