"""The audit as the dispatcher's observer: a line for each call, and what happens without a disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

from twisted.trial.unittest import SynchronousTestCase

from tests.support.audits import NOW, DirectReactor, an_end, lines_of, verified
from workato_agent.audit import AuditError, AuditLog
from workato_agent.chain import ChainFile, Record
from workato_tunnel.problems import Problem

ROOT = Path(__file__).parents[2]


class AuditTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(mkdtemp(dir=".")).absolute() / "audit.jsonl"
        self.reactor = DirectReactor()

    def log(self, limit: int = 100) -> AuditLog:
        return AuditLog(
            self.path,
            reactor=self.reactor,
            max_size=8 << 20,
            keep=3,
            version="1.2",
            limit=limit,
            wall_clock=lambda: NOW,
        )

    def started(self, limit: int = 100) -> AuditLog:
        log = self.log(limit)
        log.start()
        self.addCleanup(self.end, log)
        return log

    def end(self, log: AuditLog) -> None:
        stopped = log.stop()
        self.until(lambda: bool(self.reactor.calls) or stopped.called)
        self.until(lambda: self.reactor.run() or stopped.called)

    def until(self, met: object, seconds: float = 10.0) -> None:
        """Wait for what the audit's thread does."""
        assert callable(met)
        give_up = time.monotonic() + seconds
        while not met():
            if time.monotonic() > give_up:
                self.fail("waited in vain")
            time.sleep(0.002)

    def kinds(self) -> list[object]:
        return [line["kind"] for line in lines_of(self.path)]


class Lines(AuditTestCase):
    def test_each_call_has_a_line_that_says_what_and_never_with_what(self) -> None:
        log = self.started()
        log.call_ended(an_end())
        self.end(log)
        line = lines_of(self.path)[1]
        del line["prev"], line["hash"]
        self.assertEqual(
            line,
            {
                "kind": "call",
                "seq": 2,
                "time": "2026-03-02T09:15:27.123Z",
                "caller": "me",
                "trace": "t",
                "request_id": "r1",
                "service": "database",
                "profile": "sales",
                "operation": "query",
                "verdict": "allowed",
                "code": "ok",
                "rows": 3,
                "bytes_in": 10,
                "bytes_out": 20,
                "duration_ms": 12.5,
            },
        )

    def test_the_verdict_tells_denied_and_unroutable_calls(self) -> None:
        log = self.started()
        for end in (
            an_end("policy_denied", denied=True),
            an_end("profile_not_found"),
            an_end("query_failed"),
        ):
            log.call_ended(end)
        self.end(log)
        verdicts = [line["verdict"] for line in lines_of(self.path) if line["kind"] == "call"]
        self.assertEqual(verdicts, ["denied", "unroutable", "allowed"])

    def test_start_and_stop_are_in_the_chain(self) -> None:
        self.end(self.started())
        self.end(self.started())
        self.assertEqual(self.kinds(), ["start", "stop", "start", "stop"])
        self.assertTrue(verified(self.path).intact)

    def test_lines_are_in_the_file_within_a_second(self) -> None:
        log = self.started()
        log.call_ended(an_end())
        self.until(lambda: len(lines_of(self.path)) == 2, seconds=1.0)

    def test_many_calls_all_have_their_line_in_order(self) -> None:
        log = self.started(limit=10_000)
        for number in range(3000):
            log.call_ended(an_end(request_id=str(number)))
        self.end(log)
        ids = [line["request_id"] for line in lines_of(self.path) if line["kind"] == "call"]
        self.assertEqual(ids, [str(number) for number in range(3000)])
        self.assertTrue(verified(self.path).intact)

    def test_endless_names_are_cut(self) -> None:
        log = self.started()
        log.call_ended(an_end(caller="x" * 60_000))
        self.end(log)
        self.assertLess(self.path.stat().st_size, 3000)

    def test_the_status_names_the_last_line(self) -> None:
        log = self.started()
        self.end(log)
        status = log.status()
        line = lines_of(self.path)[0]
        self.assertEqual(status["last"], {"seq": 1, "hash": line["hash"]})
        self.assertEqual((status["waiting"], status["failure"]), (0, None))

    def test_stopping_twice_and_before_the_start_is_fine(self) -> None:
        self.successResultOf(self.log().stop())
        log = self.started()
        self.end(log)
        self.successResultOf(log.stop())


