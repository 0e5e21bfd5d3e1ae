"""Kafka calls, as ``docs/services/kafka.md`` says."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, NoReturn

import msgspec
from attrs import define
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool

from workato_tunnel.problems import Problem

from ...requests import Request, Response
from . import bodies
from .cluster import ANSWER_BEFORE, Cluster
from .producing import Result, Writer, Written
from .receipts import Readers, Receipt
from .routes import OPERATIONS, Action, Route, find_route
from .settings import KafkaSettings
from .streams import WrittenLines, document
from .subscriptions import Subscription

MOST_BYTES: Final = 8 * 1024 * 1024
"""Of one answer to ``receive``, unless its first message alone is larger."""
SPARE_TIME: Final = 1.0
"""Seconds before a call's deadline at which it stops waiting for messages."""
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


@define(eq=False)
class KafkaService:
    """Serves one profile of the ``kafka`` section (a ``ProfileService``)."""

    type = "kafka"

    _reactor: Any
    _settings: KafkaSettings
    _cluster: Cluster
    _written: Cluster
    _writer: Writer
    _readers: Readers
    operations: tuple[str, ...] = OPERATIONS

    @classmethod
    def build(
        cls,
        reactor: Any,
        settings: KafkaSettings,
        looking: ThreadPool,
        working: ThreadPool,
        operations: tuple[str, ...] = OPERATIONS,
    ) -> KafkaService:
        """Nothing is opened yet.

        :param looking: threads that ask the cluster what it has; :data:`.cluster.THREADS`.
        :param working: one for the producer and two for each consumer that may be kept.
        """
        return cls(
            reactor,
            settings,
            Cluster(reactor, looking, settings),
            Cluster(reactor, looking, settings, creating=True),
            Writer(reactor, working, settings),
            Readers(reactor, working, settings),
            operations,
        )

    def operation(self, request: Request) -> str:
        """``test``, ``topics``, ``produce`` or ``consume``."""
        return find_route(request.method, request.path).operation

    async def handle(self, request: Request) -> Response:
        """Serve a call; see :class:`~workato_agent.services.base.ProfileService`."""
        route = find_route(request.method, request.path)
        if route.action not in (Action.TEST, Action.TOPICS, Action.SETTLE):
            self._check_topic(route.name, request)
        return await self._calls[route.action](self, request, route)

    async def close(self) -> None:
        """Leave the groups and let go of the cluster."""
        closing = [
            Deferred.fromCoroutine(each.close())
            for each in (self._readers, self._writer, self._cluster, self._written)
        ]
        for each in closing:
            await each

    # -- looking -------------------------------------------------------------------------------

    async def _test(self, request: Request, route: Route) -> Response:
        found = await self._cluster.facts(request.deadline)
        brokers = [
            {"id": each.id, "host": each.host, "port": each.port}
            for _, each in sorted(found.brokers.items())
        ]
        count = f"{len(brokers)} broker{'' if len(brokers) == 1 else 's'}"
        return _json(
            {
                "ok": True,
                "target": f"Kafka cluster {found.cluster_id}, {count}",
                "cluster_id": found.cluster_id,
                "controller": found.controller_id,
                "brokers": brokers,
            }
        )

    async def _topics(self, request: Request, route: Route) -> Response:
        found = await self._cluster.facts(request.deadline)
        topics = [
            {"name": name, "partitions": len(topic.partitions)}
            for name, topic in sorted(found.topics.items())
            if topic.error is None
            and not name.startswith("__")
            and self._settings.policy.allows_topic(name)
        ]
        request.usage.rows = len(topics)
        return _json({"topics": topics})

    async def _topic(self, request: Request, route: Route) -> Response:
        partitions = await self._cluster.partitions(route.name, request.deadline)
        ends = await self._cluster.watermarks(route.name, partitions, request.deadline)
        shown = []
        for each in partitions:
            first, last = ends.get(each.number, (None, None))
            shown.append(
                {
                    "partition": each.number,
                    "leader": each.leader,
                    "replicas": each.replicas,
                    "in_sync": each.in_sync,
                    "first_offset": first,
                    "next_offset": last,
                }
            )
        return _json({"name": route.name, "partitions": shown})

    # -- writing -------------------------------------------------------------------------------

    async def _produce(self, request: Request, route: Route) -> Response:
        if (request.header("content-encoding") or "identity").strip().lower() != "identity":
            raise bodies.refuse("the body has to come without an encoding", "Content-Encoding")
        kind = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if kind in (bodies.NDJSON, "application/ndjson", "application/jsonl"):
            await self._written.expect(route.name, request.deadline)
            write = partial(self._write, request, route.name)
            lines = WrittenLines(request, write, self._settings.policy.max_bytes)
            await lines.begin()
            return Response(200, (("content-type", bodies.NDJSON),), lines)
        body = await request.body.read(bodies.MAX_BODY)
        messages, alone = bodies.messages_of(body)
        size = sum(message.size for message in messages)
        limit = self._settings.policy.max_bytes
        if limit is not None and size > limit:
            raise bodies.beyond(limit)
        await self._written.expect(route.name, request.deadline)
        results = await self._write(request, route.name, messages)
        request.usage.rows = sum(isinstance(each, Written) for each in results)
        failed = next((each for each in results if isinstance(each, Problem)), None)
        if failed is not None:
            if not alone:
                failed.extra["results"] = [document(each) for each in results]
            raise failed
        shown = [document(each) for each in results]
        return _json(shown[0] if alone else {"results": shown})

    async def _write(
        self, request: Request, topic: str, messages: list[bodies.Message]
    ) -> list[Result]:
        """Write, and see to it that who waits is told before the call's own time is up."""
        if not messages:
            return []
        seconds = max(0.1, request.deadline - self._reactor.seconds() - ANSWER_BEFORE)
        writing = Deferred.fromCoroutine(self._writer.write(topic, messages))
        writing.addTimeout(seconds, self._reactor, _not_written)
        try:
            return await writing
        except Problem:
            self._written.forget(topic)
            raise

    # -- reading -------------------------------------------------------------------------------

    async def _receive(self, request: Request, route: Route) -> Response:
        wanted = bodies.decoded(await request.body.read(bodies.SMALL), bodies.ReceiveBody)
        group = self._group(wanted.group, request)
        self._readers.check_room()
        await self._cluster.expect(route.name, request.deadline)
        limit = self._settings.policy.max_bytes
        left = request.deadline - self._reactor.seconds()
        kept = self._readers.use(group, route.name, wanted.start)
        try:
            taken = await kept.consumer.take(
                wanted.max,
                MOST_BYTES if limit is None else min(limit, MOST_BYTES),
                wanted.wait,
                max(0.1, left - SPARE_TIME),
                strict=limit is not None and limit <= MOST_BYTES,
            )
            if not taken:
                # No messages, or no broker? Only one that answers can say.
                await self._cluster.reach(route.name, request.deadline)
        finally:
            self._readers.leave(kept)
        request.usage.rows = len(taken)
        if not taken:
            return _json({"messages": [], "receipt": None})
        identifier = self._readers.new_id()
        self._readers.hand_out(kept, identifier, request.caller, taken.portions[0])
        messages = b",".join(taken.messages)
        receipt = identifier.encode()
        body = b'{"messages":[%b],"receipt":"%b"}' % (messages, receipt)
        return Response(200, (("content-type", "application/json"),), body)

    async def _subscribe(self, request: Request, route: Route) -> Response:
        wanted = bodies.decoded(await request.body.read(bodies.SMALL), bodies.SubscribeBody)
        group = self._group(wanted.group, request)
        await self._cluster.expect(route.name, request.deadline)
        kept = self._readers.use(group, route.name, wanted.start)
        subscription = Subscription(
            self._reactor,
            self._readers,
            self._cluster,
            self._settings,
            kept,
            request,
            wanted.window,
            self._readers.new_id(),
        )
        return Response(200, (("content-type", bodies.NDJSON),), subscription)

    async def _settle(self, request: Request, route: Route) -> Response:
        wanted = bodies.decoded(await request.body.read(bodies.SMALL), bodies.SettleBody)
        found = self._readers.find(route.name, request.caller)
        ack = wanted.action == "ack"
        if isinstance(found, Receipt):
            receipts = found.before(found) if wanted.through else [found]
            settled = await self._readers.settle(receipts, ack=ack)
        elif ack:
            settled = found
        else:
            raise Problem(
                "conflict",
                "the receipt has been acknowledged",
                hint="what is acknowledged can't be released any more",
            )
        if settled.lost:
            raise Problem(
                "conflict",
                f"partition {', '.join(map(str, settled.lost))} belongs to another consumer of the"
                " group now, and what the receipt has of it is delivered again",
                hint="what the receipt has of other partitions is acknowledged"
                if ack
                else "what the receipt has of other partitions is released",
                extra={"partitions": list(settled.lost)},
            )
        return _json({"ok": True, "committed": settled.committed} if ack else {"ok": True})

    def _group(self, stated: str | None, request: Request) -> str:
        group = stated if stated is not None else self._settings.group
        if not group:
            raise bodies.refuse("missing: the consumer group to read in", "group")
        if len(group) > 255:
            raise bodies.refuse("a group's name has at most 255 characters", "group")
        if not self._settings.policy.allows_group(group):
            raise _denied("groups", f"it does not allow the group {group!r}", request)
        return group

    def _check_topic(self, name: str, request: Request) -> None:
        if not _TOPIC.fullmatch(name) or name in (".", ".."):
            raise bodies.refuse("a topic's name is made of A-Z a-z 0-9 . _ -", "topic")
        if not self._settings.policy.allows_topic(name):
            raise _denied("topics", f"it does not allow the topic {name!r}", request)

    _calls: Mapping[Action, Callable[[Any, Request, Route], Awaitable[Response]]] = {
        Action.TEST: _test,
        Action.TOPICS: _topics,
        Action.TOPIC: _topic,
        Action.PRODUCE: _produce,
        Action.RECEIVE: _receive,
        Action.SUBSCRIBE: _subscribe,
        Action.SETTLE: _settle,
    }


def _not_written(_: object, seconds: float) -> NoReturn:
    raise Problem(
        "target_unreachable",
        f"no broker has acknowledged the messages within {seconds:.3g} s; they may be written all"
        " the same",
        hint="look whether they are there before they are sent again",
    )


def _denied(rule: str, reason: str, request: Request) -> Problem:
    return Problem(
        "policy_denied",
        f"the rule '{rule}' of profile kafka/{request.profile} refuses this call: {reason}",
        hint=f"the customer sets it in the agent's config.yml, kafka.{request.profile}.policy",
        extra={"rule": rule},
    )


def _json(content: object) -> Response:
    return Response(200, (("content-type", "application/json"),), msgspec.json.encode(content))
