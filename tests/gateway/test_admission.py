"""Who is let in, who has to go when the store changes, and what is written down of those here."""

from __future__ import annotations

import os
import sqlite3

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.enrolments import EnrolmentCase, signing_request
from tests.support.stores import NOW
from workato_gateway.agents.registry import LiveAgent, Registry
from workato_gateway.agents.watch import Watch
from workato_gateway.identity.admission import Admission, AdmittedAgent, NotAdmitted
from workato_gateway.identity.authority import Authority, serial_text
from workato_gateway.identity.directory import Directory
from workato_gateway.identity.tokens import Tokens, issue_token
from workato_gateway.storage.interface import Agent, Group, StoreError, Transaction
from workato_gateway.storage.sqlite import SqliteStore
from workato_tunnel.frames import Catalogue, Profile
from workato_tunnel.problems import Problem
from workato_tunnel.tx.testing import MemoryPair

HERE = "10.1.2.3"


class Case(EnrolmentCase):
    def setUp(self) -> None:
        super().setUp()
        self.admission = Admission(self.store, self.now)
        answer = self.enrol(self.code("one"))
        self.agent_id = answer.agent_id
        self.certificate = x509.load_pem_x509_certificate(answer.certificate.encode())

    def admit(
        self, certificate: x509.Certificate | None = None, address: str = HERE
    ) -> AdmittedAgent:
        return self.result(self.admission.admit(certificate or self.certificate, address))

    def refusal(self, certificate: x509.Certificate | None = None, address: str = HERE) -> str:
        with self.assertRaises(NotAdmitted) as caught:
            self.admit(certificate, address)
        self.assertEqual(caught.exception.code, "revoked")
        return caught.exception.message

    def agent(self) -> Agent:
        agent = self.result(self.store.read(lambda rows: rows.agent(self.agent_id)))
        assert agent is not None
        return agent

    def allow(self, *networks: str) -> None:
        self.result(self.store.write(lambda rows: rows.set_allowed_networks("g", networks)))

    def enable(self, enabled: bool) -> None:
        self.result(self.store.write(lambda rows: rows.set_enabled(self.agent_id, enabled)))

    def revoke(self) -> None:
        self.result(self.store.write(lambda rows: rows.revoke_agent(self.agent_id, NOW)))


