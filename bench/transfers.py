"""Bulk transfers by a small client in a process of its own: once, or again and again."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import asdict, frozen

from demo.processes import Background, ProgramError, run

from .peers import Way

_BLOCK = 256 * 1024


@frozen
class Transfer:
    """What the client is to do.

    :ivar rate: bytes a second that it reads at; 0 reads as fast as it can.
    :ivar stop_after: bytes after which it reads no more, keeping the connection; 0 reads all.
    :ivar forever: begin again and again until killed.
    :ivar send: the file that is the request's body, or ``""``.
    :ivar text: the request's body where it is a short text.
    :ivar decode: the media type of rows that it makes values of; ``""`` for bytes as they are.
    """

    port: int
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    send: str = ""
    text: str = ""
    rate: int = 0
    stop_after: int = 0
    forever: bool = False
    decode: str = ""


@frozen
class Moved:
    """How it went: body bytes (received, or sent), line ends among those received, seconds.

    :ivar rows: those that were decoded.
    """

    bytes: int
    lines: int
    seconds: float
    tail: str
    rows: int = 0

    @property
    def megabytes_per_second(self) -> float:
        return self.bytes / self.seconds / 1e6


def download(way: Way, path: str = "") -> Transfer:
    """The big file by that way."""
    return Transfer(way.port, path or way.bulk, way.headers)


def upload(way: Way, source: Path) -> Transfer:
    """A file PUT by that way."""
    return Transfer(way.port, way.upload, way.headers, method="PUT", send=str(source))


def transfer(what: Transfer, *, seconds: float = 600) -> Moved:
    """Do it to its end. Raises ProgramError when the answer is an error or is cut."""
    return Moved(**json.loads(run(_argv(what), cwd=_ROOT, seconds=seconds)))


@contextmanager
def running(folder: Path, *transfers: Transfer) -> Iterator[list[Background]]:
    """These transfers beside whatever the block does; each must still be going at its end."""
    clients = [
        Background.start(f"transfer-{time.monotonic_ns()}-{index}", _argv(what), cwd=folder,
                         environment={"PYTHONPATH": str(_ROOT)})
        for index, what in enumerate(transfers)
    ]  # fmt: skip
    try:
        for client in clients:
            _wait_begun(client)
        yield clients
        for client in clients:
            if client.process.poll() is not None:
                raise ProgramError(f"a transfer ended too early: {client.output()}")
    finally:
        for client in clients:
            client.stop()


def _wait_begun(client: Background) -> None:
    client.wait_until(lambda: "begun" in client.output(), "moving bytes")


_ROOT = Path(__file__).parent.parent


def _argv(what: Transfer) -> list[str]:
    return [sys.executable, "-m", "bench.transfers", json.dumps(asdict(what))]


def _once(what: Transfer) -> Moved:
    connection = http.client.HTTPConnection("127.0.0.1", what.port, timeout=300)
    connection.sock = _connected(what)
    decoder = _DECODERS[what.decode]() if what.decode else None
    began = time.perf_counter()
    sent = _send(connection, what)
    response = connection.getresponse()
    if response.status >= 300:
        sys.exit(f"{what.method} {what.path}: {response.status} {response.read(2000)!r}")
    if not what.send:
        _tell_begun(what)
    if decoder is not None:
        rows = decoder(response)
        return Moved(0, 0, time.perf_counter() - began, "", rows)
    received, lines, tail = _receive(response, what)
    seconds = time.perf_counter() - began
    if what.stop_after:
        time.sleep(3600)
    connection.close()
    return Moved(sent or received, lines, seconds, tail.decode("latin-1"))


def _connected(what: Transfer) -> socket.socket:
    caller = socket.socket()
    if what.rate or what.stop_after:
        # Before connecting: what the kernel takes in shall not hide that nobody reads.
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    caller.settimeout(300)
    caller.connect(("127.0.0.1", what.port))
    return caller


def _tell_begun(what: Transfer) -> None:
    if what.forever or what.rate or what.stop_after:
        print("begun", flush=True)


def _send(connection: http.client.HTTPConnection, what: Transfer) -> int:
    size = Path(what.send).stat().st_size if what.send else len(what.text)
    connection.putrequest(what.method, what.path)
    for name, value in what.headers:
        connection.putheader(name, value)
    if what.method != "GET":
        connection.putheader("Content-Length", str(size))
    connection.endheaders(what.text.encode() or None)
    if not what.send:
        return 0
    _tell_begun(what)
    # Who refuses a body may close before it is all sent: the answer says why.
    with Path(what.send).open("rb") as source, suppress(BrokenPipeError, ConnectionResetError):
        connection.sock.sendfile(source)
    return size


def _msgpack() -> Callable[[http.client.HTTPResponse], int]:
    """Counts the rows of a sequence: what stands between the columns and the closing map."""
    import msgpack  # type: ignore[import-untyped]  # noqa: PLC0415 - not for every transfer

    def count(response: http.client.HTTPResponse) -> int:
        values = 0
        last = None
        unpacker = msgpack.Unpacker(use_list=False)
        block = memoryview(bytearray(_BLOCK))
        while size := response.readinto(block):
            unpacker.feed(block[:size])
            for value in unpacker:
                last = value
                values += 1
        if not isinstance(last, dict) or last.get("row_count") != values - 2:
            sys.exit(f"the sequence is cut, or failed: {last}")
        return values - 2

    return count


def _arrow() -> Callable[[http.client.HTTPResponse], int]:
    import pyarrow.ipc  # type: ignore[import-untyped]  # noqa: PLC0415 - not for every transfer

    def count(response: http.client.HTTPResponse) -> int:
        with pyarrow.ipc.open_stream(response) as batches:
            return sum(batch.num_rows for batch in batches)

    return count


_DECODERS: dict[str, Callable[[], Callable[[http.client.HTTPResponse], int]]] = {
    "application/vnd.msgpack": _msgpack,
    "application/vnd.apache.arrow.stream": _arrow,
}


def _receive(response: http.client.HTTPResponse, what: Transfer) -> tuple[int, int, bytes]:
    block = memoryview(bytearray(min(_BLOCK, what.rate // 10) if what.rate else _BLOCK))
    received, lines, tail = 0, 0, b""
    while count := response.readinto(block):
        received += count
        lines += bytes(block[:count]).count(b"\n")
        tail = bytes(block[max(0, count - 200) : count])
        if what.rate:
            time.sleep(count / what.rate)
        if what.stop_after and received >= what.stop_after:
            break
    expected = response.getheader("Content-Length")
    if expected and int(expected) != received and not what.stop_after:
        sys.exit(f"{what.path}: cut after {received} of {expected} bytes")
    return received, lines, tail


def main(spec: str) -> None:
    """Print what moved as JSON; with ``forever``, do not end."""
    document = json.loads(spec)
    document["headers"] = tuple((name, value) for name, value in document["headers"])
    what = Transfer(**document)
    while what.forever:
        _once(what)
    print(json.dumps(asdict(_once(what))))


if __name__ == "__main__":
    main(sys.argv[1])
