"""Renewal of the certificate over a session in memory, answered by the gateway's own code."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.support.calls import served
from tests.support.identities import make_identity
from workato_agent.dispatch import Dispatcher
from workato_agent.identity.keys import generate_key
from workato_agent.identity.renewal import DAY, LONGEST_RETRY, TIMEOUT, Renewal
from workato_agent.identity.store import Identity, load_identity
from workato_agent.requests import Request, Response
from workato_gateway.identity.authority import Authority, read_request
from workato_gateway.tunnel.renewal import RenewalCall
from workato_tunnel.frames import Head, Open, Trailers
from workato_tunnel.problems import Problem
from workato_tunnel.tx.session import Session
from workato_tunnel.tx.testing import MemoryPair
from workato_tunnel.tx.transport import StreamReceiver, StreamTransport

LIFE = 30 * DAY


class RenewalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.start = time.time()
        self.skew = 0.0
        self.authority = Authority.create("CA", self.now)
        self.identity = make_identity(Path(self.mktemp()), self.authority, lifetime=LIFE)
        self.requests = 0
        self.answer: Callable[[str], str] = self.issue
        self.pair = MemoryPair(gateway_accept=self.accept, hold=10 * LIFE)
        self.session: Session | None = self.pair.agent
        self.renewal = self.make(self.identity)

    def make(self, identity: Identity) -> Renewal:
        renewal = Renewal(
            self.pair.clock,
            identity,
            lambda: self.session,
            wall_clock=self.now,
            jitter=lambda: 0.5,
        )
        self.addCleanup(lambda: renewal.running and renewal.stopService())
        return renewal

    def now(self) -> float:
        pair = getattr(self, "pair", None)
        return self.start + self.skew + (0.0 if pair is None else pair.clock.seconds())

    def accept(self, stream: StreamTransport, head: Open) -> StreamReceiver:
        async def renew(csr: str) -> str:
            self.requests += 1
            return self.answer(csr)

        return RenewalCall(stream, head, renew)

    def issue(self, csr: str, lifetime: float = LIFE) -> str:
        key = read_request(csr)
        return self.authority.issue_agent(key, agent_id="id-one", group="g", lifetime=lifetime).pem

    def pass_time(self, seconds: float, step: float = 3600.0) -> None:
        """Let time pass on both clocks, messages included."""
        end = self.pair.clock.seconds() + seconds
        while (left := end - self.pair.clock.seconds()) > 0:
            self.pair.clock.advance(min(step, left))
            self.pair.flush()

    def logged(self, level: LogLevel) -> list[str]:
        return [
            event["log_format"].format(**event)
            for event in self.events
            if event["log_level"] is level and "renewal" in event["log_namespace"]
        ]

    def watch_log(self) -> None:
        self.events: list[dict[str, object]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def test_nothing_happens_before_two_thirds_of_its_life(self) -> None:
        self.renewal.startService()
        self.pass_time(20 * DAY - 3700)
        self.assertEqual(self.requests, 0)

    def test_at_two_thirds_it_is_renewed_stored_and_used(self) -> None:
        before = self.identity.certificate
        self.renewal.startService()
        self.pass_time(20 * DAY + 3700)
        self.assertEqual((self.requests, self.renewal.renewals), (1, 1))
        self.assertNotEqual(self.identity.certificate, before)
        stored = load_identity(self.identity.directory)
        self.assertEqual(stored.certificate, self.identity.certificate)
        self.assertEqual(
            stored.credentials.key.public_key(), self.identity.credentials.key.public_key()
        )

    def test_it_is_renewed_again_and_again(self) -> None:
        self.renewal.startService()
        self.pass_time(100 * DAY)
        self.assertIn(self.requests, (4, 5))
        self.assertGreater(self.renewal.seconds_left, 9 * DAY)

    def test_agents_enrolled_together_do_not_come_together(self) -> None:
        early, late = (
            Renewal(self.pair.clock, self.identity, lambda: None, wall_clock=self.now, jitter=value)
            for value in (lambda: 0.0, lambda: 1.0)
        )
        for each in (early, late):
            each.startService()
            each.stopService()
        apart = [str(each.status()["renewal_due"])[:10] for each in (early, late)]
        self.assertNotEqual(*apart)

    def test_calls_in_flight_are_not_disturbed(self) -> None:
        waiting: Deferred[None] = Deferred()

        async def wait(request: Request) -> Response:
            await waiting
            return Response(200, (), b"done")

        dispatcher = Dispatcher(self.pair.clock, {"http": {"app": served(wait)}})
        self.pair.agent._accept = dispatcher.accept
        answer = _Collected()
        self.pair.gateway.open_stream(Open("http", "app", timeout=2**40), answer, end=True)
        self.pair.flush()
        self.skew = 21 * DAY
        self.renewal.startService()
        self.pair.flush()
        self.assertEqual(self.renewal.renewals, 1)
        waiting.callback(None)
        self.pair.flush()
        self.assertEqual(bytes(answer.body), b"done")

    def test_while_the_tunnel_is_down_it_waits_and_then_catches_up(self) -> None:
        self.session = None
        self.renewal.startService()
        self.pass_time(22 * DAY)
        self.assertEqual(self.requests, 0)
        self.session = self.pair.agent
        self.pass_time(60, step=5)
        self.assertEqual(self.renewal.renewals, 1)

    def test_a_refusal_is_tried_again_less_and_less_often(self) -> None:
        self.watch_log()

        def refuse(csr: str) -> str:
            raise Problem("forbidden", "the agent is disabled on the gateway")

        self.answer = refuse
        self.skew = 20.1 * DAY
        self.renewal.startService()
        self.pass_time(DAY, step=5)
        self.assertIn("the agent is disabled on the gateway", self.renewal.problem)
        self.assertGreater(self.requests, DAY / LONGEST_RETRY - 4)
        self.assertLess(self.requests, DAY / LONGEST_RETRY + 12)
        self.answer = self.issue
        self.pass_time(LONGEST_RETRY + 5, step=60)
        self.assertEqual((self.renewal.renewals, self.renewal.problem), (1, ""))

    def test_a_certificate_that_does_not_fit_is_not_used(self) -> None:
        stranger = generate_key().public_key()
        before = self.identity.certificate
        issue = self.authority.issue_agent
        for answer in (
            lambda csr: issue(stranger, agent_id="x", group="g", lifetime=LIFE).pem,
            lambda csr: (
                Authority.create("CA")
                .issue_agent(read_request(csr), agent_id="x", group="g", lifetime=LIFE)
                .pem
            ),
            lambda csr: "nonsense",
            lambda csr: "",
        ):
            self.answer = answer
            self.skew = 20.1 * DAY
            renewal = self.make(self.identity)
            renewal.startService()
            self.pair.flush()
            self.assertNotEqual(renewal.problem, "")
            renewal.stopService()
            self.assertEqual(load_identity(self.identity.directory).certificate, before)

    def test_a_disk_that_is_full_keeps_the_old_one_in_force(self) -> None:
        def full(path: Path, content: bytes) -> None:
            raise OSError(28, "No space left on device")

        self.patch(
            __import__("workato_agent.identity.store", fromlist=["x"]), "write_private", full
        )
        before = self.identity.certificate
        self.skew = 20.1 * DAY
        self.renewal.startService()
        self.pair.flush()
        self.assertIn("No space left", self.renewal.problem)
        self.assertEqual(self.identity.certificate, before)

    def test_a_gateway_that_never_answers_is_given_up(self) -> None:
        self.pair.gateway._accept = lambda stream, head: _Collected()
        self.skew = 20.1 * DAY
        self.renewal.startService()
        self.pass_time(TIMEOUT + 1, step=1)
        self.assertIn("no answer within 30 s", self.renewal.problem)
        self.assertEqual(self.pair.agent.connection.streams, {})

    def test_a_lost_session_is_no_end(self) -> None:
        self.pair.gateway._accept = lambda stream, head: _Collected()
        self.skew = 20.1 * DAY
        self.renewal.startService()
        self.pair.flush()
        self.pair.agent.terminate("no_error", "over")
        self.assertIn("tunnel_lost", self.renewal.problem)

    def test_stopping_gives_up_an_exchange(self) -> None:
        self.pair.gateway._accept = lambda stream, head: _Collected()
        self.skew = 20.1 * DAY
        self.renewal.startService()
        self.pair.flush()
        self.renewal.stopService()
        self.pair.flush()
        self.assertEqual(self.pair.agent.connection.streams, {})
        self.assertEqual(self.renewal.problem, "")

    def test_it_warns_daily_in_the_last_week_and_says_when_it_is_over(self) -> None:
        self.session = None
        self.watch_log()
        self.renewal.startService()
        self.pass_time(30 * DAY - 3700)
        warnings = self.logged(LogLevel.warn)
        self.assertIn(len(warnings), (6, 7, 8))
        self.assertIn("in 7.0 days", warnings[0])
        self.assertIn("the tunnel is down", warnings[0])
        self.assertEqual(self.logged(LogLevel.error), [])
        self.pass_time(3 * DAY)
        (error,) = self.logged(LogLevel.error)
        self.assertIn("workato-agent enrol --force", error)

    def test_a_short_life_is_renewed_in_time_too(self) -> None:
        self.answer = lambda csr: self.issue(csr, 60.0)
        identity = make_identity(Path(self.mktemp()), self.authority, lifetime=60.0)
        renewal = self.make(identity)
        renewal.startService()
        for _ in range(300):
            self.pass_time(1, step=1)
            self.assertGreater(renewal.seconds_left, 0)
        self.assertGreater(renewal.renewals, 3)
        self.assertLess(renewal.renewals, 12)


class _Collected:
    """A receiver that keeps the body and says nothing."""

    def __init__(self) -> None:
        self.body = bytearray()

    def head_received(self, head: Head) -> None: ...

    def data_received(self, data: bytes) -> None:
        self.body += data

    def end_received(self) -> None: ...

    def finished(self, trailers: Trailers) -> None: ...

    def reset_received(self, reason: Exception) -> None: ...
