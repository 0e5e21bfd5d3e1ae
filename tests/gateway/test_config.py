"""gateway.yml: what it means, and everything that is wrong with it at once."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.folders import folder_for
from workato_gateway.addresses import Listen, PublicUrl, admits, parse_network, parse_public_url
from workato_gateway.config import Config, ConfigError, KeyPair, load, read, seconds_of

ROOT = Path(__file__).parents[2]
MINIMAL = "public_url: https://gw.example\n"
PATH = Path("/srv/gw/gateway.yml")

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def errors(text: str) -> list[str]:
    """What is wrong, without the file's name."""
    try:
        read(text, PATH)
    except ConfigError as error:
        return [line.removeprefix(f"{PATH}:") for line in error.lines]
    return []


class Meanings(SynchronousTestCase):
    def config(self, text: str = "") -> Config:
        return read(MINIMAL + text, PATH)

    def test_one_key_is_enough(self) -> None:
        config = self.config()
        self.assertEqual(config.public_url, PublicUrl("gw.example", 443))
        self.assertEqual(config.tunnel.listen, Listen("0.0.0.0", 8443))
        self.assertEqual(config.api.listen, Listen("127.0.0.1", 8080))
        self.assertTrue(config.api.plain)
        self.assertEqual(config.storage, Path("/srv/gw/gateway.db"))
        self.assertEqual(config.ca.key, Path("/srv/gw/ca.key"))
        self.assertEqual(config.ca.agent_lifetime, 30 * 86400)

    def test_the_sample_is_valid_and_says_the_defaults_but_for_where_the_state_is(self) -> None:
        path = ROOT / "etc/workato-gateway/gateway.yml"
        text = path.read_text(encoding="utf-8")
        shipped = load(path)
        state = Path("/var/lib/workato-gateway/gateway.yml")
        self.assertEqual(shipped, read("public_url: https://gw.example:8443\n", state))
        commented = {match[1] for match in re.finditer(r"^ *#? ?([a-z_]+):", text, re.MULTILINE)}
        for name, field in Config.model_fields.items():
            self.assertIn(name, commented)
            keys = getattr(field.annotation, "model_fields", {})
            self.assertEqual(set(keys) - commented, set(), name)

    def test_every_key_is_documented(self) -> None:
        text = (ROOT / "docs/gateway-configuration.md").read_text(encoding="utf-8")
        for name, field in Config.model_fields.items():
            for key in getattr(field.annotation, "model_fields", [""]):
                self.assertIn(f"`{name}.{key}`" if key else f"`{name}`", text)

    def test_sections_may_be_empty(self) -> None:
        self.assertEqual(self.config("tunnel:\napi:\nlimits:\n"), self.config())

    def test_plain_http_is_for_loopback_or_behind_a_named_proxy(self) -> None:
        for api, plain in (
            ("{listen: 127.0.0.1:80}", True),
            ("{listen: '[::1]:80'}", True),
            ("{listen: 127.0.0.1:80, tls: own}", False),
            ("{listen: 0.0.0.0:80}", False),
            ("{listen: 0.0.0.0:80, tls: own}", False),
            ("{listen: 0.0.0.0:80, tls: off, trusted_proxies: [10.0.0.1]}", True),
            ("{listen: 0.0.0.0:80, trusted_proxies: [10.0.0.1]}", False),
        ):
            self.assertIs(self.config(f"api: {api}\n").api.plain, plain, api)
        (line,) = errors(MINIMAL + "api: {listen: 0.0.0.0:80, tls: off}")
        self.assertIn("would show tokens to the network", line)
        (line,) = errors(MINIMAL + "api: {listen: 0.0.0.0:80, tls: 'off'}")
        self.assertIn("would show tokens to the network", line)

    def test_certificates_of_ones_own(self) -> None:
        config = self.config("api: {tls: {certificate: a.pem, key: /k.pem}}\n")
        tls = config.api.tls
        assert isinstance(tls, KeyPair)
        self.assertEqual((tls.certificate, tls.key), (Path("/srv/gw/a.pem"), Path("/k.pem")))

    def test_storage_is_absolute_or_beside_the_file(self) -> None:
        self.assertEqual(self.config("storage: sqlite:///var/x.db\n").storage, Path("/var/x.db"))
        self.assertEqual(self.config("storage: sqlite:y/x.db\n").storage, Path("/srv/gw/y/x.db"))

    def test_other_keys_of_logging_are_loggers(self) -> None:
        logging = self.config("logging: {level: warn, workato_gateway.api: debug}\n").logging
        self.assertEqual(logging.levels, {"workato_gateway.api": "debug"})

    def test_the_access_log_goes_out_to_a_file_or_nowhere(self) -> None:
        for value, meaning in (
            ("off", "off"),
            ("stdout", "stdout"),
            ("a.log", Path("/srv/gw/a.log")),
        ):
            config = self.config(f"logging: {{access: {value}}}\n")
            self.assertEqual(config.logging.access, meaning)

    def test_durations(self) -> None:
        for text, seconds in (
            ("30d", 2592000),
            ("12h", 43200),
            ("5m", 300),
            ("90s", 90),
            ("90", 90),
            ("1.5h", 5400),
            ("2w", 1209600),
            (90, 90),
            (0.5, 0.5),
        ):
            self.assertEqual(seconds_of(text), seconds)
        for text in ("", "d", "3 days", "-1d", "1e9", True, None, "1dd", "٣d" * 0 + "x"):
            with self.assertRaises(ValueError):
                seconds_of(text)

    def test_public_urls(self) -> None:
        for text, authority, tunnel in (
            ("https://gw.example", "gw.example", "wss://gw.example/tunnel"),
            ("https://gw.example:443/", "gw.example", "wss://gw.example/tunnel"),
            ("https://GW.example:8443", "gw.example:8443", "wss://gw.example:8443/tunnel"),
            ("https://[::1]:1", "[::1]:1", "wss://[::1]:1/tunnel"),
            ("https://10.0.0.1", "10.0.0.1", "wss://10.0.0.1/tunnel"),
        ):
            url = parse_public_url(text)
            self.assertEqual((url.authority, url.tunnel), (authority, tunnel))
        for text in (
            "http://gw",
            "gw",
            "https://",
            "https://gw/x",
            "https://gw?x",
            "https://u@gw",
            "https://gw:0",
            "https://gw:99999",
            "https://a b",
            "https://gw:x",
            "https://é.example",
            "https://[::1",
            5,
            None,
        ):
            with self.assertRaises(ValueError):
                parse_public_url(text)

    def test_networks(self) -> None:
        networks = (parse_network("10.0.0.0/8"), parse_network("::1"))
        for address, inside in (
            ("10.1.1.1", True),
            ("::ffff:10.1.1.1", True),
            ("::1", True),
            ("11.0.0.1", False),
            ("::2", False),
            ("x", False),
        ):
            self.assertIs(admits(networks, address), inside, address)


