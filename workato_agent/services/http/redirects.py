"""Where a target sends a call on to, as far as the call may go there. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urljoin, urlsplit

from attrs import frozen

from workato_tunnel.problems import Problem

from .messages import Incoming
from .target import Origin, request_target

MOST: Final = 5
"""Redirects that are followed in one call; the next one goes to the caller."""
_SEE_OTHER: Final = 303
_REDIRECTS: Final = frozenset({301, 302, _SEE_OTHER, 307, 308})
READING: Final = frozenset({"GET", "HEAD"})
"""Methods that are sent on as they are."""
_LOCATION: Final = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # visible ASCII without the backslash


@frozen
class Hop:
    """A request to make instead.

    :ivar path: as in a call: what follows the base, encoded. ``query``: without its ``?``.
    :ivar target: both on the base, for the request line.
    """

    method: str
    path: str
    query: str
    target: str


def next_hop(origin: Origin, method: str, target: str, answer: Incoming) -> Hop | None:
    """The request that an answer asks for; None where there is none, or none that may be made.

    It goes to the origin and stays below its base. A GET or HEAD stays what it is; anything else
    is followed after 303 only, with a GET.

    :param target: the request line's, against which Location is resolved.
    """
    if answer.status not in _REDIRECTS:
        return None
    if method not in READING:
        if answer.status != _SEE_OTHER:
            return None
        method = "GET"
    locations = [value for name, value in answer.fields if name == "location"]
    if len(locations) != 1 or not _LOCATION.fullmatch(locations[0]):
        return None
    scheme = "https" if origin.secure else "http"
    try:
        there = urlsplit(urljoin(f"{scheme}://{origin.authority}{target}", locations[0]))
        port = there.port or (443 if there.scheme == "https" else 80)
    except ValueError:
        return None
    where = (there.scheme, (there.hostname or "").lower(), port)
    if where != (scheme, origin.host.lower(), origin.port) or "@" in there.netloc:
        return None
    base = origin.base_path
    if there.path != base and not there.path.startswith(base + "/"):
        return None
    path = there.path[len(base) :]
    path = path if path == "/" else path.removeprefix("/")
    try:
        return Hop(method, path, there.query, request_target(origin, path, there.query))
    except Problem:
        return None
