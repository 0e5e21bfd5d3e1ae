"""Watching a folder: what is told, in which order, and from where it goes on."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from threading import Event
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from tests.agent.test_files_cancellation import SteppedCase
from tests.agent.test_files_jail import LocalCase
from tests.agent.test_files_service import NOW, ServiceCase
from tests.support.files import (
    DirectReactor,
    InlineThreadPool,
    open_descriptors,
    request,
    start,
)
from workato_agent.services.files import inotify, watching
from workato_agent.services.files.calls import mark_text
from workato_agent.services.files.confinement import Names
from workato_agent.services.files.filesystem import Kind, Stopped
from workato_agent.services.files.inotify import Inotify
from workato_agent.services.files.posix import LocalFilesystem
from workato_agent.services.files.scanning import Mark, Scan, Sighting, Sought
from workato_agent.services.files.service import FilesService
from workato_agent.services.files.settings import FilesPolicy, FilesSettings
from workato_agent.services.files.watching import BATCH, HEARTBEAT, LOOK_EVERY, LOOKS, MAX_WATCHES

Line = dict[str, Any]
FOREVER = 1 << 62


def parsed(chunk: bytes) -> list[Line]:
    assert chunk.endswith(b"\n")
    return [json.loads(line) for line in chunk.splitlines()]


class ScanTests(LocalCase):
    def scan(
        self,
        after: Mark = (0, b""),
        before: int = FOREVER,
        limit: int = 100,
        folder: Names = (),
        recursive: bool = True,
        **more: Any,
    ) -> Sighting:
        sought = Sought(folder, recursive, lambda _: True, lambda _: True)
        stop = more.pop("stop", Event())
        return Scan(self.filesystem, sought, after, before, limit, stop, **more).thd_run()

    def paths(self, sighting: Sighting) -> list[str]:
        return ["/".join(map(os.fsdecode, names)) for _, names, _ in sighting.changes]

    def make(self, path: str, content: bytes = b"x") -> int:
        """Make a file; a moment behind all that was made before, and its own time of change."""
        before = time.time_ns()
        place = self.base / path
        place.parent.mkdir(parents=True, exist_ok=True)
        while True:
            place.write_bytes(content)
            changed = place.stat().st_ctime_ns
            if changed > before:
                return changed

    def test_changes_come_in_the_order_of_their_time(self) -> None:
        for path in ("b", "d/e/z", "a", "d/y"):
            self.make(path)
        sighting = self.scan()
        self.assertEqual(self.paths(sighting), ["b", "d/e/z", "a", "d/y"])
        self.assertFalse(sighting.more)
        self.assertIsNone(sighting.unsettled)

    def test_only_what_lies_behind_the_mark_and_is_old_enough(self) -> None:
        times = [self.make(path) for path in ("a", "b", "c", "d")]
        sighting = self.scan(after=(times[0], b"a"), before=times[2])
        self.assertEqual(self.paths(sighting), ["b"])
        self.assertEqual((sighting.mark, sighting.unsettled), ((times[2], b""), times[2]))
        self.assertEqual(self.paths(self.scan(after=sighting.mark)), ["c", "d"])

    def test_equal_times_are_told_apart_by_path(self) -> None:
        for path in ("a", "b", "c"):
            (self.base / path).write_bytes(b"x")
        now = self.make("z")
        first = self.scan(before=now, limit=1)
        found = []
        mark: Mark = (0, b"")
        for _ in range(3):
            first = self.scan(after=mark, before=now, limit=1)
            found += self.paths(first)
            mark = first.mark
        self.assertEqual(sorted(found), ["a", "b", "c"])

    def test_more_than_fit_are_told_by_the_next_look(self) -> None:
        for number in range(30):
            (self.base / f"{number:02}").write_bytes(b"x")
        found = []
        mark: Mark = (0, b"")
        more = True
        while more:
            sighting = self.scan(after=mark, limit=7)
            self.assertLessEqual(len(sighting.changes), 7)
            found += self.paths(sighting)
            mark, more = sighting.mark, sighting.more
        self.assertEqual(sorted(found), [f"{number:02}" for number in range(30)])

    def test_a_file_moved_in_with_an_old_time_is_told(self) -> None:
        old = self.outside / "old"
        old.write_bytes(b"x")
        os.utime(old, (1, 1))
        mark = (self.make("a"), b"a")
        self.make("b")
        old.rename(self.base / "moved")
        sighting = self.scan(after=mark)
        self.assertEqual(set(self.paths(sighting)), {"b", "moved"})

    def test_a_folder_moved_in_brings_its_files(self) -> None:
        (self.outside / "d" / "e").mkdir(parents=True)
        (self.outside / "d" / "e" / "x").write_bytes(b"x")
        mark = (self.make("a"), b"a")
        while time.time_ns() < mark[0] + 50_000_000:
            time.sleep(0.01)
        (self.outside / "d").rename(self.base / "d")
        sighting = self.scan(after=mark)
        self.assertEqual(self.paths(sighting), ["d/e/x"])
        self.assertEqual(self.paths(self.scan(after=sighting.mark)), [])

    def test_links_special_files_and_uploads_under_way_are_not_told(self) -> None:
        (self.base / "link").symlink_to(self.outside)
        (self.base / "to").symlink_to(self.outside / "f")
        os.mkfifo(self.base / "pipe")
        self.filesystem.resume_file((b"x",), b"key", 0).keep()
        self.assertEqual(self.paths(self.scan()), [])

    def test_a_folder_that_may_not_be_read_is_passed_over_and_one_that_is_gone_is_an_error(
        self,
    ) -> None:
        self.make("a")
        denied = self.filesystem.open_folder

        class Denying(LocalFilesystem):
            def open_folder(self, path: Names) -> Any:
                if path == (b"d",):
                    raise PermissionError(errno.EACCES, "Permission denied")
                return denied(path)

        (self.base / "d").mkdir()
        self.filesystem = Denying(self.base)
        self.assertEqual(self.paths(self.scan()), ["a"])
        self.assertRaises(OSError, self.scan, folder=(b"gone",))

    def test_a_folder_that_moves_during_the_look_is_found_where_it_went(self) -> None:
        self.make("d/a")
        before = self.make("z")
        base = self.base

        class Moving(LocalFilesystem):
            def open_folder(self, path: Names) -> Any:
                if path == (b"d",):
                    (base / "d").rename(base / "e")
                return super().open_folder(path)

        self.filesystem = Moving(self.base)
        sighting = self.scan(before=before + 1)
        self.assertEqual(set(self.paths(sighting)) | {"e/a"}, {"z", "e/a"})
        again = self.scan(after=sighting.mark)
        self.assertEqual(set(self.paths(sighting) + self.paths(again)), {"z", "e/a"})

    def test_it_stops_when_told(self) -> None:
        self.make("a")
        stop = Event()
        stop.set()
        self.assertRaises(Stopped, self.scan, stop=stop)

    def test_a_tree_of_too_many_folders_is_not_observed(self) -> None:
        self.patch(inotify, "MAX_FOLDERS", 2)
        for number in range(4):
            (self.base / f"{number}").mkdir()
        notifications = Inotify.open()
        assert notifications is not None
        self.assertFalse(self.scan(notifications=notifications).observed)
        notifications.close()
        notifications.close()


class WatchCase(ServiceCase):
    """On a clock that the test moves; the in-memory tree's time goes on by itself."""

    def setUp(self) -> None:
        self.reactor = DirectReactor()
        super().setUp()
        self.lines: Any = None

    def make(self, **policy: Any) -> FilesService:
        settings = FilesSettings(Path("/base"), FilesPolicy(**policy))
        return FilesService(
            "hr",
            settings,
            self.filesystem,
            self.reactor,
            InlineThreadPool(),
            lambda: NOW + self.reactor.seconds(),
        )

    def touch(self, path: str, seconds: float = 0.0) -> None:
        """Change a file, as if so many seconds after the clock's now."""
        names = tuple(part.encode() for part in path.split("/"))
        moment = int((NOW + self.reactor.seconds() + seconds) * 1e9)
        node = self.filesystem._spot(names).node
        if node is None:
            self.file(path)
            node = self.filesystem._spot(names).node
            assert node is not None
            node.created = moment
        node.modified = node.changed = moment

    def watch(self, path: str = "watch", query: str = "", deadline: float = 60.0) -> None:
        response = self.call(evolve(request("GET", path, query), deadline=deadline))
        self.assertEqual(dict(response.headers), {"content-type": "application/x-ndjson"})
        assert not isinstance(response.body, bytes)
        self.lines = response.body

    def next(self) -> Deferred[bytes]:
        return start(self.lines.__anext__())

    def told(self, seconds: float = 0.0) -> list[Line]:
        """The lines of the next chunk, which comes before so many seconds have gone by."""
        waiting = self.next()
        while seconds > 0 and not waiting.called:
            self.reactor.advance(0.5)
            seconds -= 0.5
        return parsed(self.successResultOf(waiting))

    def close(self) -> None:
        self.successResultOf(start(self.lines.aclose()))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.getReaders(), [])


