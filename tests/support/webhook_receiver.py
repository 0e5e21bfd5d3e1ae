"""A receiver of webhooks: a real HTTPS server that checks each signature as a stranger would."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .ports import free_port
from .premises import self_signed

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class _Events(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebhookReceiver

    def do_POST(self) -> None:
        """Take the event, or refuse as the test wants."""
        body = self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        with server.lock:
            status, fields = server.answers.pop(0) if server.answers else (204, {})
            server.attempts.append((self.headers["webhook-id"], self.path))
            if _signed(self.headers, body) and 200 <= status < 300:
                server.events.append(json.loads(body))
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Nobody wants it."""


def _signed(headers: Any, body: bytes) -> bool:
    """By hand, from the words of the specification."""
    message = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode()
    digest = hmac.new(KEY, message + b"." + body, hashlib.sha256).digest()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    return fresh and headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


class WebhookReceiver(ThreadingHTTPServer):
    """On a free port of localhost.

    :ivar events: what came with a right signature and was taken.
    :ivar attempts: ``(webhook-id, path)`` of every request.
    :ivar answers: statuses and header fields of the next answers; 204 when there are no more.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", free_port()), _Events)
        self.ca = self_signed(folder / "receiver.pem", "localhost")
        self.lock = threading.Lock()
        self.events: list[dict[str, Any]] = []
        self.attempts: list[tuple[str, str]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca)
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """Where it takes events."""
        return f"https://localhost:{self.server_address[1]}/events/t0ken-in-the-path"

    def types(self) -> list[str]:
        """Of the events, in their order."""
        with self.lock:
            return [event["type"] for event in self.events]

    def of(self, kind: str) -> dict[str, Any]:
        """The data of the newest event of a type."""
        with self.lock:
            found: dict[str, Any] = [e["data"] for e in self.events if e["type"] == kind][-1]
        return found

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that don't trust the certificate are the point of a test."""

    def stop(self) -> None:
        """End it."""
        self.shutdown()
        self.server_close()
