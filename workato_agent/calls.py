"""One call, from the stream that carries it to the record of its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from workato_tunnel.errors import ErrorCode, HeadTooLarge, StreamReset
from workato_tunnel.frames import Head, Open, Trailers
from workato_tunnel.problems import Problem
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport

from .bodies import StreamBody
from .requests import BodyLost, Headers, Passage, Request, Response
from .services.base import ProfileService

LONGEST_TIMEOUT: Final = 86_400.0
STUCK_AFTER: Final = 30.0
"""Seconds after which a service that ignores its cancellation is logged."""
LONGEST_DETAIL: Final = 2048
"""Characters of a problem's detail in TRAILERS."""
BURST: Final = 64 * 1024
"""Bytes of a streamed answer that may be queued between two looks at the credit."""


@define(eq=False)
class ServedProfile:
    """A profile of the config, ready to be called.

    :ivar admit: the customer's policy. Called with the request and its operation's name; raises
        Problem ``policy_denied`` that names the rule.
    :ivar calls: those that have begun on it and not ended.
    """

    service: ProfileService
    admit: Callable[[Request, str], None]
    calls: int = field(default=0, init=False)
    _unused: Deferred[None] | None = field(default=None, init=False)

    def leave(self) -> None:
        """A call has ended."""
        self.calls -= 1
        if not self.calls and self._unused is not None:
            self._unused.callback(None)

    async def unused(self) -> None:
        """Wait until no call is left. For one who waits, once no new call can come."""
        if self.calls:
            self._unused = Deferred()
            try:
                await self._unused
            finally:
                self._unused = None


@frozen
class CallEnd:
    """What there is to say of a call once it has ended.

    :ivar operation: "" where the call did not get as far.
    :ivar code: ``ok``, a problem's code, or why the stream was reset (``cancelled``, …).
    :ivar status: the answer's HTTP status; 0 where there was no answer.
    :ivar denied: whether the policy refused it.
    :ivar duration: seconds.
    """

    head: Open
    operation: str
    code: str
    status: int
    denied: bool
    rows: int | None
    bytes_in: int
    bytes_out: int
    duration: float


class CallObserver(Protocol):
    """One who is told of calls: the audit, the metrics."""

    def call_began(self, head: Open) -> None: ...

    def call_ended(self, end: CallEnd) -> None: ...


class CallOwner(Protocol):
    """The dispatcher, as its calls need it."""

    log: Logger
    clock: IReactorTime
    observers: tuple[CallObserver, ...]

    def route(self, head: Open) -> ServedProfile:
        """The profile that is called. Raises Problem."""
        ...

    def accept(self, stream: StreamTransport, head: Open) -> StreamReceiver:
        """Begin a call."""
        ...

    def ended(self, call: Call, end: CallEnd) -> None:
        """A call's work has ended."""
        ...


