"""Where the gateway's log goes, and what is in a line."""

from __future__ import annotations

import json
import stat
from io import StringIO

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from tests.support.folders import folder_for
from workato_gateway.config import read
from workato_gateway.logs import observer_for


class Lines(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = folder_for(self)
        self.stream = StringIO()

    def logger(self, text: str, namespace: str = "workato_gateway.x") -> Logger:
        config = read(f"public_url: https://gw\nlogging: {text}\n", self.folder / "gateway.yml")
        return Logger(namespace, observer=observer_for(config.logging, self.stream))

    def test_a_json_line_has_the_event_and_its_fields(self) -> None:
        self.logger("{format: json}").warn("{count} calls", event="some_calls", count=3)
        line = json.loads(self.stream.getvalue())
        line.pop("time")
        self.assertEqual(
            line,
            {
                "level": "warn",
                "logger": "workato_gateway.x",
                "message": "3 calls",
                "event": "some_calls",
                "count": 3,
            },
        )

    def test_a_logger_has_a_level_of_its_own(self) -> None:
        text = "{level: warn, workato_gateway.api: debug}"
        self.logger(text, "workato_gateway.api.relay").debug("seen")
        self.logger(text).info("unseen")
        self.assertIn("seen", self.stream.getvalue())
        self.assertNotIn("unseen", self.stream.getvalue())

    def test_a_file_is_rotated_and_its_owners_alone(self) -> None:
        logger = self.logger("{path: gateway.log, max_size: 4096, keep: 2}")
        for number in range(200):
            logger.info("{number} {filler}", number=number, filler="x" * 80)
        files = sorted(path.name for path in self.folder.glob("gateway.log*"))
        self.assertEqual(files, ["gateway.log", "gateway.log.1", "gateway.log.2"])
        newest = self.folder / "gateway.log"
        self.assertIn("199", newest.read_text())
        self.assertEqual(stat.S_IMODE(newest.stat().st_mode), 0o600)
        self.assertEqual(self.stream.getvalue(), "")
