"""HTTP CONNECT to the gateway, through a proxy on a real socket."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.proxy import TestProxy
from workato_agent.tunnel.proxy import LARGEST_HEAD, ConnectProxy, ProxyError

reactor: Any = _reactor


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport
        self.transport.write(data)


class Caller(Protocol):
    """Remembers what came; ``heard`` fires with the first data, ``lost`` at the end."""

    transport: Any

    def __init__(self) -> None:
        self.heard: Deferred[bytes] = Deferred()
        self.lost: Deferred[list[Failure]] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback([reason])


class ConnectTests(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.proxy = TestProxy(reactor)
        self.port = await self.proxy.start()
        echo = Factory.forProtocol(Echo)
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self.target: Any = await endpoint.listen(echo)

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.proxy.stop()
        await self.target.stopListening()
        await deferLater(reactor, 0.01)

    def connect(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        proxy_at: tuple[str, int] | None = None,
        **options: Any,
    ) -> Deferred[Any]:
        proxy = ConnectProxy(*(proxy_at or ("127.0.0.1", self.port)), **options)
        endpoint = proxy.endpoint(reactor, host, port or self.target.getHost().port)
        return endpoint.connect(Factory.forProtocol(Caller))

    async def refused(self, **options: Any) -> str:
        error = await self.assertFailure(self.connect(**options), ProxyError)
        return str(error)

    async def answered(self, answer: bytes, **options: Any) -> str:
        self.proxy.answer = answer
        return await self.refused(**options)

    async def test_bytes_pass_both_ways(self) -> None:
        caller = await self.connect()
        caller.transport.write(b"ping")
        self.assertEqual(await caller.heard, b"ping")
        caller.transport.loseConnection()
        (reason,) = await caller.lost
        self.assertTrue(reason.check(ConnectionDone))

    async def test_a_name_is_left_to_the_proxy_to_resolve(self) -> None:
        caller = await self.connect(host="localhost")
        self.assertIn(f"CONNECT localhost:{self.target.getHost().port} ", self.proxy.requests[0])
        caller.transport.loseConnection()
        await caller.lost

    async def test_an_ipv6_target_is_bracketed(self) -> None:
        await self.answered(b"HTTP/1.1 403 No\r\n\r\n", host="fe80::1", port=8443)
        self.assertIn(
            "CONNECT [fe80::1]:8443 HTTP/1.1\r\nHost: [fe80::1]:8443", self.proxy.requests[0]
        )

    async def test_credentials_open_the_proxy(self) -> None:
        self.proxy.credentials = "jörg:p:w"
        caller = await self.connect(username="jörg", password="p:w")
        caller.transport.loseConnection()
        await caller.lost

    async def test_missing_and_wrong_credentials_are_told_apart(self) -> None:
        self.proxy.credentials = "user:right"
        self.assertIn("asks for credentials", await self.refused())
        message = await self.refused(username="user", password="wrong")
        self.assertIn("refuses the credentials", message)
        self.assertNotIn("wrong", message)

    async def test_a_proxy_that_wants_another_scheme_is_named(self) -> None:
        answer = (
            b"HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n"
        )
        self.assertIn("wants negotiate, ntlm", await self.answered(answer))

    async def test_each_refusal_says_what_it_is(self) -> None:
        for answer, words in (
            (b"HTTP/1.0 401 Unauthorized\r\n\r\n", "asks for credentials"),
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", "forbids the way to"),
            (b"HTTP/1.0 405 Method Not Allowed\r\n\r\n", "does not do CONNECT"),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "can't reach 127.0.0.1:"),
            (b"HTTP/1.1 418 Teapot\x07\r\n\r\n", "answers HTTP 418 Teapot to"),
            (b"HTTP/1.1 301\r\nLocation: http://x/\r\n\r\n", "answers HTTP 301 to"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "not an HTTP proxy"),
            (b"HTTP/1.1 abc\r\n\r\n", "not an HTTP proxy"),
            (b"\x15\x03\x01\x00\x02\x02\x46", "not an HTTP proxy"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"y" * LARGEST_HEAD, "has no end"),
            (b"", "closed the connection instead of answering"),
            (b"HTTP/1.1 200 OK\r\nX:", "closed the connection instead of answering"),
        ):
            self.assertIn(words, await self.answered(answer))

    async def test_a_server_that_speaks_first_is_no_proxy(self) -> None:
        self.proxy.wait_for_request = False
        self.assertIn("not an HTTP proxy", await self.answered(b"220 mail.example ESMTP\r\n"))

    async def test_a_target_that_is_down_is_told(self) -> None:
        self.assertIn("can't reach 127.0.0.1:1 ", await self.refused(port=1))

    async def test_a_proxy_that_is_down_is_told(self) -> None:
        self.assertIn("connection refused", await self.refused(proxy_at=("127.0.0.1", 1)))

    async def test_a_proxy_without_a_name_is_told(self) -> None:
        message = await self.refused(proxy_at=("no-such-host.invalid", 3128))
        self.assertIn("no-such-host.invalid:3128: its name is unknown", message)

    async def test_a_proxy_that_stays_silent_is_given_up(self) -> None:
        self.proxy.close = False
        message = await self.answered(b"", timeout=0.2)
        self.assertIn("did not answer within 0.2 s", message)
        await self.gone()

    async def test_cancelling_hangs_up(self) -> None:
        self.proxy.answer, self.proxy.close = b"", False
        connecting = self.connect()
        while not self.proxy.requests:
            await deferLater(reactor, 0.01)
        connecting.cancel()
        await self.assertFailure(connecting, CancelledError)
        await self.gone()

    async def test_what_the_target_says_first_is_not_lost(self) -> None:
        self.proxy.answer, self.proxy.close = b"HTTP/1.1 200 OK\r\n\r\nhello", False
        caller = await self.connect()
        self.assertEqual(await caller.heard, b"hello")
        caller.transport.abortConnection()
        await caller.lost

    async def gone(self) -> None:
        for _ in range(200):
            if not self.proxy.connections:
                return
            await deferLater(reactor, 0.01)
        self.fail("the connection to the proxy is still there")


class NameTests(SynchronousTestCase):
    def test_a_name_that_could_add_a_header_is_refused(self) -> None:
        for name in ("a\r\nX: y", "a b", "user@a", "a/b", "a\x00"):
            proxy = ConnectProxy("proxy", 3128)
            self.assertRaises(ValueError, proxy.endpoint, reactor, name, 443)

    def test_the_password_is_in_no_repr(self) -> None:
        self.assertNotIn("hunter2", repr(ConnectProxy("p", 1, "user", "hunter2")))

    def test_an_international_name_is_sent_in_ascii(self) -> None:
        self.assertEqual(ConnectProxy("bücher.example", 1).authority, "xn--bcher-kva.example:1")
