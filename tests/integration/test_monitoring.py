"""The alert rules and the dashboard in etc/monitoring, against a real Prometheus that scrapes a
real gateway and a real agent."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import yaml
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from demo.deployment import Deployment
from demo.processes import Background
from tests.support.cutting_relay import wait_until
from tests.support.ports import free_port
from tests.support.webhook_receiver import SECRET

MONITORING: Final = Path(__file__).parents[2] / "etc" / "monitoring"
_NAME: Final = re.compile(r"\b(?:onprem_gateway|workato_agent|process)_\w+")
_SUFFIXES: Final = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}


def dashboard_queries() -> list[str]:
    """Every expression, with Grafana's variables replaced as Grafana does."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(found) > 30
    return [each.replace("$group", ".*").replace("$__rate_interval", "1m") for each in found]


def rule_queries() -> list[str]:
    """Every expression of an alert."""
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def names_in(scrape: str) -> set[str]:
    """The names of series that a scrape has, or will have once something was counted."""
    found = set()
    for family in text_string_to_metric_families(scrape):
        suffixes = _SUFFIXES.get(family.type, ("",))
        found |= {family.name + suffix for suffix in suffixes}
    return found


class Rules(SynchronousTestCase):
    def promtool(self, *arguments: str) -> str:
        done = subprocess.run(
            ["promtool", *arguments],
            cwd=MONITORING,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_they_are_valid_and_fire_when_they_should(self) -> None:
        self.promtool("check", "config", "prometheus.yml")
        self.assertIn(f"{len(rule_queries())} rules", self.promtool("check", "rules", "alerts.yml"))
        self.promtool("test", "rules", "alerts.test.yml")


class Scrapes(SynchronousTestCase):
    """One deployment for all that is asked of it."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="monitoring-"))
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "share").mkdir()
        self.metrics_port = free_port()
        sections = (
            f"files:\n  share: {{ base: {self.folder}/share }}\n"
            f"metrics: {{ listen: '127.0.0.1:{self.metrics_port}' }}\n"
        )
        self.deployment = Deployment(self.folder, "plant", sections)
        self.addCleanup(self.deployment.stop)
        self.deployment.make_gateway()
        with self.deployment.gateway_config.open("a") as config:
            config.write(
                "webhooks: { endpoints: [{ url: 'http://127.0.0.1:9/', name: ops,"
                f" secret: {SECRET} }}] }}\n"
            )
        self.deployment.start_gateway()
        self.deployment.admin("group", "create", "plant")
        self.deployment.enrol(self.deployment.admin("agent", "code", "plant"))
        self.deployment.start_agent()

    def get(self, port: int, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def query(self, expression: str) -> Any:
        query = urlencode({"query": expression})
        return json.loads(self.get(self.prometheus_port, f"/api/v1/query?{query}"))

    def result(self, expression: str) -> list[Any]:
        found: list[Any] = self.query(expression)["data"]["result"]
        return found

    def scraped(self) -> bool:
        try:
            return len(self.result("up == 1")) == 2
        except (OSError, ValueError):
            return False

    def start_prometheus(self) -> None:
        self.prometheus_port = free_port()
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        config["rule_files"] = [str(MONITORING / "alerts.yml")]
        ports = {"onprem-gateway": self.deployment.api_port, "onprem-agent": self.metrics_port}
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
        path = self.folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        process = Background.start(
            "prometheus",
            [
                "prometheus",
                f"--config.file={path}",
                f"--storage.tsdb.path={self.folder}/tsdb",
                f"--web.listen-address=127.0.0.1:{self.prometheus_port}",
            ],
            cwd=self.folder,
        )
        self.addCleanup(process.stop)
        process.wait_until(self.scraped, "scraping both")

    def test_every_name_exists_and_every_query_is_answered(self) -> None:
        token = self.deployment.token("tester", "plant:*:*:*")
        for path, status in (("list/", 200), ("content/none", 404)):
            answer, body = self.deployment.get(f"/v1/groups/plant/files/share/{path}", token)
            self.assertEqual(answer, status, body)
        gateway = self.get(self.deployment.api_port, "/metrics")
        agent = self.get(self.metrics_port, "/metrics")
        known = names_in(gateway) | names_in(agent)
        queries = [*dashboard_queries(), *rule_queries()]
        for query in queries:
            self.assertEqual(set(_NAME.findall(query)) - known, set(), query)

        self.start_prometheus()
        for query in queries:
            answer = self.query(query)
            self.assertEqual(answer["status"], "success", (query, answer))
        # What shows the present has something to show. (Agents' certificates are looked at every
        # few minutes, and this one is younger.)
        for query in dashboard_queries():
            if not re.search(r"rate\(|increase\(|agent_certificate_left", query):
                wait_until(lambda query=query: bool(self.result(query)))  # type: ignore[misc]
        (connected,) = self.result('onprem_gateway_sessions{group="plant",state="connected"}')
        self.assertEqual(connected["value"][1], "1")
        rules = json.loads(self.get(self.prometheus_port, "/api/v1/rules"))["data"]["groups"]
        self.assertEqual(
            [rule["health"] for group in rules for rule in group["rules"]].count("err"), 0
        )
