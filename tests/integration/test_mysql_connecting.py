"""Connecting to a real MariaDB: TLS, and what a profile is told when it fails."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.support.mariadb import MariadbServer
from tests.support.mysql_profile import MysqlTestCase
from tests.support.ports import free_port
from tests.support.postgresql import shared_server as shared_postgresql
from workato_agent.services.database.adapters.mysql_login import Login
from workato_agent.services.database.settings import PoolSettings

# Of a server without TLS.
GREETING = (
    b"\x0a5.7.1-test\0\x01\0\0\0abcdefgh\0\xff\xf7\x21\x02\0\xff\x81\x15" + bytes(10)
    + b"abcdefghijkl\0mysql_native_password\0"
)  # fmt: skip


def packet(body: bytes, number: int) -> bytes:
    return len(body).to_bytes(3, "little") + bytes((number,)) + body


class Stranger:
    """A server of one's own on a port; ``talk`` gets each connection, in a thread."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self._talk = talk
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port = self._listening.getsockname()[1]
        self.seen = 0
        threading.Thread(target=self._thd_accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # closing alone wakes no accept()
        self._listening.close()
        for link in self._open:
            link.close()

    def _thd_accept(self) -> None:
        while True:
            try:
                link, _ = self._listening.accept()
            except OSError:
                return
            self.seen += 1
            self._open.append(link)
            threading.Thread(target=self._thd_talk, args=(link,), daemon=True).start()

    def _thd_talk(self, link: socket.socket) -> None:
        try:
            self._talk(link)
        except OSError:
            return


class Connecting(MysqlTestCase):
    def stranger(self, talk: Callable[[socket.socket], None]) -> Stranger:
        server = Stranger(talk)
        self.addCleanup(server.close)
        return server

    async def refused(self, code: str, **settings: Any) -> str:
        """What the profile's test says; detail and hint."""
        problem = await self.problem(self.caller(**settings).test(), code)
        self.assertTrue(problem.hint, problem)
        self.assertNotIn("s3cret", f"{problem.detail} {problem.hint}")
        return f"{problem.detail} | {problem.hint}"

    async def test_a_good_profile_tells_what_it_reaches(self) -> None:
        facts = await self.caller().test()
        self.assertRegex(facts["target"], r"^MariaDB \d+\.\d+\.\d+$")
        self.assertEqual((facts["database"], facts["user"]), ("app", "owner@%"))
        self.assertEqual((facts["tls"], facts["read_only"]), ("TLSv1.3", False))

    async def test_a_unix_socket(self) -> None:
        facts = await self.caller(host=str(self.server.folder / "socket")).test()
        self.assertIsNone(facts["tls"])
        text = await self.refused("target_unreachable", host=str(self.server.folder / "nothing"))
        self.assertIn("no such socket", text)

    async def test_a_profile_without_a_database(self) -> None:
        caller = self.caller(database=None)
        self.assertIsNone((await caller.test())["database"])
        self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])

    async def test_tls_modes(self) -> None:
        authority = self.server.folder / "ca.crt"
        for settings, tls in (
            ({"tls": "disable"}, None),
            ({"tls": "allow"}, "TLSv1.3"),
            ({"tls": "prefer"}, "TLSv1.3"),
            ({"tls": "require"}, "TLSv1.3"),
            ({"tls": "require", "ca_file": authority}, "TLSv1.3"),
            ({"tls": "verify-ca", "ca_file": authority}, "TLSv1.3"),
            ({"tls": "verify-full", "ca_file": authority, "host": "localhost"}, "TLSv1.3"),
            ({"tls": "verify-full", "ca_file": authority}, "TLSv1.3"),
        ):
            self.assertEqual((await self.caller(**settings).test())["tls"], tls, settings)

    async def test_a_certificate_of_an_unknown_authority(self) -> None:
        for tls in ("verify-ca", "verify-full"):
            text = await self.refused("target_tls_failed", tls=tls)
            self.assertIn("certificate", text)

    async def test_a_certificate_of_another_name(self) -> None:
        text = await self.refused(
            "target_tls_failed",
            host="127.0.0.2",
            port=self.relay_to(self.server.port),
            tls="verify-full",
            ca_file=self.server.folder / "ca.crt",
        )
        self.assertIn("127.0.0.2", text)

    def relay_to(self, port: int) -> int:
        """A port of every local address that leads to the server."""
        listening = socket.create_server(("127.0.0.2", 0))
        self.addCleanup(listening.close)
        pairs: list[socket.socket] = []

        def thd_pump(source: socket.socket, target: socket.socket) -> None:
            try:
                while data := source.recv(65536):
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                return

        def thd_accept() -> None:
            while True:
                try:
                    link, _ = listening.accept()
                except OSError:
                    return
                far = socket.create_connection(("127.0.0.1", port))
                pairs.extend((link, far))
                for pair in ((link, far), (far, link)):
                    threading.Thread(target=thd_pump, args=pair, daemon=True).start()

        threading.Thread(target=thd_accept, daemon=True).start()
        self.addCleanup(lambda: [each.close() for each in pairs])
        return int(listening.getsockname()[1])

    async def test_certificate_files_that_are_none(self) -> None:
        text = await self.refused(
            "target_tls_failed", tls="verify-full", ca_file=Path("/etc/passwd")
        )
        self.assertIn("sslrootcert", text)

    async def test_a_server_without_tls_where_it_is_required(self) -> None:
        server = self.stranger(lambda link: (link.sendall(packet(GREETING, 0)), link.recv(999)))  # type: ignore[arg-type, return-value]
        text = await self.refused("target_tls_failed", port=server.port, tls="require")
        self.assertIn("does not offer TLS", text)

    async def test_users_who_have_to_use_tls_or_a_certificate(self) -> None:
        self.server.run(
            "create or replace user secure@'%' identified by 'p' require ssl",
            "create or replace user certified@'%' identified by 'p' require x509",
            "grant all on app.* to secure@'%'",
            "grant all on app.* to certified@'%'",
        )
        self.addCleanup(self.server.run, "drop user secure@'%', certified@'%'")
        folder = self.server.folder
        pair = {"certificate_file": folder / "client.crt", "key_file": folder / "client.key"}
        await self.caller(user="secure", password="p").test()
        await self.caller(user="certified", password="p", tls="require", **pair).test()
        text = await self.refused("target_login_failed", user="secure", password="p", tls="disable")
        self.assertIn("sslmode", text)
        await self.refused("target_login_failed", user="certified", password="p", tls="require")

    async def test_a_statement_of_a_user_who_has_to_use_tls_is_stopped(self) -> None:
        self.server.run(
            "create or replace user secure@'%' identified by 'p' require ssl",
            "grant all on app.* to secure@'%'",
        )
        self.addCleanup(self.server.run, "drop user secure@'%'")
        caller = self.caller(user="secure", password="p", pool=PoolSettings(max=1))
        called = Deferred.fromCoroutine(caller.query("select sleep(60) as secure"))
        await self.pause(0.3)
        called.cancel()
        await self.assertFailure(called, Exception)
        rows = self.server.run(
            "select info from information_schema.processlist where user = 'secure'"
            " and info like '%sleep%'"
        )
        self.assertEqual(rows, [])
        self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])

    async def test_wrong_credentials(self) -> None:
        for settings in ({"password": "wrong"}, {"user": "nobody"}, {"password": ""}):
            text = await self.refused("target_login_failed", **settings)
            self.assertIn("Access denied", text)

    async def test_passwords_of_every_kind(self) -> None:
        for password in ("", "é ☃ 😀", "'\"\\`%s", "x" * 60):
            with self.server.connect() as connection, connection.cursor() as cursor:
                cursor.execute("create or replace user odd@'%%' identified by %s", (password,))
                cursor.execute("grant select on app.* to odd@'%%'", ())
            await self.caller(user="odd", password=password).test()
        self.server.run("drop user odd@'%'")

    async def test_an_unknown_database_and_one_that_is_not_allowed(self) -> None:
        text = await self.refused("target_not_found", database="nowhere")
        self.assertIn("nowhere", text)
        self.server.run("create or replace user small@'%' identified by 'p'")
        self.addCleanup(self.server.run, "drop user small@'%'")
        text = await self.refused("target_permission_denied", user="small", password="p")
        self.assertIn("grant", text)
        caller = self.caller(user="small", password="p", database=None)
        problem = await self.problem(
            caller.query("select * from mysql.user"), "target_permission_denied"
        )
        self.assertIn("privilege", problem.hint or "")

    async def test_a_locked_account(self) -> None:
        self.server.run("create or replace user locked@'%' identified by 'p' account lock")
        self.addCleanup(self.server.run, "drop user locked@'%'")
        text = await self.refused("target_login_failed", user="locked", password="p", database=None)
        self.assertIn("locked", text)

    async def test_an_account_without_connections_left(self) -> None:
        self.server.run(
            "create or replace user few@'%' identified by 'p' with max_user_connections 1"
        )
        self.addCleanup(self.server.run, "drop user few@'%'")
        taken = self.server.connect(user="few", password=b"p", database=None)
        text = await self.refused("overloaded", user="few", password="p", database=None)
        self.assertIn("max_connections", text)
        taken.close()

    async def test_other_servers_are_told_by_name(self) -> None:
        text = await self.refused("target_wrong_type", port=shared_postgresql().port)
        self.assertIn("a PostgreSQL server answers there", text)

        def http(link: socket.socket) -> None:
            data = b""
            while b"\r\n\r\n" not in data:
                data += link.recv(999)
            link.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            link.close()

        text = await self.refused("target_wrong_type", port=self.stranger(http).port)
        self.assertIn("an HTTP server", text)
        ssh = self.stranger(lambda link: link.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"))
        self.assertIn("an SSH server", await self.refused("target_wrong_type", port=ssh.port))

    async def test_nonsense_in_place_of_a_login(self) -> None:
        for answer in (
            packet(b"", 1), packet(b"\x03what", 2), packet(b"\xfe", 2), b"\xff\xff\xff\x02",
            b"x" * 99,
            packet(b"\xfe" + b"mysql_native_password\0" + b"x" * 21, 2), packet(b"\x01\x99", 2),
            packet(b"\xffX", 2), packet(b"\0\0\0\0\0\0\0", 2) + packet(b"\xfb/etc/passwd", 1),
            packet(b"\0\0\0\0\0\0\0", 2) + packet(b"\x01", 1) + packet(b"\xfc", 2),
        ):  # fmt: skip

            def talk(link: socket.socket, answer: bytes = answer) -> None:
                link.sendall(packet(GREETING, 0))
                link.recv(999)
                link.sendall(answer)
                link.recv(999)
                link.close()

            caller = self.caller(port=self.stranger(talk).port, tls="disable", connect_timeout=1.0)
            with self.assertRaises(Exception) as caught:
                await caller.test()
            problem: Any = caught.exception
            self.assertIn(
                problem.code, ("target_wrong_type", "target_unreachable", "target_login_failed")
            )

    async def test_a_greeting_of_nonsense(self) -> None:
        for greeting in (packet(b"\x0a", 0), packet(b"\x0a5", 0), packet(b"\x0a" + b"5" * 900, 0)):
            server = self.stranger(lambda link, greeting=greeting: link.sendall(greeting))  # type: ignore[misc]
            await self.refused("target_wrong_type", port=server.port, connect_timeout=1.0)

    async def test_a_password_is_not_sent_as_it_is_without_tls(self) -> None:
        received: list[bytes] = []

        def talk(link: socket.socket) -> None:
            link.sendall(packet(GREETING, 0))
            link.recv(999)
            link.sendall(packet(b"\xfemysql_clear_password\0", 2))
            received.append(link.recv(999))

        for tls in ("disable", "prefer"):
            await self.refused("target_login_failed", port=self.stranger(talk).port, tls=tls)
        for _ in range(200):
            if len(received) == 2:  # the servers' threads have seen the clients go
                break
            await self.pause(0.05)
        self.assertEqual(len(received), 2)
        self.assertNotIn(b"s3cret", b"".join(received))

    async def test_names_ports_and_silence(self) -> None:
        text = await self.refused("target_unreachable", host="no-such-host.invalid")
        self.assertIn("can't be resolved", text)
        text = await self.refused("target_unreachable", port=free_port())
        self.assertIn("refused", text)
        hangs_up = self.stranger(lambda link: link.close())
        text = await self.refused("target_unreachable", port=hangs_up.port)
        self.assertIn("without a word", text)

    async def test_a_login_that_trickles_ends_in_time(self) -> None:
        def talk(link: socket.socket) -> None:
            link.sendall(packet(GREETING, 0))
            link.recv(999)
            link.sendall(b"\xff\0\0\x02")
            while True:
                link.sendall(b"\0")
                threading.Event().wait(0.2)

        began = reactor.seconds()  # type: ignore[attr-defined]
        text = await self.refused(
            "target_unreachable", port=self.stranger(talk).port, tls="disable", connect_timeout=1.0
        )
        self.assertIn("within 1 s", text)
        self.assertLess(reactor.seconds() - began, 4)  # type: ignore[attr-defined]

    def test_secrets_stay_out_of_representations(self) -> None:
        self.assertNotIn("s3cret", repr(Login(self.settings())))
        self.assertNotIn("s3cret", repr(self.settings()))


class Outages(MysqlTestCase):
    async def test_a_server_that_crashes_and_comes_back(self) -> None:
        self.server = MariadbServer.start()
        self.addCleanup(self.server.destroy)
        caller = self.caller(pool=PoolSettings(max=2))
        self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])
        self.server.pause(crash=True)
        for _ in range(2):
            await self.problem(caller.query("select 1 as a"), "target_unreachable")
        self.server.resume()
        self.assertEqual((await caller.query("select 1 as a")).rows, [[1]])
