"""The gateway's end of tunnels over real TLS: what agents and strangers may try."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.support.raw_agent import connect_raw, identity_for, raw_agent, stranger
from tests.support.tunnel import Collector, TunnelGateway, reactor, until
from tests.support.websockets import BINARY, CONTINUATION, PING, frame
from workato_gateway.identity import admission as admission_module
from workato_gateway.tunnel import factory as factory_module
from workato_gateway.tunnel import protocol as protocol_module
from workato_tunnel import frames
from workato_tunnel.errors import ErrorCode
from workato_tunnel.frames import Catalogue, FrameType, Goaway, Open
from workato_tunnel.handshake import encode_hello
from workato_tunnel.settings import SUBPROTOCOL
from workato_tunnel.testing import FrameFactory, split

make = FrameFactory()
CALL = Open("http", "app")
CATALOGUE = frames.encode_map(FrameType.CATALOGUE, 0, Catalogue())


class GatewayCase(TestCase):
    timeout = 60

    def run_async(self, body: Any, **options: Any) -> Deferred[Any]:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.gateway = TunnelGateway(folder, **options)
        return Deferred.fromCoroutine(self._with_gateway(body))

    async def _with_gateway(self, body: Any) -> None:
        await self.gateway.start()
        try:
            await body
        finally:
            await self.gateway.stop()
        await until(self.nothing_left)

    def sockets_left(self) -> list[Any]:
        return [each for each in reactor.getReaders() if "TLSMemoryBIO" in repr(each)]

    def accepted(self) -> list[Any]:
        """The gateway's ends of connections."""
        return [each for each in reactor.getReaders() if "TLSMemoryBIOProtocol #" in repr(each)]

    def nothing_left(self) -> bool:
        factory = self.gateway.factory
        return not (self.sockets_left() or factory._sockets or factory.countConnections)


class HelloTests(GatewayCase):
    def test_who_says_no_hello_in_time_is_closed(self) -> Deferred[Any]:
        async def body() -> None:
            self.patch(protocol_module, "HELLO_TIMEOUT", 0.2)
            raw = await raw_agent(self.gateway)
            code, reason = await raw.gone
            self.assertEqual((code, reason), (1008, "no HELLO in time"))

        return self.run_async(body())

    def test_anything_else_than_a_hello_is_closed(self) -> Deferred[Any]:
        async def body() -> None:
            versions = encode_hello(frames.Hello(versions=(7, 8)))
            whole = encode_hello(frames.Hello())
            for words in (
                b"",
                b"garbage",
                CATALOGUE,
                whole + CATALOGUE,
                whole[:-1],
                make.open(2),
                frames.encode(FrameType.HELLO, 0, b"\x81\xa6limits\x80" * 1000),
                frames.encode(FrameType.HELLO, 0, b"\x91" * 4000),
                encode_hello(frames.Hello(limits=frames.Limits(streams=1 << 30))),
                versions,
            ):
                raw = await raw_agent(self.gateway)
                raw.send(words)
                raw.send(whole)
                code, reason = await raw.gone
                self.assertEqual(code, 1002, words[:20])
                if words is versions:
                    self.assertIn("versions [7, 8], this side 1", str(reason))
                self.assertEqual(len(self.gateway.registry), 0)

        return self.run_async(body())

    def test_a_second_hello_ends_the_session(self) -> Deferred[Any]:
        async def body() -> None:
            raw = await raw_agent(self.gateway)
            raw.hello()
            await until(lambda: raw.messages)
            collector = Collector()
            self.gateway.live.open_stream(CALL, collector)
            raw.hello()
            code, _ = await raw.gone
            self.assertEqual(code, 1002)
            await collector.done
            self.assertIn("tunnel_lost", str(collector.reset))
            self.assertEqual(len(self.gateway.registry), 0)
            self.assertEqual(goaway(raw.messages).code, ErrorCode.PROTOCOL_ERROR)

        return self.run_async(body())

    def test_hello_and_frames_in_one_byte_tls_records(self) -> Deferred[Any]:
        async def body() -> None:
            identity = await identity_for(self.gateway, "raw")
            raw = await stranger(self.gateway, identity.client_options("localhost"))
            raw.send(upgrade(self.gateway))
            await until(lambda: b"\r\n\r\n" in raw.data)
            self.assertTrue(raw.data.startswith(b"HTTP/1.1 101"))
            words = frame(BINARY, encode_hello(frames.Hello()), masked=True)
            words += frame(BINARY, CATALOGUE[:5], masked=True, fin=False)
            words += frame(PING, b"here", masked=True)
            words += frame(CONTINUATION, CATALOGUE[5:], masked=True)
            words += frame(BINARY, CATALOGUE, masked=True)
            for index in range(len(words)):
                raw.send(words[index : index + 1])
            await until(lambda: b"here" in raw.data)
            await until(lambda: self.gateway.live.session.connection.received_count == 2)
            raw.cut()

        return self.run_async(body())


