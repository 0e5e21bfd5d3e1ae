"""Enrolment and renewal: a code works once, for an hour, and says little to strangers."""

from __future__ import annotations

import threading

import msgspec
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.support.enrolments import EnrolmentCase, signing_request
from tests.support.stores import NOW, Wall
from workato_gateway.identity.authority import agent_id_of, pem_of, serial_text, sha256_of
from workato_gateway.identity.enrolment import Enrolment, FailureLimit
from workato_gateway.storage.interface import Agent
from workato_gateway.storage.sqlite import SqliteStore
from workato_tunnel.activation import ActivationCode, EnrolmentRequest
from workato_tunnel.problems import Problem


class Case(EnrolmentCase):
    def setUp(self) -> None:
        super().setUp()
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event: dict[str, object]) -> None:
        if str(event.get("log_namespace", "")).startswith("workato_gateway"):
            self.logged.append(" ".join(str(value) for value in event.values()))

    def problem(self, code: ActivationCode, **named: str) -> Problem:
        with self.assertRaises(Problem) as caught:
            self.enrol(code, **named)  # type: ignore[arg-type]
        return caught.exception

    def agents(self) -> list[Agent]:
        return self.result(self.store.read(lambda rows: rows.agents()))


class Codes(Case):
    def test_a_code_becomes_an_identity(self) -> None:
        code = self.code()
        self.assertEqual(code.ca_sha256, sha256_of(self.authority.certificate))
        self.assertEqual(code.tunnel_url, "wss://gw.example:8443/tunnel")
        answer = self.enrol(code, name="press-7")
        self.assertEqual(
            (answer.group, answer.name, answer.ca, answer.tunnel_url),
            ("g", "press-7", pem_of(self.authority.certificate), code.tunnel_url),
        )
        certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
        certificate.verify_directly_issued_by(self.authority.certificate)
        self.assertEqual(agent_id_of(certificate), answer.agent_id)
        (agent,) = self.agents()
        self.assertEqual((agent.id, agent.serial), (answer.agent_id, serial_text(certificate)))
        self.assertEqual(agent.certificate_expires, NOW + 30 * 86400)
        (entry,) = self.result(self.store.read(lambda rows: rows.audit(limit=9)))
        self.assertEqual((entry.action, entry.subject), ("agent.enrol", "g/press-7"))
        self.assertEqual(entry.address, "192.0.2.1")

    def test_used_expired_and_unknown_codes_look_alike_from_outside(self) -> None:
        used, expired = self.code(), self.code()
        unknown = ActivationCode(used.authority, b"0" * 16, used.ca_sha256)
        self.enrol(used)
        self.now.advance(3600)
        problems = [self.problem(code) for code in (used, expired, unknown)]
        self.assertEqual(len({str(problem.members("")) for problem in problems}), 1)
        self.assertEqual({problem.code for problem in problems}, {"forbidden"})
        for told in ("used before", "expired", "unknown code"):
            self.assertTrue(any(told in line for line in self.logged), told)

    def test_a_code_holds_an_hour(self) -> None:
        code = self.code()
        self.now.advance(3599)
        self.enrol(code)

    def test_neither_code_nor_key_is_logged_or_kept(self) -> None:
        code = self.code()
        self.enrol(code)
        self.problem(code)
        for line in self.logged:
            self.assertNotIn(code.secret_text, line)
            self.assertNotIn("BEGIN", line)
        for path in self.folder.iterdir():
            self.assertNotIn(code.secret, path.read_bytes())

    def test_a_bad_request_does_not_use_the_code_up(self) -> None:
        code = self.code()
        self.assertEqual(self.problem(code, csr="nonsense").extra, {"field": "csr"})
        self.enrol(code)

    @settings(deadline=None, max_examples=50)
    @given(st.binary(max_size=200))
    def test_what_is_no_request_is_a_bad_request(self, body: bytes) -> None:
        with self.assertRaises(Problem) as caught:
            self.result(self.enrolment.enrol(body, "192.0.2.9"))
        self.assertEqual(caught.exception.code, "bad_request")

    def test_odd_requests_are_bad_requests(self) -> None:
        for body, told in (
            (b"", "bad_request"),
            (b"[" * 60000, "bad_request"),
            (b"{}", "bad_request"),
            (b'{"secret":1,"csr":""}', "bad_request"),
            (b" " * 70000, "payload_too_large"),
        ):
            with self.assertRaises(Problem) as caught:
                self.result(self.enrolment.enrol(body, "192.0.2.9"))
            self.assertEqual(caught.exception.code, told)

    def test_two_who_come_at_once_are_one_agent(self) -> None:
        code = self.code()
        path = self.folder / "gateway.db"
        outcomes: list[str] = []
        barrier = threading.Barrier(4)

        def come() -> None:
            store = SqliteStore.open_here(path)
            enrolment = Enrolment(
                store,
                self.authority,
                self.enrolment._public_url,
                agent_lifetime=86400.0,
                failures_a_minute=99,
                now=self.now,
            )
            body = msgspec.json.encode(EnrolmentRequest(code.secret_text, signing_request(), "x"))
            barrier.wait()
            done = Deferred.fromCoroutine(enrolment.enrol(body, "192.0.2.1"))
            done.addCallbacks(
                lambda answer: outcomes.append(answer.agent_id),
                lambda failure: outcomes.append(failure.value.code),
            )
            Deferred.fromCoroutine(store.close())

        threads = [threading.Thread(target=come) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(outcomes)[1:], ["forbidden"] * 3)
        self.assertEqual([agent.id for agent in self.agents()], sorted(outcomes)[:1])

    def test_a_code_of_a_deleted_group_is_worthless(self) -> None:
        code = self.code()
        self.result(self.store.write(lambda rows: rows.delete_group("g")))
        self.assertEqual(self.problem(code).code, "forbidden")


