"""Cancels at every moment, failing callers, and what is left of them: nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.files import (
    Chunks,
    DirectReactor,
    PacedBody,
    SteppedThreadPool,
    open_descriptors,
    request,
    start,
    whole,
)
from workato_agent.requests import BodyLost, Response
from workato_agent.services.files.posix import LocalFilesystem
from workato_agent.services.files.service import FilesService
from workato_agent.services.files.settings import FilesSettings
from workato_agent.services.files.transfers import (
    BUDGET,
    LARGEST_BLOCK,
    SMALLEST_BLOCK,
    Transfers,
)
from workato_tunnel.problems import Problem

BIG = b"0123456789abcdef" * 65536 * 4  # 4 MiB


class SteppedCase(SynchronousTestCase):
    """A service on a real folder whose thread calls run when the test says so."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base = Path(folder.name)
        self.pool = SteppedThreadPool()
        self.before = open_descriptors()
        self.service = FilesService(
            "hr",
            FilesSettings(self.base),
            LocalFilesystem(self.base),
            DirectReactor(),
            self.pool,
        )
        self.finish(start(self.service.handle(request("GET", "list"))))

    def finish(self, call: Deferred[Any]) -> Any:
        self.pool.run_all()
        return self.successResultOf(call)

    def names(self) -> list[str]:
        return sorted(place.name for place in self.base.iterdir())

    def nothing_is_left(self) -> None:
        self.assertEqual(self.pool.waiting, [])
        self.assertEqual(open_descriptors(), self.before)


class DownloadTests(SteppedCase):
    def opened(self) -> Response:
        (self.base / "f").write_bytes(BIG)
        response: Response = self.finish(start(self.service.handle(request("GET", "content/f"))))
        return response

    def test_cancel_while_the_file_is_being_opened_closes_it(self) -> None:
        (self.base / "f").write_bytes(BIG)
        call = start(self.service.handle(request("GET", "content/f")))
        call.cancel()
        self.assertNoResult(call)  # the thread is still at work
        self.pool.run_all()
        self.failureResultOf(call, CancelledError)
        self.nothing_is_left()

    def test_body_that_is_never_read_is_closed_by_aclose(self) -> None:
        response = self.opened()
        self.finish(start(response.body.aclose()))
        self.finish(start(response.body.aclose()))
        self.nothing_is_left()

    def test_one_block_is_read_ahead_and_no_more(self) -> None:
        response = self.opened()
        block = start(response.body.__anext__())
        self.assertEqual(len(self.pool.waiting), 1)
        self.pool.step()
        self.assertEqual(self.successResultOf(block), BIG[: 128 * 1024])
        self.assertEqual(len(self.pool.waiting), 1)
        self.pool.step()
        self.assertEqual(self.pool.waiting, [])
        self.finish(start(response.body.aclose()))
        self.nothing_is_left()

    def test_close_waits_for_the_read_under_way(self) -> None:
        response = self.opened()
        block = start(response.body.__anext__())
        self.pool.step()
        self.successResultOf(block)
        closing = start(response.body.aclose())
        self.assertNoResult(closing)
        self.assertEqual(len(self.pool.waiting), 1)  # the read ahead; the close comes after it
        self.pool.step()
        self.assertEqual(len(self.pool.waiting), 1)
        self.finish(closing)
        self.nothing_is_left()

    def test_cancel_while_a_block_is_being_read_closes_the_file_after_it(self) -> None:
        response = self.opened()
        call = start(whole(response))
        for _ in range(3):
            self.pool.step()
        call.cancel()
        self.assertNoResult(call)
        call.cancel()  # impatience changes nothing
        self.assertNoResult(call)
        self.pool.run_all()
        self.failureResultOf(call, CancelledError)
        self.nothing_is_left()

    def test_body_read_to_its_end_has_closed_the_file(self) -> None:
        response = self.opened()
        self.assertEqual(self.finish(start(whole(response))), BIG)
        self.nothing_is_left()

    def test_file_that_shrinks_is_closed(self) -> None:
        response = self.opened()
        (self.base / "f").write_bytes(b"short")
        call = start(whole(response))
        self.pool.run_all()
        self.failureResultOf(call, Problem)
        self.nothing_is_left()


