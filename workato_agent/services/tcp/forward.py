"""A caller on one side, the target's connection on the other."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from websockets.frames import CloseCode
from websockets.protocol import Protocol, Side, State

from workato_tunnel.binary import LARGEST, BinaryMessages
from workato_tunnel.problems import Problem

from ...requests import CallerLine, Passage
from .link import TargetLink


class Forward(Passage):
    """Moves bytes both ways, as they are, until both have ended. It owns the link."""

    def __init__(self, clock: IReactorTime, link: TargetLink, idle_timeout: float) -> None:
        super().__init__()
        self._clock = clock
        self._link = link
        self._idle_timeout = idle_timeout
        self._moved = 0.0
        self._timer: IDelayedCall | None = None
        self._caller_ended = self._target_ended = False

    def begin(self, caller: CallerLine) -> Deferred[None]:
        done = super().begin(caller)
        if self._idle_timeout:
            self._moved = self._clock.seconds()
            self._timer = self._clock.callLater(self._idle_timeout, self._look)
        self._link.begin(self)
        return done

    def close(self) -> None:
        self._caller = self._done = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._link.close()

    # -- the caller

    def data_received(self, data: bytes) -> None:
        if self._caller is None or self._caller_ended:
            return
        self._note()
        self._link.write(data)

    def end_received(self) -> None:
        if self._caller_ended:
            return
        self._caller_ended = True
        if self._target_ended:
            self._end_both()
        else:
            self._link.end()

    def pauseProducing(self) -> None:
        """The caller takes slowly."""
        self._link.hold()

    def resumeProducing(self) -> None:
        """The caller takes again."""
        self._link.go_on()

    # -- the target

    def target_sent(self, data: bytes) -> None:
        self._note()
        self._send(data)

    def target_ended(self) -> None:
        self._target_ended = True
        if self._caller is None:
            return
        if self._link.lost is not None:
            reason = f"the target has cut the connection: {type(self._link.lost).__name__}"
            self._fail("target_unreachable", reason)
        else:
            self._end_target(self._caller)
            if self._caller_ended:
                self._end_both()

    def target_full(self) -> None:
        if self._caller is not None:
            self._caller.pauseProducing()

    def target_ready(self) -> None:
        if self._caller is not None:
            self._caller.resumeProducing()

    # -- how the caller is told

    def _send(self, data: bytes) -> None:
        if data and self._caller is not None:
            self.sent += len(data)
            self._caller.write(data)

    def _end_target(self, caller: CallerLine) -> None:
        """The target has said all it had to say."""
        caller.half_close()

    def _end_both(self) -> None:
        """Neither side has more to say."""
        self._link.leave()
        self._finish()

    def _fail(self, code: str, reason: str) -> None:
        """It ends before its time."""
        done, self._done = self._done, None
        if done is not None:
            done.errback(Problem(code, reason))

    # -- time

    def _note(self) -> None:
        if self._idle_timeout:
            self._moved = self._clock.seconds()

    def _look(self) -> None:
        """Whether anything has come within the last ``idle_timeout``."""
        self._timer = None
        if self._caller is None:
            return
        left = self._moved + self._idle_timeout - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._fail("deadline_exceeded", "nothing came for a long time")


class WebSocketForward(Forward):
    """The same with a caller who speaks WebSocket (RFC 6455).

    Binary messages are bytes of the connection, whatever their borders. An empty binary message is
    the end of one direction (TCP's half-close), which WebSocket itself does not have. A close frame
    ends both.
    """

    def __init__(self, clock: IReactorTime, link: TargetLink, idle_timeout: float) -> None:
        super().__init__(clock, link, idle_timeout)
        self._messages = BinaryMessages(
            Protocol(Side.SERVER, state=State.OPEN, max_size=LARGEST),
        )
        self._paused = False

    def data_received(self, data: bytes) -> None:
        messages = self._messages
        if self._caller is None or not messages.open:
            return
        self._note()
        content, ended = messages.read(data)
        if not self._caller_ended:
            if content:
                self._link.write(content)
            if ended:
                self.end_received()
        if messages.answer_due:
            self._answer()

    def pauseProducing(self) -> None:
        self._paused = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        super().resumeProducing()
        self._answer()

    def target_sent(self, data: bytes) -> None:
        if self._messages.open:
            self._note()
            self._send(self._messages.message(data))

    def _end_target(self, caller: CallerLine) -> None:
        if self._messages.open:
            self._send(self._messages.message(b""))

    def _end_both(self) -> None:
        # Nothing waits for the caller's own close.
        self._link.leave()
        self._close(CloseCode.NORMAL_CLOSURE)

    def _fail(self, code: str, reason: str) -> None:
        idle = code == "deadline_exceeded"
        self._close(CloseCode.GOING_AWAY if idle else CloseCode.INTERNAL_ERROR, reason[:120])

    def _answer(self) -> None:
        self._send(self._messages.answers(later=self._paused))
        if not self._messages.open:
            self._finish()

    def _close(self, code: CloseCode, reason: str = "") -> None:
        self._messages.close(code, reason)
        self._send(self._messages.answers())
        self._finish()
