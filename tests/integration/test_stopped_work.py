"""Work that has to stop does stop, on the server too; and an answer that is cut shows it."""

from __future__ import annotations

import http.client
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from demo.deployment import Deployment
from tests.support.cutting_relay import wait_until
from tests.support.error_table import ErrorTableCase
from tests.support.landscape import CALLS_PER_TOKEN, Answer, Body

AT_ONCE = 1.0
"""Seconds within which work that nobody waits for any more has to be over."""
SLEEP = {"sql": "select pg_sleep(60), 'asleep'"}
ENDLESS = {
    "sql": "with recursive s(n) as (select 1 union all select n + 1 from s) select count(*) from s"
}
FORMATS = ("application/json", "text/csv", "application/x-ndjson")


class StoppedWorkCase(ErrorTableCase):
    def setUp(self) -> None:
        super().setUp()
        self.watcher = self.land.postgresql.connect()
        self.addCleanup(self.watcher.close)

    def asleep(self) -> int:
        """On how many of the statements PostgreSQL works."""
        with self.watcher.cursor() as cursor:
            cursor.execute(
                "select count(*) from pg_stat_activity"
                " where state = 'active' and query like '%asleep%' and pid <> pg_backend_pid()"
            )
            return int(cursor.fetchone()[0])

    def in_background(self, method: str, path: str, body: Body = None, **fields: Any) -> Background:
        return Background(lambda: self.land.call(method, path, body, **fields))

    def begin(self, method: str, path: str, body: Body = None) -> http.client.HTTPConnection:
        """A call by a caller who is going to leave."""
        connection = self.land.connect()
        self.addCleanup(connection.close)
        self.land.send(connection, method, path, body)
        return connection


