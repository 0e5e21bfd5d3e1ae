"""Reaching a directory: TLS, logins, several servers, and servers that hang or die."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from tests.support.cutting_relay import CuttingRelay
from tests.support.database import request
from tests.support.ldap_service import LdapCase
from tests.support.ports import free_port
from tests.support.premises import BlackHole, OddPort, self_signed
from tests.support.slapd import ROOT_PASSWORD, Slapd, shared_slapd
from workato_agent.services.ldap.directory import PROBE_AFTER, SILENCE
from workato_agent.services.ldap.service import LdapService
from workato_tunnel.problems import Problem


class SharedCase(LdapCase):
    def setUp(self) -> None:
        self.server = shared_slapd()

    async def facts(self, **keys: Any) -> dict[str, Any]:
        answered: dict[str, Any] = (await self.call(self.serve(self.profile(**keys)), "")).json
        return answered

    async def failed(self, code: str, reason: str | None, **keys: Any) -> Problem:
        problem = await self.refused(self.serve(self.profile(**keys)), "")
        self.assertEqual((problem.code, problem.extra.get("reason")), (code, reason), problem)
        self.assertTrue(problem.hint)
        self.assertNotIn(ROOT_PASSWORD, str(problem.members("")))
        return problem


class Tls(SharedCase):
    def setUp(self) -> None:
        super().setUp()
        self.ca = str(self.server.ca)
        self.secure = {"url": self.server.tls_url}

    async def test_from_the_first_byte_and_by_starttls(self) -> None:
        for keys in (self.secure, {"startTls": True}):
            told = await self.facts(ssl={"cert": self.ca}, **keys)
            self.assertIn(told["tls"], ("TLSv1.2", "TLSv1.3"))
            self.assertEqual(told["product"], "OpenLDAP")
        self.assertIsNone((await self.facts())["tls"])

    async def test_who_is_not_trusted_is_named(self) -> None:
        other = self_signed(self.server.folder / "other.pem", "Another CA")
        for keys in (self.secure, {"startTls": True}):
            problem = await self.failed(
                "target_tls_failed", "self_signed", ssl={"cert": str(other)}, **keys
            )
            self.assertIn("Test CA", problem.detail)
            await self.failed("target_tls_failed", "self_signed", **keys)

    async def test_the_name_is_verified_unless_that_is_given_up(self) -> None:
        # 0.0.0.0 leads to this machine, and is not in the certificate.
        for keys in (
            {"url": f"ldaps://0.0.0.0:{self.server.tls_port}"},
            {"url": f"ldap://0.0.0.0:{self.server.port}", "startTls": True},
        ):
            problem = await self.failed("target_tls_failed", "name", ssl={"cert": self.ca}, **keys)
            self.assertIn("localhost", problem.detail)
            await self.facts(ssl={"cert": self.ca, "verifyHost": False}, **keys)
            await self.facts(ssl={"trustAll": True}, **keys)

    async def test_the_servers_own_certificate_may_be_the_one_to_trust(self) -> None:
        own = str(self.server.folder / "server.crt")
        self.assertTrue((await self.facts(ssl={"cert": own}, **self.secure))["ok"])

    async def test_the_agent_shows_its_certificate(self) -> None:
        strict = Slapd.start("TLSVerifyClient demand")
        self.addCleanup(strict.destroy)
        trust = {"cert": str(strict.ca)}
        problem = await self.refused(self.serve(self.profile(url=strict.tls_url, ssl=trust)), "")
        self.assertIn(problem.code, ("target_tls_failed", "target_unreachable"))
        pair = {"pem": str(strict.folder / "client.crt"), "key": str(strict.folder / "client.key")}
        self.assertTrue((await self.facts(url=strict.tls_url, ssl=trust | pair))["ok"])

    async def test_a_port_without_tls_and_one_with(self) -> None:
        problem = await self.refused(
            self.serve(self.profile(url=f"ldaps://127.0.0.1:{self.server.port}")), ""
        )
        self.assertEqual(problem.code, "target_tls_failed")
        self.assertIn("ldap://", problem.hint)
        problem = await self.refused(
            self.serve(self.profile(url=f"ldap://127.0.0.1:{self.server.tls_port}")), ""
        )
        self.assertIn(problem.code, ("target_wrong_type", "target_unreachable"))
        self.assertIn("ldaps://", problem.hint)

    async def test_a_directory_that_wants_tls_says_so(self) -> None:
        strict = Slapd.start("security simple_bind=64")
        self.addCleanup(strict.destroy)
        problem = await self.failed("target_login_failed", None, url=strict.url)
        self.assertEqual(problem.extra["result_name"], "confidentialityRequired")
        self.assertIn("ldaps://", problem.hint)


class Logins(SharedCase):
    async def test_a_wrong_password_is_told_and_not_tried_again_at_once(self) -> None:
        relay = CuttingRelay(free_port(), self.server.port)
        relay.start()
        self.addCleanup(relay.stop)
        url = f"ldap://127.0.0.1:{relay.port},{self.server.url}"
        service = self.serve(self.profile(url=url, password="wr0ng"))
        problem = await self.refused(service, "")
        self.assertEqual((problem.code, problem.extra["result_code"]), ("target_login_failed", 49))
        self.assertNotIn("wr0ng", str(problem.members("")))
        passed = relay.passed
        again = await self.refused(service, "search", {})
        self.assertEqual((again.code, relay.passed), ("target_login_failed", passed))
        self.assertIn("tried again in 10 s", again.hint)
        # Ten seconds later.
        connector = service._directory._connector
        assert connector._refusal is not None
        connector._refusal = evolve(connector._refusal, until=0.0)
        await self.refused(service, "")
        self.assertGreater(relay.passed, passed)
        again = await self.refused(service, "")
        self.assertIn("tried again in 20 s", again.hint)

    async def test_names_that_are_none_are_a_failed_login(self) -> None:
        await self.failed("target_login_failed", None, username="Administrator")

    async def test_anonymous(self) -> None:
        service = self.serve(self.profile(username=None, password=None, base=None))
        self.assertTrue((await self.call(service, "")).json["ok"])

    async def test_a_base_that_is_not_there(self) -> None:
        await self.failed("not_found", None, base="dc=nowhere")


class Reaching(SharedCase):
    async def test_what_keeps_it_from_being_reached_is_told_apart(self) -> None:
        hole, silent, ssh = BlackHole(), OddPort(b""), OddPort(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        web = OddPort(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        for each in (hole, silent, ssh, web):
            self.addCleanup(each.stop)
        for url, code, reason in (
            ("ldap://no-such-host.invalid", "target_unreachable", "dns"),
            (f"ldap://127.0.0.1:{free_port()}", "target_unreachable", "refused"),
            (f"ldap://127.0.0.1:{hole.port}", "target_unreachable", "timeout"),
            (f"ldap://127.0.0.1:{silent.port}", "target_unreachable", "timeout"),
            (f"ldaps://127.0.0.1:{silent.port}", "target_tls_failed", "timeout"),
            (f"ldap://127.0.0.1:{ssh.port}", "target_wrong_type", "wrong_type"),
            (f"ldap://127.0.0.1:{web.port}", "target_wrong_type", "wrong_type"),
        ):
            problem = await self.failed(code, reason, url=url, timeout=0.5)
            self.assertIn(problem.extra["host"], url)

    async def test_the_next_server_is_used_when_one_does_not_answer(self) -> None:
        hole, silent = BlackHole(), OddPort(b"")
        for each in (hole, silent):
            self.addCleanup(each.stop)
        dead = [f"ldap://127.0.0.1:{port}" for port in (free_port(), hole.port, silent.port)]
        service = self.serve(self.profile(url=",".join([*dead, self.server.url]), timeout=0.3))
        self.assertEqual((await self.call(service, "")).json["server"], self.server.url)

    async def test_when_none_answers_each_is_told(self) -> None:
        ports = [free_port(), free_port()]
        url = ",".join(f"ldap://127.0.0.1:{port}" for port in ports)
        problem = await self.failed("target_unreachable", "refused", url=url)
        for port in ports:
            self.assertIn(f"127.0.0.1:{port}: the connection was refused", problem.detail)
        servers: Any = problem.extra["servers"]
        self.assertEqual([each["port"] for each in servers], ports)


class Outages(LdapCase):
    def setUp(self) -> None:
        self.server = Slapd.start()
        self.addCleanup(self.server.destroy)
        self.service = self.serve(self.profile(timeout=1))

    def asked(self, service: LdapService, **body: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.call(service, "search", body))

    async def test_a_directory_that_hangs_holds_up_nobody_else(self) -> None:
        other = shared_slapd()
        elsewhere = self.serve(self.profile(url=other.url))
        await self.entries(self.service, scope="base")
        await self.entries(elsewhere, scope="base")
        self.server.freeze()
        self.addCleanup(self.server.thaw)
        hanging = self.asked(self.service, scope="base")
        self.assertEqual(len(await self.entries(elsewhere, scope="base")), 1)
        self.assertFalse(hanging.called)
        # The dispatcher's deadline.
        hanging.cancel()
        with self.assertRaises(CancelledError):
            await hanging
        problem = await self.refused(self.service, "search", {"scope": "base"})
        self.assertEqual((problem.code, problem.extra["reason"]), ("target_unreachable", "timeout"))
        self.server.thaw()
        self.assertEqual(len(await self.entries(self.service, scope="base")), 1)

    async def test_another_server_takes_over_from_one_that_hangs(self) -> None:
        other = shared_slapd()
        both = self.serve(self.profile(url=f"{self.server.url},{other.url}", timeout=0.5))
        self.server.freeze()
        self.addCleanup(self.server.thaw)
        self.assertEqual((await self.call(both, "")).json["server"], other.url)

    async def test_a_kept_connection_is_asked_for_a_sign_of_life(self) -> None:
        other = shared_slapd()
        both = self.serve(self.profile(url=f"{self.server.url},{other.url}", timeout=0.5))
        self.assertEqual((await self.call(both, "")).json["server"], self.server.url)
        self.server.freeze()
        self.addCleanup(self.server.thaw)
        # Idle for longer than that.
        (idle,) = both._directory._pool._idle
        idle.idle_since -= PROBE_AFTER
        self.assertEqual((await self.call(both, "")).json["server"], other.url)

    async def test_a_server_that_is_silent_for_long_is_tried_last(self) -> None:
        other = shared_slapd()
        both = self.serve(self.profile(url=f"{self.server.url},{other.url}", timeout=20))
        await self.entries(both, scope="base")
        (idle,) = both._directory._pool._idle
        self.server.freeze()
        self.addCleanup(self.server.thaw)
        hanging = self.asked(both, scope="base")
        # Since long ago.
        exchange = idle._exchange
        assert exchange is not None
        exchange.sent_at -= SILENCE
        hanging.cancel()
        with self.assertRaises(CancelledError):
            await hanging
        now = reactor.seconds()  # type: ignore[attr-defined]
        order = [server.url for server in both._directory._connector._in_order(now)]
        self.assertEqual(order, [other.url, self.server.url])
        self.assertEqual((await self.call(both, "")).json["server"], other.url)

    async def test_it_is_back_when_the_directory_is(self) -> None:
        await self.entries(self.service, scope="base")
        self.server.kill()
        problem = await self.refused(self.service, "search", {"scope": "base"})
        self.assertEqual(problem.code, "target_unreachable")
        self.server.resume()
        self.assertEqual(len(await self.entries(self.service, scope="base")), 1)

    async def test_a_kept_connection_that_died_unseen_is_replaced(self) -> None:
        relay = CuttingRelay(free_port(), self.server.port)
        relay.start()
        self.addCleanup(relay.stop)
        url = f"ldap://127.0.0.1:{relay.port}"
        service = self.serve(self.profile(url=url, pool={"max": 1}))
        for _ in range(3):
            self.assertEqual(len(await self.entries(service, scope="base")), 1)
            relay.arm(1, 1)
        change = {"dn": "uid=u1,ou=people", "changes": [
            {"operation": "replace", "attribute": "sn", "values": "Changed"}]}  # fmt: skip
        relay.arm(1, 1)
        problem = await self.refused(service, "modify", change)
        self.assertEqual(problem.code, "target_unreachable")
        self.assertIn("may have been done", problem.hint)

    async def test_one_that_is_killed_in_the_middle_of_a_search(self) -> None:
        service = self.serve(self.profile(page_size=50, pool={"max": 1}))
        body = await self.begun(service)
        self.server.kill()
        with self.assertRaises(Problem) as caught:
            async for _ in body:
                pass
        self.assertEqual(caught.exception.code, "target_unreachable")
        await body.aclose()
        self.server.resume()
        self.assertEqual(len(await self.entries(service, scope="base")), 1)

    async def begun(self, service: LdapService) -> Any:
        """The body of a large search, of which one chunk has been taken."""
        sent = evolve(request("POST", "search", {"base": "ou=people"}), service="ldap")
        body: Any = (await service.handle(sent)).body
        self.assertIn(b'"dn"', await anext(body))
        return body


class Pace(SharedCase):
    def setUp(self) -> None:
        super().setUp()
        self.relay = CuttingRelay(free_port(), self.server.port)
        self.relay.start()
        self.addCleanup(self.relay.stop)

    def through(self, **keys: Any) -> LdapService:
        return self.serve(self.profile(url=f"ldap://127.0.0.1:{self.relay.port}", **keys))

    async def begun(self, service: LdapService) -> Any:
        sent = evolve(request("POST", "search", {"base": "ou=people"}), service="ldap")
        body: Any = (await service.handle(sent)).body
        await anext(body)
        return body

    async def test_the_next_page_waits_for_the_caller(self) -> None:
        service = self.through(page_size=50)
        body = await self.begun(service)
        taken = self.relay.passed
        self.assertLess(taken, 120_000)
        # Another call goes there and back, and the first one's pages have not moved.
        await self.entries(service, scope="base")
        self.assertLess(self.relay.passed - taken, 20_000)
        rest = b"".join([chunk async for chunk in body])
        self.assertGreater(self.relay.passed, 200_000)
        self.assertTrue(rest.endswith(b'"referrals":[]}'))

    async def test_searches_hold_a_connection_each_and_others_wait_in_bounds(self) -> None:
        service = self.through(page_size=50, pool={"max": 1, "wait": 0.2})
        body = await self.begun(service)
        problem = await self.refused(service, "search", {"scope": "base"})
        self.assertEqual((problem.code, problem.retry_after), ("overloaded", 1))
        # The caller leaves: the search ends, and the next call is served.
        await body.aclose()
        self.assertEqual(len(await self.entries(service, scope="base")), 1)

    async def test_leaving_before_the_first_answer_frees_the_connection(self) -> None:
        service = self.through(pool={"max": 1, "wait": 5})
        for _ in range(3):
            calling = Deferred.fromCoroutine(self.call(service, "search", {"base": "ou=people"}))
            await deferLater(reactor, 0, lambda: None)  # type: ignore[arg-type]
            calling.cancel()
            with self.assertRaises(CancelledError):
                await calling
        self.assertEqual(len(await self.entries(service, scope="base")), 1)

    async def test_a_small_limit_keeps_the_connection(self) -> None:
        service = self.through(pool={"max": 1}, page_size=10)
        await self.entries(service, base="ou=people", max_entries=5)
        before = self.relay.passed
        for _ in range(5):
            await self.entries(service, base="ou=people", max_entries=1, attributes=["cn"])
            await self.entries(service, base="ou=people", max_entries=15, attributes=["cn"])
        # A new connection would have logged in again.
        self.assertGreater(self.relay.passed, before)
        self.assertEqual(self.connections(), 1)

    def connections(self) -> int:
        return len(self.relay._pairs)
