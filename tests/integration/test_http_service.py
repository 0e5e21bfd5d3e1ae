"""The http service against real servers on this host."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.web.server import Site

from tests.support.files import Chunks, PacedBody
from tests.support.http import Peer, RawTarget, answering, http_request, whole_body
from tests.support.http_app import ZIPPED, HttpTestCase, sized
from workato_agent.services.http.credentials import Basic, Bearer
from workato_agent.services.http.settings import HttpSettings
from workato_agent.services.http.streaming import IncomingBody
from workato_tunnel.problems import Problem

MEBIBYTE = 1024 * 1024
MARK = ("x-onprem-target-status", "1")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def pause(seconds: float) -> Deferred[None]:
    """Lets the reactor run."""
    return deferLater(reactor, seconds, lambda: None)  # type: ignore[arg-type]


class ForwardingTests(HttpTestCase):
    async def test_any_method_with_path_and_query_as_they_came(self) -> None:
        service = self.serve(base="/api")
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"):
            seen = await self.echoed(service, method, "a%2Fb/c%20d;e/", "q=1&q=%2F..&z")
            self.assertEqual(seen["method"], method)
            self.assertEqual(seen["uri"], "/api/a%2Fb/c%20d;e/?q=1&q=%2F..&z")

    async def test_the_answer_is_marked_as_the_targets(self) -> None:
        service = self.serve()
        for code in (200, 204, 304, 404, 500, 502):
            response, _ = await self.call(service, path="status", query=f"code={code}")
            self.assertEqual(response.status, code)
            self.assertEqual(response.headers.count(MARK), 1)

    async def test_head_has_the_length_of_get_and_no_body(self) -> None:
        response, body = await self.call(self.serve(), "HEAD")
        self.assertIn(("content-length", "10"), response.headers)
        self.assertEqual(body, b"")

    async def test_host_is_the_targets_and_the_callers_own_fields_pass(self) -> None:
        headers = (
            ("host", "gateway.example"),
            ("authorization", "Bearer gateway-token"),
            ("accept-encoding", "gzip"),
            ("cookie", "a=1; b=2"),
            ("x-custom", "v"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
        )
        seen = await self.echoed(self.serve(), headers=headers)
        received = seen["headers"]
        assert isinstance(received, list)
        names = [name for name, _ in received]
        self.assertEqual(sorted(names), ["accept-encoding", "cookie", "host", "x-custom"])
        self.assertTrue(dict(received)["host"].startswith("127.0.0.1:"))

    async def test_the_profiles_credentials_are_added_and_do_not_come_back(self) -> None:
        for auth, value in (
            (Basic("scott", "tiger"), "Basic c2NvdHQ6dGlnZXI="),
            (Bearer("t0ken"), "Bearer t0ken"),
        ):
            service = self.serve(evolve(self.settings, auth=auth))
            seen = await self.echoed(service, headers=(("authorization", "Basic own"),))
            received = [pair for pair in seen["headers"] if pair[0] == "authorization"]  # type: ignore[attr-defined]
            self.assertEqual(received, [["authorization", value]])
            response, _ = await self.call(service, path="unauthorized")
            self.assertNotIn(value, str(response))

    async def test_redirects_cookies_and_encodings_are_the_callers_affair(self) -> None:
        service = self.serve()
        response, _ = await self.call(service, path="redirect")
        self.assertEqual(response.status, 302)
        self.assertIn(("location", "http://elsewhere.example/"), response.headers)
        response, body = await self.call(service, path="cookies")
        cookies = [value for name, value in response.headers if name == "set-cookie"]
        self.assertEqual(cookies, ["a=1; Path=/", "b=2; Secure"])
        self.assertEqual((await self.call(service, path="cookies"))[1], b"none")
        response, body = await self.call(service, path="zipped")
        self.assertIn(("content-encoding", "gzip"), response.headers)
        self.assertEqual(body, ZIPPED)

    async def test_bodies_arrive_whole_whatever_their_framing(self) -> None:
        service = self.serve()
        body = [b"a" * 10, b"b" * 70_000, b"c"]
        digest = hashlib.sha256(b"".join(body)).hexdigest()
        for arguments in (sized(*body), {"body": Chunks(body)}):
            seen = await self.echoed(service, "POST", **arguments)
            self.assertEqual((seen["length"], seen["sha256"]), (70_011, digest))
        seen = await self.echoed(service, "POST")
        self.assertEqual(seen["length"], 0)
        self.assertIn(["content-length", "0"], seen["headers"])

    async def test_a_chunked_answer_comes_whole_and_without_its_hop_by_hop_fields(self) -> None:
        response, body = await self.call(self.serve(), path="chunked")
        self.assertEqual(body, b"one two three")
        self.assertNotIn("transfer-encoding", dict(response.headers))

    async def test_connect_trace_and_posts_for_websockets_are_refused(self) -> None:
        service = self.serve()
        for method in ("CONNECT", "TRACE", "trace", "TEST", "B A D", "G\r\n"):
            problem = self.assertRaises(Problem, service.operation, http_request(method, "x"))
            self.assertEqual(problem.code, "operation_not_found")
        with self.assertRaises(Problem) as caught:
            await self.call(service, "POST", headers=(("upgrade", "websocket"),))
        self.assertEqual(caught.exception.code, "bad_request")

    async def test_a_hostile_path_never_reaches_the_target(self) -> None:
        target = RawTarget(answering(OK))
        service = self.serve_raw(target)
        for path in ("../x", "%2e%2e/x", "a b", "x\r\nHost: evil"):
            with self.assertRaises(Problem):
                await self.call(service, path=path)
        self.assertEqual(target.peers, [])


class ProfileTestTests(HttpTestCase):
    async def test_get_of_the_profile_tells_who_answers(self) -> None:
        service = self.serve()
        self.assertEqual(service.operation(http_request()), "test")
        response, body = await self.call(service, path="")
        self.assertEqual(json.loads(body), {"ok": True, "target": "Application/1.0", "status": 200})
        self.assertNotIn(MARK, response.headers)

    async def test_a_slash_addresses_the_applications_root(self) -> None:
        service = self.serve(base="/api")
        self.assertEqual(service.operation(http_request(path="/")), "get")
        self.assertEqual((await self.echoed(service, path="/"))["uri"], "/api/")
        self.assertEqual((await self.echoed(service, "POST", ""))["uri"], "/api")

    async def test_an_application_without_head_is_asked_with_get(self) -> None:
        def script(peer: Peer) -> None:
            head = peer.received.startswith(b"HEAD") and peer.requests == 1
            peer.write(
                b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"
                if head
                else b"HTTP/1.1 200 OK\r\nServer: S\r\n\r\n" + b"x" * 200_000
            )

        _, body = await self.call(self.serve_raw(RawTarget(script)), path="")
        self.assertEqual(json.loads(body), {"ok": True, "target": "S", "status": 200})

    async def test_credentials_that_are_rejected_fail_the_test(self) -> None:
        settings = evolve(self.settings, auth=Basic("a", "hunter2"))
        service = self.serve(settings, base="/unauthorized")
        with self.assertRaises(Problem) as caught:
            await self.call(service, path="")
        self.assertEqual(caught.exception.code, "target_login_failed")
        self.assertNotIn("hunter2", str(caught.exception.members("r")))
        _, body = await self.call(self.serve(base="/unauthorized"), path="")
        self.assertEqual(json.loads(body)["status"], 401)


class ConnectionTests(HttpTestCase):
    async def test_one_kept_connection_serves_call_after_call(self) -> None:
        target = RawTarget(answering(OK))
        service = self.serve_raw(target)
        for _ in range(20):
            _, body = await self.call(service)
            self.assertEqual(body, b"ok")
        self.assertEqual(len(target.peers), 1)

    async def test_kept_connections_that_the_target_closes_do_no_harm(self) -> None:
        def script(peer: Peer) -> None:
            peer.write(OK)
            peer.close()

        service = self.serve_raw(RawTarget(script))
        for method in ("GET", "POST") * 25:
            _, body = await self.call(service, method)
            self.assertEqual(body, b"ok")

    async def test_many_callers_share_a_bounded_number_of_connections(self) -> None:
        target = RawTarget(answering(OK))
        service = self.serve_raw(target, evolve(self.settings, max_connections=4))
        calls = [Deferred.fromCoroutine(self.call(service)) for _ in range(100)]
        for call in calls:
            _, body = await call
            self.assertEqual(body, b"ok")
        self.assertLessEqual(len(target.peers), 4)

    async def test_cancelling_a_call_closes_its_connection(self) -> None:
        service = self.serve()
        for path in ("never", "slowly"):
            self.application.disconnected = Deferred()
            call = Deferred.fromCoroutine(self.call(service, path=path))
            await pause(0.1)
            call.cancel()
            with self.assertRaises(CancelledError):
                await call
            await self.application.disconnected

    async def test_cancelling_an_upload_closes_its_connection(self) -> None:
        target = RawTarget(lambda _peer: None)
        service = self.serve_raw(target)
        body = PacedBody()
        call = Deferred.fromCoroutine(self.call(service, "POST", body=body))
        assert body.waiting is not None
        body.give(b"abc")
        await pause(0.1)
        self.assertTrue(target.peers[0].received.endswith(b"3\r\nabc\r\n"))
        call.cancel()
        with self.assertRaises(CancelledError):
            await call
        await target.peers[0].lost


class StreamingTests(HttpTestCase):
    async def test_events_are_passed_on_as_they_come(self) -> None:
        target = RawTarget(
            lambda peer: peer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
            )
        )
        response = await self.serve_raw(target).handle(http_request(path="events"))
        body = response.body
        assert isinstance(body, IncomingBody)
        self.assertEqual(await anext(body), b"data: 1\n\n")
        target.peers[0].write(b"data: 2\n\n")
        self.assertEqual(await anext(body), b"data: 2\n\n")
        await body.aclose()
        await target.peers[0].lost

    async def test_a_reader_who_stands_still_holds_the_target_back(self) -> None:
        total = 64 * MEBIBYTE
        sent = 0

        class Source:
            def __init__(self, peer: Peer) -> None:
                self.peer = peer

            def resumeProducing(self) -> None:
                nonlocal sent
                if sent < total:
                    sent += 65536
                    self.peer.write(b"x" * 65536)
                else:
                    self.peer.transport.unregisterProducer()  # type: ignore[union-attr]

            def stopProducing(self) -> None: ...

        def script(peer: Peer) -> None:
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
            peer.transport.registerProducer(Source(peer), False)  # type: ignore[union-attr]

        response = await self.serve_raw(RawTarget(script)).handle(http_request(path="big"))
        assert isinstance(response.body, IncomingBody)
        await pause(0.5)
        self.assertLess(sent, 16 * MEBIBYTE)  # what the kernel's buffers take
        self.assertLess(response.body._size, 256 * 1024)
        self.assertEqual(len(await whole_body(response)), total)

    async def test_a_target_that_does_not_read_holds_the_caller_back(self) -> None:
        taken = 0

        class Flood:
            def __init__(self) -> None:
                self.left = 1024

            def __aiter__(self) -> Flood:
                return self

            async def __anext__(self) -> bytes:
                nonlocal taken
                if not self.left:
                    raise StopAsyncIteration
                self.left -= 1
                taken += 65536
                return b"x" * 65536

        def script(peer: Peer) -> None:
            if not peer.answered:
                peer.answered = 1
                peer.transport.pauseProducing()  # type: ignore[union-attr]

        target = RawTarget(script)
        headers = (("content-length", str(64 * MEBIBYTE)),)
        request = http_request("PUT", "x", headers=headers, body=Flood())
        call = Deferred.fromCoroutine(self.serve_raw(target).handle(request))
        await pause(0.5)
        self.assertLess(taken, 16 * MEBIBYTE)
        call.cancel()
        with self.assertRaises(CancelledError):
            await call

    async def test_large_bodies_keep_their_bytes_both_ways(self) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for index in range(256):
                yield bytes([index]) * 65_521

        async def digest(body: AsyncIterator[bytes]) -> str:
            sha = hashlib.sha256()
            async for chunk in body:
                sha.update(chunk)
            return sha.hexdigest()

        seen = await self.echoed(self.serve(), "PUT", body=chunks())
        self.assertEqual(seen["length"], 256 * 65_521)
        self.assertEqual(seen["sha256"], await digest(chunks()))

    async def test_an_answer_before_the_upload_is_over_reaches_the_caller(self) -> None:
        def script(peer: Peer) -> None:
            if not peer.answered:
                peer.answered = 1
                peer.write(
                    b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig"
                )
                peer.close()

        service = self.serve_raw(RawTarget(script))
        chunk = b"x" * 65536
        for _ in range(10):
            response, body = await self.call(service, "PUT", **sized(*[chunk] * 512))  # type: ignore[arg-type]
            self.assertEqual((response.status, body), (413, b"big"))


class FailureTests(HttpTestCase):
    async def problem(self, settings: HttpSettings, code: str) -> Problem:
        with self.assertRaises(Problem) as caught:
            await self.call(self.service(settings))
        problem: Problem = caught.exception
        self.assertEqual(problem.code, code)
        self.assertTrue(problem.hint)
        return problem

    async def test_a_refused_connection(self) -> None:
        port = reactor.listenTCP(0, Site(self.application), interface="127.0.0.1")  # type: ignore[attr-defined]
        number = port.getHost().port
        await port.stopListening()
        for host in ("127.0.0.1", "localhost"):
            problem = await self.problem(
                HttpSettings(f"http://{host}:{number}"), "target_unreachable"
            )
            self.assertEqual(problem.extra, {"reason": "refused", "host": host, "port": number})

    async def test_a_name_that_does_not_resolve(self) -> None:
        problem = await self.problem(HttpSettings("http://nowhere.invalid"), "target_unreachable")
        self.assertEqual(problem.extra["reason"], "dns")
        self.assertIn("nowhere.invalid", problem.detail)

    async def test_a_target_that_hangs_up(self) -> None:
        for hang_up in (Peer.close, Peer.reset):
            number = self.listen(RawTarget(hang_up))
            problem = await self.problem(
                HttpSettings(f"http://127.0.0.1:{number}"), "target_unreachable"
            )
            self.assertEqual(problem.extra["reason"], "closed")

    async def test_a_target_that_speaks_something_else(self) -> None:
        for greeting in (b"SSH-2.0-OpenSSH_9.2p1\r\n", b"\x00" * 64, b"-ERR unknown command\r\n"):
            target = RawTarget(lambda peer, greeting=greeting: peer.write(greeting))
            number = self.listen(target)
            problem = await self.problem(
                HttpSettings(f"http://127.0.0.1:{number}"), "target_wrong_type"
            )
            self.assertEqual(problem.extra, {"host": "127.0.0.1", "port": number})

    async def test_an_answer_that_is_cut_is_never_taken_for_whole(self) -> None:
        for head in (b"Content-Length: 300000", b"Transfer-Encoding: chunked"):
            for hang_up in (Peer.close, Peer.reset):

                def script(peer: Peer, head: bytes = head, hang_up: object = hang_up) -> None:
                    peer.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n20000\r\n" % head + b"x" * 1000)
                    reactor.callLater(0.05, hang_up, peer)  # type: ignore[attr-defined]

                response = await self.serve_raw(RawTarget(script)).handle(http_request(path="x"))
                with self.assertRaises(Problem) as caught:
                    await whole_body(response)
                self.assertEqual(caught.exception.extra["reason"], "cut")
