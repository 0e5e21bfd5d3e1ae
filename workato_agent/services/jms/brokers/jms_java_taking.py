"""Taking messages from a consumer: those that are there, no more than fit, and none too large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final

from attrs import frozen

from workato_tunnel.problems import Problem

from ..broker import IncomingMessage, Source
from ..settings import JavaSettings
from .jms_java_messages import size, thd_incoming
from .jms_java_provider import Provider

_GRACE_MILLISECONDS: Final = 200
_AHEAD: Final = 16
"""Messages that are asked for at once: the heap has to bear so many of the largest."""


class Beyond(Exception):
    """A message is larger than the profile takes.

    :ivar taken: how many came before it.
    """

    def __init__(self, taken: int, message_id: str, bytes_: int) -> None:
        super().__init__(message_id)
        self.taken = taken
        self._id = message_id
        self._bytes = bytes_

    def problem(self, settings: JavaSettings) -> Problem:
        """What the caller is told."""
        return Problem(
            "payload_too_large",
            f"the message {self._id} has {self._bytes} bytes, and the profile takes "
            f"{settings.max_message}; it stays where it is",
            hint="raise limits.message in the profile, or take the message away by other means",
            extra={"message_id": self._id},
        )


def thd_read(provider: Provider, message: Any, taken: int) -> IncomingMessage:
    """A message with its body. Raises Beyond."""
    found = thd_incoming(provider.api, message)
    if size(found) > provider.settings.max_message:
        raise Beyond(taken, found.id, size(found))
    return found


def thd_consumer(provider: Provider, session: Any, place: Any, source: Source) -> Any:
    """A consumer, or a durable subscription's."""
    if source.subscription is not None:
        return session.createDurableSubscriber(place, source.subscription, source.selector, False)
    if source.selector is None:
        return session.createConsumer(place)
    return session.createConsumer(place, provider.jpype.JString(source.selector))


@frozen
class Taking:
    """A consumer from which one batch is taken."""

    _provider: Provider
    _session: Any
    _consumer: Any
    _place: Any

    def thd_all(self, limit: int, milliseconds: int, max_bytes: int) -> list[IncomingMessage]:
        """Wait so long for the first, then take what is there. Raises Beyond.

        :param max_bytes: of the bodies; the first message may have more.
        """
        found: list[IncomingMessage] = []
        taken = largest = 0

        def wanted() -> int:
            """How many at once: no more than are likely to be taken."""
            room = max(1, (max_bytes - taken) // max(1, largest)) if taken < max_bytes else 0
            return min(limit - len(found), room, _AHEAD)

        first = self._thd_first(milliseconds)
        if first is None:
            return found
        for message in chain([first], self._thd_there(wanted)):
            found.append(thd_read(self._provider, message, len(found)))
            largest = max(largest, size(found[-1]))
            taken += size(found[-1])
            if taken >= max_bytes:
                break
        return found

    def _thd_first(self, milliseconds: int) -> Any:
        if milliseconds == 0 and self._provider.activemq is not None:
            return self._consumer.receiveNoWait()
        return self._consumer.receive(milliseconds or _GRACE_MILLISECONDS)

    def _thd_there(self, wanted: Callable[[], int]) -> Iterator[Any]:
        """The messages that are there, as long as some are wanted."""
        consumer, parts = self._consumer, self._provider.activemq
        more = True
        while more and (count := wanted()) > 0:
            if parts is None:
                # It is sent messages ahead, which may take a moment.
                answers = iter([consumer.receive(_GRACE_MILLISECONDS)])
            else:
                count = parts.thd_asked(self._session, consumer, self._place, count)
                answers = (consumer.receiveNoWait() for _ in range(count))
            for message in answers:
                if message is None:
                    more = False
                else:
                    yield message
