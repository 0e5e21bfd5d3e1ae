"""A real gateway tells a real HTTPS server what happens to a real agent."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import ResponseNeverReceived

from demo.deployment import Deployment
from tests.support.cutting_relay import wait_until
from tests.support.gateway_commands import gateway_apart
from tests.support.premises import OddPort
from tests.support.webhook_receiver import SECRET, WebhookReceiver
from workato_gateway.addresses import parse_endpoint_url
from workato_gateway.identity.authority import load_chain
from workato_gateway.webhooks.posting import HttpsPost, Reply

reactor: Any = _reactor


class Events(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="webhooks-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.receiver = WebhookReceiver(self.folder)
        self.addCleanup(self.receiver.stop)
        sections = f"files:\n  share: {{ base: {self.folder} }}\n"
        self.deployment = Deployment(self.folder, "plant", sections)
        self.addCleanup(self.deployment.stop)
        self.deployment.make_gateway()
        self.config = self.deployment.gateway_config
        (self.config.parent / "hook.secret").write_text(SECRET + "\n")
        text = self.config.read_text().replace("tunnel:\n", "tunnel:\n  session_hold: 1s\n", 1)
        self.config.write_text(
            f"{text}webhooks:\n  grace: 1s\n  endpoints:\n    - url: {self.receiver.url}\n"
            f"      secret: {{file: hook.secret}}\n      name: ops\n      ca: {self.receiver.ca}\n"
        )

    def metric(self, name: str, labels: str) -> float:
        lines = self.deployment.get("/metrics")[1].decode().splitlines()
        (line,) = [one for one in lines if one.startswith(f"onprem_gateway_{name}{labels} ")]
        return float(line.rpartition(" ")[2])

    def log(self) -> str:
        return (self.folder / "gateway.log").read_text()

    def administer(self, *arguments: str) -> None:
        outcome = gateway_apart(*arguments, f"--config={self.config}")
        self.assertEqual(outcome.status, 0, outcome.err)

    def told(self, kind: str) -> dict[str, Any]:
        wait_until(lambda: kind in self.receiver.types(), 40)
        return self.receiver.of(kind)

    def test_what_happens_to_an_agent_is_told(self) -> None:
        deployment, receiver = self.deployment, self.receiver
        deployment.start_gateway()
        deployment.admin("group", "create", "plant")
        deployment.enrol(deployment.admin("agent", "code", "plant", "--name", "press"))
        deployment.start_agent()
        self.assertEqual(self.told("agent.enrolled")["agent"], "press")
        self.assertEqual(self.told("agent.connected")["group"], "plant")

        assert deployment.agent is not None
        deployment.agent.process.send_signal(signal.SIGKILL)
        gone = self.told("agent.disconnected")
        self.assertEqual((gone["agent"], gone["changes"]), ("press", 1))
        self.administer("agent", "disable", "plant/press")
        self.assertIn("command line", self.told("agent.disabled")["by"])
        self.administer("group", "delete", "plant", "--force")
        self.assertEqual(self.told("agent.revoked")["agent"], "press")
        order = ["enrolled", "connected", "disconnected", "disabled", "revoked"]
        self.assertEqual(receiver.types(), [f"agent.{word}" for word in order])
        labels = '{endpoint="ops",outcome="delivered"}'
        wait_until(lambda: self.metric("webhook_events_total", labels) == 5)
        self.assertEqual(self.metric("webhook_failed_attempts_total", '{endpoint="ops"}'), 0)
        for secret in (SECRET, "t0ken-in-the-path"):
            self.assertNotIn(secret, self.log())
        self.assertIn("agent.enrolled msg_", self.log())

    def test_the_command_says_which_endpoint_takes_events(self) -> None:
        test = ("webhook", "test", f"--config={self.config}")
        outcome = gateway_apart(*test)
        self.assertEqual(outcome.status, 0, outcome.err)
        self.assertRegex(outcome.out, r"ops +ok +HTTP status 204")
        self.assertEqual(self.receiver.types(), ["webhook.test"])
        self.receiver.answers = [(401, {})]
        outcome = gateway_apart(*test, "ops")
        self.assertEqual(outcome.status, 1)
        self.assertRegex(outcome.out, r"ops +FAILED +HTTP status 401")
        self.assertIn("there are: ops", gateway_apart(*test, "other").err)
        text = self.config.read_text()
        self.config.write_text(text.replace(f"      ca: {self.receiver.ca}\n", ""))
        outcome = gateway_apart(*test)
        self.assertEqual(outcome.status, 1)
        self.assertIn("the certificate is not trusted", outcome.out)
        self.config.write_text(text.replace("hook.secret", "none"))
        outcome = gateway_apart(*test)
        self.assertIn("webhooks.endpoints.0.secret: ", outcome.err)
        self.assertIn("No such file", outcome.err)


class Posting(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="webhooks-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.receiver = WebhookReceiver(self.folder)
        self.addCleanup(self.receiver.stop)
        self.url = parse_endpoint_url(self.receiver.url)
        self.post = HttpsPost(reactor, tuple(load_chain(self.receiver.ca)))
        self.fields = {"webhook-id": "m", "webhook-timestamp": "0", "webhook-signature": "v1,"}

    async def test_status_and_pause_are_read_and_redirections_not_followed(self) -> None:
        self.receiver.answers = [(429, {"retry-after": "7"}), (302, {"location": "/elsewhere"})]
        self.assertEqual(await self.post(self.url, self.fields, b"{}"), Reply(429, 7.0))
        self.assertEqual(await self.post(self.url, self.fields, b"{}"), Reply(302))
        self.assertEqual(await self.post(self.url, self.fields, b"{}"), Reply(204))
        self.assertEqual(len(self.receiver.attempts), 3)

    async def test_a_receiver_that_is_not_trusted_gets_nothing(self) -> None:
        with self.assertRaises(ResponseNeverReceived):
            await HttpsPost(reactor)(self.url, self.fields, b"{}")
        self.assertEqual(self.receiver.attempts, [])

    async def test_cancelling_lets_go_of_a_receiver_that_does_not_answer(self) -> None:
        silent = OddPort(b"")
        self.addCleanup(silent.stop)
        url = parse_endpoint_url(f"https://127.0.0.1:{silent.port}/")
        posted = Deferred.fromCoroutine(self.post(url, self.fields, b"{}"))
        reactor.callLater(0.1, posted.cancel)
        # What stays open after this fails the test: trial looks for it.
        with self.assertRaises((CancelledError, ResponseNeverReceived)):
            await posted
