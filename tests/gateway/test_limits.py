"""The limits of gateway.yml, as a caller meets them."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_gateway import HttpGateway, parse_answer, request
from workato_gateway.app import http_limits, relay_limits
from workato_gateway.config import ConfigError, Limits, read

CALL = b"/v1/groups/sales/http/crm/orders"


def limits(text: str) -> Limits:
    """The section with these entries."""
    return read(f"public_url: https://gw.example\nlimits: {text}\n", Path("gateway.yml")).limits


class LimitsOfTheConfig(SynchronousTestCase):
    def test_a_body_beyond_the_limit_is_refused(self) -> None:
        gateway = HttpGateway(limits=relay_limits(limits("{body: 1KiB}")))
        answer = gateway.send(request(b"PUT", CALL, b"", b"x" * 1025)).take()
        self.assertEqual(parse_answer(answer).status, 413)
        gateway.send(request(b"PUT", CALL, b"Content-Length: 1024\r\n"))
        self.assertEqual(len(gateway.agent.opened), 1)

    def test_a_body_has_no_limit_by_default(self) -> None:
        for text in ("{}", "{body: }"):
            self.assertIsNone(relay_limits(limits(text)).body)

    def test_a_head_beyond_the_limit_is_refused(self) -> None:
        gateway = HttpGateway(http=http_limits(limits("{header_bytes: 4KiB}")))
        answer = gateway.send(request(b"GET", CALL, b"A: " + b"a" * 4096 + b"\r\n")).take()
        self.assertEqual(parse_answer(answer).status, 431)

    def test_the_numbers_of_calls_connections_and_seconds(self) -> None:
        section = limits(
            "{connections: 3, calls: 4, calls_per_token: 2, default_timeout: 5s, max_timeout: 1m}"
        )
        self.assertEqual(http_limits(section).connections, 3)
        relay = relay_limits(section)
        self.assertEqual((relay.calls, relay.calls_per_token), (4, 2))
        self.assertEqual((relay.default_timeout, relay.max_timeout), (5.0, 60.0))

    def test_the_default_timeout_lies_within_the_maximum(self) -> None:
        with self.assertRaisesRegex(ConfigError, "limits: default_timeout is longer than max"):
            limits("{max_timeout: 30s}")

    def test_what_can_not_be_a_limit_is_an_error_of_the_config(self) -> None:
        for text, name in (
            ("{header_bytes: 1KiB}", "limits.header_bytes"),
            ("{header_bytes: 65KiB}", "limits.header_bytes"),
            ("{body: 0}", "limits.body"),
            ("{body: much}", "limits.body"),
        ):
            error = self.assertRaises(ConfigError, limits, text)
            self.assertEqual(len(error.lines), 1, text)
            self.assertIn(f"gateway.yml:2: {name}: ", error.lines[0])
