"""One receiver of events: a bounded queue, worked off in order, with patience that ends."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from itertools import chain, repeat
from typing import Final

from attrs import define, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..addresses import EndpointUrl
from .events import Event, EventType
from .posting import Post, Reply
from .signing import SigningSecret

MAX_WAITING: Final = 1000
PAUSES: Final = (5.0, 30.0, 120.0, 600.0, 1800.0)
"""Seconds after each failed attempt; then :data:`LONGEST_PAUSE`, over and over."""
LONGEST_PAUSE: Final = 3600.0
JITTER: Final = 0.2
"""Share of a pause by which it may be longer, so that receivers are not hit by all at once."""


@frozen
class EndpointSettings:
    """How a receiver is served.

    :ivar name: in logs and metrics.
    :ivar events: what it is told of.
    :ivar give_up: seconds after which an event that could not be handed over is dropped.
    """

    name: str
    url: EndpointUrl
    secret: SigningSecret
    events: frozenset[EventType]
    give_up: float


@define
class EndpointFigures:
    """What became of events since the start, and how many wait now."""

    name: str
    delivered: int = 0
    given_up: int = 0
    dropped: int = 0
    failed_attempts: int = 0
    waiting: int = 0


class Endpoint:
    """Hands events over one after another; an event that fails holds up those behind it, so that
    the receiver sees them in order."""

    _log = Logger()

    def __init__(
        self,
        settings: EndpointSettings,
        post: Post,
        clock: IReactorTime,
        *,
        software: str,
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._post = post
        self._clock = clock
        self._software = software
        self._now = now
        self._jitter = jitter
        self._queue: deque[Event] = deque()
        self._work: Deferred[None] | None = None
        self._stopped = False
        self.figures = EndpointFigures(settings.name)

    def offer(self, event: Event) -> None:
        """Take an event, if the receiver wants such ones. Never waits."""
        if self._stopped or event.type not in self._settings.events:
            return
        if len(self._queue) >= MAX_WAITING:
            self.figures.dropped += 1
            self._log.error(
                "Webhook {endpoint}: {waiting} events wait already, {type} {id} is dropped",
                event="webhook_dropped",
                endpoint=self._settings.name,
                waiting=len(self._queue),
                type=event.type,
                id=event.id,
            )
            return
        self._queue.append(event)
        self.figures.waiting = len(self._queue)
        if self._work is None:
            self._work = Deferred.fromCoroutine(self._hand_over_all())
            self._work.addErrback(self._broke)

    def stop(self) -> None:
        """Give up at once; what waits is lost."""
        self._stopped = True
        if self._queue:
            self._log.warn(
                "Webhook {endpoint}: {waiting} events are lost as the gateway stops",
                event="webhook_lost",
                endpoint=self._settings.name,
                waiting=len(self._queue),
            )
        if self._work is not None:
            self._work.cancel()

    async def _hand_over_all(self) -> None:
        try:
            while self._queue:
                await self._hand_over(self._queue[0])
                self._queue.popleft()
                self.figures.waiting = len(self._queue)
        finally:
            self._work = None

    async def _hand_over(self, event: Event) -> None:
        body = event.body()
        for attempt, pause in enumerate(chain(PAUSES, repeat(LONGEST_PAUSE)), 1):
            wished = 0.0
            try:
                reply = await self._attempt(event, body)
            except Exception as error:
                if self._stopped:
                    raise
                # Whatever kept it from arriving.
                reason = _reason(error)
            else:
                if reply.taken:
                    self._delivered(event, attempt)
                    return
                reason = f"HTTP status {reply.status}"
                wished = min(reply.retry_after or 0.0, LONGEST_PAUSE)
            seconds = max(wished, pause * (1 + JITTER * self._jitter()))
            self.figures.failed_attempts += 1
            if self._now() + seconds > event.at + self._settings.give_up:
                self._gave_up(event, attempt, reason)
                return
            self._log.warn(
                "Webhook {endpoint}: {type} {id} was not taken: {reason}; again in {seconds} s",
                event="webhook_failed",
                endpoint=self._settings.name,
                type=event.type,
                id=event.id,
                attempt=attempt,
                reason=reason,
                seconds=round(seconds),
            )
            await deferLater(self._clock, seconds)

    async def _attempt(self, event: Event, body: bytes) -> Reply:
        signed = self._settings.secret.fields(event.id, int(self._now()), body)
        fields = {"content-type": "application/json", "user-agent": self._software, **signed}
        return await self._post(self._settings.url, fields, body)

    def _delivered(self, event: Event, attempt: int) -> None:
        self.figures.delivered += 1
        self._log.info(
            "Webhook {endpoint}: {type} {id} delivered",
            event="webhook_delivered",
            endpoint=self._settings.name,
            type=event.type,
            id=event.id,
            attempt=attempt,
        )

    def _gave_up(self, event: Event, attempts: int, reason: str) -> None:
        self.figures.given_up += 1
        self._log.error(
            "Webhook {endpoint}: {type} {id} given up after {attempts} attempts: {reason}",
            event="webhook_given_up",
            endpoint=self._settings.name,
            type=event.type,
            id=event.id,
            attempts=attempts,
            reason=reason,
        )

    def _broke(self, failure: Failure) -> None:
        if self._stopped:
            return
        self._queue.clear()
        self.figures.waiting = 0
        self._log.failure(
            "Webhook {endpoint} broke; the events that waited are lost",
            failure,
            event="webhook_broke",
            endpoint=self._settings.name,
        )


def _reason(error: Exception) -> str:
    """In a few words, without the URL's path: Twisted wraps what TLS says in a list."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        error = reasons[0].value
    return f"{type(error).__name__}: {error}"[:300] if str(error) else type(error).__name__