class Errors(SynchronousTestCase):
    def test_all_are_told_at_once_each_with_line_and_path(self) -> None:
        text = """\
public_url: http://x/y
tunnel:
  listne: 0.0.0.0:1
  listen: foo:1
  key: k.pem
storage: mysql://x
ca: { agent_lifetime: 3q, nope: 1 }
limits:
  calls: 0
  tunnel_memory: 10X
metrics: { allowed_networks: [10.0.0.1/8] }
logging: { level: loud, c: quiet }
api:
  tls: { certificate: a.pem, ke: x }
bogus: 1
drain: true
"""
        expected = [
            "1: public_url: expected https://HOST",
            "3: tunnel.listne: unknown key; did you mean listen?",
            "4: tunnel.listen: expected an IP address before the port, not 'foo'",
            "6: storage: expected sqlite:///ABSOLUTE/PATH",
            "7: ca.agent_lifetime: expected a duration",
            "7: ca.nope: unknown key; known here: agent_lifetime, certificate, key, server",
            "9: limits.calls: Input should be greater than or equal to 1",
            "10: limits.tunnel_memory: expected a number of bytes",
            "11: metrics.allowed_networks.0: expected a network such as 10.0.0.0/8",
            "12: logging.c: Input should be 'debug'",
            "12: logging.level: Input should be 'debug'",
            "14: api.tls.ke: unknown key; did you mean key?",
            "14: api.tls.key: is missing",
            "15: bogus: unknown key; known here: api, audit, ca, drain",
            "16: drain: expected a duration",
        ]
        found = errors(text)
        self.assertEqual(len(found), len(expected), "\n".join(found))
        for line, begin in zip(found, expected, strict=True):
            self.assertTrue(line.startswith(begin), (line, begin))

    def test_webhooks(self) -> None:
        text = """\
public_url: https://gw
webhooks:
  grace: soon
  endpoints:
    - { url: "http://ops.example/x", secret: hunter2, nme: x }
    - { url: "https://u:hunter3@ops.example", secret: { file: none }, events: [agent.lost] }
    - { secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw }
"""
        expected = [
            "3: webhooks.grace: expected a duration",
            "5: webhooks.endpoints.0.nme: unknown key; did you mean name?",
            "5: webhooks.endpoints.0.secret: expected whsec_ and the Base64",
            "5: webhooks.endpoints.0.url: plain HTTP is for a loopback address only",
            "6: webhooks.endpoints.1.events.0: Input should be 'agent.certificate_expired'",
            "6: webhooks.endpoints.1.secret: /srv/gw/none: No such file",
            "6: webhooks.endpoints.1.url: holds a user or password",
            "7: webhooks.endpoints.2.url: is missing",
        ]
        found = errors(text)
        self.assertEqual(len(found), len(expected), "\n".join(found))
        for line, begin in zip(found, expected, strict=True):
            self.assertTrue(line.startswith(begin), (line, begin))
            self.assertNotIn("hunter", line)
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        twice = (
            f"[{{url: 'https://a/1', secret: {secret}}}, {{url: 'https://a/2', secret: {secret}}}]"
        )
        (line,) = errors(f"{MINIMAL}webhooks: {{endpoints: {twice}}}")
        self.assertIn("two endpoints are called a", line)

    def test_a_missing_key_of_the_file_is_named(self) -> None:
        self.assertEqual(errors("drain: 5s"), ["1: public_url: is missing"])
        self.assertEqual(errors(""), ["1: public_url: is missing"])
        self.assertEqual(
            errors(MINIMAL + "tunnel: {certificate: x}"),
            ["2: tunnel: certificate and key belong together: give both or none"],
        )

    def test_what_is_no_mapping_or_no_yaml(self) -> None:
        for text, told in (
            ("- a", "1: expected keys with values"),
            ("just text", "1: expected keys with values"),
            ("a: [1", "1: "),
            ("a: 1\nb: 2\na: 3", "3: the key 'a' is given twice"),
            ("tunnel:\n  listen: x\n  listen: y", "3: the key 'listen' is given twice"),
            ("a: &x [1]\nb: !!python/object:os.system {}", "2: could not determine a constructor"),
            ("a: " + "[" * 100, "1: "),
            ("a: 1\nb: \x00", "2: holds the character #x0000"),
            ("a: " + "[" * 50000, "1: is nested too deeply"),
            ("a: !!int ''", "1: holds a value that can't be read"),
            ("a: !!bool x", "1: holds a value that can't be read"),
            ("a: 2020-99-99", "1: holds a value that can't be read"),
            ("? [a]\n: b", "1: "),
            ("&a [*a]", "1: is nested too deeply"),
            (BOMB, "1: holds too many values"),
            ("a: 1\n\tb: 2", "2: "),
        ):
            (line,) = errors(text)
            self.assertTrue(line.startswith(told), (text, line))

    def test_a_file_that_can_not_be_read_is_named(self) -> None:
        folder = folder_for(self)
        (folder / "latin").write_bytes(b"a: \xe9")
        for name, told in (("none", "No such file"), (".", "Is a directory"), ("latin", "UTF-8")):
            with self.assertRaisesRegex(ConfigError, told):
                load(folder / name)

    @settings(deadline=None, max_examples=200)
    @given(st.text(max_size=200))
    def test_any_text_is_a_config_or_a_config_error(self, text: str) -> None:
        errors(text)

    @settings(deadline=None, max_examples=200)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from([*Config.model_fields, "listen", "tls", "key", "x"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        )
    )
    def test_any_document_is_a_config_or_a_config_error(self, document: object) -> None:
        errors(yaml.safe_dump(document, allow_unicode=True))
