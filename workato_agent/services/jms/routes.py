"""Which call a method and a path ask for. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from attrs import frozen

from workato_tunnel.problems import Problem

from .broker import Destination

OPERATIONS: Final = ("test", "publish", "receive", "browse", "subscribe")
"""What policies speak of. Settling a receipt belongs to receive, or to subscribe."""
LONGEST_NAME: Final = 500
"""Characters of a queue's or topic's name."""


_NOWHERE: Final = Destination("queue", "")


class Action(Enum):
    """What is to be done."""

    TEST = auto()
    PUBLISH = auto()
    RECEIVE = auto()
    BROWSE = auto()
    SUBSCRIBE = auto()
    SETTLE = auto()


@frozen
class Route:
    """A call that has been recognised.

    :ivar receipt: of :attr:`Action.SETTLE`; every other action but the test has a destination.
    """

    action: Action
    destination: Destination = _NOWHERE
    receipt: str = ""


_ACTIONS: Final[Mapping[tuple[str, str], Action]] = {
    ("POST", "messages"): Action.PUBLISH,
    ("POST", "receive"): Action.RECEIVE,
    ("POST", "subscribe"): Action.SUBSCRIBE,
    ("GET", "browse"): Action.BROWSE,
    ("HEAD", "browse"): Action.BROWSE,
}
_KINDS: Final[Mapping[str, Literal["queue", "topic"]]] = {"queues": "queue", "topics": "topic"}
_CALLS: Final = (
    "GET (test), POST queues|topics/{name}/messages, receive and subscribe, "
    "GET queues/{name}/browse and POST receipts/{receipt}"
)


def route(method: str, path: str) -> Route:
    """Raises Problem ``operation_not_found``, and ``bad_request`` for a name that can't be one."""
    if path == "" and method in ("GET", "HEAD"):
        return Route(Action.TEST)
    segments = path.split("/")
    if len(segments) == 2 and segments[0] == "receipts" and method == "POST":
        return Route(Action.SETTLE, receipt=_decoded(segments[1]))
    if len(segments) == 3 and segments[0] in _KINDS:
        action = _ACTIONS.get((method, segments[2]))
        kind = _KINDS[segments[0]]
        if action is not None and not (action is Action.BROWSE and kind == "topic"):
            name = _decoded(segments[1])
            check_name(name, "name")
            return Route(action, Destination(kind, name))
    hint = f"the calls are {_CALLS}; a slash in a name is written %2F"
    raise Problem("operation_not_found", f"jms has no {method} {path[:200]!r}", hint=hint)


def parse_reply_to(text: str, field: str) -> Destination:
    """``queues/NAME`` or ``topics/NAME``, not encoded. Raises Problem ``bad_request``."""
    kind, slash, name = text.partition("/")
    if not slash or kind not in _KINDS:
        raise Problem(
            "bad_request",
            f"{field}: expected queues/NAME or topics/NAME",
            extra={"field": field},
        )
    check_name(name, field)
    return Destination(_KINDS[kind], name)


def shown(destination: Destination) -> str:
    """``queues/NAME`` or ``topics/NAME``."""
    return f"{destination.kind}s/{destination.name}"


def check_name(name: str, field: str) -> None:
    """Raises Problem ``bad_request`` for what is no queue's or topic's name with any broker."""
    if not name:
        fault = "is empty"
    elif len(name) > LONGEST_NAME:
        fault = f"is longer than {LONGEST_NAME} characters"
    elif re.search(r"[\x00-\x1f\x7f]", name):
        fault = "holds control characters"
    else:
        return
    raise Problem("bad_request", f"{field}: the name {fault}", extra={"field": field})


def _decoded(segment: str) -> str:
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeError:
        raise Problem(
            "bad_request",
            "the path holds a percent-encoding that is no UTF-8",
            extra={"field": "path"},
        ) from None
