"""The gateway as a process: start, administration from beside and from afar, stop."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.folders import folder_for
from tests.support.gateway_commands import ROOT, Outcome, gateway_apart
from tests.support.ports import free_port

RUN = ("-m", "workato_gateway.cli.main", "run")


class Case(SynchronousTestCase):
    """A gateway that is set up, with TLS for its API."""

    host = "0.0.0.0"

    def setUp(self) -> None:
        self.folder = folder_for(self) / "gateway"
        self.api, self.tunnel = free_port(), free_port()
        outcome = gateway_apart(
            "init",
            f"--dir={self.folder}",
            f"--public-url=https://localhost:{self.tunnel}",
            f"--listen-api={self.host}:{self.api}",
            f"--listen-tunnel=127.0.0.1:{self.tunnel}",
        )
        self.assertEqual(outcome.status, 0, outcome.err)
        self.admin = outcome.value
        self.config = self.folder / "gateway.yml"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.addCleanup(self.kill)

    def kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command, f"--config={self.config}"],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def ready(self, *command: str) -> subprocess.Popen[bytes]:
        process = self.start(*(command or RUN))
        deadline = time.monotonic() + 30
        while self.status("/readyz") != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                self.fail(f"not ready ({process.poll()}):\n{self.log()}")
            time.sleep(0.05)
        return process

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def connection(self) -> http.client.HTTPConnection:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        return http.client.HTTPSConnection("localhost", self.api, context=context, timeout=10)

    def call(self, path: str, token: str = "") -> tuple[int, bytes]:
        connection = self.connection()
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def status(self, path: str, token: str = "") -> int:
        try:
            return self.call(path, token)[0]
        except OSError:
            return 0

    def within(self, seconds: float, condition: Any, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                self.fail(f"{what}: not within {seconds} s")
            time.sleep(0.02)

    def beside(self, *arguments: str) -> Outcome:
        outcome = gateway_apart(*arguments, f"--config={self.config}")
        self.assertEqual(outcome.status, 0, outcome.err)
        return outcome


class Life(Case):
    def test_it_starts_serves_and_stops(self) -> None:
        process = self.ready()
        self.assertEqual(self.status("/healthz"), 200)
        self.assertEqual(self.status("/v1/groups"), 401)
        self.assertEqual(self.status("/v1/groups", self.admin), 200)
        status, text = self.call("/metrics")
        self.assertEqual(status, 200)
        self.assertIn(b"onprem_gateway_", text)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(20), -signal.SIGTERM)
        self.assertIn("Stopped", self.log())
        self.assertNotIn("Traceback", self.log())
        self.assertNotIn(self.admin, self.log())
        self.assertFalse((self.folder / "gateway.db-wal").exists())

    def test_twistd_starts_the_same(self) -> None:
        code = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
        process = self.ready("-c", code, "-n", "--pidfile=", "workato-gateway")
        process.terminate()
        process.wait(20)
        self.assertIn("Stopped", self.log())

    def test_after_kill_9_it_starts_again(self) -> None:
        process = self.ready()
        token = self.beside("token", "create", "--owner=x", "--scope=admin").value
        process.kill()
        process.wait()
        self.ready()
        self.assertEqual(self.status("/v1/groups", token), 200)

    def test_a_port_that_is_taken_is_named(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", self.tunnel))
            taken.listen()
            process = self.start(*RUN)
            self.assertEqual(process.wait(20), 1)
        self.assertIn(
            f"can't listen on 127.0.0.1:{self.tunnel}: [Errno 98] Address already in use",
            self.log().strip().splitlines()[-1],
        )
        self.assertNotIn("Traceback", self.log())

    def test_a_broken_set_up_is_told_in_a_line(self) -> None:
        text = self.config.read_text()
        key = self.folder / "ca.key"
        content = key.read_bytes()
        for change, told in (
            (lambda: self.config.write_text(text + "bogus: 1\n"), "bogus: unknown key"),
            (lambda: key.write_text("x"), "ca.key: is no unencrypted private key"),
            ((self.folder / "gateway.db").unlink, "gateway.db: unable to open"),
        ):
            change()
            process = self.start(*RUN)
            self.assertEqual(process.wait(20), 1)
            self.assertIn(told, self.log())
            self.assertNotIn("Traceback", self.log())
            self.config.write_text(text)
            key.write_bytes(content)

    def test_an_idle_gateway_rests(self) -> None:
        process = self.ready()

        def ticks() -> int:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            return int(fields[11]) + int(fields[12])

        time.sleep(0.5)
        before = ticks()
        time.sleep(4)
        used = (ticks() - before) / os.sysconf("SC_CLK_TCK")
        self.assertLess(used / 4, 0.03)

    def test_the_server_certificate_is_made_anew_when_it_is_gone(self) -> None:
        (self.folder / "server.pem").unlink()
        self.ready()
        self.assertEqual((self.folder / "server.pem").stat().st_mode & 0o777, 0o600)

    def test_calls_in_flight_end_before_it_stops(self) -> None:
        process = self.ready()
        connection = self.connection()
        connection.putrequest("POST", "/v1/groups")
        connection.putheader("Authorization", f"Bearer {self.admin}")
        body = b'{"name": "late"}'
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:5])
        time.sleep(0.2)
        process.terminate()
        self.within(5, lambda: "Draining" in self.log(), "draining")
        self.assertEqual(self.status("/healthz"), 0)
        connection.send(body[5:])
        self.assertEqual(connection.getresponse().status, 201)
        connection.close()
        process.wait(20)
        self.assertIn("late", self.beside("group", "list").out)


class Administration(Case):
    def test_what_the_command_line_does_counts_within_a_second(self) -> None:
        self.ready()
        token = self.beside("token", "create", "--owner=bob", "--scope=admin").value
        self.within(2, lambda: self.status("/v1/groups", token) == 200, "the new token")
        document = json.loads(self.call("/v1/tokens", token)[1])
        identity = next(each["id"] for each in document["tokens"] if each["owner"] == "bob")
        self.beside("token", "revoke", identity)
        self.within(2, lambda: self.status("/v1/groups", token) == 401, "the revocation")
        self.assertIn(b"revoked", self.call("/v1/groups", token)[1])

    def test_from_afar_it_is_the_same(self) -> None:
        self.ready()
        url, ca = f"--url=https://localhost:{self.api}", f"--ca={self.folder / 'ca.crt'}"

        def afar(*arguments: str, token: str | None = None) -> Outcome:
            return gateway_apart(*arguments, url, ca, ONPREM_TOKEN=token or self.admin)

        self.assertEqual(afar("group", "create", "g").out, "g\n")
        self.assertTrue(afar("agent", "code", "g", "--name=one").value.startswith("onpremcode1_"))
        self.assertIn("awaiting_setup", afar("agent", "list").out)
        self.assertIn("disabled", afar("agent", "disable", "one").err)
        created = afar("token", "create", "--owner=bob", "--scope=g:*:*:*", "--expires=1h").value
        self.assertEqual(afar("group", "list").out, self.beside("group", "list").out)
        refused = afar("group", "list", token=created)
        self.assertEqual((refused.status, refused.out), (1, ""))
        self.assertIn("does not have the scope admin", refused.err)
        unknown = afar("group", "list", token="onprem_" + "A" * 43)
        self.assertIn("the token is unknown here", unknown.err)
        conflict = afar("group", "create", "g")
        self.assertEqual(conflict.status, 1)
        self.assertIn("there is a group 'g' already", conflict.err)
        self.assertEqual(afar("group", "delete", "g", "--force").status, 0)
        entries = json.loads(self.call("/v1/audit", self.admin)[1])["entries"]
        self.assertTrue(entries[0]["actor"].startswith("admin (token "))

    def test_what_is_wrong_on_the_way_is_told(self) -> None:
        self.ready()
        url = f"--url=https://localhost:{self.api}"
        untrusted = gateway_apart("group", "list", url, "--token=x")
        self.assertEqual(untrusted.status, 1)
        self.assertIn("is not trusted", untrusted.err)
        self.assertIn("--ca", untrusted.err)
        missing = gateway_apart("group", "list", url, "--token=x", "--ca=/none")
        self.assertIn("--ca /none", missing.err)
        refused = gateway_apart(
            "group", "list", f"--url=http://localhost:{free_port()}", "--token=x"
        )
        self.assertIn("Connection refused", refused.err)
        plain = gateway_apart("group", "list", f"--url=http://localhost:{self.api}", "--token=x")
        self.assertEqual(plain.status, 1)
        self.assertNotIn("Traceback", plain.err)

    def test_something_that_is_no_gateway_is_recognised(self) -> None:
        server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
        server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign, assignment]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            port = server.server_address[1]
            outcome = gateway_apart("group", "list", f"--url=http://127.0.0.1:{port}", "--token=x")
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
        self.assertEqual(outcome.status, 1)
        self.assertIn("is this the gateway's API?", outcome.err)


class PlainHttp(Case):
    """Plain HTTP off loopback, for a TLS proxy that the config names."""

    host = "127.0.0.1"

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.api, timeout=10)

    def test_it_is_the_default_on_loopback(self) -> None:
        self.ready()
        self.assertEqual(self.status("/v1/groups", self.admin), 200)

    def test_only_the_named_proxy_may_connect(self) -> None:
        text = self.config.read_text().replace(
            f'"127.0.0.1:{self.api}"',
            f'"0.0.0.0:{self.api}"\n  tls: off\n  trusted_proxies: [PROXY]',
        )
        self.config.write_text(text.replace("PROXY", "127.0.0.1"))
        process = self.ready()
        process.terminate()
        process.wait(20)
        self.config.write_text(text.replace("PROXY", "192.0.2.1"))
        self.start(*RUN)
        self.within(20, lambda: "Ready" in self.log(), "ready")
        with socket.create_connection(("127.0.0.1", self.api), 10) as stranger:
            stranger.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(stranger.recv(100), b"")
