"""Answers of many pieces, small and large, over real sockets: in order and whole, however they are
framed and however slowly they are read."""

from __future__ import annotations

import random
import socket
import time

from twisted.internet.task import deferLater

from tests.gateway.test_http1_tcp import TcpCase, in_thread, reactor, until
from tests.support.http_gateway import CALL, parse_answer, request
from tests.support.memory_agents import MemoryStream
from workato_gateway.api.exchange import MUCH

SIZES = (1, 2, 100, MUCH - 1, MUCH, MUCH + 1, 16_384, 65_528, 200_000)
WEIGHTS = (8, 8, 8, 4, 4, 4, 4, 2, 1)


def pieces(number: int, seed: int) -> list[bytes]:
    """Pieces of each size and more in any order, mostly small ones."""
    chance = random.Random(seed)
    sizes = [*SIZES, *chance.choices(SIZES, WEIGHTS, k=number)]
    chance.shuffle(sizes)
    return [chance.randbytes(size) for size in sizes]


def read(caller: socket.socket) -> bytes:
    """All there is."""
    return b"".join(iter(lambda: caller.recv(65_536), b""))


def read_slowly(caller: socket.socket) -> bytes:
    """As ``read``, with a rest now and then."""
    data = bytearray()
    rest = 0
    while piece := caller.recv(16_384):
        data += piece
        rest += len(piece)
        if rest > 250_000:
            rest = 0
            time.sleep(0.03)
    return bytes(data)


class PiecesTests(TcpCase):
    async def ask(self, caller: socket.socket, headers: bytes) -> MemoryStream:
        """Send a request; the agent's end of the call."""
        known = len(self.gateway.agent.opened)
        caller.sendall(request(b"GET", CALL, headers))
        await until(lambda: len(self.gateway.agent.opened) > known)
        return self.gateway.stream

    async def send(self, stream: MemoryStream, sent: list[bytes]) -> int:
        """Send the pieces, some together in a turn of the reactor; how often they had to wait."""
        chance = random.Random(len(sent))
        waits = 0
        for piece in sent:
            waits += stream.paused
            await until(lambda: not stream.paused)
            stream.agent_sends(piece)
            if chance.random() < 0.3:
                await deferLater(reactor, 0)
        await until(lambda: not stream.paused)
        stream.agent_finishes()
        return waits

    async def check(self, sent: list[bytes], *, sized: bool, slow: bool) -> None:
        """Answer a call with these pieces."""
        whole = b"".join(sent)
        caller = self.connect()
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        stream = await self.ask(caller, b"Connection: close\r\n")
        reading = in_thread(read_slowly if slow else read, caller)
        stream.agent_begins(200, (("content-length", str(len(whole))),) if sized else ())
        waits = await self.send(stream, sent)
        answer = parse_answer(await reading)
        self.assertEqual("content-length" in answer.headers, sized)
        self.assertEqual((answer.status, answer.body == whole), (200, True))
        self.assertEqual(answer.rest, b"")
        if slow:
            self.assertGreater(waits, 0)

    async def test_in_chunks(self) -> None:
        for seed in range(5):
            await self.check(pieces(100, seed), sized=False, slow=False)

    async def test_with_a_length(self) -> None:
        for seed in range(5):
            await self.check(pieces(100, seed), sized=True, slow=False)

    async def test_in_chunks_to_a_slow_reader(self) -> None:
        await self.check(pieces(400, 1), sized=False, slow=True)

    async def test_with_a_length_to_a_slow_reader(self) -> None:
        await self.check(pieces(400, 2), sized=True, slow=True)

    async def test_a_reader_who_begins_late_gets_all_of_it_from_the_first_byte(self) -> None:
        sent = pieces(200, 3)
        caller = self.connect()
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        stream = await self.ask(caller, b"Connection: close\r\n")
        stream.agent_begins(200)
        sending = self.send(stream, sent)
        started = deferLater(reactor, 0.2, lambda: in_thread(read, caller))
        self.assertGreater(await sending, 0)
        answer = parse_answer(await started)
        self.assertEqual(answer.body == b"".join(sent), True)

    async def test_answers_on_one_connection_follow_each_other_without_a_gap(self) -> None:
        caller = self.connect()
        reading = in_thread(read, caller)
        wanted = []
        for number in range(6):
            last = number == 5
            stream = await self.ask(caller, b"Connection: close\r\n" if last else b"")
            sent = [piece for piece in pieces(12, number) if len(piece) < 60_000]
            length = sum(map(len, sent))
            stream.agent_begins(200, (("content-length", str(length)),) if number % 2 else ())
            await self.send(stream, sent)
            wanted.append(b"".join(sent))
        data = await reading
        for body in wanted:
            answer = parse_answer(data)
            self.assertEqual(answer.body == body, True)
            data = answer.rest
        self.assertEqual(data, b"")

    async def test_few_bytes_wait_for_the_rest_of_the_turn_and_many_do_not(self) -> None:
        caller = self.connect()
        stream = await self.ask(caller, b"Connection: close\r\n")
        stream.agent_begins(200)
        await deferLater(reactor, 0.02)
        caller.settimeout(5)
        self.assertIn(b"200 OK", caller.recv(65_536))
        # From here on within one turn of the reactor.
        stream.agent_sends(b"x" * MUCH)
        chunk = b"2000\r\n" + b"x" * MUCH + b"\r\n"
        at_once = b""
        while len(at_once) < len(chunk):
            at_once += caller.recv(len(chunk) - len(at_once))
        self.assertEqual(at_once, chunk)
        caller.setblocking(False)
        stream.agent_sends(b"few ")
        self.assertRaises(BlockingIOError, caller.recv, 1)
        stream.agent_sends(b"y" * MUCH)
        self.assertRaises(BlockingIOError, caller.recv, 1)
        stream.agent_finishes()
        caller.setblocking(True)
        rest = await in_thread(read, caller)
        self.assertEqual(rest, b"4\r\nfew \r\n" + chunk.replace(b"x", b"y") + b"0\r\n\r\n")
