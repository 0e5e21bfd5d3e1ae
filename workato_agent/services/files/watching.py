"""``GET watch/{path}``: a line for each file that is new or has changed, for as long as asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from threading import Event
from typing import Any, Final, Protocol

import msgspec
from attrs import define, field
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ...requests import Request
from .access import Access
from .answers import entry
from .calls import WatchParameters, mark_text
from .confinement import Names
from .filesystem import Facts, Kind, Notifications, Stopped
from .scanning import Change, Mark, Scan, Sighting, Sought
from .threads import ReactorFromThreads, Threads

MAX_WATCHES: Final = 64
"""Calls that watch one profile at a time."""

LOOKS: Final = 2
"""Looks of one profile at a time: the other threads are for its other calls."""

HEARTBEAT: Final = 15.0
LOOK_EVERY: Final = 5.0
"""Seconds between two looks where nothing tells of a change; more for a tree that takes long."""

LONGEST_PAUSE: Final = 60.0
_SHARE: Final = 20
"""A look takes at most one part in so many of the time."""

_BUSY_SHARE: Final = 3
"""The same while there are changes."""

BATCH: Final = 10_000
"""Changes held at a time."""

_LINES: Final = 64
_GRAIN: Final = 0.02
"""Seconds by which the clock of files may lag behind the clock of the system."""

_ENDS_BEFORE: Final = 1.0


class FilesReactor(ReactorFromThreads, Protocol):
    """What is used of a reactor."""

    def seconds(self) -> float: ...

    def callLater(  # noqa: N802
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002
        *args: object,
    ) -> Any: ...

    def addReader(self, reader: Any) -> object: ...  # noqa: N802

    def removeReader(self, reader: Any) -> object: ...  # noqa: N802


@implementer(IReadDescriptor)
class _Wake:
    """Wakes a sleeper when the kernel has told something."""

    def __init__(self, notifications: Notifications, wake: Callable[[], None]) -> None:
        self.fileno = notifications.fileno
        self.doRead = wake

    def connectionLost(self, reason: Failure) -> None:
        """The reactor will not tell any more; the sleeper has its time."""

    def logPrefix(self) -> str:  # noqa: N802
        """For the reactor's log."""
        return "watch"


