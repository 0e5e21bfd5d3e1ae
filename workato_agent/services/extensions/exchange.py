"""One call on the agent's side of the pipes."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import CancelledError, Deferred

from workato_tunnel.problems import PROBLEM_TYPES, Problem

from ...requests import Body, BodyLost, Headers
from .messages import CHUNK, WINDOW, Cancel, Credit, Data, End, Failed, Head, ToProcess

MOST_FIELDS: Final = 100
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,256}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,8192}")
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "upgrade", "trailer", "te"}
)


class Exchange:
    """A call from its first message to its last, and the response's body while it streams.

    :param send: writes a message to the process.
    :param overdue: called when the work must stop; the exchange is over later.
    :ivar over: fires when the process has said its last word on the call, or has ended.
    """

    def __init__(
        self,
        number: int,
        name: str,
        body: Body,
        send: Callable[[ToProcess], None],
        cancelled: Callable[[Exchange], None],
    ) -> None:
        self.number = number
        self.over: Deferred[None] = Deferred()
        self.status = 0
        self.headers: Headers = ()
        self._name = name
        self._body = body
        self._send = send
        self._cancelled = cancelled
        self._chunks: deque[bytes] = deque()
        self._credit = WINDOW
        self._used = 0
        self._ended = False
        self._given_up = False
        self._problem: Problem | None = None
        self._wake: Deferred[None] | None = None
        self._wanted = 0
        self._want: Deferred[None] | None = None
        self._feeding: Deferred[None] | None = None

    # -- what the process says -----------------------------------------------------------------

    def receive(self, message: Head | Data | End | Credit | Failed) -> bool:
        """Take a message of this call; False for one that breaks the rules."""
        if isinstance(message, Head):
            if self.status:
                return False
            self._take_head(message)
        elif isinstance(message, Data):
            self._credit -= len(message.data)
            if self._credit < 0 or not self.status:
                return False
            if not self._given_up:
                self._chunks.append(message.data)
        elif isinstance(message, Credit):
            self._wanted += message.size
            self._ask_for_more()
        elif isinstance(message, End):
            self._end(None if self.status else self._invalid("it has no head"))
        else:
            problem = _problem(message)
            if problem is None:
                return False
            self._end(problem)
        return True

    def stir(self) -> None:
        """Go on with what was received."""
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.callback(None)

    def lose(self, problem: Problem) -> None:
        """The process has ended."""
        if not self._ended:
            self._end(problem)
            self.stir()

    def _take_head(self, head: Head) -> None:
        names = [name for name, _ in head.headers]
        wrong = [name for name in names if not _NAME.fullmatch(name) or name in _HOP_BY_HOP]
        wrong += [name for name, value in head.headers if not _VALUE.fullmatch(value)]
        self.status = head.status
        if wrong or len(names) > MOST_FIELDS:
            self._problem = self._invalid(f"the header field {wrong[0][:100]!r}" if wrong else "")
        elif not 200 <= head.status <= 599:
            self._problem = self._invalid(f"the status {head.status}")
        self.headers = tuple(head.headers)

    def _invalid(self, what: str) -> Problem:
        return Problem(
            "internal_error",
            f"the extension {self._name} gave an answer that can't be passed on: {what}",
            hint="this is a fault in the extension: tell its author",
        )

    def _end(self, problem: Problem | None) -> None:
        self._ended = True
        self._problem = self._problem or problem
        if self._feeding is not None:
            self._feeding.cancel()
        self.over.callback(None)

    # -- the service's side --------------------------------------------------------------------

    def begin(self) -> None:
        """Send the request's body as the process asks for it."""
        self._feeding = Deferred.fromCoroutine(self._feed())

    async def head(self) -> None:
        """Wait for the response's head. Raises Problem. Cancelling gives the call up."""
        while not (self.status or self._ended):
            await self._news()
        if self._problem is not None:
            self.give_up()
            raise self._problem

    def whole(self) -> bytes | None:
        """The response's body, when all of it is here."""
        if not self._ended or self._problem is not None:
            return None
        return b"".join(self._chunks)

    def __aiter__(self) -> Exchange:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._problem is not None:
                raise self._problem
            if self._ended:
                raise StopAsyncIteration
            await self._news()
        chunk = self._chunks.popleft()
        self._used += len(chunk)
        if self._used >= WINDOW // 2 and not self._ended:
            self._credit += self._used
            self._send(Credit(self.number, self._used))
            self._used = 0
        return chunk

    async def aclose(self) -> None:
        """The response is not read any further."""
        self.give_up()

    def give_up(self) -> None:
        """Nobody waits for the answer. Idempotent."""
        self._chunks.clear()
        if not (self._given_up or self._ended):
            self._given_up = True
            self._send(Cancel(self.number))
            self._cancelled(self)

    async def _news(self) -> None:
        self._wake = Deferred()
        try:
            await self._wake
        except CancelledError:
            self.give_up()
            raise
        finally:
            self._wake = None

    # -- the request's body --------------------------------------------------------------------

    async def _feed(self) -> None:
        try:
            await self._more()
            async for chunk in self._body:
                for start in range(0, len(chunk), CHUNK):
                    while self._wanted <= 0:
                        await self._more()
                    part = chunk[start : start + CHUNK]
                    self._wanted -= len(part)
                    self._send(Data(self.number, part))
            self._send(End(self.number))
        except CancelledError:
            pass
        except BodyLost:
            self.give_up()

    async def _more(self) -> None:
        if self._wanted > 0:
            return
        self._want = Deferred()
        try:
            await self._want
        finally:
            self._want = None

    def _ask_for_more(self) -> None:
        want, self._want = self._want, None
        if want is not None and self._wanted > 0:
            want.callback(None)


def _problem(failed: Failed) -> Problem | None:
    """What the caller is told; None where it would be no problem document."""
    code = failed.code if failed.code in PROBLEM_TYPES else "internal_error"
    try:
        return Problem(
            code,
            failed.detail,
            hint=failed.hint,
            retry_after=failed.retry_after,
            extra=failed.extra,
        )
    except ValueError:
        return None
