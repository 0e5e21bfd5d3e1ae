"""One request and its response on a connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

from workato_tunnel.problems import Problem

from .heads import RequestHead
from .responses import CONTINUE, LAST_CHUNK, ResponseHead, SwitchingHead, chunk

if TYPE_CHECKING:
    from .http1 import Http1Channel


SWITCHING: Final = 101
MUCH: Final = 8192
"""Bytes that are worth a system call of their own."""


class Listener(Protocol):
    """The one who answers. After ``caller_lost`` nothing more is called."""

    def body_received(self, data: bytes) -> None:
        """Bytes of the request's body. To slow them down: :meth:`Exchange.pause_body`."""

    def body_ended(self) -> None:
        """The request's body is complete."""

    def caller_lost(self) -> None:
        """Nobody waits for the answer any more; or it can't be completed."""

    def expired(self) -> None:
        """The time given to :meth:`Exchange.expire_at` has come."""

    def pause_response(self) -> None:
        """The caller reads slowly: write no more for now."""

    def resume_response(self) -> None:
        """Write on."""


class Exchange:
    """A request, and the means to answer it. Ends once: answered whole, aborted, or caller lost.

    Besides it is the record of the call for metrics and access log:

    :ivar peer: the caller's address.
    :ivar started: the reactor's seconds.
    :ivar status: of the response; 0 as long as there is none.
    :ivar code: the code of a problem that the gateway itself answered or ended with.
    :ivar complete: the response went out whole.
    :ivar relayed: it counts among the calls in flight.
    """

    __slots__ = (
        "__weakref__",
        "_body_wanted",
        "_channel",
        "_remaining",
        "agent",
        "body_limit",
        "bytes_in",
        "bytes_out",
        "code",
        "complete",
        "ended",
        "group",
        "head",
        "listener",
        "owner",
        "peer",
        "relayed",
        "request_id",
        "response",
        "service",
        "started",
        "status",
        "token_id",
        "trace",
    )

    def __init__(self, channel: Http1Channel, head: RequestHead, peer: str, started: float) -> None:
        self._channel = channel
        self.head = head
        self.peer = peer
        self.started = started
        self.request_id = ""
        self.trace = ""
        self.owner = ""
        self.token_id = ""
        self.group = ""
        self.service = ""
        self.agent = ""
        self.code = ""
        self.status = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.complete = False
        self.ended = False
        self.body_limit: int | None = None
        self.relayed = False
        self.listener: Listener | None = None
        self.response: ResponseHead | None = None
        self._remaining: int | None = None
        self._body_wanted = False

    # The request

    @property
    def body_wanted(self) -> bool:
        """Somebody has asked for the body."""
        return self._body_wanted

    @property
    def awaits_continue(self) -> bool:
        """The caller holds the body back until it is asked for."""
        return not self._body_wanted and self.head.expects_continue and self.head.has_body

    def limit_body(self, size: int) -> None:
        """Break off where the body turns out larger. Raises Problem where that is known now."""
        if self.head.length is not None and self.head.length > size:
            raise body_too_large(size)
        self.body_limit = size

    def receive_body(self) -> None:
        """Take the body in: from now on the listener is told of it. Answers ``Expect`` if asked."""
        expected = self.awaits_continue
        self._body_wanted = True
        if expected and self.response is None and self._channel.body_outstanding:
            self._channel.write(CONTINUE)
        self._channel.feed_body()

    def pause_body(self) -> None:
        """Stop taking in the body: TCP holds the caller back."""
        self._channel.pause_body()

    def resume_body(self) -> None:
        """Take in more of the body."""
        self._channel.resume_body()

    def expire_at(self, when: float) -> None:
        """Tell the listener ``expired`` at that time (reactor's seconds), within half a second."""
        self._channel.expires = when

    def pass_on(self, data: bytes) -> None:
        """Bytes of a caller's that has switched protocols: there is no framing to look at."""
        self.bytes_in += len(data)
        if self.listener is not None:
            self.listener.body_received(data)

    # The response

    def start_response(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send the response's head. Raises MalformedResponse and has then sent nothing."""
        response = self._response_head(status, headers)
        self.response = response
        self.status = status
        self._remaining = response.length
        if status == SWITCHING:
            self._channel.switch(self)
        self._channel.write(response.data)

    def write(self, data: bytes) -> None:
        """Send more of the body. More than was declared breaks the exchange off instead."""
        response = self.response
        if self.ended or response is None or response.bodiless or not data:
            return
        size = len(data)
        if response.length is not None:
            if size > (self._remaining or 0):
                self.break_off(_wrong_length())
                return
            self._remaining = (self._remaining or 0) - size
            self.bytes_out += size
            self._channel.write(data)
            return
        self.bytes_out += size
        if not response.chunked:
            self._channel.write(data)
        elif size < MUCH:
            self._channel.write(chunk(data))
        else:
            self._channel.write_pieces((b"%x\r\n" % size, data, b"\r\n"))

    def finish(self) -> None:
        """The response is whole. Less than was declared breaks the exchange off instead."""
        response = self.response
        if self.ended or response is None:
            return
        if self._remaining and not response.bodiless:
            self.break_off(_wrong_length())
            return
        if response.chunked:
            self._channel.write(LAST_CHUNK)
        self._end(complete=True)
        self._channel.response_finished(self)

    def respond(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """The whole response in one write. Raises MalformedResponse and has then sent nothing."""
        if self.ended:
            return
        fields = [*headers, ("content-length", str(len(body)))]
        response = self._response_head(status, fields)
        self.response = response
        self.status = status
        if body and not response.bodiless:
            self.bytes_out = len(body)
            self._channel.write(response.data + body)
        else:
            self._channel.write(response.data)
        self._end(complete=True)
        self._channel.response_finished(self)

    def fail(self, problem: Problem, *, flush: bool = False) -> None:
        """Answer with a problem; after the head it is too late for that and the answer is cut.

        :param flush: what was written of the answer in chunks is still to reach the caller.
        """
        if self.ended:
            return
        self.code = problem.code
        if self.response is not None:
            self.abort(flush=flush)
            return
        self.respond(problem.status, problem.headers(), problem.body(self.request_id))

    def abort(self, *, flush: bool = False) -> None:
        """Cut the connection, so that what was sent can't be taken for the whole."""
        response = self.response
        if self.ended:
            return
        # Anywhere but in chunks there are clients that take a clean close for the end of the body.
        self._end(complete=False)
        self._channel.response_cut(self, flush=flush and response is not None and response.chunked)

    def break_off(self, problem: Problem) -> None:
        """As :meth:`fail`, from this side of the listener: it is told that the caller is lost."""
        if self.ended:
            return
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.caller_lost()
        self.fail(problem)

    def lost(self) -> None:
        """The connection is gone."""
        if self.ended:
            return
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.caller_lost()
        self._end(complete=False)
        self._channel.site.exchange_ended(self)

    def _end(self, *, complete: bool) -> None:
        self.complete = complete
        self.ended = True
        self.listener = None

    def _response_head(self, status: int, headers: Iterable[tuple[str, str]]) -> ResponseHead:
        head = self.head
        channel = self._channel
        date = channel.factory.date()
        if status == SWITCHING and head.upgrade:
            return SwitchingHead(headers, date=date, request_id=self.request_id, trace=self.trace)
        return ResponseHead(
            status,
            headers,
            date=date,
            request_id=self.request_id,
            trace=self.trace,
            to_head=head.method == "HEAD",
            modern=head.modern,
            persistent=head.keep_alive and channel.may_persist(self),
        )


def body_too_large(limit: int) -> Problem:
    """A request's body is beyond its limit."""
    return Problem(
        "payload_too_large", f"the body is limited to {limit} bytes", hint="Send it in parts."
    )


def _wrong_length() -> Problem:
    return Problem("internal_error", "the response is not as long as it was declared")
