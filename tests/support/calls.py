"""A caller on the gateway's side of a tunnel in memory, and services to be called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from attrs import define, field

from workato_agent.calls import CallEnd, ServedProfile
from workato_agent.requests import Request, Response
from workato_tunnel.errors import StreamReset
from workato_tunnel.frames import Head, Open, Trailers
from workato_tunnel.problems import Problem


@define
class Answer:
    """A StreamReceiver that remembers what came."""

    head: Head | None = None
    body: bytearray = field(factory=bytearray)
    trailers: Trailers | None = None
    reset: StreamReset | None = None

    def head_received(self, head: Head) -> None:
        self.head = head

    def data_received(self, data: bytes) -> None:
        self.body += data

    def end_received(self) -> None: ...

    def finished(self, trailers: Trailers) -> None:
        self.trailers = trailers

    def reset_received(self, reason: StreamReset) -> None:
        self.reset = reason

    @property
    def status(self) -> int:
        """The status of the head that came; 0 without one."""
        return self.head.status if self.head else 0

    def header(self, name: str) -> str | None:
        """The first header field of that name."""
        return next((value for key, value in self.head.headers if key == name), None)  # type: ignore[union-attr]

    def document(self) -> dict[str, object]:
        """The body as a JSON object."""
        return msgspec.json.decode(bytes(self.body), type=dict[str, object])


class Service:
    """A ProfileService around one coroutine function."""

    type = "test"
    operations = ("read",)

    def __init__(self, serve: Callable[[Request], Awaitable[Response]]) -> None:
        self.serve = serve

    def operation(self, request: Request) -> str:
        """GET reads; nothing else is known."""
        if request.method == "DELETE":
            raise Problem("operation_not_found", "there is no such operation")
        return "read"

    async def handle(self, request: Request) -> Response:
        """Whatever the test wants."""
        return await self.serve(request)

    async def close(self) -> None: ...


def served(
    serve: Callable[[Request], Awaitable[Response]],
    admit: Callable[[Request, str], None] = lambda request, operation: None,
) -> ServedProfile:
    """A profile whose service is that coroutine function."""
    return ServedProfile(Service(serve), admit)


@define
class Ends:
    """A CallObserver that remembers."""

    began: list[Open] = field(factory=list)
    ends: list[CallEnd] = field(factory=list)

    def call_began(self, head: Open) -> None:
        self.began.append(head)

    def call_ended(self, end: CallEnd) -> None:
        self.ends.append(end)
