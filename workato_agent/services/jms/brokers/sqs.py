"""Amazon SQS, and what speaks its protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import ceil
from typing import Any, Final, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import deferLater
from twisted.logger import Logger

from workato_tunnel.problems import Problem

from ..broker import Batch, Destination, IncomingMessage, OutgoingMessage, Source
from ..settings import SqsSettings
from .sqs_calls import SqsCalls, aws_problem
from .sqs_messages import decode, encode, size

T = TypeVar("T")
_AT_ONCE: Final = 10
"""Messages of one call: what SQS takes and gives."""
_CALL_BYTES: Final = 256 * 1024
_PIPELINE: Final = 4
_LONGEST: Final = 12 * 3600
_PAUSE: Final = 0.3
"""Seconds between looks where less than a second is left, which is no long poll."""
_QUEUES: Final = 1000
_GOODBYE: Final = 3.0


@frozen
class _Taken:
    """A message that is ours until SQS shows it again.

    :ivar handle: what it is deleted by. ``size``: bytes of its body.
    """

    message: IncomingMessage
    handle: str
    size: int


@define(eq=False)
class SqsBroker:
    """One profile's broker (a ``Broker``)."""

    type = "sqs"

    _clock: Any
    _settings: SqsSettings
    _calls: SqsCalls
    _urls: dict[str, str] = field(init=False, factory=dict)
    _batches: set[SqsBatch] = field(init=False, factory=set)

    @classmethod
    def of(cls, reactor: Any, settings: SqsSettings) -> SqsBroker:
        """A broker; nothing is opened yet. Raises ValueError for TLS that can't be used."""
        return cls(reactor, settings, SqsCalls.of(reactor, settings))

    async def test(self) -> Mapping[str, object]:
        """See :class:`~workato_agent.services.jms.broker.Broker`."""
        facts = {"target": f"Amazon SQS {self._settings.region}", "endpoint": self._calls.url}
        try:
            answer = await self._calls.call("ListQueues", {"MaxResults": 1})
        except Problem as problem:
            if problem.code != "target_permission_denied":
                raise
            # The keys are good; they need not see what other queues there are.
            return {**facts, "lists_queues": False}
        return {**facts, "lists_queues": True, "has_queues": bool(answer.get("QueueUrls"))}

    async def publish(
        self, destination: Destination, messages: Sequence[OutgoingMessage]
    ) -> list[str]:
        """See :class:`~workato_agent.services.jms.broker.Broker`."""
        _queues_only(destination)
        if not messages:
            return []
        for message in messages:
            self._check_size(message)
        queue = destination.name
        url = await self._url(queue)
        entries = [encode(message, queue, url) for message in messages]
        calls = _portions(entries)
        ids: list[str] = []
        # In a FIFO queue a message must not come before the one ahead of it.
        together = 1 if queue.endswith(".fifo") else _PIPELINE
        for start in range(0, len(calls), together):
            sending = [
                Deferred.fromCoroutine(self._send(queue, url, each))
                for each in calls[start : start + together]
            ]
            problem: Problem | None = None
            for sent in await _together(sending):
                ids += sent.ids
                problem = problem or sent.problem
            if problem is not None:
                raise _counted(problem, len(ids))
        return ids

    async def receive(
        self, source: Source, limit: int, wait: float, max_bytes: int
    ) -> Batch | None:
        """See :class:`~workato_agent.services.jms.broker.Broker`."""
        _queues_only(source.destination)
        if source.selector is not None:
            raise _unable("SQS has no selectors", "selector")
        end = self._clock.seconds() + wait
        queue = source.destination.name
        url = await self._url(queue)
        taken = await self._first(queue, url, limit, end)
        if not taken:
            return None
        hidden_until = self._clock.seconds() + self._visibility()
        batch = SqsBatch(self._clock, self._calls, url, hidden_until, self._batches.discard)
        self._batches.add(batch)
        try:
            await self._fill(batch, queue, taken, limit, max_bytes)
        except BaseException:
            batch.abandon()
            raise
        return batch

    async def browse(
        self, destination: Destination, limit: int, selector: str | None
    ) -> list[IncomingMessage]:
        """See :class:`~workato_agent.services.jms.broker.Broker`."""
        raise Problem("bad_request", "SQS has no browsing", hint="receive, then release")

    async def close(self) -> None:
        """See :class:`~workato_agent.services.jms.broker.Broker`."""
        releases = [Deferred.fromCoroutine(batch.release()) for batch in tuple(self._batches)]
        releasing = Deferred.fromCoroutine(_together(releases))
        releasing.addTimeout(_GOODBYE, self._clock)
        with suppress(DeferredTimeout):
            await releasing
        await self._calls.close()

    async def _url(self, queue: str) -> str:
        """A queue's URL, which names it in calls. Raises Problem ``target_not_found``."""
        known = self._urls.get(queue)
        if known is not None:
            return known
        answer = await self._calls.call("GetQueueUrl", {"QueueName": queue})
        url = answer.get("QueueUrl")
        if not isinstance(url, str):
            raise Problem("target_wrong_type", "Amazon SQS: GetQueueUrl brought no URL")
        if len(self._urls) >= _QUEUES:
            self._urls.clear()
        self._urls[queue] = url
        return url

    async def _about(
        self, queue: str, action: str, parameters: Mapping[str, object], wait: float = 0.0
    ) -> dict[str, Any]:
        """A call about a queue, whose URL is forgotten when there is no such queue any more."""
        try:
            return await self._calls.call(action, parameters, wait)
        except Problem as problem:
            if problem.code == "target_not_found":
                self._urls.pop(queue, None)
            raise

    async def _send(self, queue: str, url: str, entries: Sequence[dict[str, Any]]) -> _Sent:
        named = [{"Id": str(n), **entry} for n, entry in enumerate(entries)]
        try:
            answer = await self._about(
                queue, "SendMessageBatch", {"QueueUrl": url, "Entries": named}
            )
        except Problem as problem:
            return _Sent((), problem)
        known = {
            each.get("Id"): str(each.get("MessageId")) for each in _entries_of(answer, "Successful")
        }
        ids = tuple(known[each["Id"]] for each in named if each["Id"] in known)
        return _Sent(ids, _first_failure("SendMessageBatch", answer))

    async def _first(self, queue: str, url: str, limit: int, end: float) -> list[_Taken]:
        """The first messages that come before ``end``; none."""
        while True:
            left = end - self._clock.seconds()
            # A poll that ends a little late is better than many looks.
            seconds = min(int(left + 0.05), self._settings.poll)
            taken = await self._take(queue, url, limit, max(seconds, 0))
            left = end - self._clock.seconds()
            if taken or left <= 0.05:
                return taken
            if left < 1:
                await deferLater(self._clock, min(left, _PAUSE), lambda: None)

    async def _take(self, queue: str, url: str, limit: int, seconds: int) -> list[_Taken]:
        answer = await self._about(
            queue,
            "ReceiveMessage",
            {
                "QueueUrl": url,
                "MaxNumberOfMessages": min(limit, _AT_ONCE),
                "WaitTimeSeconds": seconds,
                "VisibilityTimeout": self._visibility(),
                "MessageSystemAttributeNames": ["All"],
                "MessageAttributeNames": ["All"],
            },
            seconds,
        )
        taken = []
        for each in _entries_of(answer, "Messages"):
            message = decode(each, queue)
            body = message.body or b""
            length = len(body if isinstance(body, bytes) else body.encode())
            taken.append(_Taken(message, str(each.get("ReceiptHandle", "")), length))
        return taken

    async def _fill(
        self, batch: SqsBatch, queue: str, taken: list[_Taken], limit: int, max_bytes: int
    ) -> None:
        """Put the first messages into a batch, and what else is there. Raises Problem."""
        while taken:
            surplus = batch.add(taken, limit, max_bytes, self._settings.max_message)
            if surplus:
                await batch.give_back(surplus)
            if not batch.messages:
                raise Problem(
                    "payload_too_large",
                    f"the queue {queue} has a message of more than"
                    f" {self._settings.max_message} bytes next",
                    hint="raise limits.message in the agent's config.yml",
                )
            if surplus or len(batch.messages) >= limit or batch.size >= max_bytes:
                return
            taken = await self._take(queue, batch.url, limit - len(batch.messages), 0)

    def _visibility(self) -> int:
        return min(ceil(self._settings.visibility), _LONGEST)

    def _check_size(self, message: OutgoingMessage) -> None:
        body = message.body
        length = len(body if isinstance(body, bytes) else body.encode())
        if length > self._settings.max_message:
            raise Problem(
                "payload_too_large",
                f"a body of {length} bytes; this profile takes {self._settings.max_message}",
            )


