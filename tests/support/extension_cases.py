"""Extensions that do what extensions should, and what they should not."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workato_agent.extension import Extension, Problem, Request, Response


class Cases(Extension):
    """One path for each case."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        super().__init__(settings)
        self.thread = threading.get_ident()
        self.calls = 0
        self.hoard: list[bytes] = []

    def test(self) -> Mapping[str, object]:
        if self.settings.get("test") == "fails":
            raise Problem("target_unreachable", "what it needs is down", hint="start it")
        return {"detail": "all there"}

    def handle(self, request: Request) -> Response:
        self.calls += 1
        answer: Response = getattr(self, f"do_{request.path}")(request)
        return answer

    def close(self) -> None:
        closed = self.settings.get("closed")
        if closed:
            Path(str(closed)).write_text("closed")

    def do_about(self, request: Request) -> Response:
        return Response.json(
            {
                "method": request.method,
                "parameters": request.parameters,
                "header": request.header("X-Some"),
                "caller": request.caller,
                "seconds_left": request.seconds_left,
                "profile": request.profile,
                "settings": dict(self.settings),
                "pid": os.getpid(),
                "calls": self.calls,
                "one_thread": threading.get_ident() == self.thread,
                "arguments": sys.argv + Path("/proc/self/cmdline").read_text().split("\0"),
                "environment": dict(os.environ),
            }
        )

    def do_echo(self, request: Request) -> Response:
        return Response(201, {"Content-Type": "x/y"}, request.body)

    def do_json(self, request: Request) -> Response:
        return Response.json(request.json(100))

    def do_large(self, request: Request) -> Response:
        return Response(body=b"x" * int(request.parameters["size"]))

    def do_endless(self, request: Request) -> Response:
        def chunks() -> Iterator[bytes]:
            try:
                while True:
                    yield b"x" * 65536
            finally:
                self._note("ended")

        return Response(body=chunks())

    def do_breaks(self, request: Request) -> Response:
        def chunks() -> Iterator[bytes]:
            yield b"some"
            raise RuntimeError("secret-detail")

        return Response(body=chunks())

    def do_raises(self, request: Request) -> Response:
        raise ValueError("secret-detail")

    def do_exits(self, request: Request) -> Response:
        sys.exit(3)

    def do_refuses(self, request: Request) -> Response:
        raise Problem("conflict", "not now", hint="later", extra={"field": "x"})

    def do_dies(self, request: Request) -> Response:
        print("last words")
        os._exit(7)

    def do_segfaults(self, request: Request) -> Response:
        ctypes.string_at(0)
        raise AssertionError

    def do_sleeps(self, request: Request) -> Response:
        self._note("asleep")
        time.sleep(60)
        return Response()

    def do_spins(self, request: Request) -> Response:
        """Holds the interpreter, so that no other thread runs."""
        self._note("asleep")
        libc: Any = ctypes.PyDLL(None)
        libc.sleep(60)
        return Response()

    def do_waits(self, request: Request) -> Response:
        """As it should be: looks whether somebody still waits."""
        self._note("asleep")
        while not request.cancelled:
            time.sleep(0.01)
        return Response()

    def do_takes(self, request: Request) -> Response:
        self.hoard.append(bytes(int(request.parameters["size"])))
        return Response()

    def do_child(self, request: Request) -> Response:
        child = subprocess.Popen(["sleep", "300"])
        self._note(str(child.pid))
        time.sleep(60)
        return Response()

    def do_leaves(self, request: Request) -> Response:
        """Dies, and leaves a process of another session that holds its output open."""
        child = subprocess.Popen(["sleep", "20"], start_new_session=True)
        self._note(str(child.pid))
        os._exit(9)

    def do_prints(self, request: Request) -> Response:
        print("to stdout")
        print("to stderr", file=sys.stderr)
        for number in range(int(request.parameters.get("more", 0))):
            print(f"line {number}")
        return Response()

    def do_nonsense(self, request: Request) -> Response:
        answers: dict[str, Any] = {
            "none": None,
            "header": Response(headers={"x-bad": "a\r\nb: c"}),
            "name": Response(headers={"a b": "c"}),
            "hop": Response(headers={"transfer-encoding": "chunked"}),
            "status": Response(status=99),
            "chunk": Response(body=iter(["text"])),  # type: ignore[arg-type]  # that is the point
        }
        return answers[request.query]

    def do_raw(self, request: Request) -> Response:
        os.write(4, b"\xff" * 100)
        return Response()

    def _note(self, text: str) -> None:
        note = self.settings.get("note")
        if note:
            Path(str(note)).write_text(text)


class Fails(Extension):
    """Can't be made."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        raise ValueError("secret-detail")


class Hangs(Extension):
    """Is never made."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        time.sleep(60)


class Counts(Extension):
    """Says in a file how often it was made, and dies of it."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        with Path(str(settings["note"])).open("a") as file:
            file.write("x")
        os._exit(5)


class Parallel(Extension):
    """Answers when as many as expected are there."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        super().__init__(settings)
        self.barrier = threading.Barrier(3, timeout=20)

    def handle(self, request: Request) -> Response:
        self.barrier.wait()
        return Response(body="all")


class NoExtension:
    """Of another kind."""
