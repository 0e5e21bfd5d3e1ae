"""Where log lines go, what is in them, and what is not."""

from __future__ import annotations

import json
import stat
from io import StringIO
from pathlib import Path
from tempfile import mkdtemp

from twisted.logger import Logger, LogLevel
from twisted.trial.unittest import SynchronousTestCase

from workato_agent.config.options import LoggingOptions
from workato_agent.config.secrets import Secret
from workato_agent.logs import LogFileError, observer_for


class LogTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stream = StringIO()

    def logger(self, namespace: str = "workato_agent.x", **options: object) -> Logger:
        self.observer = observer_for(LoggingOptions.model_validate(options), self.stream)
        return Logger(namespace, observer=self.observer)

    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


class Lines(LogTestCase):
    def test_a_text_line_has_time_level_logger_and_message(self) -> None:
        self.logger().warn("{count} calls", count=3)
        time, level, rest = self.lines()[0].split(maxsplit=2)
        self.assertRegex(time, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual((level, rest), ("warn", "workato_agent.x: 3 calls"))

    def test_a_json_line_has_the_fields_too(self) -> None:
        self.logger(format="json").info("call {request_id}", request_id="r1", thing=object())
        line = json.loads(self.lines()[0])
        del line["time"]
        self.assertEqual(
            line,
            {
                "level": "info",
                "logger": "workato_agent.x",
                "message": "call r1",
                "request_id": "r1",
            },
        )

    def test_no_message_makes_a_line_of_its_own(self) -> None:
        for format_ in ("text", "json"):
            self.logger(format=format_).info("{text}", text="a\nb\r\x1b[31m\t")
        self.assertEqual(len(self.lines()), 2)
        self.assertIn(r"a\nb\r\x1b[31m\t", self.lines()[0])

    def test_a_traceback_follows_its_message(self) -> None:
        for format_ in ("text", "json"):
            logger = self.logger(format=format_)
            try:
                raise ValueError("broken")
            except ValueError:
                logger.failure("Failed on {what}", what="it")
        lines = self.lines()
        self.assertIn("critical workato_agent.x: Failed on it", lines[0])
        self.assertTrue(all(line.startswith("    ") for line in lines[1:-1]))
        self.assertIn("broken", json.loads(lines[-1])["traceback"])

    def test_a_secret_never_shows(self) -> None:
        for format_ in ("text", "json"):
            self.logger(format=format_).info("{x} {x!r} {x!s}", x=Secret("hunter2"), y=Secret("h2"))
        self.assertNotIn("hunter2", self.stream.getvalue())
        self.assertNotIn("h2", self.stream.getvalue())

    def test_endless_messages_are_cut(self) -> None:
        self.logger().info("{text}", text="x" * 1_000_000)
        self.assertLess(len(self.stream.getvalue()), 20_000)


class Levels(LogTestCase):
    def test_what_is_below_the_level_is_left_out(self) -> None:
        logger = self.logger(level="warn")
        for level in (LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.critical):
            logger.emit(level, "{name}", name=level.name)
        self.assertEqual([line.split()[-1] for line in self.lines()], ["warn", "critical"])

    def test_a_logger_and_those_below_it_may_have_their_own(self) -> None:
        logger = self.logger("workato_agent.tunnel.client", **{"workato_agent.tunnel": "debug"})
        logger.debug("seen")
        Logger("workato_agent.other", observer=self.observer).debug("unseen")
        self.assertEqual(len(self.lines()), 1)


class Files(LogTestCase):
    def test_a_file_is_rotated_and_its_owners_alone(self) -> None:
        path = Path(mkdtemp(dir=".")) / "logs" / "agent.log"
        logger = self.logger(path=path, max_size=4096, keep=2)
        for number in range(300):
            logger.info("line {number}", number=number)
        self.assertEqual(
            sorted(file.name for file in path.parent.iterdir()),
            ["agent.log", "agent.log.1", "agent.log.2"],
        )
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertIn("line 299", path.read_text())
        self.assertEqual(self.stream.getvalue(), "")

    def test_a_file_that_can_not_be_written_is_named(self) -> None:
        folder = Path(mkdtemp(dir="."))
        (folder / "file").touch()
        error = self.assertRaises(LogFileError, self.logger, path=folder / "file" / "agent.log")
        self.assertIn("logging.path", str(error))