@frozen
class _Sent:
    """What came of one call: the ids of those that SQS has, and why it has not all."""

    ids: tuple[str, ...]
    problem: Problem | None


@define(eq=False)
class SqsBatch:
    """A ``Batch``: its messages are hidden in the queue for a time that SQS counts."""

    _log = Logger()

    _clock: Any
    _calls: SqsCalls
    url: str
    _hidden_until: float
    _settled: Callable[[SqsBatch], None]
    size: int = field(init=False, default=0)
    _taken: list[_Taken] = field(init=False, factory=list)
    _done: bool = field(init=False, default=False)

    @property
    def messages(self) -> tuple[IncomingMessage, ...]:
        """See :class:`~workato_agent.services.jms.broker.Batch`."""
        return tuple(each.message for each in self._taken)

    def add(
        self, taken: Sequence[_Taken], limit: int, max_bytes: int, largest: int
    ) -> list[_Taken]:
        """Take these in; returns those for which there is no room."""
        for index, each in enumerate(taken):
            full = bool(self._taken) and self.size >= max_bytes
            if full or len(self._taken) >= limit or each.size > largest:
                return list(taken[index:])
            self._taken.append(each)
            self.size += each.size
        return []

    async def acknowledge(self) -> None:
        """See :class:`~workato_agent.services.jms.broker.Batch`."""
        late = self._clock.seconds() >= self._hidden_until
        if self._done or late:
            self._end()
            raise Problem(
                "conflict",
                "the messages have gone back to the queue"
                + (", since nobody acknowledged them in time" if late else ""),
                hint="receive them again; raise ack_timeout if the work takes longer",
            )
        self._end()
        for start in range(0, len(self._taken), _AT_ONCE):
            entries = [
                {"Id": str(n), "ReceiptHandle": each.handle}
                for n, each in enumerate(self._taken[start : start + _AT_ONCE])
            ]
            answer = await self._calls.call(
                "DeleteMessageBatch", {"QueueUrl": self.url, "Entries": entries}
            )
            problem = _first_failure("DeleteMessageBatch", answer)
            if problem is not None:
                raise problem

    async def release(self) -> None:
        """See :class:`~workato_agent.services.jms.broker.Batch`."""
        if not self._done:
            self._end()
            await self.give_back(self._taken)

    def abandon(self) -> None:
        """Give all back without waiting for it."""
        if not self._done:
            self._end()
            Deferred.fromCoroutine(self.give_back(self._taken))

    async def give_back(self, taken: Sequence[_Taken]) -> None:
        """Show messages to others again. What fails is logged: SQS does it in its own time."""
        for start in range(0, len(taken), _AT_ONCE):
            entries = [
                {"Id": str(n), "ReceiptHandle": each.handle, "VisibilityTimeout": 0}
                for n, each in enumerate(taken[start : start + _AT_ONCE])
            ]
            problem: Problem | None
            try:
                answer = await self._calls.call(
                    "ChangeMessageVisibilityBatch", {"QueueUrl": self.url, "Entries": entries}
                )
                problem = _first_failure("ChangeMessageVisibilityBatch", answer)
            except Problem as failed:
                problem = failed
            if problem is not None:
                self._log.warn(
                    "Messages are given back late: {problem}",
                    event="sqs_messages_given_back_late",
                    problem=str(problem),
                )

    def _end(self) -> None:
        self._done = True
        self._settled(self)


