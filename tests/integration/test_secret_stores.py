"""Secrets fetched from AWS Secrets Manager (moto's server) and from a Vault of a few lines."""

from __future__ import annotations

import json
import logging
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.request import Request, urlopen

from botocore.session import Session
from moto.server import ThreadedMotoServer
from twisted.trial.unittest import SynchronousTestCase

from tests.support.ports import free_port
from workato_agent.config import AgentConfig, ConfigError, parse_config
from workato_agent.config.secretstores import SecretsOptions, SecretStoreError

PROXY = "proxy: {{ host: h, port: 1, username: u, password: {{ secret: '{path}' }} }}\n"


class StoreCase(SynchronousTestCase):
    section = ""

    def load(self, path: str, *, fetch: bool = True) -> AgentConfig:
        text = f"{self.section}\n{PROXY.format(path=path)}"
        return parse_config(text, Path("/etc/config.yml"), {}, fetch=fetch)

    def password(self, path: str) -> str:
        config = self.load(path)
        assert config.proxy is not None
        assert config.proxy.password is not None
        return config.proxy.password.reveal()

    def refused(self, path: str) -> str:
        error: ConfigError = self.assertRaises(ConfigError, self.load, path)
        self.assertEqual([problem.path for problem in error.problems], ["proxy.password"])
        return str(error)


class AwsTests(StoreCase):
    def setUp(self) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            if name in os.environ:
                self.addCleanup(os.environ.__setitem__, name, os.environ.pop(name))
        port = free_port()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
        server.start()
        self.addCleanup(server.stop)
        endpoint = f"http://127.0.0.1:{port}"
        # What it holds belongs to the process, not to the server.
        with urlopen(Request(f"{endpoint}/moto-api/reset", method="POST"), timeout=10):  # noqa: S310
            pass
        self.section = (
            "secrets: { provider: aws, region: eu-west-1, accessKey: AKIAX, secretKey: xyz, "
            f"endpoint: '{endpoint}', timeout: 5 }}"
        )
        client = Session().create_client(
            "secretsmanager",
            region_name="eu-west-1",
            endpoint_url=endpoint,
            aws_access_key_id="AKIAX",
            aws_secret_access_key="xyz",
        )
        client.create_secret(Name="/prod/proxy", SecretString="it's ☃")
        client.create_secret(Name="db", SecretString='{"user": "u", "port": 5432, "o": {}}')
        client.create_secret(Name="binary", SecretBinary=b"\xff")
        client.close()

    def test_a_secret_is_fetched_whole_or_by_its_key(self) -> None:
        self.assertEqual(self.password("/prod/proxy"), "it's ☃")
        self.assertEqual(self.password("db#user"), "u")
        self.assertEqual(self.password("db#port"), "5432")
        config = self.load("/prod/proxy")
        self.assertNotIn("it's", repr(config))

    def test_what_is_not_there_is_told_apart(self) -> None:
        text = self.refused("/prod/none")
        self.assertIn("ResourceNotFoundException", text)
        self.assertIn("check the secret's name", text)
        self.assertIn("no text", self.refused("db#o"))
        self.assertIn("no JSON object", self.refused("/prod/proxy#user"))
        self.assertIn("binary", self.refused("binary"))
        self.assertIn("PATH#KEY", self.refused("#x"))

    def test_nothing_is_fetched_when_a_file_is_only_looked_at(self) -> None:
        config = self.load("/prod/none", fetch=False)
        assert config.proxy is not None
        assert config.proxy.password is not None
        self.assertEqual(config.proxy.password.reveal(), "(secret)")

    def test_no_answer_is_an_error_in_time(self) -> None:
        options = SecretsOptions.model_validate(
            {
                "provider": "aws",
                "region": "eu-west-1",
                "accessKey": "a",
                "secretKey": "b",
                "endpoint": f"http://127.0.0.1:{free_port()}",
                "timeout": 1,
            }
        )
        error = self.assertRaises(SecretStoreError, options.open().fetch, "x")
        self.assertIn("Could not connect", str(error))


