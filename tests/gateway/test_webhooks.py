"""Events: how they are signed, how long a receiver is waited for, and what is an event at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.enrolments import EnrolmentCase, signing_request
from tests.support.stores import NOW, Wall
from workato_gateway.addresses import EndpointUrl, parse_endpoint_url
from workato_gateway.app import own_certificates
from workato_gateway.config import read
from workato_gateway.identity.authority import Authority
from workato_gateway.storage.interface import Attendance, AuditEntry
from workato_gateway.webhooks.administered import Administered
from workato_gateway.webhooks.endpoint import MAX_WAITING, Endpoint, EndpointSettings
from workato_gateway.webhooks.events import EVENT_TYPES, Event
from workato_gateway.webhooks.expiry import DAY, Expiry, steps_of
from workato_gateway.webhooks.posting import Reply
from workato_gateway.webhooks.presence import REDIAL, Presence
from workato_gateway.webhooks.signing import SigningSecret

URL = EndpointUrl("https://ops.example/in", "ops.example")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Signing(SynchronousTestCase):
    def test_the_example_of_the_specification(self) -> None:
        fields = SigningSecret.parse(SECRET).fields(
            "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
        )
        self.assertEqual(
            fields["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        )

    def test_what_is_no_secret_is_refused_without_being_quoted(self) -> None:
        for text in ("", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_%%%%"):
            with self.assertRaises(ValueError) as caught:
                SigningSecret.parse(text)
            self.assertNotIn(text[6:] or "?", str(caught.exception))
        self.assertNotIn("MfKQ", repr(SigningSecret.parse(SECRET)))

    def test_urls(self) -> None:
        for text in ("https://ops.example/x?y=1", "http://127.0.0.1:9/x", "http://localhost/x"):
            self.assertEqual(parse_endpoint_url(text).text, text)
        for text, reason in (
            ("ftp://x/y", "expected https"),
            ("ops.example/x", "expected https"),
            ("https:///x", "expected https"),
            ("https://x:port/", "expected https"),
            ("https://x/#a", "expected https"),
            ("https://u:p@x/", "user or password"),
            ("https://x/ y", "space"),
            ("http://ops.example/x", "use https"),
            ("http://10.0.0.1/x", "use https"),
            (None, "expected https"),
        ):
            with self.assertRaisesRegex(ValueError, reason):
                parse_endpoint_url(text)
        self.assertNotIn("t0ken", repr(parse_endpoint_url("https://x/t0ken")))


@define
class Posted:
    """A receiver in memory: what was posted, each to be answered by the test."""

    bodies: list[bytes] = field(factory=list)
    ids: list[str] = field(factory=list)
    waiting: list[Deferred[Reply]] = field(factory=list)
    cancelled: int = 0

    async def __call__(self, url: EndpointUrl, fields: Mapping[str, str], body: bytes) -> Reply:
        self.bodies.append(body)
        self.ids.append(fields["webhook-id"])
        answer: Deferred[Reply] = Deferred(self._cancel)
        self.waiting.append(answer)
        return await answer

    def _cancel(self, answer: Deferred[Reply]) -> None:
        """As Twisted's client does: with an error of its own."""
        self.cancelled += 1
        answer.errback(ConnectionError("the connection was given up"))

    def answer(self, reply: Reply | Exception) -> None:
        waiting = self.waiting.pop(0)
        if isinstance(reply, Exception):
            waiting.errback(reply)
        else:
            waiting.callback(reply)


def event(n: int = 0, at: float = NOW) -> Event:
    return Event("agent.enrolled", at, {"n": n})


