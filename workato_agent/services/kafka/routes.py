"""Which call a method and a path ask for."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final
from urllib.parse import unquote

from attrs import frozen

from workato_tunnel.problems import Problem

OPERATIONS: Final = ("test", "topics", "produce", "consume")
"""What policies speak of: ``consume`` is receive, subscribe and receipts."""


class Action(Enum):
    """What is to be done."""

    TEST = auto()
    TOPICS = auto()
    TOPIC = auto()
    PRODUCE = auto()
    RECEIVE = auto()
    SUBSCRIBE = auto()
    SETTLE = auto()


@frozen
class Route:
    """A call that has been recognised.

    :ivar name: the topic, or the receipt's id.
    """

    action: Action
    operation: str
    name: str = ""


_ROUTES: Final = {
    ("",): ("GET", Action.TEST, "test"),
    ("topics",): ("GET", Action.TOPICS, "topics"),
    ("topics", "*"): ("GET", Action.TOPIC, "topics"),
    ("topics", "*", "messages"): ("POST", Action.PRODUCE, "produce"),
    ("topics", "*", "receive"): ("POST", Action.RECEIVE, "consume"),
    ("topics", "*", "subscribe"): ("POST", Action.SUBSCRIBE, "consume"),
    ("receipts", "*"): ("POST", Action.SETTLE, "consume"),
}
_CALLS: Final = (
    "GET (test), GET topics and topics/{topic}, POST topics/{topic}/messages, "
    "topics/{topic}/receive, topics/{topic}/subscribe and receipts/{receipt}"
)


def find_route(method: str, path: str) -> Route:
    """The call that is asked for; ``path`` is percent-encoded, without a leading slash.

    Raises Problem ``operation_not_found`` that names what there is.
    """
    segments = [unquote(segment) for segment in path.split("/")]
    shape = tuple("*" if index == 1 else word for index, word in enumerate(segments))
    found = _ROUTES.get(shape)
    if found is None or (len(segments) > 1 and not segments[1]):
        raise _unknown(f"Kafka has no {method} {path[:64]!r}")
    expected, action, operation = found
    if method != expected and not (method == "HEAD" and expected == "GET"):
        raise _unknown(f"{segments[0]} is asked for with {expected} here, not {method}")
    return Route(action, operation, segments[1] if len(segments) > 1 else "")


def _unknown(detail: str) -> Problem:
    return Problem("operation_not_found", detail, hint=f"there are {_CALLS}")
