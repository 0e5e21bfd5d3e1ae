"""Calls to the files service without a tunnel, and threads that run when a test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from workato_agent.requests import BodyLost, Headers, Request, Response
from workato_tunnel.problems import Problem

T = TypeVar("T")


@define
class Chunks:
    """A request's body of given chunks; ``lost`` ends it as when the caller leaves."""

    chunks: Iterable[bytes] = ()
    lost: bool = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        if self.lost:
            raise BodyLost

    async def read(self, limit: int) -> bytes:
        whole = b"".join(self.chunks)
        if len(whole) > limit:
            raise Problem("payload_too_large", "too large")
        return whole


class PacedBody:
    """A request's body whose chunks the test hands in one by one; None ends it."""

    def __init__(self) -> None:
        self.waiting: Deferred[bytes | None] | None = None

    def give(self, chunk: bytes | None) -> None:
        waiting, self.waiting = self.waiting, None
        assert waiting is not None
        waiting.callback(chunk)

    def lose(self) -> None:
        waiting, self.waiting = self.waiting, None
        assert waiting is not None
        waiting.errback(Failure(BodyLost()))

    def __aiter__(self) -> PacedBody:
        return self

    async def __anext__(self) -> bytes:
        self.waiting = Deferred()
        chunk = await self.waiting
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def read(self, limit: int) -> bytes:
        raise NotImplementedError


def request(
    method: str,
    path: str = "",
    query: str = "",
    headers: Headers = (),
    body: Any = None,
) -> Request:
    """A call as the dispatcher hands it over."""
    return Request(
        service="files",
        profile="hr",
        method=method,
        path=path,
        query=query,
        headers=headers,
        body=Chunks() if body is None else body,
        caller="tester",
        deadline=60.0,
        trace="",
        request_id="request-1",
    )


class DirectReactor(MemoryReactorClock):
    """Runs at once what a thread wants run on the reactor."""

    def callFromThread(  # noqa: N802
        self,
        callable: Callable[..., object],  # noqa: A002
        *args: object,
        **kwargs: object,
    ) -> None:
        callable(*args, **kwargs)


class InlineThreadPool:
    """Runs every function at once, on the caller's thread."""

    def callInThreadWithCallback(  # noqa: N802
        self,
        onResult: Callable[[bool, Any], object] | None,  # noqa: N803
        func: Callable[..., object],
        *args: Any,
        **kw: Any,
    ) -> None:
        assert onResult is not None
        try:
            result = func(*args, **kw)
        except Exception:  # noqa: BLE001
            onResult(False, Failure())
        else:
            onResult(True, result)


@define
class SteppedThreadPool:
    """Keeps every function until the test lets the next one run: a thread call in flight."""

    waiting: list[Callable[[], None]] = field(factory=list)

    def callInThreadWithCallback(  # noqa: N802
        self,
        onResult: Callable[[bool, Any], object] | None,  # noqa: N803
        func: Callable[..., object],
        *args: Any,
        **kw: Any,
    ) -> None:
        pool = InlineThreadPool()
        self.waiting.append(lambda: pool.callInThreadWithCallback(onResult, func, *args, **kw))

    def step(self) -> None:
        """Let the oldest waiting function run to its end."""
        self.waiting.pop(0)()

    def run_all(self) -> None:
        while self.waiting:
            self.step()


def outcome(fired: Deferred[T]) -> T:
    """The result of a Deferred that has one already, or its exception raised."""
    outcomes: list[T | Failure] = []
    fired.addBoth(outcomes.append)
    (result,) = outcomes
    if isinstance(result, Failure):
        result.raiseException()
    return result


def open_descriptors() -> set[str]:
    """The descriptors that this process holds."""
    return {place.name for place in Path("/proc/self/fd").iterdir()}


def start(coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    return Deferred.fromCoroutine(coroutine)


async def whole(response: Response) -> bytes:
    """The response's whole body."""
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([chunk async for chunk in response.body])