class Delivery(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = Wall()
        self.posted = Posted()
        settings = EndpointSettings(
            "ops", URL, SigningSecret.parse(SECRET), frozenset({"agent.enrolled"}), 3600.0
        )
        self.endpoint = Endpoint(
            settings,
            self.posted,
            self.clock,
            software="gateway/1",
            now=self.wall,
            jitter=lambda: 0.0,
        )
        self.addCleanup(self.endpoint.stop)
        self.figures = self.endpoint.figures

    def advance(self, seconds: float) -> None:
        self.wall.advance(seconds)
        self.clock.advance(seconds)

    def test_events_go_out_one_after_another_in_order(self) -> None:
        for n in range(3):
            self.endpoint.offer(event(n))
        self.assertEqual(len(self.posted.bodies), 1)
        for _ in range(3):
            self.posted.answer(Reply(204))
        self.assertEqual([body[-3:-2] for body in self.posted.bodies], [b"0", b"1", b"2"])
        self.assertEqual((self.figures.delivered, self.figures.waiting), (3, 0))
        self.endpoint.offer(event(3))
        self.assertEqual(len(self.posted.bodies), 4)

    def test_others_are_not_told(self) -> None:
        self.endpoint.offer(Event("agent.revoked", NOW, {}))
        self.assertEqual(self.posted.bodies, [])

    def test_a_failure_is_tried_again_later_and_later_with_the_same_id(self) -> None:
        self.endpoint.offer(event(0))
        self.endpoint.offer(event(1))
        for pause, reply in ((5, Reply(500)), (30, OSError("refused")), (120, Reply(302))):
            before = len(self.posted.bodies)
            self.posted.answer(reply)
            self.advance(pause - 1)
            self.assertEqual(len(self.posted.bodies), before)
            self.advance(1)
            self.assertEqual(len(self.posted.bodies), before + 1)
        self.assertEqual(len(set(self.posted.ids)), 1)
        self.posted.answer(Reply(200))
        self.assertEqual(len(set(self.posted.ids)), 2)
        self.assertEqual((self.figures.delivered, self.figures.failed_attempts), (1, 3))

    def test_the_receiver_may_ask_for_a_longer_pause(self) -> None:
        self.endpoint.offer(event())
        self.posted.answer(Reply(429, retry_after=90))
        self.advance(89)
        self.assertEqual(len(self.posted.bodies), 1)
        self.advance(1)
        self.assertEqual(len(self.posted.bodies), 2)

    def test_an_event_that_is_too_old_is_given_up_and_the_next_has_its_turn(self) -> None:
        self.endpoint.offer(event(0))
        self.endpoint.offer(event(1, at=NOW + 10_000))
        for pause in (5, 30, 120, 600, 1800):
            self.posted.answer(Reply(503))
            self.advance(pause)
        self.assertEqual(len(set(self.posted.ids)), 1)
        self.posted.answer(Reply(503))
        self.assertEqual(self.figures.given_up, 1)
        self.assertEqual(len(set(self.posted.ids)), 2)

    def test_the_queue_is_bounded(self) -> None:
        for n in range(MAX_WAITING + 5):
            self.endpoint.offer(event(n))
        self.assertEqual((self.figures.dropped, self.figures.waiting), (5, MAX_WAITING))

    def test_stopping_ends_the_attempt_and_the_waiting(self) -> None:
        self.endpoint.offer(event())
        self.endpoint.stop()
        self.assertEqual(self.posted.cancelled, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.endpoint.offer(event())
        self.assertEqual(len(self.posted.bodies), 1)

    def test_stopping_between_two_attempts_leaves_no_call_behind(self) -> None:
        self.endpoint.offer(event())
        self.posted.answer(Reply(500))
        self.endpoint.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


@define
class _Session:
    agent_id: str


class Told(EnrolmentCase):
    """With a list of what is told."""

    def setUp(self) -> None:
        super().setUp()
        self.told: list[Event] = []

    def types(self) -> list[str]:
        found = [each.type for each in self.told]
        self.told.clear()
        return found


class ComingAndGoing(Told):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.agent = self.enrol(self.code("press")).agent_id
        self.sessions: list[str] = []
        self.begin()

    def begin(self) -> None:
        """As a gateway does that was just started."""
        self.sessions.clear()
        self.presence = Presence(
            self.clock,
            self.store,
            lambda agent_id: [each for each in self.sessions if each == agent_id],
            self.told.append,
            grace=60,
            now=self.now,
        )
        self.result(self.presence.begin())

    def advance(self, seconds: float) -> None:
        self.now.advance(seconds)
        self.clock.advance(seconds)

    def come(self) -> None:
        self.sessions.append(self.agent)
        self.presence.joined(_Session(self.agent))

    def go(self) -> None:
        self.sessions.remove(self.agent)
        self.presence.left(_Session(self.agent))

    def settled(self) -> None:
        self.come()
        self.advance(60)
        self.assertEqual(self.types(), ["agent.connected"])

    def seen(self, ago: float) -> None:
        attendance = Attendance(self.agent, self.now() - ago, connected=False)
        self.result(self.store.write(lambda rows: rows.record_attendance([attendance])))

    def test_an_agent_that_stays_away_is_told_once_the_grace_is_over(self) -> None:
        self.settled()
        self.go()
        gone = self.now()
        self.advance(59)
        self.assertEqual(self.told, [])
        self.advance(1)
        (event,) = self.told
        self.assertEqual(event.type, "agent.disconnected")
        self.assertEqual((event.data["group"], event.data["agent"]), ("g", "press"))
        self.assertEqual(event.at - gone, 60)
        self.assertEqual(event.data["changes"], 1)

    def test_who_is_back_within_the_grace_was_never_gone(self) -> None:
        self.settled()
        for _ in range(5):
            self.go()
            self.advance(50)
            self.come()
            self.advance(10)
        self.advance(600)
        self.assertEqual(self.told, [])

    def test_flapping_is_one_event_with_the_number_of_changes(self) -> None:
        self.settled()
        for _ in range(10):
            self.go()
            self.advance(30)
            self.come()
            self.advance(30)
        self.go()
        self.advance(60)
        (event,) = self.told
        self.assertEqual(event.data["changes"], 21)

    def test_another_session_of_the_same_agent_keeps_it_there(self) -> None:
        self.settled()
        self.come()
        self.go()
        self.advance(120)
        self.assertEqual(self.told, [])

    def test_an_agent_that_was_shut_out_is_not_reported_as_lost(self) -> None:
        self.settled()
        self.result(self.store.write(lambda rows: rows.set_enabled(self.agent, False)))
        self.go()
        self.advance(60)
        self.assertEqual(self.told, [])
        self.result(self.store.write(lambda rows: rows.set_enabled(self.agent, True)))
        self.settled()
        self.result(self.store.write(lambda rows: rows.revoke_agent(self.agent, self.now())))
        self.go()
        self.advance(60)
        self.assertEqual(self.told, [])

    def test_a_gateway_that_stops_reports_nobody(self) -> None:
        self.settled()
        self.presence.stop()
        self.go()
        self.advance(120)
        self.assertEqual(self.told, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_after_a_restart_who_comes_back_is_no_news_and_who_does_not_is(self) -> None:
        self.seen(0)
        self.advance(5)
        self.begin()
        self.come()
        self.advance(120)
        self.assertEqual(self.told, [])
        self.presence.stop()
        self.begin()
        # An agent waits up to a minute before it dials again.
        self.advance(60 + 60)
        self.assertEqual(self.told, [])
        self.advance(REDIAL - 60)
        self.assertEqual(self.types(), ["agent.disconnected"])

    def test_who_was_away_before_the_restart_is_told_only_on_return(self) -> None:
        other = self.enrol(self.code("other")).agent_id
        attendance = Attendance(other, self.now(), connected=True)
        self.result(self.store.write(lambda rows: rows.record_attendance([attendance])))
        self.seen(1000)
        self.begin()
        self.sessions.append(other)
        self.presence.joined(_Session(other))
        self.advance(120)
        self.assertEqual(self.told, [])
        self.come()
        self.advance(60)
        self.assertEqual(self.types(), ["agent.connected"])


class Certificates(Told):
    def setUp(self) -> None:
        super().setUp()
        self.expiry = Expiry(self.store, {}, self.told.append, self.now)

    def after(self, days: float) -> list[str]:
        self.now.advance(days * DAY)
        self.result(self.expiry.review())
        return self.types()

    def test_steps(self) -> None:
        self.assertEqual([s / DAY for s in steps_of(30 * DAY)], [7.5, 1, 0])
        self.assertEqual([s / DAY for s in steps_of(365 * DAY)], [90, 30, 7, 1, 0])
        self.assertEqual([s / DAY for s in steps_of(3650 * DAY)], [90, 30, 7, 1, 0])
        self.assertEqual([s / DAY for s in steps_of(1 * DAY)], [0.25, 0])

    def test_a_certificate_that_nobody_renews_is_told_of_at_each_step_once(self) -> None:
        self.enrol(self.code("press"))
        self.assertEqual(self.after(0), [])
        self.assertEqual(self.after(22), [])
        self.assertEqual(self.after(1), ["agent.certificate_expiring"])
        self.assertEqual(self.after(1), [])
        self.assertEqual(self.after(5.5), ["agent.certificate_expiring"])
        self.assertEqual(self.after(0.6), ["agent.certificate_expired"])
        self.assertEqual(self.after(1), [])

    def test_one_that_was_renewed_is_no_event(self) -> None:
        answer = self.enrol(self.code("press"))
        self.now.advance(20 * DAY)
        self.result(self.enrolment.renew(answer.agent_id, signing_request()))
        self.assertEqual(self.after(9.9), [])

    def test_disabled_and_revoked_agents_need_none(self) -> None:
        off, gone = (self.enrol(self.code(name)).agent_id for name in ("off", "gone"))
        self.result(self.store.write(lambda rows: rows.set_enabled(off, False)))
        self.result(self.store.write(lambda rows: rows.revoke_agent(gone, NOW)))
        self.assertEqual(self.after(29.5), [])

    def test_the_gateways_own(self) -> None:
        ca, key = self.folder / "ca.crt", self.folder / "ca.key"
        Authority.create("x", self.now).save(ca, key)
        own = {"ca": ca, "api": self.folder / "none.pem"}
        self.expiry = Expiry(self.store, own, self.told.append, self.now)
        self.assertEqual(self.after(0), [])
        self.now.advance(40 * 365 * DAY)
        self.result(self.expiry.review())
        (event,) = self.told
        self.assertEqual(event.type, "gateway.certificate_expired")
        self.assertEqual(event.data["use"], "ca")


class OwnCertificates(SynchronousTestCase):
    def files(self, text: str) -> dict[str, str]:
        config = read(f"public_url: https://gw\n{text}", Path("/gw/gateway.yml"))
        return {use: path.name for use, path in own_certificates(config).items()}

    def test_those_that_are_in_use_are_looked_at(self) -> None:
        self.assertEqual(self.files(""), {"ca": "ca.crt", "tunnel": "server.pem"})
        pair = "{certificate: own.pem, key: own.key}"
        found = self.files(f"api: {{listen: '0.0.0.0:1', tls: {pair}}}\ntunnel: {pair}")
        self.assertEqual(found, {"ca": "ca.crt", "tunnel": "own.pem", "api": "own.pem"})


class WhatWasDone(Told):
    def setUp(self) -> None:
        super().setUp()
        self.enrol(self.code("before"))
        self.administered = Administered(self.store, self.told.append)
        self.result(self.administered.begin())

    def look(self) -> list[str]:
        self.result(self.administered.look())
        return self.types()

    def done(self, action: str, subject: str, **detail: object) -> None:
        entry = AuditEntry(NOW, "alice (token t0)", "192.0.2.9", action, subject, detail)
        self.result(self.store.write(lambda rows: rows.add_audit(entry)))

    def test_an_enrolment_is_told_with_who_made_the_code(self) -> None:
        self.enrol(self.code("press"))
        self.result(self.administered.look())
        (event,) = self.told
        self.assertEqual(event.type, "agent.enrolled")
        self.assertEqual(event.data["agent"], "press")
        self.assertEqual(event.data["by"], "activation code by me")
        self.assertIn("certificate_serial", event.data)
        self.told.clear()
        self.assertEqual(self.look(), [])

    def test_what_administrators_do_to_agents(self) -> None:
        self.done("agent.disable", "g/press")
        self.done("agent.enable", "g/press")
        self.done("agent.revoke", "g/press", id="x")
        self.done("token.create", "t1", owner="y")
        self.done("group.delete", "g", revoked=["a", "b"])
        self.result(self.administered.look())
        self.assertEqual([each.data["agent"] for each in self.told], ["press"] * 3 + ["a", "b"])
        self.assertEqual(self.types(), ["agent.disabled", "agent.enabled"] + ["agent.revoked"] * 3)

    def test_every_type_has_its_line_in_the_documentation(self) -> None:
        text = (Path(__file__).parents[2] / "docs/webhooks.md").read_text(encoding="utf-8")
        for kind in EVENT_TYPES:
            self.assertIn(f"`{kind}`", text)
