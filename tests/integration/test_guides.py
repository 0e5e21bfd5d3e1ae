"""Every command of the guides, run as a reader would, against a real gateway and a real agent."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from twisted.trial.unittest import SynchronousTestCase

from demo.deployment import Deployment
from demo.processes import command, run
from tests.support import documents
from tests.support.postgresql import PASSWORD, SUPERUSER, shared_server
from tests.support.premises import HTTP_PASSWORD, HttpApplication

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
        server.run("drop table if exists orders")
        server.run("create table orders (name text, amount int)")
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
