"""From a profile of AMQP or SQS to its broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from workato_agent import serving_messaging
from workato_agent.config import aws, parse_config
from workato_agent.serving_messaging import MessagingContext, messaging_service

AMQP = "provider: amqp, url: 'amqps://a,amqps://b', username: u, password: s3cret"
SQS = "provider: sqs, region: eu-west-1, accessKey: AK, secretKey: s3cret"


class ServingTests(SynchronousTestCase):
    def service(self, profile: str) -> Any:
        config = parse_config(f"jms: {{ q: {{ {profile} }} }}", Path("/etc/config.yml"), {})
        context = MessagingContext(Clock(), "agent", (), lambda _size: self.fail("no threads"))
        return messaging_service(context, config.profiles["jms"]["q"])

    def test_each_has_its_broker(self) -> None:
        amqp = self.service(f"{AMQP}, virtual_host: v, queue_prefix: 'queue://', heartbeat: 0")
        self.assertEqual(amqp.type, "amqp")
        settings = amqp._broker._settings
        self.assertEqual((settings.queue_prefix, settings.topic_prefix), ("queue://", None))
        self.assertEqual((settings.virtual_host, settings.heartbeat), ("v", 0))
        sqs = self.service(SQS)
        self.assertEqual(sqs.type, "sqs")
        self.assertEqual(sqs._broker._calls.url, "https://sqs.eu-west-1.amazonaws.com/")
        for each in (amqp, sqs):
            self.assertNotIn("s3cret", repr(each))

    def test_china_has_addresses_of_its_own(self) -> None:
        sqs = self.service(SQS.replace("eu-west-1", "cn-north-1"))
        self.assertEqual(sqs._broker._calls.url, "https://sqs.cn-north-1.amazonaws.com.cn/")

    def test_a_library_that_is_missing_is_told_with_what_to_install(self) -> None:
        self.patch(serving_messaging, "find_spec", lambda _name: None)
        self.patch(aws, "find_spec", lambda _name: None)
        for profile, extra in ((AMQP, "workato-agent[amqp]"), (SQS, "workato-agent[aws]")):
            error: ValueError = self.assertRaises(ValueError, self.service, profile)
            self.assertIn(extra, str(error))
