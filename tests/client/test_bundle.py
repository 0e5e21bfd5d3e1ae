"""The WebSockets of ``onprem forward``: when one is opened, left, given up, and what breaks one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from twisted.trial.unittest import SynchronousTestCase
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.utils import accept_key

from tests.support.forwarding import Accepted, ForwardCase, Scene, echo, until
from workato_client import bundle, forward, websocket
from workato_client.forward import ForwardError
from workato_tunnel.frames import END, FrameType, Hello, Limits
from workato_tunnel.handshake import encode_hello
from workato_tunnel.settings import Settings
from workato_tunnel.testing import FrameFactory, split

FRAMES = FrameFactory()
HELLO = encode_hello(Hello(hold=0))

Talk = Callable[[ServerConnection], Awaitable[None]]


async def refused(at: Scene) -> str:
    """What the forwarder says where no connection is made."""
    try:
        await at.forwarder.open()
    except (ForwardError, OSError, TimeoutError) as error:
        return str(error)
    raise AssertionError("a connection was made")


class MoreThanOneTests(ForwardCase):
    def test_an_agent_that_says_goaway_keeps_its_connections_and_gets_no_new_one(self) -> None:
        async def client(at: Scene) -> None:
            old = await at.connect()
            await old.ask(b"hello")
            at.gateway.links[0].connection.go_away("draining")
            at.gateway.links[0].wake()
            await until(lambda: not at.forwarder._bundles[0].usable)
            new = await at.connect()
            self.assertEqual(await new.ask(b"new"), b"new")
            self.assertEqual(await old.ask(b"old"), b"old")
            self.assertEqual([len(link.accepted) for link in at.gateway.links], [1, 1])
            self.assertEqual(at.told, [])

        self.play(client)

    def test_a_websocket_that_takes_no_more_is_closed_for_the_next(self) -> None:
        self.patch(forward, "IDLE_SECONDS", 600)

        async def client(at: Scene) -> None:
            await at.forwarder.probe()
            first = at.gateway.links[0]
            first.connection.go_away("draining")
            first.wake()
            await until(lambda: not at.forwarder._bundles[0].usable)
            await at.forwarder.probe()
            await asyncio.wait_for(first.over.wait(), 2)
            self.assertEqual(first.socket.close_code, 1000)

        self.play(client)

    def test_connections_beyond_the_agents_limit_get_a_second_websocket(self) -> None:
        async def client(at: Scene) -> None:
            programs = [await at.connect() for _ in range(5)]
            for program in programs:
                self.assertEqual(await program.ask(b"hello"), b"hello")
            self.assertEqual([len(link.accepted) for link in at.gateway.links], [2, 2, 1])

        self.play(client, settings=Settings(streams=2, resumable=False))

    def test_an_agent_that_takes_no_connection_is_an_error_and_left(self) -> None:
        self.patch(forward, "IDLE_SECONDS", 0.05)

        codes: list[int | None] = []

        async def talk(socket: ServerConnection) -> None:
            await socket.send(encode_hello(Hello(limits=Limits(streams=0), hold=0)))
            await socket.wait_closed()
            codes.append(socket.close_code)

        async def client(at: Scene) -> None:
            self.assertEqual(await refused(at), "all 0 streams are in use")
            await until(lambda: len(codes) == 2)
            self.assertEqual((codes, at.forwarder._bundles), ([1000, 1000], []))

        self.play(client, talk=talk)

    def test_an_old_websocket_keeps_its_connections_and_gets_no_new_one(self) -> None:
        async def client(at: Scene) -> None:
            old = await at.connect()
            await old.ask(b"hello")
            self.patch(forward, "OLDEST_SECONDS", 0)
            new = await at.connect()
            self.assertEqual(await new.ask(b"new"), b"new")
            self.assertEqual(await old.ask(b"old"), b"old")
            self.assertEqual(len(at.gateway.links), 2)

        self.play(client)

    def test_connections_that_wait_for_one_websocket_learn_of_its_failure_together(self) -> None:
        self.patch(bundle, "HELLO_SECONDS", 0.3)
        asked: list[ServerConnection] = []

        async def talk(socket: ServerConnection) -> None:
            asked.append(socket)
            await socket.wait_closed()

        async def client(at: Scene) -> None:
            said = await asyncio.gather(*(refused(at) for _ in range(20)))
            self.assertEqual(set(said), {"the agent has not answered within 0.3 s"})
            self.assertEqual(len(asked), 1)

        self.play(client, talk=talk)

    def test_who_leaves_while_a_websocket_is_made_leaves_it_to_the_others(self) -> None:
        async def client(at: Scene) -> None:
            first = asyncio.create_task(at.forwarder.open())
            second = asyncio.create_task(at.forwarder.open())
            await asyncio.sleep(0)
            first.cancel()
            await (await second).finish(1)
            self.assertEqual([len(link.accepted) for link in at.gateway.links], [1])

        self.play(client)

    def test_a_websocket_that_nobody_waits_for_any_more_is_closed_after_a_while(self) -> None:
        self.patch(forward, "IDLE_SECONDS", 0.1)

        async def client(at: Scene) -> None:
            alone = asyncio.create_task(at.forwarder.open())
            await asyncio.sleep(0)
            alone.cancel()
            await until(lambda: at.gateway.links)
            await asyncio.wait_for(at.gateway.links[0].over.wait(), 2)

        self.play(client)

    def test_one_that_drops_before_an_answer_is_tried_again(self) -> None:
        async def serve(accepted: Accepted) -> None:
            if accepted.link.first:
                await accepted.link.drop()
            else:
                await echo(accepted)

        async def client(at: Scene) -> None:
            program = await at.connect()
            self.assertEqual(await program.ask(b"hello"), b"hello")
            self.assertEqual((len(at.gateway.links), at.told), (2, []))

        self.play(client, serve)


class IdleTests(ForwardCase):
    def test_a_websocket_without_connections_is_closed_after_a_while(self) -> None:
        self.patch(forward, "IDLE_SECONDS", 0.2)

        async def client(at: Scene) -> None:
            await at.forwarder.probe()
            (link,) = at.gateway.links
            await asyncio.sleep(0.05)
            self.assertFalse(link.over.is_set())
            await asyncio.wait_for(link.over.wait(), 2)
            self.assertEqual(link.socket.close_code, 1000)
            program = await at.connect()
            self.assertEqual(await program.ask(b"again"), b"again")
            self.assertEqual(len(at.gateway.links), 2)

        self.play(client)

    def test_the_time_begins_anew_with_each_connection(self) -> None:
        self.patch(forward, "IDLE_SECONDS", 0.4)

        async def client(at: Scene) -> None:
            await at.forwarder.probe()
            await asyncio.sleep(0.3)
            await at.forwarder.probe()
            (link,) = at.gateway.links
            await asyncio.sleep(0.2)
            self.assertFalse(link.over.is_set())
            await asyncio.wait_for(link.over.wait(), 2)

        self.play(client)

    def test_one_with_a_connection_is_not(self) -> None:
        self.patch(forward, "IDLE_SECONDS", 0.05)

        async def client(at: Scene) -> None:
            program = await at.connect()
            await program.ask(b"hello")
            await at.forwarder.probe()
            await asyncio.sleep(0.2)
            self.assertEqual(await program.ask(b"still there"), b"still there")
            self.assertEqual(len(at.gateway.links), 1)

        self.play(client)


class SignsOfLifeTests(ForwardCase):
    def test_a_gateway_that_answers_pings_is_kept(self) -> None:
        self.patch(websocket, "PING_SECONDS", 0.05)

        async def client(at: Scene) -> None:
            program = await at.connect()
            await program.ask(b"hello")
            await asyncio.sleep(0.5)
            self.assertEqual(await program.ask(b"still there"), b"still there")
            self.assertEqual((len(at.gateway.links), at.told), (1, []))

        self.play(client)

    def test_one_that_is_silent_is_given_up_and_told(self) -> None:
        self.patch(websocket, "PING_SECONDS", 0.1)

        async def client(at: Scene) -> None:
            program = await at.connect()
            await program.ask(b"hello")
            transport = at.gateway.links[0].socket.transport
            transport.pause_reading()
            self.assertTrue(await program.reset())
            said = "a connection was cut: nothing has come from the gateway for 0.2 s"
            self.assertEqual(at.told, [said])
            transport.abort()

        self.play(client)

    def test_one_that_drops_later_is_not_called_silent(self) -> None:
        self.patch(websocket, "PING_SECONDS", 0.2)

        async def client(at: Scene) -> None:
            program = await at.connect()
            await program.ask(b"hello")
            (each,) = at.forwarder._bundles
            await until(lambda: each._socket._unheard and each._socket._heard)
            await at.gateway.links[0].drop()
            self.assertTrue(await program.reset())
            (told,) = at.told
            self.assertNotIn("nothing has come", told)

        self.play(client)


class BreachTests(ForwardCase):
    def test_what_is_no_hello_is_an_error(self) -> None:
        for message, words in (
            (b"SSH-2.0-OpenSSH_9.2", "the agent does not speak the protocol"),
            (b"", "a HELLO of 0 bytes"),
            (FRAMES.head(1), "the first message must be one HELLO"),
            (encode_hello(Hello(versions=(7,))), "the peer speaks versions [7]"),
            (encode_hello(Hello(limits=Limits(map_size=1))), "map_size out of range"),
        ):

            async def talk(socket: ServerConnection, message: bytes = message) -> None:
                await socket.send(message)
                await socket.wait_closed()

            self.assertIn(words, self.play(refused, talk=talk))

    def test_what_comes_behind_a_broken_hello_is_not_looked_at(self) -> None:
        codes: list[int | None] = []

        async def talk(socket: ServerConnection) -> None:
            socket.transport.write(b"\x82\x02no\x82\x02no")  # one segment, two messages
            await socket.wait_closed()
            codes.append(socket.close_code)

        self.assertIn("does not speak the protocol", self.play(refused, talk=talk))
        self.assertEqual(codes, [1000])

    def test_a_hello_that_never_comes_is_an_error(self) -> None:
        self.patch(bundle, "HELLO_SECONDS", 0.1)

        async def talk(socket: ServerConnection) -> None:
            await socket.wait_closed()

        self.assertEqual(self.play(refused, talk=talk), "the agent has not answered within 0.1 s")

    def test_a_websocket_that_closes_before_hello_is_tried_again(self) -> None:
        calls: list[ServerConnection] = []

        async def talk(socket: ServerConnection) -> None:
            calls.append(socket)
            await socket.close(1001)

        self.assertEqual(self.play(refused, talk=talk), "the agent has ended the connection")
        self.assertEqual(len(calls), 2)

    def test_a_gateway_that_never_answers_the_handshake_is_an_error(self) -> None:
        self.patch(websocket, "CONNECT_SECONDS", 0.1)

        async def whole() -> str:
            async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read()
                writer.close()
                ended.set()

            ended = asyncio.Event()
            server = await asyncio.start_server(gateway, "127.0.0.1", 0)
            async with server, asyncio.timeout(5):
                socket = websocket.GatewaySocket(
                    f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", "token-1", "any"
                )
                with self.assertRaises(TimeoutError) as caught:
                    await socket.open(None)
                await ended.wait()
                return str(caught.exception)

        self.assertEqual(asyncio.run(whole()), "the gateway has not answered within 0.1 s")

    def test_no_subprotocol_is_said_to_be_an_old_agent(self) -> None:
        said = self.play(refused, subprotocol=None)
        self.assertIn("the agent is too old for this command", said)

    def breach(self, send: Talk) -> tuple[list[str], list[bytes], int | None]:
        """What is told after such a message on an open connection, what the agent hears and how
        the WebSocket closes."""
        heard: list[bytes] = []
        closed: list[ServerConnection] = []

        async def talk(socket: ServerConnection) -> None:
            await socket.send(HELLO)
            await socket.recv()
            (opened,) = split(await message(socket))
            await socket.send(FRAMES.head(opened[2]) + FRAMES.data(opened[2], b"last"))
            await asyncio.sleep(0.05)
            await send(socket)
            try:
                while True:
                    heard.append(await message(socket))
            except ConnectionClosed:
                closed.append(socket)

        async def client(at: Scene) -> list[str]:
            program = await at.connect()
            self.assertEqual(await program.reader.readexactly(4), b"last")
            self.assertTrue(await program.reset())
            await until(lambda: closed)
            return at.told

        return self.play(client, talk=talk), heard, closed[0].close_code

    def test_text_is_refused_and_told(self) -> None:
        told, _, code = self.breach(lambda socket: socket.send("text"))
        self.assertEqual(code, 1003)
        self.assertIn("a connection was cut: ", told[0])
        self.assertIn("bytes go in binary messages", told[0])

    def test_a_breach_of_the_protocol_is_answered_with_goaway_and_told(self) -> None:
        for sent in (
            FRAMES.head(99),
            FRAMES.open(3),
            HELLO,
            b"\x00" * 3,
            FRAMES.data(1, b"cut short")[:-1],
            FRAMES.ack(99),
        ):
            told, heard, code = self.breach(lambda socket, sent=sent: socket.send(sent))  # type: ignore[misc]
            self.assertIn("a connection was cut: the agent broke the protocol", told[0])
            self.assertEqual([kind for kind, *_ in split(heard[-1])][-1], FrameType.GOAWAY)
            self.assertEqual(code, 1000)

    def test_a_stream_that_the_agent_opens_is_refused(self) -> None:
        answers: list[tuple[int, int]] = []

        async def talk(socket: ServerConnection) -> None:
            await socket.send(HELLO)
            await socket.recv()
            await socket.send(FRAMES.open(2))
            while (FrameType.RESET, 2) not in answers:
                for kind, _, stream, _ in split(await message(socket)):
                    answers.append((kind, stream))
            await socket.close(1001)

        self.play(refused, talk=talk)
        self.assertIn((FrameType.RESET, 2), answers)

    def test_a_breach_inside_a_stream_ends_that_one_only(self) -> None:
        async def serve(accepted: Accepted) -> None:
            if len(accepted.link.accepted) == 1:
                await echo(accepted)
                return
            accepted.accept()
            accepted.write(b"last")
            await asyncio.sleep(0.05)
            twice = FRAMES.data(accepted.number, b"", END) + FRAMES.data(accepted.number, b"more")
            await accepted.link.socket.send(twice)

        async def client(at: Scene) -> None:
            good = await at.connect()
            await good.ask(b"hello")
            bad = await at.connect()
            self.assertEqual(await bad.reader.read(), b"last")
            self.assertEqual(await good.ask(b"still there"), b"still there")
            await until(lambda: at.told)
            self.assertEqual(at.told, ["a connection was cut: stream_closed: DATA not expected"])

        self.play(client, serve)


async def message(socket: ServerConnection) -> bytes:
    """The next one."""
    data = await socket.recv()
    assert isinstance(data, bytes)
    return data


class CreditTests(ForwardCase):
    def test_what_a_program_takes_after_the_end_is_given_back_to_the_budget(self) -> None:
        whole = bundle.SETTINGS.budget - bundle.SETTINGS.streams * bundle.SETTINGS.window
        sent = 0

        async def serve(accepted: Accepted) -> None:
            nonlocal sent
            accepted.accept()
            waited = 0
            while waited < 50:  # the program takes nothing for so long
                if credit := accepted.credit:
                    waited = 0
                    sent += credit
                    accepted.write(b"y" * credit)
                waited += 1
                await asyncio.sleep(0.002)
            accepted.finish()

        async def client(at: Scene) -> None:
            program = await at.connect()
            await until(lambda: at.forwarder._bundles and at.gateway.accepted)
            (each,) = at.forwarder._bundles
            await until(lambda: sent and not each.busy)
            extra = each.connection._extra
            self.assertLess(extra.left, whole)
            self.assertEqual(len(await program.reader.read()), sent)
            program.writer.close()
            await until(lambda: at.forwarder.locals[0].over)
            self.assertEqual((extra.left, extra._undelivered), (whole, {}))

        self.play(client, serve)


class FirstBytesTests(SynchronousTestCase):
    def test_messages_that_come_with_the_handshake_are_the_first(self) -> None:
        async def whole() -> list[object]:
            async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
                writer.write(
                    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
                    f"connection: upgrade\r\nsec-websocket-accept: {accept_key(key)}\r\n"
                    "sec-websocket-protocol: any\r\n\r\n"
                    .encode() + b"\x82\x05hello\x82\x00\x88\x02\x03\xe8"
                )  # fmt: skip
                writer.close()

            server = await asyncio.start_server(gateway, "127.0.0.1", 0)
            async with server, asyncio.timeout(5):
                socket = websocket.GatewaySocket(
                    f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", "token-1", "any"
                )
                await socket.open(None)
                listener = Listener()
                socket.begin(listener)
                await socket.gone()
                return listener.told

        self.assertEqual(asyncio.run(whole()), [b"hello", b"", "closed: "])


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def message_received(self, message: bytes) -> None:
        self.told.append(message)

    def room(self, *, ready: bool) -> None:
        self.told.append(ready)

    def closed(self, reason: str) -> None:
        self.told.append(f"closed: {reason}")
