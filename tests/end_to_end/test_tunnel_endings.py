"""How tunnels end, over real TLS: restarts, drains, copies of an identity, silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.support.sessions import Recorder
from tests.support.tunnel import Collector, TunnelGateway, reactor, until
from workato_agent.tunnel import client as client_module
from workato_agent.tunnel.client import State, TunnelClient
from workato_gateway.agents.registry import Registry
from workato_gateway.identity.admission import Admission
from workato_gateway.tunnel.factory import TunnelFactory
from workato_tunnel.errors import ErrorCode, StreamReset
from workato_tunnel.frames import Head, Open, Trailers
from workato_tunnel.settings import Settings
from workato_tunnel.tx import websocket as websocket_module
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport

CALL = Open("http", "app")


class EndingTests(TestCase):
    timeout = 60

    def run_async(self, body: Any, **options: Any) -> Deferred[Any]:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.patch(client_module, "RESUME_DELAY", 0.1)
        self.patch(client_module, "FIRST_DELAY", 0.1)
        self.gateway = TunnelGateway(folder, **options)
        self.clients: list[TunnelClient] = []
        self.streams: list[StreamTransport] = []
        return Deferred.fromCoroutine(self._with_gateway(body))

    async def _with_gateway(self, body: Any) -> None:
        await self.gateway.start()
        try:
            await body
        finally:
            for client in self.clients:
                if client.running:
                    await client.stopService()
            await self.gateway.stop()
        await until(lambda: not self.sockets())

    def sockets(self) -> list[Any]:
        return [each for each in reactor.getReaders() if "TLSMemoryBIO" in repr(each)]

    def accept(self, stream: StreamTransport, head: Open) -> StreamReceiver:
        """The test answers when it likes."""
        self.streams.append(stream)
        recorder = Recorder(reset=stream.release)
        recorder.stream = stream
        return recorder

    def answer(self, stream: StreamTransport, body: bytes = b"answer") -> None:
        stream.send_head(Head(200))
        stream.write(body)
        stream.finish(Trailers())
        stream.release()

    async def connect(self, name: str = "one") -> TunnelClient:
        before = len(self.gateway.registry)
        client = await self.gateway.agent(self.accept, name)
        self.clients.append(client)
        await until(lambda: client.state is State.CONNECTED)
        await until(lambda: len(self.gateway.registry) == before + 1)
        return client

    def test_a_gateway_that_was_restarted_gets_a_new_session(self) -> Deferred[Any]:
        async def body() -> None:
            client = await self.connect()
            old = client.session
            assert old is not None
            self.gateway.live.open_stream(CALL, Collector())
            await until(lambda: self.streams)
            # As after kill -9: the sockets go, and nobody remembers the sessions.
            await self.gateway.stop_listening()
            for tunnel in list(self.gateway.factory._sockets):
                tunnel.transport.abortConnection()
            await until(lambda: not old.connected)
            gateway = self.gateway
            for live in gateway.registry:
                live.terminate("no_error", "forgotten")
            gateway.registry = Registry()
            gateway.factory = TunnelFactory(
                reactor,
                gateway.registry,
                Admission(gateway.store),
                gateway.enrolment,
                settings=Settings(),
                hold=10.0,
                software="another",
            )
            await gateway.listen_again()
            await until(lambda: client.session is not old)
            self.assertTrue(old.ended)
            self.assertTrue(self.streams[0].closed)
            collector = Collector()
            await until(lambda: any(live.connected for live in gateway.registry))
            gateway.live.open_stream(CALL, collector, end=True)
            await until(lambda: len(self.streams) == 2)
            self.answer(self.streams[1])
            await collector.done
            self.assertEqual(bytes(collector.data), b"answer")

        return self.run_async(body())

    def test_after_goaway_calls_go_on_and_after_the_close_it_dials_again(self) -> Deferred[Any]:
        async def body() -> None:
            client = await self.connect()
            live = self.gateway.live
            collector = Collector()
            live.open_stream(CALL, collector, end=True)
            await until(lambda: self.streams)
            drained = live.session.drain(ErrorCode.DRAINING, "going down")
            await until(lambda: client.session is not None and not client.session.available)
            self.assertEqual(client.state, State.CONNECTED)
            self.answer(self.streams[0], b"x" * 500_000)
            await collector.done
            self.assertEqual(len(collector.data), 500_000)
            await drained
            old = client.session
            live.terminate("draining", "going down")
            await until(lambda: client.session is not old and client.state is State.CONNECTED)
            self.assertIsNone(collector.reset)

        return self.run_async(body())

    def test_a_gateway_drains_several_agents_each_by_its_own_calls(self) -> Deferred[Any]:
        async def body() -> None:
            for name in ("a", "b", "c"):
                await self.connect(name)
            lives = list(self.gateway.registry)
            collectors = [Collector() for _ in lives]
            for live, collector in zip(lives[:2], collectors, strict=False):
                live.open_stream(CALL, collector, end=True)
            await until(lambda: len(self.streams) == 2)
            drains = [live.session.drain() for live in lives]
            await drains[2]
            self.assertFalse(any(live.connected for live in lives))
            self.answer(self.streams[1])
            await until(lambda: sum(drain.called for drain in drains) == 2)
            self.answer(self.streams[0])
            await drains[0]
            await drains[1]
            self.assertEqual(sum(c.trailers is not None for c in collectors), 2)

        return self.run_async(body())

    def test_an_agent_that_stops_lets_its_calls_end_and_loses_no_byte(self) -> Deferred[Any]:
        async def body() -> None:
            client = await self.connect()
            collector, late = Collector(), Collector()
            live = self.gateway.live
            live.open_stream(CALL, collector, end=True)
            await until(lambda: self.streams)
            drained = client.drain(20)
            live.open_stream(CALL, late, end=True)
            await late.done
            self.assertEqual(late.reset.reason, ErrorCode.DRAINING)  # type: ignore[union-attr]
            self.answer(self.streams[0], b"y" * 3_000_000)
            await drained
            await client.stopService()
            await collector.done
            self.assertIsNone(collector.reset)
            self.assertEqual(len(collector.data), 3_000_000)
            await until(lambda: len(self.gateway.registry) == 0)

        return self.run_async(body())

    def test_an_agent_that_stops_in_mid_call_is_lost_at_once(self) -> Deferred[Any]:
        async def body() -> None:
            client = await self.connect()
            collector = Collector()
            self.gateway.live.open_stream(CALL, collector, end=True)
            await until(lambda: self.streams)
            begun = reactor.seconds()
            await client.stopService()
            await collector.done
            self.assertLess(reactor.seconds() - begun, 5)
            reset = collector.reset
            assert isinstance(reset, StreamReset)
            self.assertEqual(reset.reason, ErrorCode.TUNNEL_LOST)
            self.assertIn("the agent stops", reset.message)

        return self.run_async(body())

    def test_two_agents_with_one_identity_both_stay_and_are_counted(self) -> Deferred[Any]:
        async def body() -> None:
            await self.connect()
            await self.connect()
            self.assertEqual(self.gateway.registry.duplicate_logins, 1)
            self.assertEqual([live.connected for live in self.gateway.registry], [True, True])
            for live in self.gateway.registry:
                live.open_stream(CALL, Collector(), end=True)
            await until(lambda: len(self.streams) == 2)

        return self.run_async(body())

    def test_a_gateway_that_is_silent_is_left_and_found_again(self) -> Deferred[Any]:
        async def body() -> None:
            self.patch(websocket_module, "PING_INTERVAL", 0.5)
            self.patch(websocket_module, "PING_TIMEOUT", 0.3)
            client = await self.connect()
            first = client._socket
            assert first is not None
            collector = Collector()
            self.gateway.live.open_stream(CALL, collector, end=True)
            await until(lambda: self.streams)
            (end,) = self.gateway.factory._sockets
            tcp: Any = end.transport.transport
            tcp.stopReading()
            tcp.stopWriting()
            tcp.startWriting = lambda: None
            await until(lambda: client._socket is not first and client.state is State.CONNECTED)
            self.assertEqual(client.reconnections, 1)
            self.answer(self.streams[0])
            await collector.done
            self.assertIsNone(collector.reset)
            await until(lambda: client.round_trip is not None)

        return self.run_async(body())

    def test_a_peer_that_never_reads_costs_little_memory(self) -> Deferred[Any]:
        async def body() -> None:
            client = await self.connect()
            collector = Collector()
            self.gateway.live.open_stream(CALL, collector, end=True)
            await until(lambda: self.streams)
            (end,) = self.gateway.factory._sockets
            end.transport.transport.stopReading()
            stream = self.streams[0]
            stream.send_head(Head(200))
            assert client._socket is not None
            tcp: Any = client._socket.transport.transport
            written = 0
            for _ in range(100):
                while not stream._congested():  # type: ignore[attr-defined]
                    stream.write(bytes(65536))
                    written += 65536
                await deferLater(reactor, 0.002)
            held = len(tcp.dataBuffer) + sum(map(len, tcp._tempDataBuffer))
            self.assertLess(held, 400_000)
            self.assertLess(written, 2_000_000)
            end.transport.transport.startReading()
            stream.finish(Trailers())
            stream.release()
            await collector.done
            self.assertEqual(len(collector.data), written)

        return self.run_async(body())