class Failing(AuditTestCase):
    def failing(self, log: AuditLog) -> list[bool]:
        """Make writing fail while the list says so."""
        fails = [True]
        chain = log._chain
        append = chain.append

        def append_or_fail(records: list[Record]) -> None:
            if fails[0]:
                raise OSError(28, "No space left on device")
            append(records)

        self.patch(ChainFile, "append", lambda _, records: append_or_fail(records))
        return fails

    def test_without_a_place_to_write_the_agent_does_not_start(self) -> None:
        (self.path.parent / "file").touch()
        self.path = self.path.parent / "file" / "audit.jsonl"
        error = self.assertRaises(AuditError, self.log().start)
        self.assertIn("can't be written", str(error))
        self.assertIn("audit.path", str(error))

    def test_no_call_is_served_before_the_audit_runs_nor_after_it(self) -> None:
        log = self.log()
        self.assertRaises(Problem, log.admit)
        log.start()
        log.admit()
        self.end(log)
        self.assertRaises(Problem, log.admit)

    def test_calls_are_refused_once_too_many_wait_and_served_again_after(self) -> None:
        log = self.started(limit=10)
        fails = self.failing(log)
        log.call_ended(an_end())
        self.until(lambda: log.failure is not None)
        log.admit()
        for _ in range(10):
            log.call_ended(an_end())
        problem = self.assertRaises(Problem, log.admit)
        self.assertEqual((problem.code, problem.retry_after), ("overloaded", 5))
        self.assertIn("No space left on device", problem.detail)
        fails[0] = False
        self.until(lambda: log.failure is None)
        log.admit()
        self.end(log)
        self.assertEqual(self.kinds().count("call"), 11)
        self.assertTrue(verified(self.path).intact)

    def test_refused_calls_are_only_counted_while_far_too_many_wait(self) -> None:
        log = self.started(limit=10)
        fails = self.failing(log)
        for _ in range(100):
            log.call_ended(an_end("overloaded"))
        waiting = log.status()["waiting"]
        assert isinstance(waiting, int)
        self.assertLessEqual(waiting, 20)
        log.call_ended(an_end("ok"))
        fails[0] = False
        self.until(lambda: log.failure is None and not log.status()["waiting"])
        self.end(log)
        lines = lines_of(self.path)
        calls = [line for line in lines if line["kind"] == "call"]
        unrecorded = [line["calls"] for line in lines if line["kind"] == "unrecorded"]
        self.assertEqual(len(calls) + sum(map(int, map(str, unrecorded))), 101)
        self.assertEqual([line["code"] for line in calls].count("ok"), 1)

    def test_an_unexpected_fault_of_the_writer_ends_in_refused_calls(self) -> None:
        log = self.started()
        self.patch(ChainFile, "append", lambda _, records: 1 / 0)
        log.call_ended(an_end())
        self.until(lambda: len(self.reactor.calls) == 2)
        self.reactor.run()
        self.assertIn("ZeroDivisionError", log.failure or "")
        self.assertRaises(Problem, log.admit)
        self.successResultOf(log.stop())


class Crashing(AuditTestCase):
    def test_a_killed_agent_leaves_a_chain_that_goes_on(self) -> None:
        program = (
            "import sys; from pathlib import Path; from tests.support.audits import *;"
            "from workato_agent.audit import AuditLog;"
            "log = AuditLog(Path(sys.argv[1]), reactor=DirectReactor(),"
            "               max_size=20000, keep=10000);"
            "log.start();"
            "print('up', flush=True)\n"
            "import time\n"
            "while True: log.call_ended(an_end()); time.sleep(0.00002)"
        )
        for _ in range(5):
            process = subprocess.Popen(
                [sys.executable, "-c", program, self.path],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None
            with process.stdout:
                self.assertEqual(process.stdout.readline(), b"up\n")
                time.sleep(0.15)
                process.kill()
                process.wait()
        self.end(self.started())
        report = verified(self.path.parent)
        self.assertTrue(report.intact, report.broken)
        self.assertGreater(report.lines, 50)