class Names(Case):
    def test_an_agent_that_names_itself_takes_no_others_name(self) -> None:
        names = [self.enrol(self.code(), name="host").name for _ in range(3)]
        self.assertEqual(names, ["host", "host-2", "host-3"])

    def test_a_wish_becomes_a_name(self) -> None:
        for wish, name in (
            ("press 7/ä", "press-7--"),
            ("", "agent"),
            ("../..", "agent"),
            ("x" * 200, "x" * 56),
            ("h.example.org", "h.example.org"),
        ):
            given_name = self.enrol(self.code(), name=wish).name
            self.assertEqual(given_name, name)
            self.result(
                self.store.write(lambda rows: [rows.revoke_agent(a.id, NOW) for a in rows.agents()])
            )

    def test_a_code_for_a_name_enters_the_agent_at_once(self) -> None:
        code = self.code("one")
        (agent,) = self.agents()
        self.assertEqual((agent.name, agent.serial), ("one", None))
        self.assertEqual(self.enrol(code, name="host").agent_id, agent.id)
        self.assertEqual([each.name for each in self.agents()], ["one"])

    def test_a_code_for_a_name_that_is_there_sets_that_agent_up_anew(self) -> None:
        first = self.enrol(self.code("one"))
        (before,) = self.agents()
        again = self.enrol(self.code("one"))
        self.assertEqual(first.agent_id, again.agent_id)
        (after,) = self.agents()
        assert before.serial is not None
        assert after.serial is not None
        old = self.result(self.store.read(lambda rows: rows.certificate(before.serial or "")))
        new = self.result(self.store.read(lambda rows: rows.certificate(after.serial or "")))
        assert old is not None
        assert new is not None
        self.assertEqual((old.revoked, new.revoked), (NOW, None))

    def test_a_code_for_an_agent_that_was_revoked_is_worthless(self) -> None:
        code = self.code("one")
        (agent,) = self.agents()
        self.result(self.store.write(lambda rows: rows.revoke_agent(agent.id, NOW)))
        self.assertEqual(self.problem(code).code, "forbidden")

    def test_codes_for_impossible_names_and_groups_are_refused(self) -> None:
        for name in ("", "a b", "a/b", "..", ".", "-x", "x" * 65, "ä"):
            with self.assertRaises(Problem) as caught:
                self.code(name)
            self.assertEqual(caught.exception.extra, {"field": "name"})
        with self.assertRaises(Problem) as caught:
            self.code(group="none")
        self.assertEqual(caught.exception.code, "group_not_found")


