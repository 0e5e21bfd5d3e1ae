"""Hostile calls of the http service: none leaves the origin, none becomes two requests."""

from __future__ import annotations

import posixpath
import random
import re
from typing import Final
from urllib.parse import unquote

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.support.http import RawTarget, answering, http_request, whole_body
from tests.support.http_app import HttpTestCase
from workato_agent.requests import Headers
from workato_agent.services.http.service import HttpService
from workato_agent.services.http.settings import HttpSettings
from workato_tunnel.problems import Problem

CALLS: Final = 10_000
AT_A_TIME: Final = 20
BASE: Final = "/base/v1"
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

PIECES: Final = (
    *("..", ".", "%2e%2e", "%252e%252e", ".%2e", "..;", "..%00", "%c0%ae%c0%ae", "%uff0e%uff0e"),
    *("/", "//", "\\", "%2f", "%5c", "%252f", "%c0%af", ";", "?", "#", "%23", "%3f", "@", ":", "&"),
    *("http://{evil}/", "//{evil}/", "@{evil}", ":@{evil}", "\\\\{evil}\\", "https:{evil}"),
    *("\r\n", "\n", "\r", "%0d%0a", "\r\n\r\n", "\x00", "\t", " ", "%20", "\x7f", "é", "\u2025"),
    *(" HTTP/1.1\r\nHost: {evil}\r\n\r\nGET /", "GET http://{evil}/ HTTP/1.1\r\n\r\n"),
    *("a", "b.c", "x" * 300, "~user", "*", "a=b", "[::1]", "%", "%zz", "%1"),
    *("\uff03", "\uff0f", "\uff0e\uff0e"),
)
METHODS: Final = (
    *("GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "get", "M-SEARCH"),
    *("CONNECT", "TRACE", "GET /x HTTP/1.1\r\nX:", "GET ", "", "G\x00T", "GÉT", "PRI", "A" * 70),
)
NAMES: Final = (
    *("host", "connection", "content-length", "transfer-encoding", "expect", "upgrade", "te"),
    *("x-forwarded-host", "x-original-url", "authorization", "proxy-authorization", "cookie"),
    *("content-type", "x\r\nhost", "x: y", "", "x y", "trailer", "keep-alive", "forwarded", "é"),
)
VALUES: Final = (
    *("{evil}", "http://{evil}/", "close", "keep-alive, host", "chunked", "gzip, chunked", "0"),
    *(
        "3",
        "1000",
        "-1",
        "3, 3",
        "0x3",
        " 3",
        "100-continue",
        "websocket",
        "h2c",
        "x\r\nHost: {evil}",
    ),
    *("x\nx", "a\x00b", "é", "\u20ac", "identity", "content-length", "x" * 2000, "trailers"),
)
BODIES: Final[tuple[tuple[bytes, ...], ...]] = (
    (),
    (b"abc",),
    (b"abc", b"0\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n"),
    (b"\r\n\r\n", b"GET http://evil/ HTTP/1.1\r\n\r\n"),
)
REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ /[\x21\x22\x24-\x7e]* HTTP/1\.1")


@define
class Arrived:
    """One request as the target's parser has cut it out of the connection."""

    url: bytes = b""
    method: bytes = b""
    fields: list[tuple[str, str]] = field(factory=list)
    body: bytes = b""


class Recorder(Protocol):
    """The target's end of a connection: it takes nothing but what it understands to the letter."""

    def __init__(self, target: RecordingTarget) -> None:
        self.target = target
        self.buffer = b""
        self.arrived: Arrived | None = None

    def dataReceived(self, data: bytes) -> None:
        self.buffer += data
        try:
            while self.step():
                pass
        except ValueError as error:
            self.target.faults.append(f"{error}: {self.buffer[:300]!r}")
            self.transport.abortConnection()  # type: ignore[union-attr]

    def step(self) -> bool:
        """Take a head or a body; whether there was one."""
        if self.arrived is None:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return False
            self.arrived, self.buffer = parse(head), rest
            if ("expect", "100-continue") in self.arrived.fields:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # type: ignore[union-attr]
        framed = cut_body(self.buffer, self.arrived.fields)
        if framed is None:
            return False
        self.arrived.body, self.buffer = framed
        self.target.requests.append(self.arrived)
        self.arrived = None
        bare = self.target.requests[-1].method == b"HEAD"
        self.transport.write(self.target.answer(bare=bare))  # type: ignore[union-attr]
        return bool(self.buffer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """A call that its caller breaks off takes its connection along."""


def parse(head: bytes) -> Arrived:
    """A request's head. Raises ValueError for one that has to be guessed at."""
    line, *rest = head.split(b"\r\n")
    if not REQUEST_LINE.fullmatch(line) or re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", b"".join(rest)):
        raise ValueError("no plain head")
    arrived = Arrived(method=line.split()[0], url=line.split()[1])
    for each in rest:
        name, colon, value = each.decode("latin-1").partition(": ")
        if not colon or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            raise ValueError("no plain field")
        arrived.fields.append((name.lower(), value))
    return arrived


def cut_body(data: bytes, fields: list[tuple[str, str]]) -> tuple[bytes, bytes] | None:
    """A body and what follows it; None while it is not whole."""
    framing = [pair for pair in fields if pair[0] in ("content-length", "transfer-encoding")]
    if not framing:
        return b"", data
    ((name, value),) = framing
    if name == "content-length":
        length = int(value)
        return (data[:length], data[length:]) if len(data) >= length else None
    body = b""
    while True:
        size, end, data = data.partition(b"\r\n")
        length = int(size, 16) if end else 0
        if not end or len(data) < length + 2:
            return None
        body += data[:length]
        if data[length : length + 2] != b"\r\n":
            raise ValueError("no plain chunk")
        data = data[length + 2 :]
        if not length:
            return body, data


class RecordingTarget(Factory):
    """Answers as it is told and keeps what came."""

    noisy = False

    def __init__(self, evil: str) -> None:
        self.requests: list[Arrived] = []
        self.faults: list[str] = []
        self.locations = [
            f"http://{evil}/",
            f"//{evil}/x",
            f"\\\\{evil}\\",
            f"http://127.0.0.1@{evil}/",
            "/outside",
            f"{BASE}/../../x",
            f"{BASE}/%2e%2e/x",
            f"{BASE}/on",
        ]
        self.asked = 0

    def buildProtocol(self, _address: object) -> Recorder:
        return Recorder(self)

    def answer(self, *, bare: bool) -> bytes:
        self.asked += 1
        if self.asked % 5:
            return OK.removesuffix(b"ok") if bare else OK
        location = self.locations[self.asked // 5 % len(self.locations)]
        return f"HTTP/1.1 302 F\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


class HostileCallsTests(HttpTestCase):
    timeout = 120

    def setUp(self) -> None:
        super().setUp()
        self.dice = random.Random(20_251_124)
        self.elsewhere = RawTarget(answering(OK))
        self.evil = f"127.0.0.1:{self.listen(self.elsewhere)}"
        self.target = RecordingTarget(self.evil)
        self.port = self.listen(self.target)
        self.passed = self.refused = 0

    def text(self, choices: tuple[str, ...], most: int) -> str:
        count = self.dice.randint(0, most)
        return "".join(self.dice.choice(choices) for _ in range(count)).replace("{evil}", self.evil)

    def headers(self) -> Headers:
        return tuple(
            (self.dice.choice(NAMES), self.dice.choice(VALUES).replace("{evil}", self.evil))
            for _ in range(self.dice.choice((0, 0, 1, 1, 2, 3)))
        )

    async def attack(self, service: HttpService) -> None:
        """One call; it is served, or refused with a reason."""
        tame = self.dice.random() < 0.5
        request = http_request(
            "GET" if tame and self.dice.random() < 0.4 else self.dice.choice(METHODS),
            "on/" * tame + self.text(PIECES, 1 if tame else 5),
            "" if self.dice.random() < 0.7 else self.text(PIECES, 3),
            () if tame and self.dice.random() < 0.5 else self.headers(),
            () if self.dice.random() < 0.6 else self.dice.choice(BODIES),
        )
        calling = Deferred.fromCoroutine(service.handle(request)).addTimeout(20, service._reactor)
        try:
            await whole_body(await calling)
            self.passed += 1
        except Problem as problem:
            self.assertIn(problem.code, ("bad_request", "operation_not_found"), problem)
            self.refused += 1

    async def test_ten_thousand_of_them(self) -> None:
        settings = HttpSettings(f"http://127.0.0.1:{self.port}{BASE}", redirects=True)
        service = self.service(settings)
        for _ in range(CALLS // AT_A_TIME):
            await gatherResults(
                [Deferred.fromCoroutine(self.attack(service)) for _ in range(AT_A_TIME)],
                consumeErrors=True,
            )
        self.assertEqual(self.elsewhere.peers, [])
        self.assertEqual(self.target.faults, [])
        self.assertGreater(self.passed, 1000)
        self.assertGreater(self.refused, 1000)
        self.check_requests()

    def check_requests(self) -> None:
        onward = sum(each.url == f"{BASE}/on".encode() for each in self.target.requests)
        self.assertGreater(onward, 10)
        self.assertLessEqual(len(self.target.requests) - onward, self.passed + self.refused)
        for each in self.target.requests:
            line = each.method + b" " + each.url + b" HTTP/1.1"
            self.assertRegex(line, REQUEST_LINE)
            path = each.url.decode("ascii").partition("?")[0]
            for _ in range(4):
                self.assertRegex(posixpath.normpath(path), rf"\A{BASE}(/|\Z)", each)
                path = unquote(path).replace("\\", "/")
            hosts = [value for name, value in each.fields if name == "host"]
            self.assertEqual(hosts, [f"127.0.0.1:{self.port}"])
            names = {name for name, _ in each.fields}
            self.assertFalse(names & {"authorization", "proxy-authorization", "te"})
            upgrades = [pair for pair in each.fields if pair[0] == "upgrade"]
            if upgrades:
                self.assertEqual((each.method, upgrades), (b"GET", [("upgrade", "websocket")]))
                self.assertEqual(each.body, b"")
            self.assertIn(each.body, {b"".join(body) for body in BODIES})

    async def test_each_request_that_arrives_is_one_call(self) -> None:
        """Without redirects the numbers are equal: no call is split, none is sent twice."""
        service = self.service(evolve(HttpSettings(f"http://127.0.0.1:{self.port}{BASE}")))
        for _ in range(1000):
            before, passed = len(self.target.requests), self.passed
            await self.attack(service)
            arrived = len(self.target.requests) - before
            self.assertLessEqual(arrived, 1)
            if self.passed > passed:
                self.assertEqual(arrived, 1)