@define
class Watch:
    """One call that watches a folder.

    :ivar mark: all up to here has been told.
    :ivar looks: one for each look that may be under way in the profile.
    :ivar now: Unix seconds.
    """

    access: Access
    threads: Threads
    looks: DeferredSemaphore
    reactor: FilesReactor
    now: Callable[[], float]
    request: Request
    sought: Sought
    settle: float
    mark: Mark
    _ends: float
    _stop: Event = field(factory=Event)
    _notifications: Notifications | None = None
    _told: float = 0.0
    _due: float = 0.0
    _listening: bool = False
    _took: float = 0.0
    _since: int = field(init=False)
    _known: dict[int, None] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._since = self.mark[0]

    @classmethod
    def of(
        cls,
        access: Access,
        threads: Threads,
        looks: DeferredSemaphore,
        reactor: FilesReactor,
        now: Callable[[], float],
        request: Request,
        path: Names,
        wanted: WatchParameters,
    ) -> Watch:
        """For a folder that has been found to be one."""
        pattern = wanted.pattern

        def visible(names: Names) -> bool:
            if pattern is not None and not pattern.matches(names[len(path) :]):
                return False
            return access.allows(names, Kind.FILE)

        enter = partial(access.allows, kind=Kind.FOLDER)
        mark = wanted.since or (int((now() - _GRAIN) * 1e9), b"")
        left = request.deadline - reactor.seconds()
        return cls(
            access,
            threads,
            looks,
            reactor,
            now,
            request,
            Sought(path, wanted.recursive, visible, enter),
            wanted.settle,
            mark,
            reactor.seconds() + max(left - _ENDS_BEFORE, left / 2),
        )

    async def lines(self) -> AsyncGenerator[bytes]:
        """NDJSON: changes, ``alive`` at the start and while nothing happens, at last ``end``."""
        ending = self.reactor.callLater(
            max(0.0, self._ends - self.reactor.seconds()), self._stop.set
        )
        try:
            self._notifications = self.access.filesystem.notifications()
            yield self._line("alive")
            while not self._stop.is_set():
                try:
                    sighting = await self._look()
                except Stopped:
                    break
                changes = sighting.changes
                for first in range(0, len(changes), _LINES):
                    yield self._tell(changes[first : first + _LINES])
                self.mark = sighting.mark
                while not sighting.more and await self._rest():
                    yield self._line("alive")
            yield self._line("end")
        finally:
            if ending.active():
                ending.cancel()
            if self._notifications is not None:
                self._notifications.close()

    async def _look(self) -> Sighting:
        """One look; and when the next one is due."""
        await self.looks.acquire()
        try:
            return await self._look_now()
        finally:
            self.looks.release()

    async def _look_now(self) -> Sighting:
        began = self.reactor.seconds()
        scan = Scan(
            self.access.filesystem,
            self.sought,
            self.mark,
            int((self.now() - self.settle) * 1e9),
            BATCH,
            self._stop,
            self._notifications,
        )
        call = self.threads.start_stoppable(self._stop, self._thd_look, scan)
        sighting = await call.result()
        if not sighting.observed and self._notifications is not None:
            self._notifications.close()
            self._notifications = None
        ended = self.reactor.seconds()
        self._took = ended - began
        self._listening = self._notifications is not None and sighting.unsettled is None
        self._due = ended + min(max(LOOK_EVERY, _SHARE * self._took), LONGEST_PAUSE)
        if sighting.unsettled is not None:
            self._look_in(sighting.unsettled / 1e9 + self.settle - self.now())
        return sighting

    def _thd_look(self, scan: Scan) -> Sighting:
        with self.access.problems(self.sought.folder, "watching"):
            return scan.thd_run()

    def _look_in(self, seconds: float) -> None:
        """Bring the next look forward."""
        pause = max(seconds + _GRAIN, _BUSY_SHARE * self._took)
        self._due = min(self._due, self.reactor.seconds() + pause)

    async def _rest(self) -> bool:
        """Sleep until it is time to look again (False) or to show that we are alive (True)."""
        while not self._stop.is_set():
            now = self.reactor.seconds()
            heartbeat = self._told + HEARTBEAT
            if now >= self._due:
                return False
            if now >= heartbeat:
                return True
            if await self._sleep(min(self._due, heartbeat, self._ends) - now):
                self._listening = False
                self._look_in(self.settle)
        return False

    async def _sleep(self, seconds: float) -> bool:
        """Whether something was heard of before the time was over."""
        awake: Deferred[bool] = Deferred()

        def wake(heard: bool) -> None:
            if not awake.called:
                awake.callback(heard)

        later = self.reactor.callLater(max(0.0, seconds), wake, False)
        reader = None
        if self._listening and self._notifications is not None:
            reader = _Wake(self._notifications, partial(wake, True))
            self.reactor.addReader(reader)
        try:
            return await awake
        finally:
            if later.active():
                later.cancel()
            if reader is not None:
                self.reactor.removeReader(reader)

    def _tell(self, changes: list[Change]) -> bytes:
        """A line for each."""
        self._told = self.reactor.seconds()
        usage = self.request.usage
        usage.rows = (usage.rows or 0) + len(changes)
        lines = []
        for mark, names, facts in changes:
            document = entry(names, facts)
            document["type"] = "created" if self._is_new(names, facts) else "changed"
            lines.append(msgspec.json.encode({**document, "cursor": mark_text(mark)}))
        return b"\n".join(lines) + b"\n"

    def _is_new(self, names: Names, facts: Facts) -> bool:
        """Whether the file is younger than this call's beginning and was not told by it before."""
        key = hash(names)
        known = key in self._known
        self._known[key] = None
        if len(self._known) > BATCH:
            del self._known[next(iter(self._known))]
        return not known and facts.created is not None and facts.created >= self._since

    def _line(self, kind: str) -> bytes:
        self._told = self.reactor.seconds()
        return msgspec.json.encode({"type": kind, "cursor": mark_text(self.mark)}) + b"\n"
