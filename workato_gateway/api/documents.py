"""What the administrative resources have in common: reading bodies, times, and the audit."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

import msgspec

from workato_tunnel.problems import Problem

from ..storage.interface import AuditEntry, Transaction
from .messages import AdminRequest

Body = TypeVar("Body", bound=msgspec.Struct)
Changed = Callable[[], Awaitable[None]]
"""Awaited after a change was stored: when it returns, the change is in force in this process."""
Now = Callable[[], float]

_PLACE: Final = re.compile(r" - at `\$\.?(.*)`$")
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


async def nothing_to_tell() -> None:
    """A :data:`Changed` for a process that keeps nothing in memory."""


def read_body(request: AdminRequest, kind: type[Body]) -> Body:
    """The request's JSON as a struct. Raises Problem ``bad_request`` that names the field."""
    try:
        return msgspec.json.decode(request.body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        text = str(error)
        place = _PLACE.search(text)
        name = place[1] if place else ""
        detail = _PLACE.sub("", text)
        raise bad_field(name, detail) if name else bad_body(detail) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_body(f"is no JSON document: {error}") from error


def bad_field(name: str, detail: str, hint: str | None = None) -> Problem:
    """A member of the body, or a parameter, is not as it should be."""
    return Problem("bad_request", f"{name}: {detail}", hint=hint, extra={"field": name})


def bad_body(detail: str) -> Problem:
    """The body as a whole is not as it should be."""
    return Problem("bad_request", f"body: {detail}")


def flag(request: AdminRequest, name: str) -> bool:
    """A parameter ``true`` or ``false`` of the query; absent is false."""
    value = request.query.get(name, "false")
    if value not in ("true", "false"):
        raise bad_field(name, f"expected true or false, not {value!r}")
    return value == "true"


def moment(seconds: float | None) -> str | None:
    """Unix seconds as RFC 3339 in UTC."""
    if seconds is None:
        return None
    text = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).isoformat()
    return text.replace("+00:00", "Z")


def audit(
    transaction: Transaction,
    request: AdminRequest,
    action: str,
    subject: str,
    detail: Mapping[str, object] | None = None,
    now: Now = time.time,
) -> None:
    """Enter who did this, in the transaction that does it."""
    transaction.add_audit(
        AuditEntry(
            at=now(),
            actor=actor(request),
            address=request.peer,
            action=action,
            subject=subject,
            detail=dict(detail or {}),
        )
    )


def actor(request: AdminRequest) -> str:
    """Who asks, for records."""
    caller = request.caller
    return f"{caller.owner} (token {caller.token_id})" if caller.token_id else caller.owner
