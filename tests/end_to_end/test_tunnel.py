"""The tunnel over real TLS sockets: enrolment, calls, cuts, refusals."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.support.tunnel import Collector, TunnelGateway, reactor, until
from workato_agent.tunnel import client as client_module
from workato_agent.tunnel.client import Outcome, State, TunnelClient
from workato_tunnel.errors import StreamRefused
from workato_tunnel.frames import Head, Open, Trailers
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport
from workato_tunnel.tx.websocket import NOTSENT_LOWAT


def echo(stream: StreamTransport, head: Open) -> StreamReceiver:
    """Answers each body with itself, as it comes."""

    class Echo(Collector):
        def data_received(self, data: bytes) -> None:
            stream.write(data)

        def end_received(self) -> None:
            stream.finish(Trailers())
            stream.release()

        def reset_received(self, reason: Exception) -> None:
            stream.release()

    stream.send_head(Head(200, (("x-path", head.path),)))
    return Echo()


class TunnelTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def run_async(self, coroutine: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._with_gateway(coroutine))

    async def _with_gateway(self, body: Any) -> None:
        self.gateway = TunnelGateway(self.folder)
        self.clients: list[TunnelClient] = []
        await self.gateway.start()
        try:
            await body
        finally:
            for client in self.clients:
                if client.running:
                    await client.stopService()
            await self.gateway.stop()
            await until(lambda: not self.sockets_left())

    def sockets_left(self) -> list[Any]:
        return [each for each in reactor.getReaders() if "TLSMemoryBIO" in repr(each)]

    async def connect(self, name: str = "one", **options: Any) -> TunnelClient:
        client = await self.gateway.agent(options.pop("accept", echo), name, **options)
        self.clients.append(client)
        await until(lambda: client.state is State.CONNECTED)
        await until(lambda: any(x.offers("http", "app") for x in self.gateway.registry))
        return client

    def cut(self, client: TunnelClient) -> None:
        """Kill the TCP connection, as a broken network does."""
        transport = client._socket.transport  # type: ignore[union-attr]
        while hasattr(transport, "wrappedProtocol"):
            transport = transport.transport
        transport.abortConnection()

    def test_a_call_is_answered_through_tls_after_enrolment(self) -> Deferred[Any]:
        async def body() -> None:
            await self.connect()
            collector = Collector()
            stream = self.gateway.live.open_stream(Open("http", "app", path="a/b"), collector)
            stream.write(b"hello ")
            stream.write(b"world")
            stream.half_close()
            await collector.done
            self.assertEqual(bytes(collector.data), b"hello world")
            self.assertEqual(collector.head, Head(200, (("x-path", "a/b"),)))
            self.assertEqual(collector.trailers, Trailers(bytes=11))

        return self.run_async(body())

    def test_nodelay_and_notsent_lowat_are_set_at_both_ends(self) -> Deferred[Any]:
        async def body() -> None:
            client = await self.connect()
            ends = [client._socket, *self.gateway.factory._sockets]
            self.assertEqual(len(ends), 2)
            for end in ends:
                transport: Any = end.transport  # type: ignore[union-attr]
                while hasattr(transport, "wrappedProtocol"):
                    transport = transport.transport
                tcp = transport.getHandle()
                self.assertTrue(tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                self.assertEqual(tcp.getsockopt(socket.IPPROTO_TCP, 25), NOTSENT_LOWAT)

        return self.run_async(body())

    def test_streams_go_on_byte_for_byte_over_twenty_cuts(self) -> Deferred[Any]:
        async def body() -> None:
            self.patch(client_module, "RESUME_DELAY", 0.1)
            outcomes: list[Outcome] = []
            client = await self.connect(attempted=outcomes.append)
            payload = os.urandom(1 << 20)
            total = 48
            collector = Collector()
            stream = self.gateway.live.open_stream(Open("http", "app"), collector)
            cuts = 0
            for turn in range(total):
                stream.write(payload)
                await stream.writable()
                if turn % 2 and cuts < 20:
                    await until(lambda: client.state is State.CONNECTED)
                    self.cut(client)
                    cuts += 1
            stream.half_close()
            await collector.done
            self.assertIsNone(collector.reset)
            self.assertEqual(cuts, 20)
            digest = hashlib.sha256(payload * total).hexdigest()
            self.assertEqual(hashlib.sha256(collector.data).hexdigest(), digest)
            self.assertEqual(client.reconnections, 20)
            self.assertEqual(outcomes, [Outcome.CONNECTED] + [Outcome.RESUMED] * 20)

        return self.run_async(body())

    def test_a_revoked_agent_is_cut_and_not_let_in_again(self) -> Deferred[Any]:
        async def body() -> None:
            self.patch(client_module, "MAX_DELAY", 0.1)
            outcomes: list[Outcome] = []
            client = await self.connect(attempted=outcomes.append)
            live = self.gateway.live
            collector = Collector()
            live.open_stream(Open("http", "app"), collector)
            await self.gateway.store.write(lambda t: t.revoke_agent(live.agent_id, 1.0))
            self.gateway.factory.terminate_agent(live.agent_id, "revoked", "revoked by a test")
            await collector.done
            self.assertIn("tunnel_lost", str(collector.reset))
            with self.assertRaises(StreamRefused):
                live.open_stream(Open("http", "app"), Collector())
            client._refused = False
            await until(lambda: client.state in (State.WAITING, State.REFUSED))
            self.assertEqual(len(self.gateway.registry), 0)
            await until(lambda: len(outcomes) > 1)
            self.assertEqual(outcomes[:2], [Outcome.CONNECTED, Outcome.REFUSED])

        return self.run_async(body())
