"""How a login at Oracle fails, with the real driver and hand-made listeners."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import oracledb
from twisted.trial.unittest import SynchronousTestCase

from tests.support.oracle import FakeModule, refusal
from tests.support.ports import free_port
from workato_agent.services.database.adapters.attempts import MOST_HANGING
from workato_agent.services.database.adapters.oracle import OracleDriver
from workato_agent.services.database.settings import DatabasePolicy, OracleSettings
from workato_tunnel.problems import Problem

PASSWORD = "s3cret-tiger"


def driver(load: Any = None, **more: Any) -> OracleDriver:
    """A driver of a profile; ``load`` brings the module."""
    settings = OracleSettings(
        **{
            "user": "app",
            "password": PASSWORD,
            "host": "127.0.0.1",
            "service": "orders",
            "connect_timeout": 2.0,
        }
        | more
    )
    arguments = () if load is None else (load,)
    return OracleDriver.build(settings, DatabasePolicy(), *arguments)


class ConnectingCase(SynchronousTestCase):
    def listener(self, answer: Callable[[socket.socket], None]) -> int:
        """A port of 127.0.0.1 where every connection is given to ``answer``."""
        server = socket.create_server(("127.0.0.1", free_port()))
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                kept.append(connection)
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()

        def stop() -> None:
            server.shutdown(socket.SHUT_RDWR)
            server.close()
            for connection in kept:
                connection.close()
            thread.join(5)

        self.addCleanup(stop)
        port: int = server.getsockname()[1]
        return port

    def problem(self, **settings: Any) -> Problem:
        problem = self.assertRaises(Problem, driver(**settings).thd_open)
        self.assertNotIn(PASSWORD, problem.detail + (problem.hint or ""))
        return problem


def _refuse(code: int) -> Callable[[socket.socket], None]:
    """A listener that answers a CONNECT with a TNS REFUSE packet."""
    text = f"(DESCRIPTION=(TMP=)(VSNNUM=0)(ERR={code})(ERROR_STACK=(ERROR=(CODE={code})(EMFI=4))))"
    data = text.encode()
    body = b"\x22\x00" + len(data).to_bytes(2, "big") + data
    packet = (8 + len(body)).to_bytes(2, "big") + b"\0\0\x04\0\0\0" + body

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(packet)

    return answer


class RealDriver(ConnectingCase):
    def test_nothing_listens(self) -> None:
        port = free_port()
        problem = self.problem(port=port)
        self.assertEqual(problem.code, "target_unreachable")
        self.assertIn(f"127.0.0.1:{port}", problem.detail)

    def test_an_unknown_name(self) -> None:
        problem = self.problem(host="no-such-host.invalid")
        self.assertEqual(problem.code, "target_unreachable")
        self.assertIn("name", problem.hint or "")

    def test_the_listener_has_no_such_service_or_sid(self) -> None:
        for code in (12514, 12505):
            problem = self.problem(port=self.listener(_refuse(code)))
            self.assertEqual(problem.code, "target_not_found", problem.detail)
            self.assertIn("listener", problem.hint or "")

    def test_something_else_answers(self) -> None:
        def greet(connection: socket.socket) -> None:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            connection.close()

        problem = self.problem(port=self.listener(greet))
        self.assertIn(problem.code, ("target_wrong_type", "target_unreachable"), problem.detail)

    def test_tls_where_there_is_none(self) -> None:
        def hang_up(connection: socket.socket) -> None:
            connection.recv(4096)
            connection.sendall(b"no TLS here, sorry; this is a plain listener\r\n")

        problem = self.problem(port=self.listener(hang_up), tls=True)
        self.assertEqual(problem.code, "target_tls_failed", problem.detail)

    def test_a_listener_that_says_nothing_is_waited_for_no_longer_than_told(self) -> None:
        port = self.listener(lambda connection: None)
        silent = driver(port=port, connect_timeout=0.3)
        for _ in range(MOST_HANGING):
            problem = self.assertRaises(Problem, silent.thd_open)
            self.assertEqual(problem.code, "target_unreachable")
            self.assertIn("0.3 s", problem.detail)
        problem = self.assertRaises(Problem, silent.thd_open)
        self.assertIn("still hang", problem.detail)


class Scripted(ConnectingCase):
    def test_codes_of_the_database(self) -> None:
        for code, wanted in (
            ("ORA-01017", "target_login_failed"),
            ("ORA-28000", "target_login_failed"),
            ("ORA-28001", "target_login_failed"),
            ("ORA-01045", "target_login_failed"),
            ("ORA-12514", "target_not_found"),
            ("ORA-12541", "target_unreachable"),
            ("ORA-12170", "target_unreachable"),
            ("ORA-01034", "target_unreachable"),
            ("ORA-12520", "overloaded"),
            ("ORA-28759", "target_tls_failed"),
            ("DPY-3010", "target_wrong_type"),
            ("DPY-6006", "target_tls_failed"),
        ):
            error = refusal(code, f"user app with {PASSWORD} failed", cls=oracledb.DatabaseError)
            fake = FakeModule(error=error)
            problem = self.problem(load=lambda _name, fake=fake: fake)
            self.assertEqual(problem.code, wanted, code)
            self.assertEqual(problem.extra["oracle_error"], code)
            self.assertTrue(problem.hint)

    def test_a_missing_driver_names_what_to_install(self) -> None:
        def missing(name: str) -> Any:
            raise ImportError(f"No module named {name!r}")

        problem = self.problem(load=missing)
        self.assertIn("workato-agent[oracle]", problem.hint or "")

    def options(self, **settings: Any) -> dict[str, Any]:
        fake = FakeModule()
        connection = driver(lambda _name: fake, **settings).thd_open()
        self.assertIsNotNone(fake.connection.outputtypehandler)
        self.assertTrue(connection.seems_alive())
        return fake.options[0]

    def test_service_sid_and_dsn(self) -> None:
        options = self.options(port=1522)
        self.assertEqual((options["service_name"], options["port"]), ("orders", 1522))
        self.assertNotIn("sid", options)
        options = self.options(service=None, sid="ORCL")
        self.assertEqual(options["sid"], "ORCL")
        options = self.options(service=None, dsn="db:1521/orders")
        self.assertEqual(options["dsn"], "db:1521/orders")
        self.assertNotIn("host", options)

    def test_tls_proves_who_answers(self) -> None:
        options = self.options(tls=True)
        self.assertEqual(options["protocol"], "tcps")
        self.assertEqual(options["ssl_context"].verify_mode, ssl.CERT_REQUIRED)
        self.assertTrue(options["ssl_server_dn_match"])

    def test_the_session_speaks_iso(self) -> None:
        fake = FakeModule()
        driver(lambda _name: fake).thd_open()
        (sql, _), *_rest = fake.connection.log
        self.assertIn("TIME_ZONE = '+00:00'", sql)

    def test_nothing_shows_the_password(self) -> None:
        self.assertNotIn(PASSWORD, repr(driver()))
