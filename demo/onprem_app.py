"""A small HTTP application, as it might stand in a company's network: stock levels, for those who
know the password.

``python -m demo.onprem_app PORT``
"""

from __future__ import annotations

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .sample import APP_PASSWORD, APP_USER

STOCK = {"item": "hinge M8", "on_hand": 1240, "warehouse": "hall 3"}
_EXPECTED = "Basic " + base64.b64encode(f"{APP_USER}:{APP_PASSWORD}".encode()).decode()


class _Stock(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != _EXPECTED:
            self._answer(401, {"error": "who are you?"})
        elif self.path == "/items/hinge-m8":
            self._answer(200, STOCK)
        else:
            self._answer(404, {"error": f"no {self.path} here"})

    def _answer(self, status: int, document: dict[str, object]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Stock).serve_forever()
