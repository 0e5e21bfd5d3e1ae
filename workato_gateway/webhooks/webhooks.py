"""All of it together: where events come from, and the receivers that are told of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..agents.registry import LiveAgent, Registry
from ..config import WebhookEndpoint
from ..config import Webhooks as WebhooksSection
from ..identity.authority import load_chain
from ..storage.interface import Store
from .administered import Administered
from .endpoint import Endpoint, EndpointFigures, EndpointSettings
from .events import EVENT_TYPES, Event
from .expiry import Expiry
from .posting import HttpsPost
from .presence import Presence


def settings_of(section: WebhookEndpoint, give_up: float) -> EndpointSettings:
    """An endpoint as the config wants it."""
    events = frozenset(section.events if section.events is not None else EVENT_TYPES)
    return EndpointSettings(
        section.called, section.url, section.secret, events | {"webhook.test"}, give_up
    )


class Webhooks:
    """Tells the receivers of the config. Without any, only certificates are looked at."""

    def __init__(
        self,
        section: WebhooksSection,
        reactor: Any,
        store: Store,
        registry: Registry,
        own_certificates: Mapping[str, Path],
        *,
        software: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Raises AuthorityError for a ``ca`` that can't be read."""
        self._endpoints = [
            Endpoint(
                settings_of(each, section.give_up),
                HttpsPost(reactor, tuple(load_chain(each.ca)) if each.ca else ()),
                reactor,
                software=software,
                now=now,
            )
            for each in section.endpoints
        ]
        self._presence = Presence(
            reactor, store, registry.sessions_of, self.tell, grace=section.grace, now=now
        )
        self._administered = Administered(store, self.tell)
        self.expiry = Expiry(store, own_certificates, self.tell, now)

    def tell(self, event: Event) -> None:
        """Offer an event to every receiver. Never waits."""
        for endpoint in self._endpoints:
            endpoint.offer(event)

    def figures(self) -> Sequence[EndpointFigures]:
        """For the metrics."""
        return [endpoint.figures for endpoint in self._endpoints]

    def joined(self, live: LiveAgent) -> None:
        """For the registry: a session has begun."""
        if self._endpoints:
            self._presence.joined(live)

    def left(self, live: LiveAgent) -> None:
        """For the registry: a session has ended."""
        if self._endpoints:
            self._presence.left(live)

    async def begin(self) -> None:
        """Before the first agent is let in. Raises StoreError."""
        if self._endpoints:
            await self._presence.begin()
            await self._administered.begin()

    async def look(self) -> None:
        """Once a second. Raises StoreError."""
        if self._endpoints:
            await self._administered.look()

    async def review(self) -> None:
        """Every few minutes. Raises StoreError."""
        await self.expiry.review()

    def leave_presence(self) -> None:
        """The gateway drains: from now on agents that go are no news."""
        self._presence.stop()

    def stop(self) -> None:
        """Nothing is posted afterwards."""
        self._presence.stop()
        for endpoint in self._endpoints:
            endpoint.stop()
