"""Every command of the guides, run as a reader would, against a real gateway and a real agent."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from twisted.trial.unittest import SynchronousTestCase

from demo.deployment import Deployment
from demo.processes import command, run
from tests.support import documents
from tests.support.cutting_relay import wait_until
from tests.support.postgresql import PASSWORD, SUPERUSER, shared_server
from tests.support.premises import HTTP_PASSWORD, HttpApplication
from tests.support.webhook_receiver import SECRET, WebhookReceiver
from workato_agent.config import load_config
from workato_gateway.config import read
from workato_gateway.webhooks.events import Event
from workato_gateway.webhooks.signing import SigningSecret

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
GROUP: Final = "plant-3"


def merged(into: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of several blocks in one config."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merged(into[key], value)
        else:
            into[key] = value
    return into


def config_of(page: Path, replaced: Mapping[str, str], *, connected: bool) -> dict[str, Any]:
    """What the page's parts of config.yml make together."""
    whole: dict[str, Any] = {}
    for block in documents.blocks(page):
        if block.note == "config" or (block.note == "config: not connected" and not connected):
            text = block.body
            for old, new in replaced.items():
                text = text.replace(old, new)
            merged(whole, yaml.safe_load(text))
    return whole


class GuideCase(SynchronousTestCase):
    """A folder, and in it a gateway and an agent when a test starts them."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="guide-")).resolve()
        self.addCleanup(shutil.rmtree, self.folder)

    def environment(self, **more: str) -> dict[str, str]:
        programs = Path(command("workato-agent")).parent
        return {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "WORKATO_AGENT_CONFIG": str(self.folder / "config.yml"),
            "WORKATO_GATEWAY_CONFIG": str(self.folder / "gateway" / "gateway.yml"),
            **more,
        }

    def deploy(self, sections: str) -> Deployment:
        deployment = Deployment(self.folder, GROUP, sections)
        self.addCleanup(deployment.stop)
        deployment.start()
        self.token = deployment.token("reader", f"{GROUP}:*:*:*")
        return deployment

    def read(self, name: str, **environment: str) -> None:
        """Run the page."""
        faults = documents.run(DOCS / name, self.folder, self.environment(**environment))
        self.assertEqual(faults, [], "\n\n".join(faults))


class ConnectingTargets(GuideCase):
    page = "guides/connecting-targets.md"

    def prepare(self) -> dict[str, str]:
        """The targets, and what the page's config says of them."""
        server = shared_server()
        server.run("create table orders (name text, amount int)")
        self.addCleanup(server.run, "drop table orders")
        server.run("insert into orders values ('hinge', 12), ('bolt', 5), ('screw', 400)")
        shutil.copy(server.folder / "ca.crt", self.folder / "erp-ca.crt")
        application = HttpApplication()
        self.addCleanup(application.stop)
        for name, secret in (("erp", PASSWORD), ("stock", HTTP_PASSWORD)):
            (self.folder / f"{name}.password").write_text(secret, encoding="utf-8")
        database = sqlite3.connect(self.folder / "archive.db")
        database.executescript(
            "create table items (id integer, name text); create table secrets (a);"
            "insert into items values (1, 'hinge');"
        )
        database.close()
        (self.folder / "reports" / "2026").mkdir(parents=True)
        (self.folder / "reports" / "sales.csv").write_text("day,total\n2026-03-01,17\n")
        shutil.copytree(ROOT / "etc/workato-agent/extensions", self.folder / "extensions")
        (self.folder / "prices.csv").write_text("article,price\n4711,12.50\n")
        return {
            "erp-db.intra": "localhost",
            "port: 5432": f"port: {server.port}",
            "database: erp\n": "database: postgres\n",
            "username: reports": f"username: {SUPERUSER}",
            "/srv/prices.csv": str(self.folder / "prices.csv"),
            "stock.intra": f"127.0.0.1:{application.port}",
        }

    def test_each_kind(self) -> None:
        replaced = self.prepare()
        sections = config_of(DOCS / self.page, replaced, connected=True)
        # JSON is YAML.
        text = "".join(f"{name}: {json.dumps(value)}\n" for name, value in sections.items())
        deployment = self.deploy(text)
        self.read(self.page, ONPREM_URL=deployment.url, ONPREM_GROUP=GROUP, ONPREM_TOKEN=self.token)

    def test_every_config_on_the_page_is_valid(self) -> None:
        replaced = self.prepare()
        sections = config_of(DOCS / self.page, replaced, connected=False)
        (self.folder / "config.yml").write_text(json.dumps(sections), encoding="utf-8")
        environment = self.environment(SHOP_PASSWORD="x")
        os.environ.update({"SHOP_PASSWORD": "x"})
        self.addCleanup(os.environ.pop, "SHOP_PASSWORD")
        shown = run(
            [
                command("workato-agent"),
                "check",
                "--no-connect",
                f"--config={environment['WORKATO_AGENT_CONFIG']}",
            ],
            cwd=self.folder,
        )
        profiles = sum(len(section) for name, section in sections.items() if name != "server")
        self.assertGreater(profiles, 10)
        self.assertIn(f"valid, {profiles} profiles", shown)