class _Vault(BaseHTTPRequestHandler):
    """What is used of Vault: KV 2 below ``kv``, one token, one AppRole."""

    secrets: ClassVar[dict[str, Any]] = {
        "app": {"password": "s3cret", "user": "u"},
        "one": {"anything": 7},
        "plain": {"value": "v", "other": "o"},
    }

    def do_GET(self) -> None:
        if self.headers["X-Vault-Token"] != "token-1" or self.headers["X-Vault-Namespace"] != "n":
            self.answer(403, {"errors": ["permission denied"]})
        elif self.path == "/v1/kv/data/moved":
            self.answer(307, {}, ("Location", "http://127.0.0.1:1/"))
        elif self.path == "/v1/kv/data/odd":
            self.answer(200, [1])
        elif self.path.startswith("/v1/kv/data/") and self.path[12:] in self.secrets:
            self.answer(200, {"data": {"data": self.secrets[self.path[12:]]}})
        else:
            self.answer(404, {"errors": []})

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if given == {"role_id": "role", "secret_id": "sid"}:
            self.answer(200, {"auth": {"client_token": "token-1"}})
        else:
            self.answer(400, {"errors": ["invalid role or secret ID"]})

    def answer(self, status: int, content: Any, *headers: tuple[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing is written."""


class VaultTests(StoreCase):
    def setUp(self) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Vault)
        Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.use("token: token-1")

    def use(self, login: str) -> None:
        self.section = (
            f"secrets: {{ provider: vault, url: '{self.url}', mount: kv, namespace: n, {login} }}"
        )

    def test_a_secret_is_fetched_by_its_key(self) -> None:
        self.assertEqual(self.password("app#password"), "s3cret")
        self.assertEqual(self.password("/one"), "7")
        self.assertEqual(self.password("plain"), "v")

    def test_an_approle_logs_in(self) -> None:
        self.use("role_id: role, secret_id: sid")
        self.assertEqual(self.password("app#user"), "u")
        self.use("role_id: role, secret_id: wrong")
        text = self.refused("app#user")
        self.assertIn("the login: HTTP 400", text)
        self.assertNotIn("wrong", text)

    def test_what_is_not_there_is_told_apart(self) -> None:
        self.assertIn("HTTP 404", self.refused("none"))
        self.assertIn("it has password, user", self.refused("app#pass"))
        self.assertIn("no key 'value'", self.refused("app"))
        self.assertIn("HTTP 307", self.refused("moved"))
        self.assertIn("not Vault's", self.refused("odd"))
        self.use("token: another")
        text = self.refused("app#user")
        self.assertIn("HTTP 403", text)
        self.assertNotIn("another", text)

    def test_a_server_that_is_none(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.use("token: t")
        self.assertIn("Connection refused", self.refused("app#user"))


class OptionsTests(SynchronousTestCase):
    def test_every_fault_is_named(self) -> None:
        for text, word in (
            ("{ provider: aws }", "secrets.region"),
            ("{ provider: aws, region: x, accessKey: y }", "go together"),
            ("{ provider: vault, token: t }", "secrets.url"),
            ("{ provider: vault, url: 'https://v' }", "token, or role_id"),
            ("{ provider: vault, url: 'http://vault.intra', token: t }", "plain text"),
            ("{ provider: vault, url: 'https://v', token: t, ca: /no }", "no such file"),
            ("{ provider: azure }", "'aws' or 'vault'"),
        ):
            error: ConfigError = self.assertRaises(
                ConfigError, parse_config, f"secrets: {text}", Path("/c.yml")
            )
            self.assertIn(word, str(error))

    def test_a_secret_without_a_store_says_what_to_add(self) -> None:
        error: ConfigError = self.assertRaises(
            ConfigError, parse_config, PROXY.format(path="x"), Path("/c.yml")
        )
        self.assertIn("no section 'secrets'", str(error))
