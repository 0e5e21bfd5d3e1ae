"""``workato-agent check`` of brokers through Java: a line for each profile, with what to do."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.support.activemq import PASSWORD, USER, shared_server
from tests.support.commands import run_apart
from tests.support.folders import folder_for
from tests.support.java_brokers import FACTORY, JARS


class Check(SynchronousTestCase):
    def test_each_profile_has_a_line_that_says_what_to_do(self) -> None:
        server, folder = shared_server(), folder_for(self)
        login = {"username": USER, "password": PASSWORD}
        plain = f"tcp://127.0.0.1:{server.ports.openwire}"
        profiles: dict[str, dict[str, object]] = {
            "plain": {"provider": "activemq", "url": plain, **login},
            "failover": {"provider": "activemq", "url": f"failover:({plain})", **login},
            "encrypted": {
                "provider": "activemq",
                "url": f"ssl://localhost:{server.ports.ssl}",
                "ca": str(server.folder / "ca.crt"),
                **login,
            },
            "custom": {"provider": "custom", "class": FACTORY, "brokerURL": plain, **login},
            "jndi": {
                "provider": "custom",
                "jndi": {
                    "initial_context": "org.apache.activemq.jndi.ActiveMQInitialContextFactory",
                    "url": plain,
                    "factory": "ConnectionFactory",
                },
                **login,
            },
            "rejected": {
                "provider": "activemq",
                "url": plain,
                "user": "x",
                "password": "hidden-pw",
            },
            "nobody": {"provider": "activemq", "url": "tcp://127.0.0.1:1"},
            "jarless": {"provider": "custom", "class": "com.ibm.mq.jms.MQConnectionFactory"},
        }
        classpath = ":".join(str(jar) for jar in JARS)
        config = {"jms": profiles, "server": {"classpath": classpath}}
        file = folder / "config.yml"
        file.write_text(json.dumps(config, ensure_ascii=False))
        file.chmod(0o600)
        outcome = run_apart("check", "--json", "--config", file)
        self.assertNotIn("hidden-pw", outcome.out + outcome.err)
        found = {each["profile"]: each for each in json.loads(outcome.out)["profiles"]}
        for name in ("plain", "failover", "encrypted", "custom", "jndi"):
            self.assertTrue(found[name]["ok"], found[name])
        for name, code in (
            ("rejected", "target_login_failed"),
            ("nobody", "target_unreachable"),
            ("jarless", "target_not_found"),
        ):
            self.assertEqual(found[name]["code"], code)
            self.assertTrue(found[name]["hint"])