class WatchTests(WatchCase):
    def test_only_what_changes_from_now_on_is_told_and_when_it_rests(self) -> None:
        self.touch("old", -100)
        self.watch()
        (alive,) = self.told()
        self.assertEqual(alive["type"], "alive")
        waiting = self.next()
        self.touch("new", 1)
        self.reactor.pump([0.5] * 7)
        self.assertNoResult(waiting)
        self.reactor.pump([0.5] * 13)
        (line,) = parsed(self.successResultOf(waiting))
        self.assertEqual(
            (line["type"], line["path"], line["name"], line["size"]), ("created", "new", "new", 7)
        )
        self.assertEqual(line["etag"], self.json("stat/new")["etag"])
        self.touch("new")
        (line,) = self.told(5)
        self.assertEqual((line["type"], line["path"]), ("changed", "new"))
        self.close()

    def test_a_cursor_goes_on_where_it_was(self) -> None:
        self.watch()
        (alive,) = self.told()
        self.close()
        self.touch("a", 1)
        self.touch("b", 2)
        self.reactor.advance(10)
        self.service = self.make()  # the agent was started anew
        self.watch(query=f"since={alive['cursor']}")
        self.told()
        first, second = self.told()
        self.assertEqual([first["path"], second["path"]], ["a", "b"])
        self.close()
        self.watch(query=f"since={first['cursor']}")
        self.told()
        (again,) = self.told()
        self.assertEqual(again, second)
        self.close()
        self.watch(query=f"since={second['cursor']}")
        self.told()
        waiting = self.next()
        self.assertNoResult(waiting)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)

    def test_a_sign_of_life_moves_the_cursor_on(self) -> None:
        self.watch()
        (first,) = self.told()
        (second,) = self.told(HEARTBEAT)
        self.assertEqual(second["type"], "alive")
        self.assertNotEqual(first["cursor"], second["cursor"])
        self.close()

    def test_the_call_ends_cleanly_before_its_deadline(self) -> None:
        self.watch(deadline=10.0)
        self.told()
        (end,) = self.told(9.5)
        self.assertEqual(end["type"], "end")
        self.assertLess(self.reactor.seconds(), 10.0)
        self.failureResultOf(self.next(), StopAsyncIteration)
        self.close()

    def test_a_reader_who_does_not_read_holds_nothing_up(self) -> None:
        self.watch()
        self.told()
        for number in range(200):
            self.touch(f"f{number:03}", 0.1)
        first = self.told(LOOK_EVERY)
        self.assertLess(len(first), 200)
        self.reactor.advance(30)  # nobody reads: nothing is looked for, nothing is kept
        for number in range(100):
            self.touch(f"f{number:03}")
        rest = []
        while len(rest) < 200 - len(first):
            rest += self.told()
        self.assertEqual(len({line["path"] for line in first + rest}), 200)
        self.close()

    def test_pattern_policy_and_recursion_choose(self) -> None:
        self.service = self.make(patterns=("*.csv", "open/**"))
        for folder in ("d", "open", "closed"):
            self.filesystem.add((folder.encode(),), Kind.FOLDER)
        since = mark_text((0, b""))
        for path in ("a.csv", "a.txt", "d/b.csv", "open/c.txt", "closed/d.txt"):
            self.touch(path, -50)

        def told(query: str, path: str = "watch") -> list[str]:
            self.watch(path, f"since={since}{query}")
            self.told()
            waiting = self.next()
            lines = parsed(self.successResultOf(waiting))
            self.close()
            return sorted(line["path"] for line in lines)

        self.assertEqual(told(""), ["a.csv"])
        self.assertEqual(told("&recursive=true"), ["a.csv", "d/b.csv", "open/c.txt"])
        self.assertEqual(told("&recursive=true&pattern=*.txt"), ["open/c.txt"])
        self.assertEqual(told("&pattern=*.csv", "watch/d/"), ["d/b.csv"])
        self.service = self.make(patterns=("open/**",))
        self.problem("policy_denied", self.get, "watch/closed")

    def test_what_can_not_be_watched_is_an_error_at_once(self) -> None:
        self.file("f")
        self.problem("conflict", self.get, "watch/f")
        self.problem("not_found", self.get, "watch/gone")
        for query, field in (
            ("since=x", "since"),
            ("since=MTo", "since"),
            ("since=", "since"),
            ("settle=0", "settle"),
            ("settle=-1", "settle"),
            ("settle=nan", "settle"),
            ("settle=3601", "settle"),
            ("cursor=x", "cursor"),
            ("pattern=/a", "pattern"),
        ):
            problem = self.problem("bad_request", self.get, "watch", query)
            self.assertEqual(problem.extra["field"], field, query)
        self.problem("operation_not_found", self.call, request("HEAD", "watch"))

    def test_a_folder_that_goes_away_ends_the_stream_with_its_error(self) -> None:
        self.filesystem.add((b"d",), Kind.FOLDER)
        self.watch("watch/d")
        self.told()
        waiting = self.next()
        self.delete("content/d")
        self.reactor.advance(LOOK_EVERY + 1)
        problem = self.failureResultOf(waiting).value
        self.assertEqual(problem.code, "not_found")
        self.close()

    def test_a_cancel_releases_everything(self) -> None:
        self.watch()
        self.told()
        waiting = self.next()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.close()

    def test_there_are_no_more_than_so_many(self) -> None:
        watches = []
        for _ in range(MAX_WATCHES):
            self.watch()
            self.told()
            watches.append(self.lines)
        self.problem("overloaded", self.get, "watch")
        for lines in watches:
            self.successResultOf(start(lines.aclose()))
        self.watch()
        self.told()
        self.close()

    def test_many_changes_are_held_in_portions(self) -> None:
        self.patch(watching, "BATCH", 10)
        self.assertGreater(BATCH, 10)
        for number in range(35):
            self.touch(f"{number:02}", -50)
        self.watch(query=f"since={mark_text((0, b''))}")
        self.told()
        lines = []
        while len(lines) < 35:
            chunk = self.told()
            self.assertLessEqual(len(chunk), 10)
            lines += chunk
        self.assertEqual([line["path"] for line in lines], [f"{n:02}" for n in range(35)])
        self.close()


