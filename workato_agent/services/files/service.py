"""The files of one folder, served as ``docs/services/files.md`` says."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from threading import Event
from typing import Final

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger

from workato_tunnel.problems import Problem

from ...requests import Request, Response
from .access import Access, check_unchanged
from .answers import (
    content_type,
    encoded_response,
    entry,
    json_response,
    precondition_failed,
    validator_fields,
)
from .appending import PendingAppend
from .calls import (
    MAX_CHANGE,
    Change,
    ListParameters,
    WatchParameters,
    boolean,
    operation_of,
    parameters_of,
    path_of,
    refuse_partial,
)
from .changing import Changing
from .conditions import Conditions, Verdict
from .confinement import Names
from .csvrows import MAX_BODY, composed, decode_row
from .filesystem import BaseUnavailable, Facts, Filesystem, Kind
from .reading import FileBody
from .selection import Ask, Selection
from .settings import OPERATIONS, FilesSettings
from .threads import ThreadPool, Threads
from .transfers import Transfers
from .uploads import Uploads
from .watching import LOOKS, MAX_WATCHES, FilesReactor, Watch
from .writing import expected_digest

log = Logger()

WINDOWS: Final = sys.platform == "win32"
SEARCH_SECONDS: Final = 0.25
"""For how long at a time leftovers are searched; the first call waits for one such portion."""

EXPIRE_EVERY: Final = 3600.0
"""Seconds between two looks at the uploads that are kept, whether one is too old."""


class FilesService:
    """Serves one profile of the ``files`` section (a ``ProfileService``).

    :param pool: for every blocking call; started and stopped by its owner. A file server that hangs
        holds its threads, so profiles on different disks are best given pools of their own.
    :param filesystem: of the settings' base.
    :param now: Unix seconds.

    Raises ValueError for a malformed pattern of the policy.
    """

    type = "local"

    def __init__(
        self,
        profile: str,
        settings: FilesSettings,
        filesystem: Filesystem,
        reactor: FilesReactor,
        pool: ThreadPool,
        now: Callable[[], float] = time.time,
    ) -> None:
        allowed = settings.policy.operations
        self.operations = tuple(
            name for name in OPERATIONS if allowed is None or name in ("test", *allowed)
        )
        self._profile = profile
        self._settings = settings
        self._filesystem = filesystem
        self._access = Access(settings, filesystem)
        self._changing = Changing(self._access)
        self._threads = Threads(reactor, pool)
        self._transfers = Transfers()
        self._now = now
        self._reactor = reactor
        self._watches = 0
        self._looks = DeferredSemaphore(LOOKS)
        self._uploads = Uploads(
            self._access, self._threads, self._transfers, settings.policy.max_bytes, now
        )
        self._expire_at = now() + EXPIRE_EVERY
        self._closing = False
        # Else nothing of ours can lie there.
        self._searched = not {"write", "copy"} & set(self.operations)
        self._search: Deferred[None] | None = None

    def operation(self, request: Request) -> str:
        """One of ``settings.OPERATIONS``. Raises Problem ``operation_not_found``."""
        return operation_of(request.method, request.path)

    async def handle(self, request: Request) -> Response:
        """Serve a call. Raises Problem."""
        operation = self.operation(request)
        path = path_of(request, windows=WINDOWS)
        if not self._searched:
            await self._begin_search()
        if self._now() >= self._expire_at:
            self._expire_at = self._now() + EXPIRE_EVERY
            await self._threads.run(self._filesystem.expire_kept)
        if operation == "list":
            return await self._list(request, path)
        if operation == "read":
            return await self._read(request, path)
        if operation == "write":
            return await self._write(request, path)
        if operation == "delete":
            return await self._delete(request, path)
        if operation == "append":
            return await self._append(request, path)
        if operation == "csv":
            return await self._csv(request, path)
        if operation == "watch":
            return await self._watch(request, path)
        if operation in ("move", "copy"):
            return await self._move_or_copy(request, operation)
        parameters_of(request)
        if operation == "folders":
            require_name(path, "made")
            made = await self._threads.run(self._changing.thd_make_folders, path)
            return Response(201 if made else 204, (("content-length", "0"),) if made else ())
        if operation == "stat":
            found = await self._threads.run(self._access.thd_stat, path)
            return json_response(request, entry(path, found.facts))
        return await self._test(request)

    async def close(self) -> None:
        """End the search for leftovers. Calls in flight have ended by then."""
        self._closing = True
        if self._search is not None:
            await self._search
        self._filesystem.close()

    async def _test(self, request: Request) -> Response:
        facts = await self._threads.run(self._access.thd_check)
        return json_response(
            request,
            {"ok": True, "target": facts.target, "writable": facts.writable, "free": facts.free},
        )

    async def _list(self, request: Request, path: Names) -> Response:
        wanted = ListParameters.of(request)
        stop = Event()
        call = self._threads.start_stoppable(stop, self._access.thd_list, path, wanted, stop)
        body, rows = await call.result()
        request.usage.rows = rows
        return encoded_response(request, body)

    async def _watch(self, request: Request, path: Names) -> Response:
        wanted = WatchParameters.of(request)
        await self._threads.run(self._access.thd_require_folder, path, "watching")
        if self._watches >= MAX_WATCHES:
            raise Problem(
                "overloaded",
                f"{MAX_WATCHES} calls watch this profile already",
                hint="End those that nobody needs, or watch a folder above with recursive=true.",
                retry_after=10,
            )
        watch = Watch.of(
            self._access,
            self._threads,
            self._looks,
            self._reactor,
            self._now,
            request,
            path,
            wanted,
        )
        return Response(
            200, (("content-type", "application/x-ndjson"),), self._watched(watch.lines())
        )

    async def _watched(self, lines: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        self._watches += 1
        try:
            async for line in lines:
                yield line
        finally:
            self._watches -= 1
            await lines.aclose()

    async def _read(self, request: Request, path: Names) -> Response:
        parameters_of(request)
        require_name(path, "read")
        self._access.approve(path, Kind.FILE)
        ask = Ask(
            path=path,
            conditions=Conditions.of(request.headers),
            range=request.header("range"),
            body=request.method == "GET",
            now=self._now(),
            approve=self._access.approve_reading,
        )
        opening = self._threads.start(self._access.thd_select, ask)
        selection = await self._threads.acquire(Selection.close, opening)
        return self._selected(ask, selection)

    def _selected(self, ask: Ask, selection: Selection) -> Response:
        facts = selection.found.facts
        fields = validator_fields(facts.validators, ask.now)
        if selection.verdict is Verdict.NOT_MODIFIED:
            return Response(304, fields)
        if selection.verdict is Verdict.FAILED:
            raise precondition_failed(ask.path, facts.validators)
        span = selection.span
        length = facts.size if span is None else span.length
        headers = (
            ("content-type", content_type(ask.path)),
            ("content-length", str(length)),
            ("accept-ranges", "bytes"),
            *fields,
        )
        status = 200
        if span is not None and selection.partial:
            status = 206
            headers = (*headers, ("content-range", span.content_range(facts.size)))
        body: bytes | AsyncIterator[bytes] = selection.content
        if span is not None and selection.file is not None:
            body = FileBody(self._threads, self._transfers, selection.file, ask.path, span)
        return Response(status, headers, body)

    async def _write(self, request: Request, path: Names) -> Response:
        require_name(path, "written")
        if request.method == "PUT":
            return await self._uploads.put(request, path)
        self._access.approve(path, Kind.FILE)
        if request.method == "DELETE":
            return await self._uploads.drop(request, path)
        return await self._uploads.size(request, path)

    async def _append(self, request: Request, path: Names) -> Response:
        parameters_of(request)
        require_name(path, "appended to")
        refuse_partial(request)
        conditions = Conditions.of(request.headers)
        self._access.approve(path, Kind.FILE)
        digest = expected_digest(request.header("content-digest"))
        pending = PendingAppend(self._changing, path)
        upload = self._uploads.receiving(pending, path, request, conditions, digest)
        return self._changed(request, path, *await upload.receive(request.body))

    async def _csv(self, request: Request, path: Names) -> Response:
        parameters_of(request)
        require_name(path, "appended to")
        conditions = Conditions.of(request.headers)
        self._access.approve(path, Kind.FILE)
        row = decode_row(await request.body.read(MAX_BODY))

        def approve(existing: Facts | None) -> None:
            check_unchanged(path, conditions, existing)

        appended = await self._threads.run(
            self._changing.thd_append, path, partial(composed, row, path), approve
        )
        request.usage.rows = 1
        return self._changed(request, path, *appended)

    async def _move_or_copy(self, request: Request, operation: str) -> Response:
        parameters_of(request)
        conditions = Conditions.of(request.headers)
        change = Change.of(await request.body.read(MAX_CHANGE), windows=WINDOWS)
        if operation == "move":
            facts = await self._threads.run(self._changing.thd_move, change, conditions)
            return self._changed(request, change.target, facts, new=False)
        stop = Event()
        copying = self._threads.start_stoppable(
            stop, self._changing.thd_copy, change, conditions, stop
        )
        return self._changed(request, change.target, *await copying.result())

    @staticmethod
    def _changed(request: Request, path: Names, facts: Facts, new: bool) -> Response:
        answer = json_response(request, entry(path, facts))
        return evolve(answer, status=201) if new else answer

    async def _delete(self, request: Request, path: Names) -> Response:
        recursive = boolean(parameters_of(request, "recursive"), "recursive")
        require_name(path, "removed")
        conditions = Conditions.of(request.headers)
        self._access.approve(path, None)
        if recursive:
            stop = Event()
            await self._threads.start_stoppable(
                stop, self._changing.thd_remove_tree, path, conditions, stop
            ).result()
        else:
            await self._threads.run(self._access.thd_remove, path, conditions)
        return Response(204)

    async def _begin_search(self) -> None:
        """Look for what uploads of a killed agent left; if that takes long, behind later calls."""
        self._searched = True
        portion: Deferred[None] = Deferred()
        self._search = Deferred.fromCoroutine(self._search_leftovers(portion))
        await portion

    async def _search_leftovers(self, portion: Deferred[None]) -> None:
        """:param portion: fires when the first portion is done. The first call waits for it."""
        try:
            finished = False
            while not (finished or self._closing):
                finished = await self._threads.run(
                    self._filesystem.remove_leftovers, SEARCH_SECONDS
                )
                if not portion.called:
                    portion.callback(None)
        except BaseUnavailable as error:
            self._searched = False  # the call itself says so; the next one may find the base
            log.debug(
                "files {profile}: no base to search: {error}",
                event="leftovers_no_base",
                profile=self._profile,
                error=error,
            )
        except OSError as error:
            log.warn(
                "files {profile}: the search for leftovers of uploads ended early: {error}",
                event="leftovers_not_searched",
                profile=self._profile,
                error=error,
            )
        finally:
            if not portion.called:
                portion.callback(None)


def require_name(path: Names, done: str) -> None:
    """Raises Problem ``bad_request`` where the path is the base itself."""
    if not path:
        raise Problem(
            "bad_request",
            f"the base folder itself can't be {done}",
            hint="Name a file: content/{path}.",
            extra={"field": "path"},
        )
