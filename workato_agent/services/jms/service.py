"""Message brokers: one profile of the ``jms`` section."""

from __future__ import annotations

from typing import Any, Final

from attrs import define, field

from workato_tunnel.problems import Problem

from ...requests import Request, Response
from .access import Access
from .broker import Broker, Source
from .delivery import EMPTY, BatchBody, Subscription
from .messages import (
    SMALL_BODY,
    ReceiveDocument,
    SettleDocument,
    SubscribeDocument,
    browse_parameters,
    document,
    encoded,
    incoming,
)
from .publishing import NDJSON, Publishing
from .receipts import Receipts
from .routes import OPERATIONS, Action, Route, route
from .settings import JmsSettings

_NAMES: Final = {
    Action.TEST: "test",
    Action.PUBLISH: "publish",
    Action.RECEIVE: "receive",
    Action.BROWSE: "browse",
    Action.SUBSCRIBE: "subscribe",
}
_MARGIN: Final = 1.0
"""Seconds that a long poll ends before its call's deadline."""
_JSON: Final = (("content-type", "application/json"),)


@define(eq=False)
class JmsService:
    """Serves one profile of the ``jms`` section (a ``ProfileService``)."""

    _clock: Any
    _broker: Broker
    _settings: JmsSettings
    _access: Access = field(init=False)
    _receipts: Receipts = field(init=False)
    _publishing: Publishing = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._access = Access(self._settings.policy)
        self._receipts = Receipts(self._clock, self._settings)
        self._publishing = Publishing(self._broker, self._access, self._settings)

    @property
    def type(self) -> str:
        """What is spoken to the broker."""
        return self._broker.type

    @property
    def operations(self) -> tuple[str, ...]:
        """Those that the policy allows."""
        allowed = self._settings.policy.operations
        return tuple(each for each in OPERATIONS if allowed is None or each in ("test", *allowed))

    def operation(self, request: Request) -> str:
        """The operation; settling counts as whichever of receive and subscribe is allowed."""
        action = route(request.method, request.path).action
        if action is Action.SETTLE:
            allowed = self._settings.policy.operations
            return "receive" if allowed is None or "receive" in allowed else "subscribe"
        return _NAMES[action]

    async def handle(self, request: Request) -> Response:
        """Serve a call. Raises Problem."""
        found = route(request.method, request.path)
        match found.action:
            case Action.TEST:
                return _answer({"ok": True, **await self._broker.test()})
            case Action.SETTLE:
                return await self._settle(request, found.receipt)
        self._access.check(found.destination)
        match found.action:
            case Action.PUBLISH:
                return _answer(await self._publishing.answer(request, found.destination))
            case Action.RECEIVE:
                return await self._receive(request, found)
            case Action.SUBSCRIBE:
                return await self._subscribe(request, found)
            case _:
                return await self._browse(request, found)

    async def close(self) -> None:
        """Give back what is out, and disconnect."""
        await self._receipts.close()
        await self._broker.close()

    async def _receive(self, request: Request, found: Route) -> Response:
        wanted = document(ReceiveDocument, await request.body.read(SMALL_BODY))
        source = _source(found, wanted.selector, wanted.subscription)
        left = request.deadline - self._clock.seconds()
        wait = min(wanted.wait, max(left - _MARGIN, left / 2))
        room = self._receipts.room()
        try:
            batch = await self._broker.receive(source, wanted.max, wait, self._settings.max_batch)
        except BaseException:
            room.give_back()
            raise
        if batch is None:
            room.give_back()
            request.usage.rows = 0
            return Response(200, _JSON, EMPTY)
        receipt = self._receipts.open(request.caller, batch, room, lambda: None)
        request.usage.rows = receipt.count
        return Response(200, _JSON, BatchBody(self._receipts, receipt))

    async def _subscribe(self, request: Request, found: Route) -> Response:
        wanted = document(SubscribeDocument, await request.body.read(SMALL_BODY))
        source = _source(found, wanted.selector, wanted.subscription)
        if source.destination.kind == "topic" and source.subscription is None:
            raise Problem(
                "bad_request",
                "subscription: a topic is followed by a durable subscription only, which keeps "
                "what comes while nobody listens",
                hint="give it a name of your choice",
                extra={"field": "subscription"},
            )
        body = Subscription(
            self._clock,
            self._broker,
            self._receipts,
            self._settings,
            request,
            source,
            wanted,
            self._receipts.room(),
        )
        return Response(200, (("content-type", NDJSON),), body)

    async def _settle(self, request: Request, receipt: str) -> Response:
        wanted = document(SettleDocument, await request.body.read(SMALL_BODY))
        settled = await self._receipts.settle(receipt, request.caller, wanted.action)
        outcome = "acknowledged" if settled.outcome == "acknowledged" else "released"
        request.usage.rows = settled.count
        return _answer({"outcome": outcome, "count": settled.count})

    async def _browse(self, request: Request, found: Route) -> Response:
        most, selector = browse_parameters(request)
        messages = await self._broker.browse(found.destination, most, selector)
        request.usage.rows = len(messages)
        return _answer({"messages": [incoming(message) for message in messages]})


def _source(found: Route, selector: str | None, subscription: str | None) -> Source:
    if subscription is not None and found.destination.kind == "queue":
        raise Problem(
            "bad_request",
            "subscription: a queue has no subscriptions",
            hint="leave it out: whoever receives from a queue shares it",
            extra={"field": "subscription"},
        )
    return Source(found.destination, selector, subscription)


def _answer(value: object) -> Response:
    return Response(200, _JSON, encoded(value))
