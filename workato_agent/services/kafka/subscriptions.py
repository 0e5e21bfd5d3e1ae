"""Messages as they come, for one call that stays open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

import msgspec
from attrs import define, field
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004

from workato_tunnel.problems import Problem

from ...requests import Request
from .asking import Taken
from .cluster import Cluster
from .receipts import KeptConsumer, Readers, Receipt
from .settings import KafkaSettings

AT_ONCE: Final = 200
"""Messages that are taken together."""
BYTES_AT_ONCE: Final = 1024 * 1024
ALIVE_EVERY: Final = 30.0
"""Seconds without a message after which the cluster is asked whether it answers, and the caller is
told."""
LEAVE_BEFORE: Final = 1.0
"""Seconds before the call's deadline at which it ends in order."""


@define(eq=False)
class Subscription:
    """One open call: lines out, each with a receipt, as long as few enough wait to be acknowledged.

    The line's receipts are the subscription's id with a number: ``AGENT~RANDOM.7``.
    """

    _reactor: Any
    _readers: Readers
    _cluster: Cluster
    _settings: KafkaSettings
    _kept: KeptConsumer
    _request: Request
    _window: int
    id: str
    _receipts: OrderedDict[str, Receipt] = field(factory=OrderedDict, init=False)
    _number: int = field(default=0, init=False)
    _body: AsyncGenerator[bytes, None] | None = field(default=None, init=False)
    _left: bool = field(default=False, init=False)
    _room: Deferred[None] | None = field(default=None, init=False)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._body is None:
            self._body = self._lines()
        return await anext(self._body)

    async def aclose(self) -> None:
        """The call is over. What is not acknowledged keeps its receipts: who has read the lines may
        still acknowledge them."""
        body, self._body = self._body, None
        try:
            if body is not None:
                await body.aclose()
        finally:
            if not self._left:
                self._left = True
                self._readers.leave(self._kept)

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        request = self._request
        request.usage.rows = 0
        try:
            yield self._line("subscribed", subscription=self.id)
            while (left := request.deadline - self._reactor.seconds() - LEAVE_BEFORE) > 0:
                pause = min(left, ALIVE_EVERY)
                if len(self._receipts) >= self._window:
                    if not await self._room_within(pause):
                        yield self._line("alive")
                elif taken := await self._take(pause):
                    request.usage.rows += len(taken)
                    yield self._message_lines(taken)
                else:
                    # No messages, or no broker? Only one that answers can say.
                    await self._cluster.reach(self._kept.consumer.topic, request.deadline)
                    yield self._line("alive")
            yield self._line("end")
        except Problem as problem:
            yield problem.body(request.request_id) + b"\n"
            raise

    async def _take(self, wait: float) -> Taken:
        self._readers.check_room()
        policy = self._settings.policy
        most = BYTES_AT_ONCE if policy.max_bytes is None else min(BYTES_AT_ONCE, policy.max_bytes)
        return await self._kept.consumer.take(
            min(AT_ONCE, self._window - len(self._receipts)),
            most,
            wait,
            max(0.1, self._request.deadline - self._reactor.seconds() - LEAVE_BEFORE),
            separately=True,
            strict=policy.max_bytes is not None and most == policy.max_bytes,
        )

    def _line(self, kind: str, **members: object) -> bytes:
        return msgspec.json.encode({"type": kind, **members}) + b"\n"

    def _message_lines(self, taken: Taken) -> bytes:
        parts = []
        for message, portions in zip(taken.messages, taken.portions, strict=True):
            self._number += 1
            identifier = f"{self.id}.{self._number}"
            self._receipts[identifier] = self._readers.hand_out(
                self._kept,
                identifier,
                self._request.caller,
                portions,
                self._settled,
                self._through,
            )
            head = b'{"type":"message","receipt":"%b",' % identifier.encode()
            parts.append(b"%b%b\n" % (head, message[1:]))
        return b"".join(parts)

    def _through(self, receipt: Receipt) -> list[Receipt]:
        """A line's receipt and those of all lines before it that still wait."""
        found = []
        for each in self._receipts.values():
            found.append(each)
            if each is receipt:
                break
        return found

    def _settled(self, receipt: Receipt) -> None:
        self._receipts.pop(receipt.id, None)
        room = self._room
        if room is not None and not room.called and len(self._receipts) < self._window:
            room.callback(None)

    async def _room_within(self, seconds: float) -> bool:
        """Wait until fewer lines wait for their acknowledgement; False when the time is up."""
        room: Deferred[None] = Deferred()
        self._room = room
        room.addTimeout(seconds, self._reactor)
        try:
            await room
        except TimeoutError:
            return False
        finally:
            self._room = None
        return True
