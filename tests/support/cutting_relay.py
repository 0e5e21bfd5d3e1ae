"""A TCP relay in a thread of its own that can cut its connections, as a bad network does."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections.abc import Callable

from attrs import define, field

_CHUNK = 32 * 1024
_RESET = struct.pack("ii", 1, 0)


@define
class CuttingRelay:
    """Listens on ``port`` and passes on to ``target``.

    Once ``cut_every`` bytes have passed both ways together it resets its connections, as often as
    ``cuts_left`` says. ``passed`` and ``cuts`` count.
    """

    port: int
    target: int
    cut_every: int = 0
    cuts_left: int = 0
    passed: int = 0
    cuts: int = 0
    _since_cut: int = 0
    _pairs: list[tuple[socket.socket, socket.socket]] = field(factory=list)
    _stopping: threading.Event = field(factory=threading.Event)
    _threads: list[threading.Thread] = field(factory=list)
    _lock: threading.Lock = field(factory=threading.Lock)

    def start(self) -> None:
        """Listen."""
        listener = socket.create_server(("127.0.0.1", self.port))
        listener.settimeout(0.1)
        thread = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        """Close everything."""
        self._stopping.set()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def arm(self, every: int, times: int) -> None:
        """Cut ``times`` times, each after ``every`` more bytes."""
        with self._lock:
            self._since_cut = 0
            self.cuts = 0
            self.cut_every = every
            self.cuts_left = times

    def cut(self) -> None:
        """Reset all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while not self._stopping.is_set():
                try:
                    near, _ = listener.accept()
                except TimeoutError:
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._pairs.append((near, far))
                thread = threading.Thread(target=self._pass, args=(near, far), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _pass(self, near: socket.socket, far: socket.socket) -> None:
        with selectors.DefaultSelector() as ready, near, far:
            for source, sink in ((near, far), (far, near)):
                source.settimeout(10)
                ready.register(source, selectors.EVENT_READ, sink)
            while not self._stopping.is_set():
                for key, _ in ready.select(0.2):
                    source: socket.socket = key.fileobj  # type: ignore[assignment]
                    try:
                        data = source.recv(_CHUNK)
                        if not data:
                            return
                        key.data.sendall(data)
                    except OSError:
                        return
                    if self._count(len(data)):
                        self.cut()
                        return

    def _count(self, size: int) -> bool:
        with self._lock:
            self.passed += size
            self._since_cut += size
            if not self.cuts_left or self._since_cut < self.cut_every:
                return False
            self._since_cut = 0
            self.cuts_left -= 1
            self.cuts += 1
            return True


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Poll; AssertionError when it never holds."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError(f"not within {seconds} s")
