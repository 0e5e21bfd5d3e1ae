"""A body's rows, from the reactor to the thread that writes them."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from threading import Condition
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred

from workato_tunnel.problems import Problem

from ..handover import Abandoned
from ..loading import Load, LoadBody
from ..results import Row
from ..work import fire
from .allowance import Allowance

_AHEAD: Final = 2


class RowFeed(Iterator[Sequence[Row]]):
    """Blocks of rows, two of them ahead of the thread that takes them.

    The time in which it waits for the caller is not the database's.
    """

    def __init__(self, reactor: Any, allowance: Allowance) -> None:
        self._reactor = reactor
        self._allowance = allowance
        self._changed = Condition()
        self._blocks: deque[Sequence[Row]] = deque()
        self._ended = False
        self._failure: BaseException | None = None
        self._room: Deferred[None] | None = None

    async def fill(self, body: LoadBody) -> None:
        """Read a body to its end. What goes wrong with it is raised in the thread."""
        blocks = body.blocks()
        try:
            async for block in blocks:
                await self._put(block)
        except (CancelledError, GeneratorExit):
            self.end(Abandoned())
            raise
        except Exception as error:  # noqa: BLE001 - it ends the work in the thread, which tells
            self.end(error)
        else:
            self.end(None)
        finally:
            if isinstance(blocks, AsyncGenerator):
                await blocks.aclose()

    def end(self, failure: BaseException | None) -> None:
        """Nothing more comes; what comes first counts."""
        with self._changed:
            if not self._ended:
                self._ended = True
                self._failure = failure
                self._changed.notify()

    def __next__(self) -> Sequence[Row]:
        """The next block; blocks the thread until there is one."""
        return self._allowance.thd_paused(self._thd_take)

    def _thd_take(self) -> Sequence[Row]:
        with self._changed:
            self._changed.wait_for(lambda: self._blocks or self._ended)
            if self._failure is not None:
                raise self._failure
            if not self._blocks:
                raise StopIteration
            block = self._blocks.popleft()
        self._reactor.callFromThread(self._wake)
        return block

    async def _put(self, block: Sequence[Row]) -> None:
        with self._changed:
            self._blocks.append(block)
            self._changed.notify()
            full = len(self._blocks) >= _AHEAD
        while full:
            self._room = Deferred()
            await self._room
            with self._changed:
                full = len(self._blocks) >= _AHEAD

    def _wake(self) -> None:
        if self._room is not None:
            fire(self._room)


async def target_columns(load: Load) -> Sequence[str]:
    """The columns of the table that a body's columns go to. Raises Problem ``bad_request``."""
    own = await load.body.columns()
    if load.columns is None:
        return own
    if len(load.columns) != len(own):
        raise Problem(
            "bad_request",
            f"columns names {len(load.columns)} columns, and the body has {len(own)}",
            hint="name a column of the table for each column of the body, in its order",
            extra={"field": "columns"},
        )
    return load.columns
