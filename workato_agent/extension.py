"""What an extension is written against.

An extension is a class that an operator names in the agent's ``extensions`` section. The agent
makes one instance of it, in a process of its own, and calls ``handle`` for each call::

    from workato_agent.extension import Extension, Problem, Request, Response

    class Stock(Extension):
        def handle(self, request: Request) -> Response:
            if request.path != "items":
                raise Problem("not_found", f"there is no {request.path}")
            return Response.json({"items": 3})

Nothing here needs the agent to run: ``Stock({}).handle(Request("GET", "items"))`` is a test.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from threading import Event
from typing import Final
from urllib.parse import parse_qsl

from attrs import field, frozen

from workato_tunnel.problems import Problem

__all__ = ["Body", "Cancelled", "Extension", "Problem", "Request", "Response"]

LARGEST_JSON: Final = 16 * 1024 * 1024


class Cancelled(Exception):
    """The caller has left or the deadline has passed. Let it through, and clean up on its way."""


class Body:
    """A request's body: iterate it once for its chunks, or :meth:`read` it.

    What is not read is not sent for. Raises :class:`Cancelled` when the rest will not come.
    """

    def __init__(self, chunks: Iterable[bytes] = ()) -> None:
        self._chunks = iter(chunks)

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def read(self, limit: int = LARGEST_JSON) -> bytes:
        """The whole body. Raises Problem ``payload_too_large`` past ``limit`` bytes."""
        content = bytearray()
        for chunk in self._chunks:
            content += chunk
            if len(content) > limit:
                raise Problem("payload_too_large", f"the body is longer than {limit} bytes")
        return bytes(content)


@frozen
class Request:
    """One call.

    :ivar path: what follows the profile in the URL, percent-encoded as it came, no leading slash.
    :ivar query: the raw query string, without ``?``.
    :ivar headers: fields in order, their names in lower case.
    :ivar caller: the owner of the caller's token.
    :ivar deadline: in the seconds of ``time.monotonic()``.
    :ivar trace: W3C ``traceparent``.
    """

    method: str
    path: str = ""
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: Body = field(factory=Body)
    caller: str = ""
    deadline: float = math.inf
    trace: str = ""
    request_id: str = ""
    profile: str = ""
    _cancellation: Event = field(factory=Event, repr=False, eq=False)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more. Long work looks at it now and then."""
        return self._cancellation.is_set()

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return self.deadline - time.monotonic()

    @property
    def parameters(self) -> dict[str, str]:
        """The query string decoded; of a name that comes twice the last."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def header(self, name: str) -> str | None:
        """The first field of that name."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    def json(self, limit: int = LARGEST_JSON) -> object:
        """The body as JSON. Raises Problem ``bad_request``."""
        try:
            return json.loads(self.body.read(limit))
        except (ValueError, RecursionError) as error:
            raise Problem("bad_request", f"the body is not JSON: {error}") from None


@frozen
class Response:
    """An answer.

    :ivar body: bytes, text (sent as UTF-8), or chunks that are taken one by one, as the caller
        reads them. An exception between chunks ends the call so that it never looks complete.
    """

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes | str | Iterable[bytes] = b""

    @classmethod
    def json(cls, content: object, status: int = 200) -> Response:
        """An answer in JSON."""
        body = json.dumps(content, ensure_ascii=False).encode()
        return cls(status, {"content-type": "application/json"}, body)


class Extension:
    """Base of extensions. One instance serves all calls of its profile.

    ``handle`` is called by one thread at a time, unless the profile's ``concurrency`` says more.
    It may block: the agent ends the whole process when a call does not stop within a second of
    its deadline, or of its caller's leaving.
    """

    def __init__(self, settings: Mapping[str, object]) -> None:
        """``settings``: the profile's own keys, with secrets in plain text."""
        self.settings = settings

    def handle(self, request: Request) -> Response:
        """Answer a call. Raise Problem for what the caller should be told."""
        raise NotImplementedError

    def test(self) -> Mapping[str, object]:
        """Whether it can work: what it reaches for is there. Raise Problem where it is not.

        What is returned is shown to who asks, as by ``workato-agent check``.
        """
        return {}

    def close(self) -> None:
        """The process is about to end."""