class Migrating(GuideCase):
    page = "guides/migrating.md"
    samples = ROOT / "tests/agent/workato_samples"

    def test_the_steps_on_a_documented_config(self) -> None:
        original = self.folder / "original"
        original.mkdir()
        shutil.copy(self.samples / "properties.yml", original / "config.yml")
        (self.folder / "password.txt").write_text("s3cret\n")
        self.read(self.page)

    def test_every_documented_config_loads_as_it_is(self) -> None:
        for sample in sorted(self.samples.glob("*.yml")):
            shutil.copy(sample, self.folder / "config.yml")
            config = load_config(self.folder / "config.yml")
            self.assertTrue(list(config.every_profile()), sample.name)


class Operating(GuideCase):
    def test_operations_and_webhooks(self) -> None:
        receiver = WebhookReceiver(self.folder)
        self.addCleanup(receiver.stop)
        (self.folder / "etc").symlink_to(ROOT / "etc")
        deployment = Deployment(
            self.folder, GROUP, f"files: {{ share: {{ base: {self.folder} }} }}\n"
        )
        self.addCleanup(deployment.stop)
        deployment.make_gateway()
        deployment.start_gateway()
        deployment.admin("group", "create", GROUP)
        deployment.enrol(deployment.admin("agent", "code", GROUP, "--name", "press-7"))
        deployment.start_agent()
        # The command line reads the store, into which the gateway writes once in a while.
        wait_until(lambda: "active" in deployment.admin("agent", "list"))
        self.read("operations.md", ONPREM_URL=deployment.url)

        shutil.copy(deployment.gateway_config, self.folder / "gateway.yml")
        for name in ("ca.crt", "ca.key"):
            shutil.copy(self.folder / "gateway" / name, self.folder)
        with (self.folder / "gateway.yml").open("a") as config:
            config.write(
                f"webhooks: {{ endpoints: [{{ url: '{receiver.url}', ca: '{receiver.ca}',"
                f" name: ops.example, secret: {SECRET} }}] }}\n"
            )
        self.read("webhooks.md")
        self.assertEqual(receiver.types(), ["webhook.test"])
        self.assertRegex((self.folder / "webhook.secret").read_text(), r"^whsec_[\w+/]{43}=\n$")

    def test_the_receiver_in_the_documentation_knows_genuine_events(self) -> None:
        (code,) = [
            block.body
            for block in documents.blocks(DOCS / "webhooks.md")
            if block.language == "python"
        ]
        names: dict[str, Any] = {}
        exec(code, names)  # noqa: S102 - our own documentation
        event = Event("webhook.test", time.time(), {})
        body = event.body()
        fields = SigningSecret.parse(SECRET).fields(event.id, int(event.at), body)
        is_genuine = names["is_genuine"]
        self.assertTrue(is_genuine(fields, body, SECRET))
        self.assertFalse(is_genuine(fields, body + b" ", SECRET))
        self.assertFalse(is_genuine(fields, body, SECRET.replace("A", "B")))
        old = SigningSecret.parse(SECRET).fields(event.id, int(event.at) - 3600, body)
        self.assertFalse(is_genuine(old, body, SECRET))

    def test_the_config_in_the_documentation_is_valid(self) -> None:
        (text,) = [
            block.body
            for block in documents.blocks(DOCS / "webhooks.md")
            if block.language == "yaml"
        ]
        (self.folder / "webhook.secret").write_text(SECRET)
        config = read(f"public_url: https://gw\n{text}", self.folder / "gateway.yml")
        (endpoint,) = config.webhooks.endpoints
        self.assertEqual(endpoint.called, "ops.example")


class Pages(SynchronousTestCase):
    def test_few_commands_are_not_run(self) -> None:
        pages = [*DOCS.glob("guides/*.md"), DOCS / "operations.md", DOCS / "webhooks.md"]
        left_out = [
            block.note
            for page in pages
            for block in documents.blocks(page)
            if block.language == "console" and block.note.startswith("not run")
        ]
        self.assertLess(len(left_out), 6, left_out)
        run_by_test = sum(len(documents.commands(page)) for page in pages)
        self.assertGreater(run_by_test, 30)
