"""``onprem forward``: bytes, ends and pace of local connections, and a gateway's handshake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.support.forwarding import (
    SECONDS,
    Accepted,
    Cut,
    ForwardCase,
    Observed,
    Scene,
    echo,
    until,
)
from workato_client import bundle, forward
from workato_client.forward import ForwardError

LARGE = 20_000_000


class BytesTests(ForwardCase):
    def test_bytes_go_both_ways(self) -> None:
        async def client(at: Scene) -> None:
            program = await at.connect()
            for size in (1, 10, 100_000, 1_000_000):
                self.assertEqual(await program.ask(b"x" * size), b"x" * size)
            program.writer.write_eof()
            self.assertEqual(await program.reader.read(), b"")
            (accepted,) = at.gateway.accepted
            head = accepted.head
            self.assertEqual((head.service, head.profile, head.method), ("tcp", "erp", "CONNECT"))
            self.assertEqual(at.told, [])

        self.play(client)

    def test_local_connections_share_a_websocket(self) -> None:
        async def client(at: Scene) -> None:
            programs = [await at.connect() for _ in range(10)]
            said = [bytes((number,)) * 50_000 for number in range(10)]
            answers = await asyncio.gather(
                *(program.ask(data) for program, data in zip(programs, said, strict=True))
            )
            self.assertEqual(answers, said)
            self.assertEqual(len(at.gateway.links), 1)
            self.assertEqual(len(at.gateway.accepted), 10)

        self.play(client)

    def test_what_comes_in_the_message_of_the_head_is_not_lost(self) -> None:
        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            accepted.write(b"hello")
            accepted.end()
            accepted.finish()

        async def client(at: Scene) -> bytes:
            return await (await at.connect()).reader.read()

        self.assertEqual(self.play(client, serve), b"hello")


class EndTests(ForwardCase):
    def test_a_program_that_has_ended_still_gets_the_answer(self) -> None:
        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            accepted.write(b"you said " + await accepted.read_all())
            accepted.finish()

        async def client(at: Scene) -> bytes:
            program = await at.connect()
            program.writer.write(b"hello")
            program.writer.write_eof()
            return await program.reader.read()

        self.assertEqual(self.play(client, serve), b"you said hello")

    def test_a_target_that_has_ended_still_gets_what_is_written(self) -> None:
        got: list[bytes] = []

        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            accepted.write(b"greeting")
            accepted.end()
            got.append(await accepted.read_all())
            accepted.finish()

        async def client(at: Scene) -> None:
            program = await at.connect()
            self.assertEqual(await program.reader.read(), b"greeting")
            program.writer.write(b"late")
            program.writer.write_eof()
            await until(lambda: got)

        self.play(client, serve)
        self.assertEqual(got, [b"late"])

    def test_a_program_that_closes_at_once_has_sent_all(self) -> None:
        got: list[bytes] = []

        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            got.append(await accepted.read_all())
            accepted.finish()

        async def client(at: Scene) -> None:
            program = await at.connect()
            program.writer.write(b"x" * 3_000_000)
            await program.writer.drain()
            program.writer.close()
            await until(lambda: got)
            self.assertEqual(at.told, [])

        self.play(client, serve)
        self.assertEqual(got, [b"x" * 3_000_000])

    def test_a_target_that_does_not_end_after_a_program_has_closed_is_cut_after_a_while(
        self,
    ) -> None:
        self.patch(forward, "LEAVE_SECONDS", 0.1)
        seen: list[str] = []

        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            try:
                seen.append(str(await accepted.read_all()))
                await until(lambda: at_end)
                accepted.write(b"x" * LARGE)
                await accepted.read()
            except Cut as cut:
                seen.append(str(cut))

        at_end: list[bool] = []

        async def client(at: Scene) -> None:
            program = await at.connect()
            await until(lambda: at.gateway.accepted)
            await until(at.forwarder.locals[0].transport.is_reading)
            program.writer.write_eof()
            await until(lambda: seen)
            program.writer.close()
            at_end.append(True)
            await until(lambda: len(seen) == 2)

        self.play(client, serve)
        self.assertEqual(seen, ["b''", "cancelled"])

    def test_a_program_that_vanishes_is_not_taken_for_one_that_has_said_all(self) -> None:
        seen: list[str] = []

        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            try:
                seen.append(str(await accepted.read_all()))
            except Cut as cut:
                seen.append(str(cut))

        async def client(at: Scene) -> None:
            program = await at.connect()
            await until(lambda: at.gateway.accepted)
            await until(at.forwarder.locals[0].transport.is_reading)
            program.vanish()
            await until(lambda: seen)

        self.play(client, serve)
        self.assertEqual(seen, ["cancelled"])

    def test_a_probe_ends_in_order_whatever_the_target_sends(self) -> None:
        seen: list[bytes] = []

        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            accepted.write(b"x" * 1_000_000)
            accepted.finish()
            seen.append(await accepted.read_all())

        async def client(at: Scene) -> None:
            async with asyncio.timeout(forward.PROBE_SECONDS / 2):
                await at.forwarder.probe()
            await until(lambda: seen)

        self.play(client, serve)
        self.assertEqual(seen, [b""])


class PaceTests(ForwardCase):
    def test_an_agent_that_takes_slowly_holds_back_the_program(self) -> None:
        go_on = asyncio.Event()
        got: list[bytes] = []

        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            await go_on.wait()
            got.append(await accepted.read_all())
            accepted.finish()

        async def client(at: Scene) -> None:
            program = await at.connect()
            program.writer.write(b"x" * LARGE)
            program.writer.write_eof()
            await until(lambda: at.gateway.accepted)
            await until(lambda: not at.forwarder.locals[0].transport.is_reading())
            connection = at.gateway.links[0].connection
            window = connection.streams[at.gateway.accepted[0].number].receive
            await until(lambda: window.received == window.granted)
            self.assertFalse(at.forwarder.locals[0].transport.is_reading())
            go_on.set()
            self.assertEqual(await program.reader.read(), b"")

        self.play(client, serve)
        self.assertEqual(list(map(len, got)), [LARGE])

    def test_a_program_that_takes_slowly_leaves_the_agent_without_credit(self) -> None:
        large = 2 * LARGE

        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            accepted.write(b"y" * large)
            accepted.finish()

        async def client(at: Scene) -> int:
            program = await at.connect()
            await until(lambda: at.gateway.accepted)
            await until(lambda: at.gateway.accepted[0].credit == 0)
            await asyncio.sleep(0.1)
            self.assertEqual(at.gateway.accepted[0].credit, 0)
            other = await at.connect()
            self.assertEqual(await other.reader.readexactly(5), b"yyyyy")
            return len(await program.reader.read())

        self.assertEqual(self.play(client, serve), large)


class CutTests(ForwardCase):
    async def hear(self, at: Scene) -> list[str]:
        """What is told of a connection that is cut behind "last"."""
        program = await at.connect()
        self.assertEqual(await program.reader.readexactly(4), b"last")
        self.assertTrue(await program.reset())
        return at.told

    def test_trailers_that_say_why_are_told(self) -> None:
        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            accepted.write(b"last")
            accepted.finish("target_failed", "the target is on fire")

        self.assertEqual(
            self.play(self.hear, serve), ["a connection was cut: the target is on fire"]
        )

    def test_an_end_in_order_is_not(self) -> None:
        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            accepted.write(b"last")
            accepted.finish()

        async def client(at: Scene) -> list[str]:
            self.assertEqual(await (await at.connect()).reader.read(), b"last")
            return at.told

        self.assertEqual(self.play(client, serve), [])

    def test_a_reset_is_told(self) -> None:
        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            accepted.write(b"last")
            await asyncio.sleep(0.05)
            accepted.reset("internal_error", "out of luck")

        self.assertEqual(
            self.play(self.hear, serve), ["a connection was cut: internal_error: out of luck"]
        )

    def test_a_reset_without_words_is_told_by_its_code(self) -> None:
        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            accepted.write(b"last")
            await asyncio.sleep(0.05)
            accepted.reset("internal_error")

        self.assertEqual(self.play(self.hear, serve), ["a connection was cut: internal_error"])

    def test_a_websocket_that_drops_is_told(self) -> None:
        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            accepted.write(b"last")
            await asyncio.sleep(0.05)
            await accepted.link.drop()

        (told,) = self.play(self.hear, serve)
        self.assertTrue(told.startswith("a connection was cut: "), told)

    def test_a_websocket_closed_with_words_is_told_with_them(self) -> None:
        async def serve(accepted: Accepted) -> None:
            accepted.accept()
            accepted.write(b"last")
            await asyncio.sleep(0.05)
            await accepted.link.socket.close(1011, "the agent is on fire")

        (told,) = self.play(self.hear, serve)
        self.assertIn("the agent is on fire", told)


class RefusalTests(ForwardCase):
    async def refused(self, at: Scene) -> str:
        with self.assertRaises(ForwardError) as caught:
            await at.forwarder.open()
        return str(caught.exception)

    def test_a_problem_is_passed_on(self) -> None:
        async def serve(accepted: Accepted) -> None:
            accepted.accept(403)
            accepted.write(b'{"code": "policy_denied", "detail": "not now", "hint": "later"}')
            accepted.finish()

        self.assertEqual(self.play(self.refused, serve), "policy_denied: not now (later)")

    def test_a_refused_program_is_told_and_closed(self) -> None:
        async def serve(accepted: Accepted) -> None:
            accepted.accept(403)
            accepted.write(b'{"code": "policy_denied", "detail": "not now"}')
            accepted.finish()

        async def client(at: Scene) -> list[str]:
            self.assertEqual(await (await at.connect()).reader.read(), b"")
            return at.told

        self.assertEqual(self.play(client, serve), ["policy_denied: not now"])

    def test_a_problem_of_any_length_is_the_answer(self) -> None:
        async def serve(accepted: Accepted) -> None:
            accepted.accept(403)
            accepted.write(b'{"code": "policy_denied", "detail": "%s"}' % (b"x" * LARGE))
            accepted.finish()

        self.assertEqual(self.play(self.refused, serve), "the connection was refused")

    def test_an_agent_that_never_answers_is_given_up(self) -> None:
        self.patch(bundle, "OPEN_SECONDS", 0.1)
        seen: list[str] = []

        async def serve(accepted: Accepted) -> None:
            try:
                await accepted.read()
            except Cut as cut:
                seen.append(str(cut))

        async def client(at: Scene) -> str:
            said = await self.refused(at)
            await until(lambda: seen)
            return said

        self.assertEqual(self.play(client, serve), "the agent has not answered within 0.1 s")
        self.assertEqual(seen, ["cancelled"])

    def test_a_refusal_without_words_is_one(self) -> None:
        async def serve(accepted: Accepted) -> None:
            accepted.accept(500)
            accepted.finish()

        self.assertEqual(self.play(self.refused, serve), "the connection was refused")

    def test_an_agent_that_drains_is_left_for_another(self) -> None:
        async def serve(accepted: Accepted) -> None:
            if accepted.link.first:
                accepted.reset("draining", "going away")
            else:
                await echo(accepted)

        async def client(at: Scene) -> None:
            program = await at.connect()
            self.assertEqual(await program.ask(b"hello"), b"hello")
            self.assertEqual(len(at.gateway.links), 2)
            self.assertEqual(at.told, [])
            async with asyncio.timeout(1):
                await at.gateway.links[0].over.wait()

        self.play(client, serve)

    def test_two_that_drain_are_an_error(self) -> None:
        async def serve(accepted: Accepted) -> None:
            accepted.reset("draining", "going away")

        async def client(at: Scene) -> str:
            said = await self.refused(at)
            self.assertEqual(len(at.gateway.links), 2)
            return said

        self.assertEqual(self.play(client, serve), "draining: going away")


class HandshakeTests(SynchronousTestCase):
    def probe(self, answer: Callable[[str], bytes]) -> BaseException | None:
        """Open one connection against a gateway that answers a handshake's key with that."""

        async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.assertIn("Authorization: Bearer token-1\r\n", head)
            self.assertIn("Sec-WebSocket-Protocol: onprem-tunnel.v1\r\n", head)
            key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
            for byte in answer(key):
                writer.write(bytes((byte,)))
                await asyncio.sleep(0)
            writer.close()

        async def whole() -> BaseException | None:
            server = await asyncio.start_server(gateway, "127.0.0.1", 0)
            async with server, asyncio.timeout(SECONDS):
                forwarder = Observed(server.sockets[0].getsockname()[1])
                try:
                    await forwarder.probe()
                except (ForwardError, OSError) as error:
                    return error
                return None

        return asyncio.run(whole())

    def test_what_a_gateway_says_against_it_is_passed_on(self) -> None:
        body = b'{"code": "policy_denied", "detail": "not now", "hint": "later"}'
        length = f"HTTP/1.1 403 Forbidden\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        for answer, words in (
            (length + body, "policy_denied: not now (later)"),
            (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nno", "answered 502"),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no WebSocket"),
            (b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\n\r\n", "no WebSocket"),
            (b"x" * 9_000 + b"\r\n\r\n", "no WebSocket"),
            (b"", "no WebSocket"),
        ):
            error = self.probe(lambda _key, answer=answer: answer)  # type: ignore[misc]
            self.assertIn(words, str(error))
