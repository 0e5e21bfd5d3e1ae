"""One relayed call: a caller on one side, a stream to an agent on the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from workato_tunnel.errors import ErrorCode, HeadTooLarge, StreamRefused, StreamReset
from workato_tunnel.frames import Head, Headers, Open, Trailers
from workato_tunnel.problems import Problem
from workato_tunnel.tx.transport import StreamTransport

from .endings import ELSEWHERE, problem_of_refusal, problem_of_reset
from .groups import Candidate

SWITCHING: Final = 101
REPLAYED: Final = 64 * 1024
"""Bytes of a request body that are kept to ask another agent, should the first one refuse."""


class CallerSide(Protocol):
    """The caller, as a call sees it: the HTTP exchange."""

    agent: str

    def receive_body(self) -> None:
        """The agent's side is ready: hand on the request's body."""

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def start_response(self, status: int, headers: Headers) -> None:
        """Raises ValueError where HTTP can't say that."""

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...

    def fail(self, problem: Problem, *, flush: bool = False) -> None:
        """Answer with the problem, or cut what was already begun; ``flush``: once it is sent."""


@implementer(IPushProducer)
class Call:
    """Opens the stream, moves bytes both ways, and ends both sides, whichever ends first.

    It listens to the caller (``body_received`` …), receives from the stream (``head_received`` …)
    and is the producer of the stream's outgoing side: the request's body.
    """

    __slots__ = (
        "_agents",
        "_body_ended",
        "_caller",
        "_deadline",
        "_has_body",
        "_head_received",
        "_held",
        "_name",
        "_open",
        "_paced",
        "_replay",
        "_replay_size",
        "_seconds",
        "_stream",
        "_timeout",
        "_upgrade",
    )

    _log = Logger()

    def __init__(
        self,
        caller: CallerSide,
        request: Open,
        agents: Sequence[Candidate],
        *,
        has_body: bool,
        upgrade: bool = False,
        deadline: float,
        seconds: Callable[[], float],
    ) -> None:
        """
        :param agents: who may take it, the first one to ask last.
        :param upgrade: the caller asks to go on in another protocol; what it then sends is the
            body, which begins only when the agent has answered with 101.
        :param deadline: in the seconds of ``seconds``.
        """
        self._caller: CallerSide | None = caller
        self._open = request
        self._agents = list(agents)
        self._has_body = has_body or upgrade
        self._upgrade = upgrade
        self._deadline = deadline
        self._seconds = seconds
        self._timeout = request.timeout
        self._name = ""
        self._stream: StreamTransport | None = None
        self._head_received = False
        self._paced = False
        self._held = False
        self._body_ended = not self._has_body
        self._replay: list[bytes] | None = [] if self._has_body else None
        self._replay_size = 0

    def begin(self) -> None:
        """Ask the agents, one after the other.

        Raises Problem when none of them takes the call, HeadTooLarge.
        """
        refusal: StreamRefused | None = None
        while self._agents:
            agent = self._agents.pop()
            self._name = agent.name
            try:
                stream = agent.open_stream(
                    self._open, self, end=self._body_ended and not self._replay
                )
            except StreamRefused as error:
                refusal = error
                continue
            self._opened(stream)
            return
        if refusal is None:
            refusal = StreamRefused("it has left")
        raise problem_of_refusal(refusal, self._name)

    def _opened(self, stream: StreamTransport) -> None:
        caller = self._caller
        if caller is None:
            return
        self._stream = stream
        caller.agent = self._name
        if self._held:
            stream.pauseProducing()
        if not self._has_body or self._upgrade:
            return
        if self._replay:
            for data in tuple(self._replay):
                stream.write(data)
        if self._body_ended:
            if self._replay:
                stream.half_close()
        else:
            self._take_body(caller, stream)

    def _take_body(self, caller: CallerSide, stream: StreamTransport) -> None:
        caller.receive_body()
        # A small body is there at once, and nobody has to be paused for it.
        if self._stream is stream and not self._body_ended:
            self._paced = True
            stream.registerProducer(self, True)

    # The caller's side (api/exchange.py, Listener)

    def body_received(self, data: bytes) -> None:
        """Request body."""
        if self._replay is not None:
            self._replay_size += len(data)
            if self._replay_size > REPLAYED:
                self._replay = None
            else:
                self._replay.append(data)
        if self._stream is not None:
            self._stream.write(data)

    def body_ended(self) -> None:
        """The request body is complete."""
        self._body_ended = True
        stream = self._stream
        if stream is not None:
            self._unpace(stream)
            stream.half_close()

    def caller_lost(self) -> None:
        """Nobody waits any more: stop the work."""
        self._end(ErrorCode.CANCELLED, "the caller has left")

    def expired(self) -> None:
        """The deadline has passed, and the agent has not said so itself."""
        caller = self._caller
        self._end(ErrorCode.DEADLINE_EXCEEDED, "the call's deadline has passed")
        if caller is not None:
            caller.fail(
                Problem(
                    "deadline_exceeded",
                    f"the call did not end within {self._timeout / 1000:g} s",
                    hint="Allow more time with X-Timeout.",
                )
            )

    def pause_response(self) -> None:
        """The caller reads slowly."""
        self._held = True
        if self._stream is not None:
            self._stream.pauseProducing()

    def resume_response(self) -> None:
        """The caller reads on."""
        self._held = False
        if self._stream is not None:
            self._stream.resumeProducing()

    # The stream's side (workato_tunnel/tx/transport.py, StreamReceiver)

    def head_received(self, head: Head) -> None:
        """The agent answers."""
        caller = self._caller
        if caller is None:
            return
        self._head_received = True
        self._replay = None
        try:
            caller.start_response(head.status, head.headers)
        except ValueError as error:
            self._end(ErrorCode.INTERNAL_ERROR, f"malformed response: {error}")
            self._log.error(
                "Agent {agent} sent a malformed response to {request_id}: {error}",
                event="agent_response_malformed",
                agent=self._name,
                request_id=self._open.request_id,
                error=str(error),
            )
            detail = f"agent {self._name!r} sent a malformed response: {error}"
            caller.fail(Problem("internal_error", detail))
            return
        stream = self._stream
        if self._upgrade and head.status == SWITCHING and stream is not None:
            self._take_body(caller, stream)

    def data_received(self, data: bytes) -> None:
        """Response body."""
        if self._caller is not None:
            self._caller.write(data)

    def end_received(self) -> None:
        """The agent's DATA has ended; the trailers are what ends a response."""

    def finished(self, trailers: Trailers) -> None:
        """The response is complete; or it failed, and all that came before has been written."""
        caller, stream = self._caller, self._stream
        self._caller = self._stream = None
        if stream is not None and not self._body_ended:
            # Nobody reads the rest of the request's body.
            self._unpace(stream)
            stream.reset(ErrorCode.NO_ERROR)
        if caller is None:
            return
        if trailers.code:
            failed = StreamReset(trailers.code, trailers.message, trailers.detail)
            caller.fail(problem_of_reset(failed, self._name), flush=True)
        else:
            caller.finish()

    def reset_received(self, reason: StreamReset) -> None:
        """The stream has ended before its time: elsewhere, if nothing was begun, or not at all."""
        caller = self._caller
        self._stream = None
        self._paced = False
        if caller is None:
            return
        problem = problem_of_reset(reason, self._name)
        if self._may_go_elsewhere(reason):
            self._open = msgspec.structs.replace(
                self._open, timeout=max(1, int((self._deadline - self._seconds()) * 1000))
            )
            try:
                self.begin()
            except Problem as refused:
                problem = refused
            except HeadTooLarge as error:
                problem = Problem(
                    "bad_request", f"agent {self._name!r} takes no such head: {error}"
                )
            else:
                return
        if problem.code == "internal_error":
            self._log.error(
                "Agent {agent} ended {request_id}: {reason}",
                event="agent_call_reset",
                agent=self._name,
                request_id=self._open.request_id,
                reason=str(reason),
            )
        self._caller = None
        caller.fail(problem)

    def _may_go_elsewhere(self, reason: StreamReset) -> bool:
        return (
            reason.reason in ELSEWHERE
            and not self._head_received
            and bool(self._agents)
            and (not self._has_body or self._replay is not None)
        )

    # The producer of the request's body

    def pauseProducing(self) -> None:
        """The agent takes the body slowly."""
        if self._caller is not None:
            self._caller.pause_body()

    def resumeProducing(self) -> None:
        """The agent takes the body again."""
        if self._caller is not None:
            self._caller.resume_body()

    def stopProducing(self) -> None:
        """The stream has ended; ``reset_received`` tells why."""

    def _unpace(self, stream: StreamTransport) -> None:
        if self._paced:
            self._paced = False
            stream.unregisterProducer()

    def _end(self, code: ErrorCode, message: str) -> None:
        stream = self._stream
        self._caller = self._stream = None
        self._replay = None
        if stream is not None:
            stream.reset(code, message)