class Handshake(Case):
    def test_an_enrolled_agent_is_let_in(self) -> None:
        self.assertEqual(
            self.admit(),
            AdmittedAgent(
                self.agent_id, "one", "g", serial_text(self.certificate), NOW + 30 * 86400, HERE
            ),
        )

    def test_a_writer_elsewhere_keeps_nobody_waiting(self) -> None:
        writer = sqlite3.connect(self.folder / "gateway.db", isolation_level=None)
        self.addCleanup(writer.close)
        writer.execute("BEGIN IMMEDIATE")
        self.admit()

    def test_disabled_revoked_and_unknown_agents_are_told_so(self) -> None:
        self.enable(False)
        self.assertIn("disabled", self.refusal())
        self.enable(True)
        self.admit()
        self.revoke()
        self.assertIn("revoked", self.refusal())
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        stranger = self.authority.issue_agent(key, agent_id="none", group="g", lifetime=9999)
        self.assertIn(
            "knows no such agent",
            self.refusal(x509.load_pem_x509_certificate(stranger.pem.encode())),
        )

    def test_certificates_that_the_store_does_not_hold_are_refused(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        forged = self.authority.issue_agent(key, agent_id=self.agent_id, group="g", lifetime=9999)
        self.assertIn(
            "did not issue", self.refusal(x509.load_pem_x509_certificate(forged.pem.encode()))
        )
        self.assertIn("names no agent", self.refusal(self.authority.certificate))
        other = Authority.create("other", self.now)
        self.assertIn("names no agent", self.refusal(other.certificate))

    def test_an_agents_certificate_does_not_open_another_agent(self) -> None:
        other = self.enrol(self.code("two"))
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        issued = self.authority.issue_agent(key, agent_id=self.agent_id, group="g", lifetime=9999)
        forged = x509.load_pem_x509_certificate(issued.pem.encode())

        def thd_steal(rows: Transaction) -> None:
            agent = rows.agent(other.agent_id)
            assert agent is not None
            rows._connection.execute(  # type: ignore[attr-defined]
                "UPDATE certificates SET serial = ? WHERE agent_id = ?",
                (serial_text(forged), other.agent_id),
            )

        self.result(self.store.write(thd_steal))
        self.assertIn("did not issue", self.refusal(forged))

    def test_an_expired_certificate_is_refused_though_tls_took_it(self) -> None:
        self.now.advance(30 * 86400)
        self.assertIn("expired", self.refusal())

    def test_the_old_certificate_is_refused_once_the_agent_was_set_up_anew(self) -> None:
        self.enrol(self.code("one"))
        self.assertIn("set up anew", self.refusal())

    def test_the_old_certificate_is_good_beside_a_renewed_one(self) -> None:
        self.result(self.enrolment.renew(self.agent_id, signing_request()))
        self.admit()

    def test_a_groups_networks_are_kept(self) -> None:
        self.allow("192.0.2.0/24", "2001:db8::/32")
        self.assertIn(f"{HERE} is not in the allowed networks", self.refusal())
        for address in ("192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1%eth0"):
            self.admit(address=address)
        for address in ("::1", "not-an-address", ""):
            self.refusal(address=address)

    def test_an_agent_of_a_deleted_group_is_refused(self) -> None:
        self.result(self.store.write(lambda rows: rows.delete_group("g")))
        self.assertIn("was deleted", self.refusal())


class Watching(Case):
    def setUp(self) -> None:
        super().setUp()
        self.registry = Registry()
        self.tokens = Tokens(self.store, self.now)
        self.directory = Directory(self.store)
        self.watch = Watch(
            self.store, self.registry, self.admission, self.tokens, self.directory, self.now
        )
        self.registry.joined = self.watch.joined
        self.result(self.watch.begin())

    def connect(self, address: str = HERE) -> MemoryPair:
        admitted = self.admit(address=address)
        pair = MemoryPair()
        pair.gateway.secret = os.urandom(16)
        live = LiveAgent(
            admitted.agent_id,
            admitted.name,
            admitted.group,
            pair.gateway,
            f"{address}:5000",
            NOW,
            admitted.serial,
        )
        self.registry.add(live)
        pair.agent.announce(Catalogue(profiles=(Profile("http", "crm"),), version="1"))
        pair.flush()
        return pair

    def tick(self) -> None:
        self.result(self.watch.tick())

    def test_a_disabled_or_revoked_agents_session_is_cut(self) -> None:
        for change in (lambda: self.enable(False), self.revoke):
            self.enable(True)
            pair = self.connect()
            self.tick()
            self.assertEqual(len(self.registry), 1)
            change()
            self.tick()
            self.assertEqual(len(self.registry), 0)
            self.assertTrue(pair.gateway.ended)

    def test_a_session_from_where_none_may_come_is_cut(self) -> None:
        self.connect()
        self.allow("10.0.0.0/8")
        self.tick()
        self.assertEqual(len(self.registry), 1)
        self.allow("192.0.2.0/24")
        self.tick()
        self.assertEqual(len(self.registry), 0)

    def test_sessions_of_a_certificate_that_was_replaced_are_cut(self) -> None:
        self.connect()
        answer = self.enrol(self.code("one"))
        self.certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
        again = self.connect()
        self.tick()
        self.assertEqual([live.session for live in self.registry], [again.gateway])

    def test_a_session_is_cut_when_its_agents_certificates_have_expired(self) -> None:
        self.connect()
        self.tick()
        self.now.advance(30 * 86400 + 60)
        self.tick()
        self.assertEqual(len(self.registry), 0)

    def test_what_changed_during_the_handshake_counts(self) -> None:
        admitted = self.admit()
        self.enable(False)
        self.result(self.watch.look())
        pair = MemoryPair()
        live = LiveAgent(
            admitted.agent_id, "one", "g", pair.gateway, f"{HERE}:1", NOW, admitted.serial
        )
        self.registry.add(live)
        self.assertTrue(pair.gateway.ended)

    def test_tokens_and_groups_of_another_process_are_taken_over(self) -> None:
        other = SqliteStore.open_here(self.folder / "gateway.db")
        token, text = self.result(
            other.write(
                lambda rows: issue_token(
                    rows, owner="bob", scopes=("admin",), expires=None, now=NOW
                )
            )
        )
        self.result(other.write(lambda rows: rows.add_group(Group("h", (), NOW))))
        self.tick()
        self.assertEqual(self.tokens.authenticate(f"Bearer {text}").owner, "bob")
        self.assertTrue(self.directory.has_group("h"))
        self.result(other.write(lambda rows: rows.revoke_token(token.id, NOW)))
        self.result(other.write(lambda rows: rows.delete_group("h")))
        self.tick()
        self.assertFalse(self.directory.has_group("h"))
        with self.assertRaises(Problem):
            self.tokens.authenticate(f"Bearer {text}")
        self.result(other.close())

    def test_after_missed_changes_everything_is_looked_at(self) -> None:
        self.connect()
        self.enable(False)
        self.watch._point = -100
        self.tick()
        self.assertEqual(len(self.registry), 0)

    def test_a_change_that_could_not_be_read_is_read_later(self) -> None:
        self.connect()
        self.enable(False)
        working, broken = self.store.read, self.store

        async def fail(work: object) -> None:
            raise StoreError("no")

        broken.read = fail  # type: ignore[method-assign, assignment]
        self.tick()
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 1)
        self.tick()
        self.assertEqual(self.flushLoggedErrors(StoreError), [])
        broken.read = working  # type: ignore[method-assign]
        self.tick()
        self.assertEqual(len(self.registry), 0)

    def test_who_comes_and_goes_is_written_down(self) -> None:
        pair = self.connect(address="10.9.9.9")
        self.tick()
        agent = self.agent()
        self.assertEqual((agent.connected, agent.last_seen), (True, NOW))
        self.assertEqual(agent.last_address, "10.9.9.9")
        assert agent.catalogue is not None
        self.assertIn(b"crm", agent.catalogue)
        self.now.advance(5)
        self.tick()
        self.assertEqual(self.agent().last_seen, NOW)
        self.now.advance(5)
        self.tick()
        self.assertEqual(self.agent().last_seen, NOW + 10)
        self.now.advance(1)
        pair.cut()
        self.tick()
        self.assertEqual((self.agent().connected, self.agent().last_seen), (False, NOW + 11))

    def test_at_the_end_nobody_is_here(self) -> None:
        self.connect()
        self.tick()
        self.result(self.watch.end())
        self.assertFalse(self.agent().connected)
        self.tick()
        self.assertFalse(self.agent().connected)