class Call:
    """One call: a StreamReceiver for its stream, and the owner of the service's Deferred.

    It cancels that Deferred when the caller leaves, when the session is lost, at the deadline and
    at the end of a drain; it answers in every case where there is still someone to answer, and
    gives the stream's slot back only when the work has really ended.
    """

    __slots__ = (
        "_body",
        "_bytes_out",
        "_cancelled",
        "_code",
        "_deadline",
        "_deferred",
        "_denied",
        "_dispatcher",
        "_head",
        "_head_out",
        "_inner",
        "_operation",
        "_over",
        "_profile",
        "_request",
        "_started",
        "_status",
        "_stream",
        "_stuck",
    )

    def __init__(self, dispatcher: CallOwner, stream: StreamTransport, head: Open) -> None:
        self._dispatcher = dispatcher
        self._stream = stream
        self._head = head
        self._body = StreamBody(stream)
        self._started = dispatcher.clock.seconds()
        self._request: Request | None = None
        self._profile: ServedProfile | None = None
        self._deferred: Deferred[None] | None = None
        self._deadline: IDelayedCall | None = None
        self._stuck: IDelayedCall | None = None
        self._operation = ""
        self._code = ""
        self._status = 0
        self._bytes_out = 0
        self._inner = 0
        self._head_out = False
        self._over = False  # the answer is complete, or there is nobody to answer
        self._cancelled = False
        self._denied = False

    # -- what the stream tells -----------------------------------------------------------------

    def head_received(self, head: Head) -> None:
        """Only the side that opened a stream gets one; the session lets none through."""

    def data_received(self, data: bytes) -> None:
        self._body.data_received(data)

    def end_received(self) -> None:
        self._body.end_received()

    def finished(self, trailers: Trailers) -> None:
        """As ``head_received``."""

    def reset_received(self, reason: StreamReset) -> None:
        if not self._over:
            self._over = True
            self._code = reason.reason
        self._body.lose(str(reason))
        self._cancel()

    # -- the course of a call ------------------------------------------------------------------

    def begin(self) -> None:
        """Run the service. Most small calls are over when this returns."""
        for observer in self._dispatcher.observers:
            observer.call_began(self._head)
        deferred = Deferred.fromCoroutine(self._serve())
        if not deferred.called:
            self._deferred = deferred
            clock = self._dispatcher.clock
            wait = min(self._head.timeout / 1000, LONGEST_TIMEOUT)
            remaining = self._started + wait - clock.seconds()
            self._deadline = clock.callLater(max(remaining, 0), self._on_deadline)
        deferred.addBoth(self._ended)

    def refuse(self, problem: Problem) -> None:
        """Answer without any work."""
        self._fail(problem)
        self._body.discard()
        self._stream.release()

    def stop(self, problem: Problem) -> None:
        """End the call with this problem, and its work."""
        self._fail(problem, at_once=True)
        self._cancel()

    async def _serve(self) -> None:
        try:
            head = self._head
            dispatcher = self._dispatcher
            self._profile = profile = dispatcher.route(head)
            profile.calls += 1
            service = profile.service
            request = self._request = Request(
                head.service,
                head.profile,
                head.method,
                head.path,
                head.query,
                head.headers,
                self._body,
                head.caller,
                self._started + min(head.timeout / 1000, LONGEST_TIMEOUT),
                head.trace,
                head.request_id,
                begin_inner=self._begin_inner,
            )
            self._operation = operation = service.operation(request)
            profile.admit(request, operation)
            response = await service.handle(request)
            body = response.body
            if response.passage is not None:
                await self._pass(response, response.passage, request)
            elif isinstance(body, bytes):
                self._answer(response, body, request)
            else:
                await self._stream_answer(response, body, request)
        except Problem as problem:
            self._denied = problem.code == "policy_denied" and not self._head_out
            self._fail(problem)
        except HeadTooLarge:
            self._fail(
                Problem("internal_error", "The answer's header fields do not fit the tunnel")
            )
        except StreamReset as error:
            if not self._stream.closed:
                self._fail_unexpectedly(error)
            elif not self._over:
                self._over, self._code = True, error.reason
        except (CancelledError, BodyLost) as error:
            # The end of a call that is over has been told; else the service let its own escape.
            if not self._over:
                self._fail_unexpectedly(error)
        except Exception as error:  # noqa: BLE001 - whatever a service raises ends in an answer and the log
            self._fail_unexpectedly(error)

    def _begin_inner(self, stream: StreamTransport, method: str) -> StreamReceiver:
        head = self._head
        self._inner += 1
        inner = Open(
            service=head.service,
            profile=head.profile,
            method=method,
            caller=head.caller,
            timeout=int(LONGEST_TIMEOUT * 1000),
            trace=head.trace,
            request_id=f"{head.request_id}.{self._inner}",
        )
        return self._dispatcher.accept(stream, inner)

    def _answer(self, response: Response, body: bytes, request: Request) -> None:
        if self._over:
            return
        self._send_head(response.status, _with_length(response, len(body), request.method))
        if body and request.method != "HEAD":
            self._bytes_out = len(body)
            self._stream.write(body)
        self._finish(request)

    async def _stream_answer(
        self, response: Response, body: AsyncIterator[bytes], request: Request
    ) -> None:
        try:
            if self._over:
                return
            self._send_head(response.status, response.headers)
            if request.method != "HEAD":
                await self._pump(body)
            if not self._over:
                self._finish(request)
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    async def _pass(self, response: Response, passage: Passage, request: Request) -> None:
        stream = self._stream
        try:
            if self._over:
                return
            self._send_head(response.status, response.headers)
            if request.method != "HEAD":
                ended = passage.begin(stream)
                stream.registerProducer(passage, True)
                self._body.hand_over(passage)
                await ended
            if not self._over:
                self._finish(request)
        finally:
            self._bytes_out = passage.sent
            passage.close()
            stream.unregisterProducer()

    async def _pump(self, body: AsyncIterator[bytes]) -> None:
        stream = self._stream
        burst = 0
        async for chunk in body:
            if self._over:
                return
            stream.write(chunk)
            size = len(chunk)
            self._bytes_out += size
            burst += size
            if burst >= BURST:
                burst = 0
                await stream.writable()

    def _send_head(self, status: int, headers: Headers) -> None:
        self._stream.send_head(Head(status, headers))
        self._head_out = True
        self._status = status

    def _finish(self, request: Request | None, failed: Problem | None = None) -> None:
        self._over = True
        self._code = self._code or "ok"
        elapsed = int((self._dispatcher.clock.seconds() - self._started) * 1000)
        rows = None if request is None else request.usage.rows
        if failed is None:
            self._stream.finish(Trailers(rows=rows, elapsed=elapsed))
            return
        # A file's name may hold what UTF-8 can't say.
        detail = failed.detail[:LONGEST_DETAIL].encode("utf-8", "replace").decode("utf-8")
        trailers = Trailers(
            rows=rows,
            elapsed=elapsed,
            code=failed.code,
            message=failed.type.title,
            detail=detail,
        )
        try:
            self._stream.finish(trailers)
        except HeadTooLarge:
            self._stream.reset(failed.code, failed.type.title)

    # -- failures ------------------------------------------------------------------------------

    def _fail(self, problem: Problem, *, at_once: bool = False) -> None:
        """Tell the caller: ``at_once``, or behind the part of the body that was written."""
        if self._over:
            return
        self._code = problem.code
        if self._head_out and at_once:
            self._over = True
            self._stream.reset(problem.code, problem.type.title, problem.detail)
            return
        if self._head_out:
            self._finish(self._request, problem)
            return
        document = problem.body(self._head.request_id)
        headers = (*problem.headers(), ("content-length", str(len(document))))
        self._send_head(problem.status, headers)
        if self._head.method != "HEAD":
            self._bytes_out = len(document)
            self._stream.write(document)
        self._finish(self._request)

    def _fail_unexpectedly(self, error: BaseException) -> None:
        head = self._head
        if self._cancelled:
            self._dispatcher.log.info(
                "Call {request_id} to {service}/{profile} ended its cancellation with {error}",
                event="cancellation_overridden",
                request_id=head.request_id,
                service=head.service,
                profile=head.profile,
                error=type(error).__name__,
            )
            return
        self._dispatcher.log.failure(
            "Call {request_id} to {service}/{profile} failed unexpectedly",
            event="call_broke",
            request_id=head.request_id,
            service=head.service,
            profile=head.profile,
        )
        self._fail(
            Problem(
                "internal_error",
                "The agent failed on this call",
                hint="the agent's log has the cause under this request id",
            )
        )

    def _on_deadline(self) -> None:
        self._deadline = None
        self.stop(
            Problem(
                "deadline_exceeded",
                f"The call did not end within its {self._head.timeout / 1000:g} s",
                hint="allow it more time with X-Timeout, or ask for less at once",
            )
        )

    def _cancel(self) -> None:
        deferred = self._deferred
        if deferred is None or self._cancelled:
            return
        self._cancelled = True
        self._stuck = self._dispatcher.clock.callLater(STUCK_AFTER, self._log_stuck)
        deferred.cancel()

    def _log_stuck(self) -> None:
        self._stuck = None
        head = self._head
        self._dispatcher.log.error(
            "Call {request_id} to {service}/{profile} goes on {seconds} s after its cancellation",
            event="call_outlives_cancellation",
            request_id=head.request_id,
            service=head.service,
            profile=head.profile,
            seconds=STUCK_AFTER,
        )

    def _ended(self, result: Failure | None) -> None:
        for call in (self._deadline, self._stuck):
            if call is not None:
                call.cancel()
        self._deadline = self._stuck = self._deferred = None
        if isinstance(result, Failure) and not self._over:
            self._dispatcher.log.failure(
                "Call {request_id} broke",
                event="call_end_broke",
                failure=result,
                request_id=self._head.request_id,
            )
            self._stream.reset(ErrorCode.INTERNAL_ERROR)
            self._over, self._code = True, "internal_error"
        self._body.discard()
        self._stream.release()
        if self._profile is not None:
            self._profile.leave()
        request = self._request
        self._dispatcher.ended(
            self,
            CallEnd(
                self._head,
                self._operation,
                self._code,
                self._status,
                self._denied,
                None if request is None else request.usage.rows,
                self._body.received,
                self._bytes_out,
                self._dispatcher.clock.seconds() - self._started,
            ),
        )


def _with_length(response: Response, size: int, method: str) -> Headers:
    headers = response.headers
    if response.status < 200 or response.status in (204, 304):
        return headers
    if method == "HEAD" and size == 0:
        return headers
    for name, _ in headers:
        if name == "content-length":
            return headers
    return (*headers, ("content-length", str(size)))
