"""HTTP applications as a caller meets them: through a real gateway and a real agent."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import random
import re
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import ClassVar

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.server import Site

from demo.deployment import Deployment
from tests.support.ntlm import DOMAIN, USER, WindowsApplication

ZIPPED = gzip.compress(b"zipped " * 1000, mtime=0)
EVENT = b"data: one\n\n"
ANSWERS = {
    "cookies": b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\n"
    b"Content-Length: 0\r\n\r\n",
    "zipped": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
    % (len(ZIPPED), ZIPPED),
    "huge": b"HTTP/1.1 200 OK\r\nX-Huge: " + b"x" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "endless": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20_000,
    "large": b"HTTP/1.1 200 OK\r\nX-Large: " + b"x" * 40_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    b"4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n",
    "hints": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "bad": b"HTTP/1.1 502 Bad Gateway\r\nX-Onprem-Target-Status: forged\r\n"
    b"Content-Length: 4\r\n\r\nmine",
    "unavailable": b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
    "garbage": b"SSH-2.0-OpenSSH_9\r\n",
}


class Application:
    """Answers by the last word of the path; ``events`` is held open until it is let go.

    :ivar heads: what came, up to the empty line.
    """

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.go_on = threading.Event()
        self.left = threading.Event()
        self.connections = 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            link, _ = self.listening.accept()
            self.connections += 1
            threading.Thread(target=self._talk, args=(link,), daemon=True).start()

    def _talk(self, link: socket.socket) -> None:
        data = b""
        with link, contextlib.suppress(OSError):
            while True:
                while b"\r\n\r\n" not in data:
                    more = link.recv(65_536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                self.heads.append(head)
                name = head.split()[1].partition(b"?")[0].rpartition(b"/")[2].decode("latin-1")
                if name == "events":
                    self._stream(link)
                    return
                link.sendall(ANSWERS.get(name, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))

    def _stream(self, link: socket.socket) -> None:
        link.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + EVENT)
        self.go_on.wait(20)
        link.sendall(b"data: two\n\n")
        with contextlib.suppress(ConnectionResetError):
            link.recv(1)
        self.left.set()


class ThroughGatewayTests(SynchronousTestCase):
    land: ClassVar[tuple[Deployment, Application, Application, str] | None] = None

    def setUp(self) -> None:
        if ThroughGatewayTests.land is None:
            ThroughGatewayTests.land = self.deploy()
        self.deployment, self.application, self.elsewhere, self.token = ThroughGatewayTests.land

    @staticmethod
    def deploy() -> tuple[Deployment, Application, Application, str]:
        folder = Path(tempfile.mkdtemp())
        application, elsewhere = Application(), Application()
        sections = f"http:\n  app: {{ base_url: 'http://127.0.0.1:{application.port}/base' }}\n"
        deployment = Deployment(folder, "plant", sections)
        deployment.start()
        reactor.addSystemEventTrigger("after", "shutdown", shutil.rmtree, folder, True)  # type: ignore[attr-defined]
        reactor.addSystemEventTrigger("before", "shutdown", deployment.stop)  # type: ignore[attr-defined]
        return deployment, application, elsewhere, deployment.token("tester", "*:*:*:*")

    def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
        link = http.client.HTTPConnection("127.0.0.1", self.deployment.api_port, timeout=20)
        self.addCleanup(link.close)
        fields = {"Authorization": f"Bearer {self.token}", **headers}
        link.request(method, f"/v1/groups/plant/http/app/{path}", headers=fields)
        return link.getresponse(), link

    def answer(self, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        response, _ = self.ask(path, **headers)
        return response, response.read()

    def test_an_event_arrives_while_the_application_holds_the_answer_open(self) -> None:
        response, link = self.ask("events")
        self.assertEqual(response.read(len(EVENT)), EVENT)
        self.assertFalse(self.application.go_on.is_set())
        self.application.go_on.set()
        self.assertEqual(response.read(len(EVENT)), b"data: two\n\n")
        self.assertFalse(self.application.left.is_set())
        response.close()
        link.close()
        self.assertTrue(self.application.left.wait(20))

    def test_cookies_pass_and_are_not_kept(self) -> None:
        response, _ = self.answer("cookies", Cookie="mine=1")
        self.assertEqual(response.headers.get_all("Set-Cookie"), ["a=1; Path=/", "b=2"])
        self.assertIn(b"Cookie: mine=1", self.application.heads[-1])
        self.answer("cookies")
        self.assertNotIn(b"Cookie", self.application.heads[-1])

    def test_compressed_bodies_stay_as_they_are(self) -> None:
        response, body = self.answer("zipped", **{"Accept-Encoding": "gzip, br"})
        self.assertEqual((response.headers["Content-Encoding"], body), ("gzip", ZIPPED))
        self.assertIn(b"Accept-Encoding: gzip, br", self.application.heads[-1])

    def test_a_large_head_passes_and_a_huge_one_is_refused_clearly(self) -> None:
        response, _ = self.answer("large")
        self.assertEqual(len(response.headers["X-Large"]), 40_000)
        for path in ("huge", "endless"):
            response, body = self.answer(path)
            problem = json.loads(body)
            self.assertEqual((response.status, problem["code"]), (502, "target_wrong_type"))
            self.assertIn("56 KiB", problem["detail"])
            self.assertIsNone(response.headers["X-Onprem-Target-Status"])

    def test_trailers_end_at_the_agent(self) -> None:
        response, body = self.answer("trailers")
        self.assertEqual(body, b"body")
        self.assertIsNone(response.headers["Trailer"])
        self.assertIsNone(response.headers["X-Sum"])

    def test_interim_answers_are_skipped(self) -> None:
        response, body = self.answer("hints")
        self.assertEqual((response.status, body), (200, b"ok"))
        self.assertIsNone(response.headers["Link"])

    def test_the_applications_own_errors_are_told_from_those_of_the_way(self) -> None:
        response, body = self.answer("bad")
        self.assertEqual((response.status, body), (502, b"mine"))
        self.assertEqual(response.headers.get_all("X-Onprem-Target-Status"), ["1"])
        response, _ = self.answer("unavailable")
        self.assertEqual((response.status, response.headers["Retry-After"]), (503, "7"))
        self.assertEqual(response.headers["X-Onprem-Target-Status"], "1")
        response, body = self.answer("garbage")
        self.assertEqual(response.status, 502)
        self.assertIsNone(response.headers["X-Onprem-Target-Status"])
        self.assertEqual(json.loads(body)["code"], "target_wrong_type")

    def test_hostile_requests_never_leave_the_application(self) -> None:
        dice = random.Random(4)
        evil = f"127.0.0.1:{self.elsewhere.port}"
        own = "/v1/groups/plant/http/app/"
        targets = (
            *(f"http://{evil}/", f"http://{evil}{own}x", f"//{evil}{own}x", f"{own}http://{evil}/"),
            *(f"{own}@{evil}/", f"{own}//{evil}/", f"{own}\\\\{evil}\\x", f"{own}..//{evil}/"),
            *(f"{own}../../x", f"{own}%2e%2e/x", f"{own}..%2f..%2fx", f"{own}a/../../x", "*"),
            *(f"{own}x#@{evil}", f"{own}?u=http://{evil}/", f"{own}x%0d%0aHost:%20{evil}", evil),
            *(f"{own}x HTTP/1.1\r\nHost: {evil}\r\n\r\nGET /x", f"{own}x\tHTTP/1.1", f"{own}\0"),
            *(f"{own[:-1]}@{evil}/x", f"/v1/groups/plant/http/{evil}/x", own, own[:-1]),
            *(f"{own}x", f"{own}a%2Fb;c?d=%2F..", f"{own}~user/x"),
        )
        fields = (
            *(f"Host: {evil}", f"X-Forwarded-Host: {evil}", "Connection: host"),
            *("Transfer-Encoding: chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
            *("Upgrade: websocket\r\nConnection: upgrade", f"X: y\r\n Host: {evil}"),
            *(f"X\r\nHost: {evil}", "Expect: 100-continue", f"X-Original-URL: http://{evil}/"),
            *("Content-Length: 0", "Host : x", "X: y", "X: z"),
        )
        methods = ("GET", "GET", "POST", "HEAD", "CONNECT", "TRACE", "OPTIONS", "get", "G\tT")
        bodies = ("", "", "0\r\n\r\n", f"GET http://{evil}/ HTTP/1.1\r\nHost: {evil}\r\n\r\n")
        statuses = set()
        for _ in range(500):
            raw = (
                f"{dice.choice(methods)} {dice.choice(targets)} HTTP/1.1\r\nHost: gateway\r\n"
                f"Authorization: Bearer {self.token}\r\n{dice.choice(fields)}\r\n"
                f"Connection: close\r\n\r\n{dice.choice(bodies)}"
            )
            statuses.add(self.raw(raw.encode("latin-1")))
        self.assertEqual(self.elsewhere.connections, 0)
        self.assertTrue({200, 400, 404} <= statuses, statuses)
        for head in self.application.heads:
            line, *rest = head.split(b"\r\n")
            self.assertRegex(line, rb"\A[A-Za-z]+ /base(/[\x21-\x7e]*|\?[\x21-\x7e]*)? HTTP/1\.1\Z")
            self.assertNotRegex(line, rb"(?i)/\.\.|%2e%2e")
            hosts = [each for each in rest if re.match(rb"(?i)host\s*:", each)]
            self.assertEqual(hosts, [b"Host: 127.0.0.1:%d" % self.application.port])
            self.assertNotIn(self.token.encode(), head)

    def raw(self, data: bytes) -> int:
        """The status that the gateway answers to these bytes; 0 where it answers nothing."""
        with socket.create_connection(("127.0.0.1", self.deployment.api_port), 20) as link:
            link.settimeout(0.3)
            received = b""
            with contextlib.suppress(OSError):
                link.sendall(data)
                while b"\r\n\r\n" not in received and (more := link.recv(65_536)):
                    received += more
        match = re.match(rb"HTTP/1\.1 ([0-9]{3})", received)
        return int(match[1]) if match else 0


class NtlmSectionTests(TestCase):
    """Profiles of the ``ntlm`` section are among those of http."""

    timeout = 120

    async def test_a_profile_of_its_own_section_is_called_as_http(self) -> None:
        windows = WindowsApplication()
        self.addCleanup(windows.close)
        port = reactor.listenTCP(0, Site(windows), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        url = f"http://127.0.0.1:{port.getHost().port}/sites"
        sections = (
            f"ntlm:\n  intranet: {{ base_url: '{url}', auth: '{USER}:t%25g@er@{DOMAIN}/AGENT7' }}\n"
        )
        deployment = Deployment(folder, "plant", sections)
        self.addCleanup(deployment.stop)
        await deferToThread(deployment.start)
        token = await deferToThread(deployment.token, "tester", "*:http:*:*")
        path = "/v1/groups/plant/http/intranet"
        for _ in range(2):
            status, body = await deferToThread(deployment.get, path + "/x", token)
            self.assertEqual(status, 200, body)
        self.assertTrue(body.startswith(f"{DOMAIN}\\{USER} ".encode()))
        status, body = await deferToThread(deployment.get, path, token)
        self.assertEqual((status, json.loads(body)["ok"]), (200, True))
        self.assertEqual((windows.logins, windows.workstations), (1, ["AGENT7"]))
