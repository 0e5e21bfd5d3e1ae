"""Stores in a temporary folder, and the results of coroutines that need no reactor."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from attrs import define
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.folders import folder_for
from workato_gateway.storage.sqlite import SqliteStore

T = TypeVar("T")
NOW = 1_800_000_000.0


@define
class Wall:
    """A wall clock that a test sets."""

    seconds: float = NOW

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


class StoreCase(SynchronousTestCase):
    """A test with a store of its own that works in the test's thread."""

    def setUp(self) -> None:
        self.folder = folder_for(self)
        self.now = Wall()
        self.store = SqliteStore.open_here(self.folder / "gateway.db", create=True)
        self.addCleanup(lambda: self.result(self.store.close()))

    def result(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns, which is there at once; its exception is raised."""
        outcome: T = self.successResultOf(Deferred.fromCoroutine(_guard(coroutine)))
        if isinstance(outcome, _Raised):
            raise outcome.error
        return outcome


@define
class _Raised:
    error: Exception


async def _guard(coroutine: Coroutine[Any, Any, T]) -> Any:
    try:
        return await coroutine
    except Exception as error:  # noqa: BLE001 - raised again by who asked
        return _Raised(error)
