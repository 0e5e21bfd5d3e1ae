"""What the gateway tells others of, as it happens."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec
from attrs import field, frozen

EventType = Literal[
    "agent.certificate_expired",
    "agent.certificate_expiring",
    "agent.connected",
    "agent.disabled",
    "agent.disconnected",
    "agent.enabled",
    "agent.enrolled",
    "agent.revoked",
    "gateway.certificate_expired",
    "gateway.certificate_expiring",
    "webhook.test",
]
EVENT_TYPES: Final[tuple[EventType, ...]] = get_args(EventType)


def rfc3339(seconds: float) -> str:
    """Unix seconds as a moment in UTC."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _new_id() -> str:
    return f"msg_{secrets.token_hex(16)}"


@frozen
class Event:
    """Something that happened. ``at``: Unix seconds; ``id`` stays the same over all attempts."""

    type: EventType
    at: float
    data: Mapping[str, object]
    id: str = field(factory=_new_id)

    def body(self) -> bytes:
        """The JSON document that is posted."""
        return msgspec.json.encode(
            {"type": self.type, "timestamp": rfc3339(self.at), "data": dict(self.data)}
        )
