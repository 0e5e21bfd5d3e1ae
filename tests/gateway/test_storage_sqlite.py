"""The SQLite store: its file, its schema's versions, its thread, other processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.folders import folder_for
from tests.support.stores import NOW, StoreCase
from workato_gateway.storage.interface import Group, Kind, StoreError, Transaction
from workato_gateway.storage.migrate import APPLICATION_ID, Migration, migrate, shipped_migrations
from workato_gateway.storage.sqlite import SqliteStore, check_file, create_file
from workato_gateway.storage.threads import OwnThread
from workato_tunnel.problems import Problem

reactor: Any = _reactor

KILLED = """
import os, sys
from pathlib import Path
from twisted.internet.defer import Deferred
from workato_gateway.storage.interface import Group
from workato_gateway.storage.sqlite import SqliteStore

store = SqliteStore.open_here(Path(sys.argv[1]))
number = 0

async def go():
    global number
    while True:
        number += 1
        await store.write(lambda rows: rows.add_group(Group(f"g{number}", (), 0.0)))
        os.write(1, b"%d\\n" % number)

Deferred.fromCoroutine(go())
"""


class Files(StoreCase):
    def test_only_its_owner_reads_it_and_the_files_beside_it(self) -> None:
        self.result(self.store.write(lambda rows: rows.add_group(Group("g", (), NOW))))
        modes = {path.name: path.stat().st_mode & 0o777 for path in self.folder.iterdir()}
        self.assertEqual(set(modes), {"gateway.db", "gateway.db-wal", "gateway.db-shm"})
        self.assertEqual(set(modes.values()), {0o600})

    def test_an_existing_file_is_not_created_over(self) -> None:
        with self.assertRaisesRegex(StoreError, r"gateway\.db: File exists"):
            SqliteStore.open_here(self.folder / "gateway.db", create=True)

    def test_a_missing_file_is_not_made_by_opening(self) -> None:
        with self.assertRaisesRegex(StoreError, r"none\.db: .*check that it exists"):
            SqliteStore.open_here(self.folder / "none.db")
        self.assertFalse((self.folder / "none.db").exists())

    def test_a_file_that_is_no_database_is_refused(self) -> None:
        path = self.folder / "text.db"
        path.write_text("no database " * 100)
        with self.assertRaisesRegex(StoreError, r"text\.db: file is not a database"):
            SqliteStore.open_here(path)

    def test_odd_characters_in_the_path_are_no_parameters(self) -> None:
        path = self.folder / "a?mode=ro#%41.db"
        store = SqliteStore.open_here(path, create=True)
        self.result(store.write(lambda rows: rows.add_group(Group("g", (), NOW))))
        self.result(store.close())
        self.assertTrue(path.exists())

    def test_another_process_changes_are_seen(self) -> None:
        other = SqliteStore.open_here(self.folder / "gateway.db")
        point = self.result(self.store.read(lambda rows: rows.changes_after(None))).latest
        self.result(other.write(lambda rows: rows.add_group(Group("g", (), NOW))))
        changes = self.result(self.store.read(lambda rows: rows.changes_after(point)))
        self.assertEqual(changes.subjects, {(Kind.GROUP, "g")})
        self.result(other.close())

    def test_a_copy_made_while_it_is_used_is_whole(self) -> None:
        self.result(self.store.write(lambda rows: rows.add_group(Group("g", (), NOW))))
        source = sqlite3.connect(self.folder / "gateway.db")
        target = sqlite3.connect(self.folder / "copy.db")
        source.backup(target)
        source.close()
        target.close()
        copy = SqliteStore.open_here(self.folder / "copy.db")
        self.assertEqual(len(self.result(copy.read(lambda rows: rows.groups()))), 1)
        self.result(copy.close())

    def test_what_was_answered_survives_kill_9(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(self.folder / "gateway.db")],
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            for _ in range(20):
                last = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
        last = int(rest[-1]) if rest else last
        groups = self.result(self.store.read(lambda rows: rows.groups()))
        self.assertIn(len(groups), (last, last + 1))


class Versions(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = folder_for(self) / "s.db"
        create_file(self.path)
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(self.connection.close)

    def user_version(self) -> int:
        version: int = self.connection.execute("PRAGMA user_version").fetchone()[0]
        return version

    def test_the_shipped_steps_are_numbered_without_a_gap(self) -> None:
        steps = shipped_migrations()
        self.assertEqual([step.version for step in steps], list(range(1, len(steps) + 1)))

    def test_every_table_is_strict(self) -> None:
        migrate(self.connection, shipped_migrations())
        tables = self.connection.execute(
            "SELECT name, strict FROM pragma_table_list WHERE schema = 'main'"
            " AND name NOT LIKE 'sqlite%'"
        ).fetchall()
        self.assertGreater(len(tables), 5)
        self.assertEqual({strict for _, strict in tables}, {1})

    def test_steps_are_applied_in_order_and_once(self) -> None:
        steps = [
            Migration(1, "1.sql", "CREATE TABLE a (x TEXT) STRICT; INSERT INTO a VALUES ('1;');"),
            Migration(2, "2.sql", "INSERT INTO a VALUES ('2');\n-- the end"),
        ]
        self.assertEqual(migrate(self.connection, steps[:1]), 0)
        self.assertEqual(migrate(self.connection, steps), 1)
        self.assertEqual(migrate(self.connection, steps), 2)
        self.assertEqual(self.connection.execute("SELECT x FROM a").fetchall(), [("1;",), ("2",)])
        self.assertEqual(self.user_version(), 2)

    def test_a_step_that_fails_leaves_nothing(self) -> None:
        steps = [Migration(1, "1.sql", "CREATE TABLE a (x TEXT) STRICT;\nCREATE TABLE a (x);\n")]
        with self.assertRaisesRegex(StoreError, r"1\.sql failed: table a already exists"):
            migrate(self.connection, steps)
        count = self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        self.assertEqual((count, self.user_version()), (0, 0))

    def test_a_newer_schema_is_refused_and_left_alone(self) -> None:
        check_file(self.path)
        self.connection.execute("PRAGMA user_version = 999")
        for attempt in (check_file, SqliteStore.open_here):
            with self.assertRaisesRegex(StoreError, r"s\.db: its schema has version 999.*newer"):
                attempt(self.path)
        self.assertEqual(self.user_version(), 999)

    def test_a_command_does_not_bring_an_older_schema_up_to_date(self) -> None:
        self.connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        with self.assertRaisesRegex(StoreError, "start the gateway once"):
            SqliteStore.open_here(self.path)
        self.assertEqual(self.user_version(), 0)

    def test_another_programs_database_is_refused(self) -> None:
        self.connection.execute("CREATE TABLE theirs (x)")
        with self.assertRaisesRegex(StoreError, "another program"):
            check_file(self.path)

    def test_two_processes_may_bring_it_up_to_date_at_once(self) -> None:
        failures: list[Exception] = []

        def upgrade() -> None:
            try:
                check_file(self.path)
            except StoreError as error:
                failures.append(error)

        threads = [threading.Thread(target=upgrade) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(self.user_version(), len(shipped_migrations()))


class ThreadOfItsOwn(TestCase):
    def setUp(self) -> None:
        self.thread = OwnThread(reactor, max_waiting=3)
        self.gate = threading.Event()
        self.addCleanup(self.thread.stop)
        self.addCleanup(self.gate.set)

    async def test_the_reactor_goes_on_while_the_database_is_slow(self) -> None:
        slow = self.thread.run(self.gate.wait)
        await deferLater(reactor, 0)
        self.gate.set()
        self.assertTrue(await slow)

    async def test_work_that_is_cancelled_before_its_turn_never_runs(self) -> None:
        ran: list[str] = []
        slow = self.thread.run(self.gate.wait)
        dropped = self.thread.run(lambda: ran.append("dropped"))
        kept = self.thread.run(lambda: ran.append("kept"))
        dropped.cancel()
        with self.assertRaises(CancelledError):
            await dropped
        self.gate.set()
        await slow
        await kept
        self.assertEqual(ran, ["kept"])

    async def test_work_that_has_begun_is_finished_though_cancelled(self) -> None:
        begun, ran = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            self.gate.wait()
            ran.set()

        cut = self.thread.run(work)
        while not begun.is_set():
            await deferLater(reactor, 0.001)
        cut.cancel()
        with contextlib.suppress(CancelledError):
            await cut
        self.gate.set()
        await self.thread.run(lambda: None)
        self.assertTrue(ran.is_set())

    async def test_too_much_waiting_work_is_refused(self) -> None:
        waiting = [self.thread.run(self.gate.wait) for _ in range(3)]
        with self.assertRaises(Problem) as caught:
            self.thread.run(lambda: None)
        self.assertEqual(caught.exception.code, "overloaded")
        self.gate.set()
        for each in waiting:
            await each
        self.assertEqual(await self.thread.run(lambda: 5), 5)

    async def test_a_store_is_refused_when_its_file_is(self) -> None:
        store = SqliteStore.beside(Path(os.devnull) / "none", reactor)
        with self.assertRaises(StoreError):
            await store.open()
        await store.close()

    async def test_units_run_one_after_another(self) -> None:
        path = folder_for(self) / "s.db"
        create_file(path)
        store = SqliteStore.beside(path, reactor)

        def add(number: int) -> Deferred[None]:
            def work(rows: Transaction) -> None:
                rows.add_group(Group(f"g{len(rows.groups())}", (), NOW))

            return Deferred.fromCoroutine(store.write(work))

        for each in [add(number) for number in range(50)]:
            await each
        groups = await store.read(lambda rows: rows.groups())
        self.assertEqual({g.name for g in groups}, {f"g{n}" for n in range(50)})
        await store.close()
