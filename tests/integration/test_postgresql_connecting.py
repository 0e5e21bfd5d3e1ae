"""Connections to PostgreSQL: how they fail, how they are secured, how they come back."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.web.server import Site
from twisted.web.static import Data

from tests.support.database import Caller
from tests.support.mariadb import MariadbServer
from tests.support.ports import free_port
from tests.support.postgresql import PASSWORD, PostgresqlServer
from tests.support.postgresql_profile import PostgresqlTestCase
from workato_agent.services.database.adapters.postgresql_login import Login
from workato_agent.services.database.settings import PoolSettings


class HangsUp(Protocol):
    """Closes at once."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class Failures(PostgresqlTestCase):
    async def fails(self, code: str, *words: str, **settings: Any) -> None:
        """The test, a fetched and a copied query all end in that problem."""
        caller = self.caller(**settings)
        for work in (
            caller.test,
            lambda: caller.query("select 1"),
            lambda: caller.query("select 1", accept="text/csv"),
        ):
            problem = await self.problem(work(), code)
            for word in words:
                self.assertIn(word, problem.detail)
            self.assertTrue(problem.hint)
            self.assertNotIn(PASSWORD, f"{problem.detail}{problem.hint}")

    def listen(self, factory: Any) -> int:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    async def test_wrong_credentials(self) -> None:
        await self.fails("target_login_failed", "owner", password="wrong")
        await self.fails("target_login_failed", "no password supplied", password="")
        await self.fails("target_login_failed", "stranger", user="stranger")

    async def test_an_unknown_database(self) -> None:
        await self.fails("target_not_found", "nowhere", database="nowhere")

    async def test_a_role_that_may_not_connect(self) -> None:
        self.server.run(f"create role guest login password '{PASSWORD}'")
        self.addCleanup(self.server.run, "drop role guest")
        self.server.run("create database closed")
        self.addCleanup(self.server.run, "drop database closed")
        self.server.run("revoke connect on database closed from public")
        await self.fails("target_permission_denied", "closed", user="guest", database="closed")

    async def test_nothing_listens(self) -> None:
        port = free_port()
        await self.fails("target_unreachable", f"127.0.0.1:{port}", "refused", port=port)

    async def test_a_name_that_does_not_resolve(self) -> None:
        await self.fails("target_unreachable", "resolved", host="no-such-host.invalid")

    async def test_a_server_that_says_nothing(self) -> None:
        port = self.listen(Factory.forProtocol(Protocol))
        await self.fails("target_unreachable", str(port), port=port, connect_timeout=0.7)

    async def test_a_server_that_hangs_up(self) -> None:
        port = self.listen(Factory.forProtocol(HangsUp))
        await self.fails("target_unreachable", "closed the connection", port=port)

    async def test_a_web_server(self) -> None:
        port = self.listen(Site(Data(b"hello", "text/plain")))
        await self.fails("target_wrong_type", "HTTP", port=port, connect_timeout=2)

    async def test_a_mysql_server(self) -> None:
        server = MariadbServer.start()
        self.addCleanup(server.destroy)
        await self.fails("target_wrong_type", "MySQL", port=server.port, connect_timeout=2)

    async def test_cancelling_while_connecting(self) -> None:
        port = self.listen(Factory.forProtocol(Protocol))
        for accept in (None, "text/csv"):
            caller = self.caller(port=port, connect_timeout=1)
            called = Deferred.fromCoroutine(caller.query("select 1", accept=accept))
            await self.pause(0.1)
            called.cancel()
            await self.assertFailure(called, CancelledError)
            await caller.service.close()
        # A thread that connects gives up after two seconds, at the earliest.
        await self.pause(1.5)


class Tls(PostgresqlTestCase):
    async def test_a_verified_connection(self) -> None:
        ca_file = self.server.folder / "ca.crt"
        for host in ("localhost", "127.0.0.1"):
            caller = self.caller(host=host, tls="verify-full", ca_file=ca_file)
            self.assertRegex((await caller.test())["tls"], r"^TLSv1\.[23]$")
            self.assertEqual(
                (await caller.query("select 1", accept="text/csv")).body[-3:], b"1\r\n"
            )

    async def test_an_unknown_authority_is_refused(self) -> None:
        caller = self.caller(host="localhost", tls="verify-full")
        problem = await self.problem(caller.test(), "target_tls_failed")
        self.assertIn("certificate verify failed", problem.detail)

    async def test_another_name_is_refused(self) -> None:
        async def resolve(login: Login) -> list[str]:
            return ["127.0.0.1"]

        self.patch(Login, "_resolve", resolve)
        ca_file = self.server.folder / "ca.crt"
        caller = self.caller(host="db.example", tls="verify-full", ca_file=ca_file)
        problem = await self.problem(caller.test(), "target_tls_failed")
        self.assertIn("does not match host name", problem.detail)
        self.assertTrue((await self.caller(host="db.example", tls="require").test())["ok"])

    async def test_a_unix_socket(self) -> None:
        caller = self.caller(host=str(self.server.folder))
        self.assertEqual((await caller.query("select 1")).rows, [[1]])
        self.assertEqual((await caller.query("select 1", accept="text/csv")).body[-3:], b"1\r\n")


class Recovery(PostgresqlTestCase):
    async def both(self, caller: Caller) -> None:
        self.assertEqual((await caller.query("select 1")).rows, [[1]])
        self.assertEqual((await caller.query("select 1", accept="text/csv")).body[-3:], b"1\r\n")

    async def test_a_server_that_was_away_is_used_again(self) -> None:
        server = PostgresqlServer.start()
        self.addCleanup(server.destroy)
        caller = self.caller(port=server.port)
        await self.both(caller)
        server.pause()
        await self.problem(caller.query("select 1"), "target_unreachable")
        await self.problem(caller.query("select 1", accept="text/csv"), "target_unreachable")
        server.resume()
        await self.both(caller)

    async def test_connections_that_the_server_has_closed_are_not_lent(self) -> None:
        caller = self.caller()
        await gatherResults([Deferred.fromCoroutine(self.both(caller)) for _call in range(4)])
        self.server.run(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'workato-agent'"
        )
        await self.pause(0.1)
        for _call in range(5):
            await self.both(caller)

    async def test_a_connection_that_is_lost_during_a_statement(self) -> None:
        caller = self.caller()
        for accept in (None, "text/csv"):
            called = Deferred.fromCoroutine(caller.query("select pg_sleep(30)", accept=accept))
            await self.pause(0.3)
            self.server.run(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'workato-agent' and state = 'active'"
            )
            await self.problem(called, "target_unreachable")
            await self.both(caller)

    async def test_unused_connections_are_closed(self) -> None:
        caller = self.caller(pool=PoolSettings(idle=0.2))
        await self.both(caller)
        await self.pause(0.6)
        rows = self.server.run(
            "select count(*) from pg_stat_activity where application_name = 'workato-agent'"
        )
        self.assertEqual(rows, [(0,)])