class UploadTests(SteppedCase):
    def upload(self, body: object) -> Deferred[Response]:
        return start(self.service.handle(request("PUT", "content/f", body=body)))

    def test_cancel_while_the_temporary_file_is_being_made_removes_it(self) -> None:
        call = self.upload(PacedBody())
        call.cancel()
        self.assertNoResult(call)
        self.pool.run_all()
        self.failureResultOf(call, CancelledError)
        self.assertEqual(self.names(), [])
        self.nothing_is_left()

    def test_cancel_between_chunks_removes_the_temporary_file(self) -> None:
        body = PacedBody()
        call = self.upload(body)
        self.pool.run_all()
        body.give(b"x" * 65536)
        self.assertEqual(len(self.names()), 1)
        call.cancel()
        self.pool.run_all()
        self.failureResultOf(call, CancelledError)
        self.assertEqual(self.names(), [])
        self.nothing_is_left()

    def test_cancel_while_a_block_is_being_written_waits_and_then_removes(self) -> None:
        body = PacedBody()
        call = self.upload(body)
        self.pool.run_all()
        for _ in range(LARGEST_BLOCK // 65536):
            body.give(b"x" * 65536)
        self.assertEqual(len(self.pool.waiting), 1)  # the write
        call.cancel()
        self.assertNoResult(call)
        self.assertEqual(len(self.pool.waiting), 1)  # not yet joined by the removal
        self.pool.run_all()
        self.failureResultOf(call, CancelledError)
        self.assertEqual(self.names(), [])
        self.nothing_is_left()

    def test_no_more_than_two_blocks_are_held(self) -> None:
        body = PacedBody()
        call = self.upload(body)
        self.pool.run_all()
        given = 0
        while body.waiting is not None and given < 100:
            body.give(b"x" * 65536)
            given += 1
        self.assertEqual(given * 65536, 2 * LARGEST_BLOCK)
        self.pool.step()
        self.assertIsNotNone(body.waiting)
        call.cancel()
        self.pool.run_all()
        self.failureResultOf(call, CancelledError)
        self.nothing_is_left()

    def test_cancel_before_the_last_step_leaves_the_old_content(self) -> None:
        (self.base / "f").write_bytes(b"old")
        body = PacedBody()
        call = self.upload(body)
        self.pool.run_all()
        body.give(b"new")
        body.give(None)
        self.assertEqual(len(self.pool.waiting), 1)  # the commit
        call.cancel()
        self.pool.run_all()
        self.failureResultOf(call, CancelledError)
        self.assertEqual((self.base / "f").read_bytes(), b"old")
        self.assertEqual(self.names(), ["f"])
        self.nothing_is_left()

    def test_caller_who_leaves_leaves_nothing(self) -> None:
        body = PacedBody()
        call = self.upload(body)
        self.pool.run_all()
        for _ in range(LARGEST_BLOCK // 65536 + 3):
            body.give(b"x" * 65536)
        body.lose()
        self.pool.run_all()
        self.failureResultOf(call, BodyLost)
        self.assertEqual(self.names(), [])
        self.nothing_is_left()


class ListTests(SteppedCase):
    def test_cancelled_list_stops_reading(self) -> None:
        for number in range(300):
            (self.base / f"{number}").mkdir()
        call = start(self.service.handle(request("GET", "list", "recursive=true")))
        call.cancel()
        self.assertNoResult(call)
        self.pool.run_all()
        self.failureResultOf(call, CancelledError)
        self.nothing_is_left()


class CloseTests(SteppedCase):
    def test_close_ends_the_search_for_leftovers(self) -> None:
        (self.base / "d").mkdir()
        rounds: list[float] = []

        class Endless(LocalFilesystem):
            def remove_leftovers(self, seconds: float) -> bool:
                rounds.append(seconds)
                return super().remove_leftovers(-1) and False

        service = FilesService(
            "hr", FilesSettings(self.base), Endless(self.base), DirectReactor(), self.pool
        )
        call = start(service.handle(request("GET", "list")))
        self.pool.step()
        self.pool.step()
        closing = start(service.close())
        self.assertNoResult(closing)
        self.finish(closing)
        self.successResultOf(call)
        self.assertLessEqual(len(rounds), 3)
        self.nothing_is_left()


class BlockTests(SynchronousTestCase):
    def test_blocks_shrink_as_transfers_grow_in_number(self) -> None:
        transfers = Transfers()
        self.assertEqual(transfers.block(), LARGEST_BLOCK)
        sizes = []
        for _ in range(300):
            transfers.begin()
            sizes.append(transfers.block())
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        self.assertEqual(sizes[-1], SMALLEST_BLOCK)
        for number, size in enumerate(sizes[: BUDGET // (2 * SMALLEST_BLOCK)], start=1):
            self.assertLessEqual(2 * number * size, BUDGET)
        for _ in range(300):
            transfers.end()
        self.assertEqual(transfers.block(), LARGEST_BLOCK)


class ThreadedTests(TestCase):
    """On real threads and the real reactor."""

    timeout = 60

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base = Path(folder.name)
        self.pool = ThreadPool(0, 4)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.service = FilesService(
            "hr", FilesSettings(self.base), LocalFilesystem(self.base), reactor, self.pool
        )

    def handle(self, *args: Any, **kwargs: Any) -> Deferred[Response]:
        return start(self.service.handle(request(*args, **kwargs)))

    async def test_what_goes_up_comes_down(self) -> None:
        chunks = [BIG[at : at + 65536] for at in range(0, len(BIG), 65536)] * 3
        response = await self.handle("PUT", "content/f", body=Chunks(chunks))
        self.assertEqual(response.status, 201)
        self.assertEqual(await whole(await self.handle("GET", "content/f")), BIG * 3)

    async def test_calls_cut_at_random_leave_no_descriptor_and_no_file(self) -> None:
        (self.base / "f").write_bytes(BIG)
        await whole(await self.handle("GET", "content/f"))
        before = open_descriptors()

        def endless() -> Iterator[bytes]:
            for _ in range(200):
                yield b"x" * 65536

        for delay in range(40):
            calls = [
                start(self._download()),
                self.handle("PUT", "content/new", body=Chunks(endless())),
                self.handle("PUT", "content/lost", body=Chunks([b"x" * 65536] * 20, lost=True)),
                self.handle("GET", "list", "recursive=true"),
            ]
            pause: Deferred[None] = Deferred()
            reactor.callLater(delay * 0.0005, pause.callback, None)
            await pause
            for call in calls:
                call.cancel()
            for call in calls:
                try:
                    await call
                except (CancelledError, BodyLost):
                    continue
        self.assertEqual(open_descriptors(), before)
        left = {place.name for place in self.base.iterdir()} - {"f", "new"}
        self.assertEqual(left, set())

    async def _download(self) -> bytes:
        response = await self.service.handle(request("GET", "content/f"))
        try:
            return await whole(response)
        finally:
            if not isinstance(response.body, bytes):
                await response.body.aclose()