def _portions(entries: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Entries in order, as many to a call as SQS takes."""
    calls: list[list[dict[str, Any]]] = []
    room = 0
    for entry in entries:
        length = size(entry)
        if not calls or length > room or len(calls[-1]) == _AT_ONCE:
            calls.append([])
            room = _CALL_BYTES
        calls[-1].append(entry)
        room -= length
    return calls


def _entries_of(answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of an answer's; what is no entry is left out."""
    found = answer.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _first_failure(action: str, answer: Mapping[str, Any]) -> Problem | None:
    for each in _entries_of(answer, "Failed"):
        return aws_problem(action, str(each.get("Code", "")), str(each.get("Message", "")))
    return None


async def _together(works: Sequence[Deferred[T]]) -> list[T]:
    """The results of all; cancelling cancels all."""
    try:
        return await gatherResults(works, consumeErrors=True)
    except FirstError as first:
        for work in works:
            work.cancel()
        first.subFailure.raiseException()
        raise


def _counted(problem: Problem, published: int) -> Problem:
    return Problem(
        problem.code,
        problem.detail,
        hint=problem.hint,
        retry_after=problem.retry_after,
        extra={**problem.extra, "published": published},
    )


def _queues_only(destination: Destination) -> None:
    if destination.kind == "topic":
        raise Problem(
            "bad_request",
            "SQS has no topics",
            hint="Amazon SNS has them: subscribe a queue to the topic and receive from that",
        )


def _unable(detail: str, field: str) -> Problem:
    return Problem("bad_request", detail, extra={"field": field})
