"""``workato-gateway webhook``: do the receivers of events take them?"""

from __future__ import annotations

import argparse
import http.client
import os
import ssl
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ..config import WebhookEndpoint, load
from ..webhooks.events import Event
from .administration import DEFAULT_CONFIG, CommandError
from .output import result_json, result_table

EXAMPLE = """example:
  workato-gateway webhook test --config /srv/gateway/gateway.yml"""
TIMEOUT: Final = 20.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Its subcommands."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    test = commands.add_parser("test", help="post a webhook.test event to each endpoint, once")
    test.add_argument("name", metavar="NAME", nargs="?", help="this endpoint only")
    test.add_argument(
        "--config",
        metavar="PATH",
        default=os.environ.get("WORKATO_GATEWAY_CONFIG", DEFAULT_CONFIG),
        help=f"gateway.yml; default $WORKATO_GATEWAY_CONFIG or {DEFAULT_CONFIG}",
    )
    test.add_argument("--json", action="store_true", help="print the result as JSON")
    test.set_defaults(command=_test)


def _test(arguments: argparse.Namespace) -> None:
    endpoints = load(Path(arguments.config)).webhooks.endpoints
    chosen = [each for each in endpoints if arguments.name in (None, each.called)]
    if not chosen:
        known = ", ".join(each.called for each in endpoints) or "none"
        raise CommandError(f"no such endpoint in webhooks.endpoints; there are: {known}")
    outcomes = [(each.called, *_posted(each)) for each in chosen]
    if arguments.json:
        result_json([{"name": name, "ok": ok, "detail": said} for name, ok, said in outcomes])
    else:
        rows = [(name, "ok" if ok else "FAILED", said) for name, ok, said in outcomes]
        result_table(("ENDPOINT", "RESULT", "DETAIL"), rows)
    if not all(ok for _, ok, _ in outcomes):
        raise CommandError("an endpoint did not take the event")


def _posted(endpoint: WebhookEndpoint) -> tuple[bool, str]:
    """Whether the event was taken, and what the receiver or the network said."""
    event = Event("webhook.test", time.time(), {"endpoint": endpoint.called})
    body = event.body()
    parts = urlsplit(endpoint.url.text)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = endpoint.secret.fields(event.id, int(event.at), body)
    connection = None
    try:
        connection = _connection(endpoint, parts.port)
        connection.request("POST", target, body, {"Content-Type": "application/json", **fields})
        status = connection.getresponse().status
    except ssl.SSLCertVerificationError as error:
        return False, f"the certificate is not trusted: {error.verify_message}"
    except (OSError, http.client.HTTPException) as error:
        return False, str(error) or type(error).__name__
    finally:
        if connection is not None:
            connection.close()
    return 200 <= status < 300, f"HTTP status {status}"


def _connection(endpoint: WebhookEndpoint, port: int | None) -> http.client.HTTPConnection:
    host = endpoint.url.host
    if not endpoint.url.secure:
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    context = ssl.create_default_context(cafile=str(endpoint.ca) if endpoint.ca else None)
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context)