class Background(threading.Thread):
    """A call in a thread."""

    def __init__(self, call: Callable[[], Answer]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.answers: list[Answer] = []
        self.start()

    def run(self) -> None:
        self.answers.append(self._call())

    def answer(self) -> Answer:
        """What came back."""
        self.join(30)
        return self.answers[0]


class Deadlines(StoppedWorkCase):
    def test_a_statement_is_stopped_on_the_server(self) -> None:
        for operation, accept in (("query", FORMATS[0]), ("query", FORMATS[1]), ("execute", "*/*")):
            path = f"database/pg/{operation}"
            call = self.in_background("POST", path, SLEEP, Accept=accept, X_Timeout="0.7")
            wait_until(lambda: self.asleep() > 0)
            answer = call.answer()
            wait_until(lambda: not self.asleep(), AT_ONCE)
            self.assert_problem("deadline_exceeded", answer, "0.7 s")
            self.assertLess(answer.seconds, 0.7 + AT_ONCE)

    def test_the_profiles_own_limit_is_named(self) -> None:
        for accept in FORMATS[:2]:
            path = "database/pg-brief/query"
            problem = self.fails("deadline_exceeded", "POST", path, SLEEP, Accept=accept)
            self.assertIn("statement_timeout is 0.3 s", problem["hint"])
            wait_until(lambda: not self.asleep(), AT_ONCE)

    def test_a_statement_of_sqlite_is_interrupted(self) -> None:
        path = "database/lite-one/query"
        self.fails("deadline_exceeded", "POST", path, ENDLESS, "0.5 s", X_Timeout="0.5")
        answer = self.land.call("POST", path, {"sql": "select 1"})  # the pool has one connection
        self.assertEqual(answer.status, 200)
        self.assertLess(answer.seconds, AT_ONCE)

    def test_a_request_to_an_application_is_given_up(self) -> None:
        application = self.land.application
        application.left.clear()
        self.fails("deadline_exceeded", "GET", "http/app/slow", None, "0.5 s", X_Timeout="0.5")
        self.assertTrue(application.left.wait(AT_ONCE))

    def test_the_query_names_the_time_as_well(self) -> None:
        path = "database/pg/query?timeout=0.5"
        self.fails("deadline_exceeded", "POST", path, SLEEP, "0.5 s", X_Timeout="60")


class CallersWhoLeave(StoppedWorkCase):
    def test_a_statement_is_stopped_on_the_server(self) -> None:
        for operation in ("query", "execute"):
            caller = self.begin("POST", f"database/pg/{operation}", SLEEP)
            wait_until(lambda: self.asleep() > 0)
            caller.close()
            wait_until(lambda: not self.asleep(), AT_ONCE)

    def test_a_statement_of_sqlite_is_interrupted(self) -> None:
        caller = self.begin("POST", "database/lite-one/query", ENDLESS)
        time.sleep(0.3)
        caller.close()
        answer = self.land.call("POST", "database/lite-one/query", {"sql": "select 1"})
        self.assertEqual(answer.status, 200)
        self.assertLess(answer.seconds, AT_ONCE)

    def test_a_request_to_an_application_is_given_up(self) -> None:
        application = self.land.application
        application.left.clear()
        application.waiting.clear()
        caller = self.begin("GET", "http/app/slow")
        self.assertTrue(application.waiting.wait(5))
        caller.close()
        self.assertTrue(application.left.wait(AT_ONCE))


class Limits(StoppedWorkCase):
    def test_all_connections_of_a_profile_are_in_use(self) -> None:
        path = "database/pg-one/query"
        first = self.in_background("POST", path, SLEEP, X_Timeout="2")
        wait_until(lambda: self.asleep() > 0)
        for accept in FORMATS:
            problem = self.fails("overloaded", "POST", path, {"sql": "select 1"}, "all 1", "0.3 s")
            self.assertIn("pool.max", problem["hint"], accept)
        first.answer()
        application = self.land.application
        application.waiting.clear()
        slow = self.in_background("GET", "http/one/slow", X_Timeout="1")
        self.assertTrue(application.waiting.wait(5))
        self.fails("overloaded", "GET", "http/one/x", None, "1 connections", "0.3 s")
        slow.answer()

    def test_a_token_has_as_many_calls_in_flight_as_it_may(self) -> None:
        token = self.land.new_token("*:*:*:*")["token"]
        calls = [
            self.in_background("POST", "database/pg/query", SLEEP, token=token, X_Timeout="1.5")
            for _ in range(CALLS_PER_TOKEN)
        ]
        wait_until(lambda: self.asleep() == CALLS_PER_TOKEN)
        limit = f"{CALLS_PER_TOKEN} calls"
        self.fails("overloaded", "GET", "database/lite", None, limit, token=token)
        self.assertEqual(self.land.call("GET", "database/lite").status, 200)
        for call in calls:
            self.assert_problem("deadline_exceeded", call.answer())
        self.assertEqual(self.land.call("GET", "database/lite", token=token).status, 200)


class CutAnswers(StoppedWorkCase):
    """Failures after the head of the answer."""

    def cut(self, method: str, path: str, body: Body = None, **fields: str) -> bytes:
        """What came of an answer of status 200 that was cut."""
        connection = self.land.connect()
        self.addCleanup(connection.close)
        self.land.send(connection, method, path, body, **fields)
        response = connection.getresponse()
        self.assertEqual(response.status, 200)
        received = b""
        try:
            while chunk := response.read1(65536):
                received += chunk
        except (http.client.IncompleteRead, ConnectionResetError):
            return received
        return self.fail(f"it looks whole: {received[-200:]!r}")

    def test_a_statement_that_fails_in_the_middle(self) -> None:
        lines = (
            "select g, repeat('x', 100) as x, 1 / (50000 - g) as y from generate_series(1, 99999) g"
        )
        numbers = (
            "with recursive s(n) as (select 1 union all select n + 1 from s where n < 99999)"
            " select n, json(case n when 50000 then '{' else '1' end) as y from s"
        )
        for profile, sql, word in (
            ("pg", lines, "division by zero"),
            ("lite", numbers, "malformed JSON"),
        ):
            for accept in FORMATS:
                path = f"database/{profile}/query"
                received = self.cut("POST", path, {"sql": sql}, Accept=accept)
                if accept != FORMATS[2]:
                    self.assertNotIn(b"row_count", received)
                    continue
                *rows, last = received.splitlines()
                self.assertGreater(len(rows), 1000)
                self.assertIn("y", json.loads(rows[-1]))
                problem = json.loads(last)
                self.assertEqual((problem["code"], problem["detail"]), ("query_failed", word))

    def test_an_application_that_breaks_off(self) -> None:
        self.assertGreater(len(self.cut("GET", "http/app/cut")), 900_000)

    def test_the_deadline_in_the_middle(self) -> None:
        endless = {
            "sql": "select repeat('x', 1000), pg_sleep(0.001) from generate_series(1, 99999)"
        }
        for accept in FORMATS:
            path = "database/pg/query"
            self.cut("POST", path, endless, Accept=accept, X_Timeout="1")


class OwnFaults(SynchronousTestCase):
    def test_a_broken_store_is_told_without_its_secrets_and_logged(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="broken-"))
        self.addCleanup(shutil.rmtree, folder)
        deployment = Deployment(folder, "g", "")
        deployment.make_gateway()
        deployment.start_gateway()
        self.addCleanup(deployment.stop)
        for path in (folder / "gateway").glob("gateway.db*"):
            path.write_bytes(b"garbage" * 10_000)
        status, body = deployment.get("/v1/groups", deployment.admin_token)
        problem = json.loads(body)
        self.assertEqual((status, problem["code"]), (500, "internal_error"))
        self.assertIn("store", problem["detail"])
        self.assertNotIn(str(folder), body.decode())
        assert deployment.gateway is not None
        log = deployment.gateway.log.read_text()
        self.assertIn(problem["request_id"], log)
        self.assertNotIn(deployment.admin_token, log)
