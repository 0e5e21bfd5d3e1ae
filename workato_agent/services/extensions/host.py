"""The process of one extension: ``python -m workato_agent.services.extensions.host``.

The agent starts it, talks to it over the file descriptors 3 (to read) and 4 (to write), and kills
it when it has to.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from threading import Condition, Event, Lock, Thread, stack_size
from typing import Any, Final

import msgspec

from workato_agent.extension import Body, Cancelled, Extension, Problem, Request, Response

from .loading import LoadError, load
from .messages import (
    CHUNK,
    WINDOW,
    Broken,
    Call,
    Cancel,
    Close,
    Credit,
    Data,
    End,
    Failed,
    Head,
    Malformed,
    Messages,
    Ready,
    Start,
    ToProcess,
    encode,
    to_process,
)

REQUESTS: Final = 3
RESPONSES: Final = 4
_READ: Final = 64 * 1024
_STACK: Final = 2 * 1024 * 1024
"""Bytes; a thread's stack counts towards the memory limit."""
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


class Output:
    """The pipe to the agent; any thread may write."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = Lock()

    def send(self, *messages: Any) -> None:
        """Write whole messages, in this order. Without an agent the process ends."""
        rest = memoryview(encode(*messages))
        with self._lock:
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                os._exit(1)


class ServedCall:
    """One call in this process.

    :ivar cancellation: set when nobody waits for the answer.
    """

    def __init__(self, call: Call, output: Output) -> None:
        self.call = call
        self.cancellation = Event()
        self._output = output
        self._changed = Condition()
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._credit = WINDOW

    # -- the main thread -----------------------------------------------------------------------

    def receive(self, message: Data | End | Credit | Cancel) -> None:
        """A message of this call."""
        with self._changed:
            if isinstance(message, Data):
                self._chunks.append(message.data)
            elif isinstance(message, End):
                self._ended = True
            elif isinstance(message, Credit):
                self._credit += message.size
            else:
                self.cancellation.set()
            self._changed.notify_all()

    # -- the call's thread ---------------------------------------------------------------------

    def request(self) -> Request:
        """As the extension sees it."""
        call = self.call
        return Request(
            method=call.method,
            path=call.path,
            query=call.query,
            headers=tuple(call.headers),
            body=Body(self._body()),
            caller=call.caller,
            deadline=time.monotonic() + call.timeout,
            trace=call.trace,
            request_id=call.request_id,
            profile=call.profile,
            cancellation=self.cancellation,
        )

    def _body(self) -> Iterator[bytes]:
        self._output.send(Credit(self.call.call, WINDOW))
        used = 0
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._chunks or self._ended or self.cancellation.is_set()
                )
                if self.cancellation.is_set():
                    raise Cancelled("the request's body is lost")
                if not self._chunks:
                    return
                chunk = self._chunks.popleft()
            used += len(chunk)
            if used >= WINDOW // 2:
                self._output.send(Credit(self.call.call, used))
                used = 0
            yield chunk

    def answer(self, response: Response) -> None:
        """Send a response, as fast as the caller reads it. Raises Cancelled."""
        number = self.call.call
        headers = [
            (name.lower(), str(value))
            for name, value in response.headers.items()
            if name.lower() != "content-length"
        ]
        body = response.body
        if isinstance(body, str):
            body = body.encode()
        if isinstance(body, bytes | bytearray | memoryview):
            content = bytes(body)
            head = Head(number, response.status, [*headers, ("content-length", str(len(content)))])
            if self.call.method == "HEAD" or not content:
                self._output.send(head, End(number))
                return
            if len(content) <= CHUNK:
                self._output.send(head, Data(number, content), End(number))
                return
            self._output.send(head)
            self._send(content)
        else:
            self._output.send(Head(number, response.status, headers))
            if self.call.method != "HEAD":
                self._send_chunks(body)
        self._output.send(End(number))

    def _send_chunks(self, chunks: Iterable[bytes]) -> None:
        try:
            for chunk in chunks:
                if not isinstance(chunk, bytes | bytearray | memoryview):
                    raise TypeError(f"a chunk of the body is {type(chunk).__name__}, not bytes")
                self._send(bytes(chunk))
        finally:
            close = getattr(chunks, "close", None)
            if callable(close):
                close()

    def _send(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            with self._changed:
                self._changed.wait_for(lambda: self._credit > 0 or self.cancellation.is_set())
                if self.cancellation.is_set():
                    raise Cancelled("nobody waits for the answer")
                size = min(self._credit, CHUNK, len(rest))
                self._credit -= size
            self._output.send(Data(self.call.call, bytes(rest[:size])))
            rest = rest[size:]


class Host:
    """Makes the extension and serves its calls.

    The main thread makes it, serves and closes it, so that with a ``concurrency`` of 1 the
    extension lives in one thread; further ones only serve.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._extension: Extension = Extension({})
        self._start = Start("", "", {}, 1, 0, [])
        self._calls: dict[int, ServedCall] = {}
        self._waiting: SimpleQueue[Start | ServedCall | None] = SimpleQueue()

    # -- the thread that reads -----------------------------------------------------------------

    def thd_read(self, descriptor: int) -> None:
        """Take messages until the agent has no more, or is gone."""
        messages = Messages()
        try:
            while data := os.read(descriptor, _READ):
                for content in messages.feed(data):
                    self._receive(to_process.decode(content))
        except (Malformed, msgspec.DecodeError):
            traceback.print_exc()
        finally:
            # Whatever the other threads do: there is nobody to answer.
            _exit()

    def _receive(self, message: ToProcess) -> None:
        if isinstance(message, Start):
            self._waiting.put(message)
        elif isinstance(message, Call):
            served = self._calls[message.call] = ServedCall(message, self._output)
            self._waiting.put(served)
        elif isinstance(message, Close):
            for _ in range(self._start.concurrency):
                self._waiting.put(None)
        else:
            known = self._calls.get(message.call)
            if known is not None:
                known.receive(message)

    # -- the threads that serve ----------------------------------------------------------------

    def run(self) -> None:
        """The main thread's work."""
        start = self._waiting.get()
        if isinstance(start, Start) and self._begin(start):
            self.thd_serve()
            with suppress(Exception):
                self._extension.close()

    def _begin(self, start: Start) -> bool:
        self._start = start
        if start.memory_limit:
            resource.setrlimit(resource.RLIMIT_DATA, (start.memory_limit, start.memory_limit))
        sys.path[:0] = start.paths
        try:
            self._extension = load(start.controller)(start.settings)
        except LoadError as error:
            self._output.send(Broken(str(error), error.hint))
            return False
        except BaseException as error:  # noqa: BLE001 - a constructor may raise anything
            traceback.print_exc()
            reason = f"{start.controller} can't be made: {type(error).__name__}"
            self._output.send(Broken(reason, "the agent's log has the traceback"))
            return False
        stack_size(_STACK)
        for _ in range(start.concurrency - 1):
            Thread(target=self.thd_serve, daemon=True).start()
        self._output.send(Ready())
        return True

    def thd_serve(self) -> None:
        """Serve calls until there are no more."""
        while isinstance(served := self._waiting.get(), ServedCall):
            number = served.call.call
            failure = self._served(served)
            self._calls.pop(number, None)
            if failure is not None:
                self._tell(failure)
            del served

    def _tell(self, failure: Failed) -> None:
        try:
            self._output.send(failure)
        except Malformed:
            traceback.print_exc()
            self._output.send(Failed(failure.call, failure.code, failure.detail[:500]))

    def _served(self, served: ServedCall) -> Failed | None:
        """Serve one; what to tell of it when there is no whole answer."""
        number, name = served.call.call, self._start.name
        try:
            served.answer(self._answer(served))
        except Cancelled:
            return Failed(number, "tunnel_lost", "the call was cancelled")
        except Problem as problem:
            return _failed(number, problem)
        except MemoryError:
            traceback.print_exc()
            limit = self._start.memory_limit // 2**20
            detail = f"the extension {name} has no memory left: its limit is {limit} MiB"
            hint = "raise memory_limit in the agent's configuration, or ask for less at once"
            return Failed(number, "overloaded", detail, hint, exhausted=True)
        except BaseException as error:  # noqa: BLE001 - an extension may raise anything
            traceback.print_exc()
            detail = f"the extension {name} failed: {type(error).__name__}"
            return Failed(number, "internal_error", detail, "the agent's log has the traceback")
        return None

    def _answer(self, served: ServedCall) -> Response:
        if served.cancellation.is_set():
            raise Cancelled("cancelled before it began")
        if served.call.test:
            facts = {"ok": True, "target": self._start.controller, **self._extension.test()}
            return Response.json(facts)
        response = self._extension.handle(served.request())
        if not isinstance(response, Response):
            raise TypeError(f"handle returned {type(response).__name__}, not a Response")
        return response


def _failed(number: int, problem: Problem) -> Failed:
    hint, extra = problem.hint, problem.extra
    return Failed(number, problem.code, problem.detail, hint, problem.retry_after, extra)


def _die_with_the_agent() -> None:
    """Even if the agent is killed while the extension keeps the interpreter busy."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit() -> None:
    """End at once: threads of calls that are not over must not hold it up."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(0)


def main() -> None:
    """Serve until the agent says to end, or is gone."""
    for descriptor in (REQUESTS, RESPONSES):
        os.set_inheritable(descriptor, False)
    # A group of its own: what the extension starts ends with it.
    os.setsid()
    _die_with_the_agent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    host = Host(Output(RESPONSES))
    Thread(target=host.thd_read, args=(REQUESTS,), daemon=True).start()
    try:
        host.run()
    finally:
        _exit()


if __name__ == "__main__":
    main()