def goaway(messages: list[bytes]) -> Goaway:
    """The last GOAWAY of what came."""
    (*_, payload) = (
        payload
        for message in messages
        for kind, _, _, payload in split(message)
        if kind == FrameType.GOAWAY
    )
    return frames.decode_map(Goaway, payload)


def upgrade(gateway: TunnelGateway, path: str = "/tunnel", protocol: str = SUBPROTOCOL) -> bytes:
    """An opening handshake."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost:{gateway.url.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    ).encode()


class ResumeTests(GatewayCase):
    async def begin(self, name: str = "raw") -> Any:
        raw = await raw_agent(self.gateway, name)
        raw.hello()
        await until(lambda: raw.messages)
        return raw

    async def resume(self, secret: bytes, received: int | None, name: str = "raw") -> Any:
        raw = await raw_agent(self.gateway, name)
        raw.hello(session=secret, received=received)
        await until(lambda: raw.messages)
        return raw

    def test_the_right_secret_and_count_resume_and_replay(self) -> Deferred[Any]:
        async def body() -> None:
            raw = await self.begin()
            live = self.gateway.live
            collector = Collector()
            live.open_stream(CALL, collector, end=True)
            await until(lambda: len(raw.messages) == 2)
            raw.cut()
            await until(lambda: not live.connected)
            again = await self.resume(raw.answer.session, 0)
            self.assertEqual(again.answer.session, raw.answer.session)
            self.assertEqual(again.answer.received, 0)
            await until(lambda: len(again.messages) == 2)
            self.assertEqual(again.messages[1], raw.messages[1])
            again.send(make.head(1), make.data(1, b"abc"), make.trailers(1, 3))
            await collector.done
            self.assertEqual(bytes(collector.data), b"abc")
            self.assertIs(self.gateway.live, live)
            again.cut()

        return self.run_async(body())

    def test_other_secrets_begin_a_new_session_and_say_nothing(self) -> Deferred[Any]:
        async def body() -> None:
            victim = await self.begin("victim")
            victim_live = self.gateway.live
            collector = Collector()
            victim_live.open_stream(CALL, collector)
            secret = victim.answer.session
            for stolen in (b"", b"\0" * 16, secret[:-1], secret, os.urandom(3000)):
                thief = await self.resume(stolen, 0, "thief")
                self.assertIsNone(thief.answer.received)
                self.assertNotEqual(thief.answer.session, secret)
                thief.sendClose(1000)
                await thief.gone
                await until(lambda: len(self.gateway.registry) == 1)
            without_count = await self.resume(secret, None, "victim")
            self.assertIsNone(without_count.answer.received)
            self.assertTrue(victim_live.connected)
            self.assertIsNone(collector.reset)
            self.assertEqual(self.gateway.registry.duplicate_logins, 1)
            victim.cut()
            without_count.cut()

        return self.run_async(body())

    def test_a_count_that_can_not_be_ends_the_session(self) -> Deferred[Any]:
        async def body() -> None:
            raw = await self.begin()
            collector = Collector()
            self.gateway.live.open_stream(CALL, collector)
            raw.cut()
            await until(lambda: not self.gateway.live.connected)
            again = await self.resume(raw.answer.session, 99)
            code, reason = await again.gone
            self.assertEqual(code, 1002)
            self.assertIn("99 frames acknowledged", str(reason))
            await collector.done
            self.assertIn("tunnel_lost", str(collector.reset))
            self.assertEqual(len(self.gateway.registry), 0)
            third = await self.resume(raw.answer.session, 0)
            self.assertIsNone(third.answer.received)
            third.cut()

        return self.run_async(body())

    def test_a_second_socket_replaces_a_first_that_seemed_alive(self) -> Deferred[Any]:
        async def body() -> None:
            first = await self.begin()
            live = self.gateway.live
            collector = Collector()
            live.open_stream(CALL, collector, end=True)
            await until(lambda: len(first.messages) == 2)
            second = await self.resume(first.answer.session, 1)
            self.assertEqual(second.answer.received, 0)
            await first.gone
            self.assertTrue(live.connected)
            second.send(make.head(1), make.trailers(1, 0))
            await collector.done
            self.assertIsNotNone(collector.trailers)
            self.assertEqual(self.gateway.registry.duplicate_logins, 0)
            self.assertEqual(live.session.resumptions, 1)
            second.cut()

        return self.run_async(body())

    def test_a_session_that_is_closed_is_over_and_one_that_is_cut_is_not(self) -> Deferred[Any]:
        async def body() -> None:
            raw = await self.begin()
            collector = Collector()
            self.gateway.live.open_stream(CALL, collector)
            raw.sendClose(1000, "bye")
            await collector.done
            self.assertIn("closed the tunnel: bye", str(collector.reset))
            self.assertEqual(len(self.gateway.registry), 0)
            again = await self.resume(raw.answer.session, 0)
            self.assertIsNone(again.answer.received)
            again.cut()
            await again.gone
            await until(lambda: not self.gateway.live.connected)
            self.assertEqual(len(self.gateway.registry), 1)

        return self.run_async(body())

    def test_a_session_that_nobody_resumes_is_forgotten(self) -> Deferred[Any]:
        async def body() -> None:
            raw = await self.begin()
            raw.cut()
            await until(lambda: len(self.gateway.registry) == 0)
            again = await self.resume(raw.answer.session, 0)
            self.assertIsNone(again.answer.received)
            again.cut()

        return self.run_async(body(), hold=0.3)

    def test_a_new_session_ends_an_older_one_without_a_socket(self) -> Deferred[Any]:
        async def body() -> None:
            raw = await self.begin()
            collector = Collector()
            self.gateway.live.open_stream(CALL, collector)
            raw.cut()
            await until(lambda: not self.gateway.live.connected)
            again = await self.begin()
            await collector.done
            self.assertIn("began a new session", str(collector.reset))
            self.assertEqual(len(self.gateway.registry), 1)
            self.assertEqual(self.gateway.registry.duplicate_logins, 0)
            again.cut()

        return self.run_async(body())


class AdmissionTests(GatewayCase):
    def test_one_revoked_between_the_handshake_and_hello_is_closed(self) -> Deferred[Any]:
        async def body() -> None:
            raw = await raw_agent(self.gateway)
            (socket,) = self.gateway.factory._sockets
            assert socket.admitted is not None
            agent_id = socket.admitted.agent_id
            self.gateway.factory.terminate_agent(agent_id, "revoked", "revoked just now")
            raw.hello()
            code, reason = await raw.gone
            self.assertEqual((code, reason), (1008, "revoked just now"))
            self.assertEqual(len(self.gateway.registry), 0)

        return self.run_async(body())

    def test_one_who_leaves_while_being_judged_leaves_nothing(self) -> Deferred[Any]:
        async def body() -> None:
            identity = await identity_for(self.gateway, "raw")
            judge = admission_module.Admission.admit
            asked: list[Deferred[None]] = []

            async def slowly(this: Any, *arguments: Any) -> Any:
                verdict = await judge(this, *arguments)
                asked.append(Deferred())
                await asked[-1]
                return verdict

            self.patch(admission_module.Admission, "admit", slowly)
            raw = await connect_raw(self.gateway, identity.client_options("localhost"))
            raw.opened.addErrback(lambda _failure: None)
            await until(lambda: asked)
            raw.cut()
            await raw.gone
            factory = self.gateway.factory
            await until(lambda: factory.countConnections == 0)
            asked[0].callback(None)
            await until(self.nothing_left)
            left = [str(call) for call in reactor.getDelayedCalls()]
            self.assertEqual([call for call in left if "Tunnel" in call], [])

        return self.run_async(body())

    def test_strangers_get_an_answer_and_no_more(self) -> Deferred[Any]:
        async def body() -> None:
            port = self.gateway.url.port
            host = f"Host: localhost:{port}\r\n"
            for request, status in (
                (upgrade(self.gateway), b"403"),
                (upgrade(self.gateway, protocol="chat"), b"400"),
                (upgrade(self.gateway, path="/other"), b"404"),
                (f"GET /enrol HTTP/1.1\r\n{host}\r\n".encode(), b"405"),
                (f"GET / HTTP/1.1\r\n{host}\r\n".encode(), b"404"),
                (f"POST /enrol HTTP/1.1\r\n{host}Content-Length: 2\r\n\r\n{{}}".encode(), b"400"),
                (b"\x16\x03\x01 nonsense\r\n\r\n", b"400"),
            ):
                raw = await stranger(self.gateway)
                raw.send(request)
                await until(lambda raw=raw: b"\r\n\r\n" in raw.data)
                self.assertEqual(raw.data.split()[1], status, request[:40])
                raw.cut()
                await raw.gone

        return self.run_async(body())

    def test_a_request_to_enrol_that_is_too_large_is_cut(self) -> Deferred[Any]:
        async def body() -> None:
            head = f"POST /enrol HTTP/1.1\r\nHost: localhost:{self.gateway.url.port}\r\n".encode()
            raw = await stranger(self.gateway)
            raw.send(head + b"Content-Length: 1000000\r\n\r\n")
            self.assertEqual(await raw.gone, b"")
            raw = await stranger(self.gateway)
            raw.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(20):
                raw.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
            self.assertEqual(await raw.gone, b"")

        return self.run_async(body())

    def test_those_who_are_slow_or_silent_are_dropped(self) -> Deferred[Any]:
        async def body() -> None:
            self.patch(factory_module, "REQUEST_TIMEOUT", 0.3)
            await self.gateway.listen_again()
            head = f"POST /enrol HTTP/1.1\r\nHost: localhost:{self.gateway.url.port}\r\n".encode()
            silent = await stranger(self.gateway)
            slow = await stranger(self.gateway)
            slow.send(head + b"Content-Length: 5000\r\n\r\n")
            trickling = await stranger(self.gateway)
            trickling.send(head)
            begun = reactor.seconds()
            while not trickling.gone.called:
                trickling.send(b"X: y\r\n")
                await until_later(0.05)
            self.assertLess(reactor.seconds() - begun, 5)
            await gatherResults([silent.gone, slow.gone])

        return self.run_async(body())

    def test_one_who_stays_after_a_refusal_is_dropped(self) -> Deferred[Any]:
        async def body() -> None:
            raw = await stranger(self.gateway)
            raw.send(upgrade(self.gateway))
            tcp: Any = raw.transport.transport  # type: ignore[union-attr]
            tcp.pauseProducing()  # never sees the gateway's part of the shutdown
            await until(lambda: not self.accepted())
            raw.cut()
            await raw.gone

        return self.run_async(body())

    def test_many_sockets_opened_and_closed_leave_nothing(self) -> Deferred[Any]:
        async def body() -> None:
            identity = await identity_for(self.gateway, "raw")
            for turn in range(12):
                sockets = [
                    await connect_raw(self.gateway, identity.client_options("localhost"))
                    for _ in range(10)
                ]
                for index, raw in enumerate(sockets):
                    raw.opened.addErrback(lambda _failure: None)
                    if (index + turn) % 3 == 0:
                        await raw.opened
                        if index % 2:
                            raw.hello()
                    raw.cut()
                for raw in sockets:
                    await raw.gone
            await until(lambda: not self.gateway.factory._sockets)
            await until(lambda: self.gateway.factory.countConnections == 0)
            await until(lambda: not any(live.connected for live in self.gateway.registry))
            self.assertLessEqual(len(self.gateway.registry), 1)

        return self.run_async(body())


async def until_later(seconds: float) -> None:
    """Let the reactor run."""
    later: Deferred[None] = Deferred()
    reactor.callLater(seconds, later.callback, None)
    await later
