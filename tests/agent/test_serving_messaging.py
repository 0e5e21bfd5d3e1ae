"""From a profile of the jms section to its service."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import write_certificates
from tests.support.folders import folder_for
from workato_agent.config import parse_config
from workato_agent.config.jms import ActivemqProfile
from workato_agent.served import ProfileUnusable, serve_profiles
from workato_agent.services.jms.settings import Address
from workato_agent.serving_messaging import stomp_settings

_LOGIN = {"username": "u", "password": "s3cret"}


class Serving(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = folder_for(self)
        write_certificates(self.folder, "agent")

    def service(self, **profile: Any) -> Any:
        text = json.dumps({"jms": {"q": profile}})
        config = parse_config(text, self.folder / "config.yml", {})
        served = serve_profiles(config, Clock(), "agent-1")
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(served.close())))
        return served.profiles["jms"]["q"].service

    def test_every_provider_has_its_service_that_opens_nothing(self) -> None:
        java = {"class": "org.x.Factory", "provider": "custom", **_LOGIN}
        sqs = {"region": "eu-west-1", "accessKey": "AK", "secretKey": "s3cret"}
        for profile, kind in (
            ({"provider": "activemq", "url": "stomp://broker", **_LOGIN}, "stomp"),
            ({"provider": "stomp", "url": "stomp://broker"}, "stomp"),
            ({"provider": "activemq", "url": "tcp://broker", **_LOGIN}, "activemq"),
            ({"provider": "amqp", "url": "amqp://broker", **_LOGIN}, "amqp"),
            ({"provider": "sqs", **sqs}, "sqs"),
            (java, "jms"),
        ):
            service = self.service(**profile)
            self.assertEqual(service.type, kind)
            self.assertEqual(
                service.operations, ("test", "publish", "receive", "browse", "subscribe")
            )
            self.assertNotIn("s3cret", repr(service))

    def test_the_policy_is_the_services(self) -> None:
        policy = {"operations": ["browse"]}
        service = self.service(provider="stomp", url="stomp://broker", policy=policy)
        self.assertEqual(service.operations, ("test", "browse"))

    def test_what_stomp_is_told(self) -> None:
        profile = ActivemqProfile.model_validate(
            {
                "provider": "activemq",
                "url": "failover:(stomp+ssl://a:1,stomp+ssl://[::1])",
                "ca": str(self.folder / "ca.crt"),
                "verifyHost": False,
                "certificate": {
                    "cert": str(self.folder / "client.crt"),
                    "key": str(self.folder / "client.key"),
                },
                "client_id": "plant",
                "heartbeat": 5,
                "timeout": 3,
                "limits": {"batches": 7, "message": "1MiB"},
                **_LOGIN,
            },
            context={"folder": self.folder},
        )
        settings = stomp_settings(profile)
        self.assertEqual(settings.addresses, (Address("a", 1), Address("::1", 61614)))
        self.assertEqual(
            (settings.username, settings.password, settings.client_id), ("u", "s3cret", "plant")
        )
        self.assertEqual((settings.heartbeat, settings.connect_timeout), (5, 3))
        self.assertEqual((settings.max_connections, settings.max_message), (8, 2**20))
        assert settings.tls is not None
        assert settings.tls.certificate is not None
        self.assertEqual(settings.tls.ca, (self.folder / "ca.crt").read_bytes())
        self.assertEqual((settings.tls.verify_host, settings.tls.trust_all), (False, False))
        self.assertNotIn("s3cret", repr(settings))
        self.assertNotIn("PRIVATE KEY", repr(settings))

    def test_a_login_that_stomp_can_not_send_is_a_fault_of_the_config(self) -> None:
        keys = {"provider": "stomp", "url": "stomp://broker", "username": "u"}
        error = self.assertRaises(ProfileUnusable, self.service, password="s3\ncret", **keys)
        self.assertIn("password: holds a line end", str(error))
        self.assertNotIn("cret", str(error))

    def test_an_authority_that_is_none_is_a_fault_of_the_config(self) -> None:
        (self.folder / "no.crt").write_text("no certificate")
        for provider, url in (("stomp", "stomp+ssl://broker"), ("amqp", "amqps://broker")):
            error = self.assertRaises(
                ProfileUnusable, self.service, provider=provider, url=url, ca="no.crt"
            )
            self.assertIn("ca holds no PEM certificate", str(error))
