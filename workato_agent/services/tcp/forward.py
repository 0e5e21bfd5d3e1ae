"""A caller's WebSocket (RFC 6455) on one side, the target's connection on the other.

Binary messages are bytes of the connection, whatever their borders. An empty binary message is the
end of one direction (TCP's half-close), which WebSocket itself does not have. A close frame ends
both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from websockets.exceptions import ProtocolError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import SEND_EOF, Protocol, Side, State

from ...requests import Body, BodyLost
from .link import TargetLink

LARGEST: Final = 16 * 1024 * 1024
"""Bytes of one message from a caller."""


class Forward:
    """The response's body: frames for the caller. It owns the link and the reading of the body."""

    _log = Logger()

    def __init__(self, reactor: Any, body: Body, link: TargetLink, idle_timeout: float) -> None:
        self._reactor = reactor
        self._body = body
        self._link = link
        self._idle_timeout = idle_timeout
        self._frames = Protocol(Side.SERVER, state=State.OPEN, max_size=LARGEST)
        self._output: list[bytes] = []
        self._wake: Deferred[None] | None = None
        self._room: Deferred[None] | None = None
        self._caller_ended = self._target_ended = False
        self._tasks: list[Deferred[None]] = []
        self._running = 0
        self._timer: IDelayedCall | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to move bytes, both ways."""
        self._stir()
        for work in (self._to_target(), self._to_caller()):
            self._running += 1
            self._tasks.append(Deferred.fromCoroutine(work).addBoth(self._ended))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._output:
            if not self._running:
                await self.aclose()
                raise StopAsyncIteration
            self._wake = Deferred()
            try:
                await self._wake
            finally:
                self._wake = None
        data = b"".join(self._output)
        self._output.clear()
        if self._room is not None and not self._room.called:
            self._room.callback(None)
        return data

    async def aclose(self) -> None:
        """End both sides. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        self._link.close()

    async def _to_target(self) -> None:
        """Read the caller's frames."""
        try:
            async for data in self._body:
                self._stir()
                self._frames.receive_data(data)
                if await self._take_events():
                    return
        except BodyLost:
            self._link.close()

    async def _take_events(self) -> bool:
        """Pass on what has come; whether the caller has closed."""
        for event in self._frames.events_received():
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.TEXT:
                self._frames.fail(CloseCode.UNSUPPORTED_DATA, "bytes go in binary messages")
                self._link.close()
            elif event.opcode in (Opcode.BINARY, Opcode.CONT):
                if event.data:
                    await self._link.write(bytes(event.data))
                elif event.opcode is Opcode.BINARY and event.fin:
                    self._caller_ended = True
                    self._link.end()
                    self._end_both()
        self._flush()
        over = self._frames.state is not State.OPEN
        if over:
            self._link.close()
        return over

    async def _to_caller(self) -> None:
        """Send what comes from the target."""
        while data := await self._link.read():
            self._stir()
            if self._frames.state is not State.OPEN:
                return
            self._frames.send_binary(data)
            self._flush()
            await self._taken()
        if self._frames.state is not State.OPEN:
            return
        if self._link.lost is not None:
            reason = f"the target has cut the connection: {type(self._link.lost).__name__}"
            self._frames.send_close(CloseCode.INTERNAL_ERROR, reason[:120])
        else:
            self._frames.send_binary(b"")
        self._flush()
        self._target_ended = True
        self._end_both()

    def _end_both(self) -> None:
        """Once neither side has more to say: nothing waits for the caller's own close."""
        if (self._caller_ended or self._link.lost is not None) and self._target_ended:
            if self._frames.state is State.OPEN:
                self._frames.send_close(CloseCode.NORMAL_CLOSURE)
                self._flush()
            self._tasks[0].cancel()

    async def _taken(self) -> None:
        """Wait until what is there has been taken: no more than one read of the target's waits."""
        while self._output and not self._closed:
            self._room = Deferred()
            try:
                await self._room
            finally:
                self._room = None

    def _flush(self) -> None:
        try:
            data = self._frames.data_to_send()
        except ProtocolError:
            return
        self._output += [piece for piece in data if piece is not SEND_EOF]
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.called:
            self._wake.callback(None)

    def _ended(self, result: Any) -> None:
        self._running -= 1
        if not self._running and self._frames.state is State.OPEN and not self._closed:
            self._frames.send_close(CloseCode.NORMAL_CLOSURE)
            self._flush()
        self._notify()
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._log.failure(
                "Forwarding a connection failed", event="tcp_forward_broke", failure=result
            )
            self._link.close()

    def _stir(self) -> None:
        if not self._idle_timeout or self._closed:
            return
        if self._timer is not None and self._timer.active():
            self._timer.reset(self._idle_timeout)
        else:
            self._timer = self._reactor.callLater(self._idle_timeout, self._on_idle)

    def _on_idle(self) -> None:
        if self._frames.state is State.OPEN:
            self._frames.send_close(CloseCode.GOING_AWAY, "nothing came for a long time")
            self._flush()
        self._link.close()