class Renewal(Case):
    def renew(self, agent_id: str, csr: str | None = None) -> x509.Certificate:
        pem = self.result(self.enrolment.renew(agent_id, csr or signing_request()))
        return x509.load_pem_x509_certificate(pem.encode())

    def refusal(self, agent_id: str, csr: str | None = None) -> str:
        with self.assertRaises(Problem) as caught:
            self.renew(agent_id, csr)
        return caught.exception.code

    def test_the_old_certificate_stays_good_beside_the_new_one(self) -> None:
        answer = self.enrol(self.code())
        (before,) = self.agents()
        self.now.advance(20 * 86400)
        renewed = self.renew(answer.agent_id)
        self.assertEqual(agent_id_of(renewed), answer.agent_id)
        (agent,) = self.agents()
        self.assertEqual(agent.serial, serial_text(renewed))
        self.assertEqual(agent.certificate_expires, NOW + 50 * 86400)
        old = self.result(self.store.read(lambda rows: rows.certificate(before.serial or "")))
        assert old is not None
        self.assertIsNone(old.revoked)

    def test_who_may_not_connect_may_not_renew(self) -> None:
        agent_id = self.enrol(self.code()).agent_id
        self.assertEqual(self.refusal("none"), "forbidden")
        self.assertEqual(self.refusal(agent_id, "nonsense"), "bad_request")
        self.result(self.store.write(lambda rows: rows.set_enabled(agent_id, False)))
        self.assertEqual(self.refusal(agent_id), "forbidden")
        self.result(self.store.write(lambda rows: rows.set_enabled(agent_id, True)))
        self.renew(agent_id)
        self.result(self.store.write(lambda rows: rows.revoke_agent(agent_id, NOW)))
        self.assertEqual(self.refusal(agent_id), "forbidden")

    def test_an_agent_that_renews_without_end_is_slowed_down(self) -> None:
        agent_id = self.enrol(self.code()).agent_id
        for _ in range(9):
            self.renew(agent_id)
        self.assertEqual(self.refusal(agent_id), "overloaded")
        self.now.advance(3601)
        self.renew(agent_id)


class Failures(Case):
    def test_wrong_codes_are_counted_by_address(self) -> None:
        wrong = ActivationCode("gw.example", b"0" * 16, b"1" * 32)
        good = self.code()
        codes = [self.problem(wrong).code for _ in range(6)]
        self.assertEqual(codes, ["forbidden"] * 5 + ["overloaded"])
        self.assertEqual(self.problem(good).retry_after, 60)
        self.enrol(good, peer="192.0.2.2")
        self.now.advance(60)
        self.enrol(self.code())

    def test_right_codes_are_not_counted(self) -> None:
        for _ in range(10):
            self.enrol(self.code())


class Limit(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = Wall()
        self.limit = FailureLimit(3, self.now, max_addresses=4)

    def blocked(self, address: str) -> bool:
        try:
            self.limit.check(address)
        except Problem:
            return True
        return False

    def exhaust(self, address: str) -> None:
        for _ in range(3):
            self.limit.failed(address)

    def test_tries_come_back_one_by_one(self) -> None:
        self.exhaust("192.0.2.1")
        self.assertTrue(self.blocked("192.0.2.1"))
        self.now.advance(20)
        self.assertFalse(self.blocked("192.0.2.1"))
        self.limit.failed("192.0.2.1")
        self.assertTrue(self.blocked("192.0.2.1"))

    def test_a_64_is_one_customer(self) -> None:
        self.exhaust("2001:db8::1")
        self.assertTrue(self.blocked("2001:db8::ffff:2"))
        self.assertFalse(self.blocked("2001:db8:0:1::1"))
        self.exhaust("::ffff:192.0.2.1")
        self.assertFalse(self.blocked("::ffff:192.0.2.2"))

    def test_memory_is_bounded_and_the_latest_are_remembered(self) -> None:
        for number in range(100):
            self.exhaust(f"192.0.2.{number}")
        self.assertEqual(len(self.limit._failures), 4)
        self.assertTrue(self.blocked("192.0.2.99"))
        self.assertFalse(self.blocked("192.0.2.1"))