class LookTests(SteppedCase):
    def test_few_look_at_a_time_and_a_cancel_gives_the_turn_on(self) -> None:
        opened: list[Any] = []
        for _ in range(5):
            opening = start(self.service.handle(request("GET", "watch")))
            opened.append(self.finish(opening).body)
        for lines in opened:
            self.successResultOf(start(lines.__anext__()))
        calls = [start(lines.__anext__()) for lines in opened]
        self.assertEqual(len(self.pool.waiting), LOOKS)
        for call in calls[:-1]:
            call.cancel()
        self.pool.run_all()
        for call in calls[:-1]:
            self.failureResultOf(call, CancelledError)
        self.assertNoResult(calls[-1])
        calls[-1].cancel()
        self.failureResultOf(calls[-1], CancelledError)
        self.nothing_is_left()


class ObservedTests(TestCase):
    """On a real folder, real threads and the real reactor."""

    timeout = 60

    def setUp(self) -> None:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.base = Path(folder)
        self.pool = ThreadPool(0, 4)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.service = FilesService(
            "hr", FilesSettings(self.base), LocalFilesystem(self.base), reactor, self.pool
        )

    async def watch(self, query: str = "recursive=true&settle=0.2", seconds: float = 60) -> Any:
        deadline = reactor.seconds() + seconds
        asked = evolve(request("GET", "watch", query), deadline=deadline)
        response = await start(self.service.handle(asked))
        self.assertEqual(parsed(await response.body.__anext__())[0]["type"], "alive")
        return response.body

    async def collect(self, lines: Any, paths: set[str]) -> list[Line]:
        """Read on until all of these have been told."""
        told: list[Line] = []
        while not paths <= {line.get("path") for line in told}:
            told += parsed(await lines.__anext__())
        return told

    async def test_changes_are_told_soon_and_once_they_rest(self) -> None:
        self.patch(watching, "LOOK_EVERY", 50.0)  # only the system's word can wake us
        lines = await self.watch("recursive=true&settle=1")
        collected = start(self.collect(lines, {"a", "d/b"}))
        await deferLater(reactor, 0.5)
        (self.base / "a").write_bytes(b"one")
        (self.base / "d").mkdir()
        await deferLater(reactor, 0.1)
        writer = (self.base / "d" / "b").open("wb", buffering=0)
        for _ in range(8):
            writer.write(b"x" * 100)
            await deferLater(reactor, 0.05)
        writer.close()
        told = await collected
        (line,) = [line for line in told if line.get("path") == "d/b"]
        self.assertEqual((line["size"], line["type"]), (800, "created"))
        await lines.aclose()

    async def test_without_the_systems_word_it_is_polled(self) -> None:
        self.patch(Inotify, "open", classmethod(lambda cls: None))
        self.patch(watching, "LOOK_EVERY", 0.2)
        lines = await self.watch()
        (self.base / "a").write_bytes(b"one")
        await self.collect(lines, {"a"})
        await lines.aclose()

    async def test_no_change_is_missed_across_calls_and_starts(self) -> None:
        self.patch(watching, "LOOK_EVERY", 0.2)
        expected: set[str] = set()
        lines = await self.watch()
        cursor = ""
        told: set[str] = set()
        for turn in range(4):
            for number in range(25):
                name = f"{turn}-{number}"
                (self.base / name).write_bytes(b"x")
                expected.add(name)
                if number % 5 == 0:
                    await deferLater(reactor, 0.01)
            chunk = parsed(await lines.__anext__())
            told |= {line["path"] for line in chunk if "path" in line}
            cursor = chunk[-1]["cursor"]
            await lines.aclose()
            self.service = FilesService(
                "hr", FilesSettings(self.base), LocalFilesystem(self.base), reactor, self.pool
            )
            lines = await self.watch(f"recursive=true&settle=0.2&since={cursor}")
        while told != expected:
            chunk = parsed(await lines.__anext__())
            told |= {line["path"] for line in chunk if "path" in line}
        await lines.aclose()

    async def test_a_cancel_at_any_moment_leaves_no_descriptor(self) -> None:
        for number in range(200):
            (self.base / f"{number}").mkdir()
        await (await self.watch()).aclose()
        before = open_descriptors()
        for delay in range(10):
            lines = await self.watch("recursive=true&settle=0.1")
            (self.base / "a").write_bytes(b"x")
            waiting = start(lines.__anext__())
            await deferLater(reactor, delay * 0.002)
            waiting.cancel()
            with contextlib.suppress(CancelledError):
                await waiting
            await lines.aclose()
        self.assertEqual(open_descriptors(), before)
