"""The access log: one line a request, whole, soon, and without what is nobody's business."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_gateway import CALL, HttpGateway, MemoryLines, request
from workato_gateway.api.access_log import FLUSH_AT, AccessLog, RotatingFile


class Lines(SynchronousTestCase):
    def test_lines_are_written_within_half_a_second(self) -> None:
        gateway = HttpGateway()
        gateway.send(request(b"GET", b"/healthz")).take()
        self.assertEqual(gateway.lines.data, b"")
        gateway.clock.advance(0.5)
        self.assertIn(b" - GET /healthz 200 - 0 15 ", gateway.lines.data)

    def test_many_lines_are_written_at_once(self) -> None:
        gateway = HttpGateway()
        for _ in range(1 + FLUSH_AT // 100):
            gateway.send(request(b"GET", b"/healthz")).take()
        self.assertGreaterEqual(len(gateway.lines.data), FLUSH_AT)

    def test_neither_query_nor_token_nor_a_line_break_gets_in(self) -> None:
        gateway = HttpGateway()
        gateway.send(request(b"GET", CALL + b"/a%0Ab?password=hunter2", token=b"secret"))
        gateway.send(request(b"GET", CALL + b"/x", token=b"read"))
        gateway.stream.agent_answers(200)
        gateway.log.flush()
        text = gateway.lines.data.decode()
        self.assertNotIn("hunter2", text)
        self.assertNotIn("secret", text)
        first, second = text.splitlines()
        self.assertIn("/a%0Ab 401 unauthenticated", first)
        self.assertIn(' "bob smith" GET ', second)

    def test_json(self) -> None:
        gateway = HttpGateway()
        lines = MemoryLines()
        gateway.router.access_log = AccessLog(
            lines, gateway.clock, json=True, wall_clock=lambda: 1_700_000_000.5
        )
        transport = gateway.call(b"PUT", b"/x?y", body=b"abc")
        gateway.clock.advance(0.1)
        gateway.stream.agent_answers(201, (), b"hello")
        transport.take()
        gateway.clock.advance(1)
        line = json.loads(lines.data)
        self.assertEqual(len(line.pop("request_id")), 32)
        self.assertEqual(
            line,
            {
                "time": "2023-11-14T22:13:20.500Z",
                "peer": "192.0.2.7",
                "owner": "alice",
                "method": "PUT",
                "path": "/v1/groups/sales/http/crm/x",
                "status": 201,
                "code": "",
                "complete": True,
                "bytes_in": 3,
                "bytes_out": 5,
                "duration": 100.0,
                "agent": "agent-1",
            },
        )

    def test_what_is_no_request_is_noted_too(self) -> None:
        gateway = HttpGateway()
        gateway.send(b"\x00\x01\r\n\r\n")
        gateway.log.flush()
        self.assertIn(b" 400 bad_request ", gateway.lines.data)

    def test_a_failing_sink_is_told_once_a_minute_and_hurts_no_request(self) -> None:
        clock = Clock()
        gateway = HttpGateway(clock)
        gateway.lines.error = OSError(28, "No space left on device")
        for _ in range(3):
            gateway.send(request(b"GET", b"/healthz"))
            clock.advance(1)
        gateway.lines.error = None
        gateway.send(request(b"GET", b"/healthz"))
        gateway.log.close()
        self.assertEqual(len(gateway.lines.data.splitlines()), 1)
        self.assertTrue(gateway.lines.closed)


class Files(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def test_the_file_rotates_and_old_ones_go(self) -> None:
        sink = RotatingFile(self.path, max_size=100, keep=2)
        for n in range(10):
            sink.write(b"%d" % n * 60)
        sink.close()
        self.assertEqual(self.path.read_bytes(), b"9" * 60)
        self.assertEqual(self.path.with_name(self.path.name + ".1").read_bytes(), b"8" * 60)
        self.assertEqual(self.path.with_name(self.path.name + ".2").read_bytes(), b"7" * 60)
        self.assertEqual(len(list(self.path.parent.glob(self.path.name + "*"))), 3)

    def test_it_goes_on_with_the_file_that_was_there(self) -> None:
        for _ in range(2):
            sink = RotatingFile(self.path)
            sink.write(b"line\n")
            sink.close()
        self.assertEqual(self.path.read_bytes(), b"line\nline\n")

    def test_a_foreign_rotation_is_followed(self) -> None:
        sink = RotatingFile(self.path)
        sink.write(b"one\n")
        moved = self.path.rename(self.path.with_suffix(".old"))
        sink.write(b"two\n")
        sink.close()
        self.assertEqual((moved.read_bytes(), self.path.read_bytes()), (b"one\n", b"two\n"))

    def test_others_can_not_read_it(self) -> None:
        sink = RotatingFile(self.path)
        sink.write(b"x")
        sink.close()
        self.assertEqual(self.path.stat().st_mode & 0o007, 0)

    def test_nothing_is_kept_when_nothing_is_to_be_kept(self) -> None:
        sink = RotatingFile(self.path, max_size=10, keep=0)
        for _ in range(5):
            sink.write(b"12345678")
        sink.close()
        self.assertEqual(list(self.path.parent.glob(self.path.name + "*")), [self.path])
