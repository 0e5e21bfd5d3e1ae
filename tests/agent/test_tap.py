"""The twistd plugin, in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.folders import folder_for
from tests.support.identities import make_identity
from workato_gateway.identity.authority import Authority

ROOT = Path(__file__).resolve().parents[2]
TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python on the checkout, from its root, where twistd finds the plugin."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class PluginTests(SynchronousTestCase):
    def test_twistd_knows_the_agent(self) -> None:
        self.assertIn("workato-agent", python(TWISTD, "--help").stdout)

    def test_nothing_loads_the_reactor_before_twistd_chose_one(self) -> None:
        code = "import sys, workato_agent.tap; sys.exit('twisted.internet.reactor' in sys.modules)"
        self.assertEqual(python(code).returncode, 0)

    def test_the_plugin_loads_nothing_of_the_agent(self) -> None:
        code = (
            "import sys; from twisted.plugin import getPlugins;"
            "from twisted.application.service import IServiceMaker;"
            "names = [each.tapname for each in getPlugins(IServiceMaker)];"
            "sys.exit('workato-agent' not in names or 'workato_agent.tap' in sys.modules)"
        )
        self.assertEqual(python(code).returncode, 0)


class StartTests(SynchronousTestCase):
    """What keeps the agent from starting is one line each, exit code 1, and no traceback."""

    def setUp(self) -> None:
        self.folder = folder_for(self)

    def start(self, config: str) -> str:
        path = self.folder / "config.yml"
        path.write_text(config.replace("FOLDER", str(self.folder)))
        done = python(TWISTD, "-n", "--pidfile=", "workato-agent", f"--config={path}")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertNotIn("Traceback", done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_a_config_that_is_missing(self) -> None:
        done = python(TWISTD, "-n", "--pidfile=", "workato-agent", "--config=/no/such.yml")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertIn("/no/such.yml: can't be read", done.stderr)

    def test_a_config_with_faults_names_them_all(self) -> None:
        output = self.start("gatewey: {}\nfiles: { hr: { base: /no/such/folder } }\n")
        self.assertIn("gatewey", output)
        self.assertIn("files.hr.base", output)

    def test_an_agent_that_is_not_enrolled(self) -> None:
        output = self.start("gateway: { identity: FOLDER/none }")
        self.assertIn("workato-agent enrol --code CODE", output)
        self.assertEqual(len(output.splitlines()), 1)

    def test_a_key_that_others_can_read(self) -> None:
        make_identity(self.folder / "id", Authority.create("CA"))
        (self.folder / "id" / "key.pem").chmod(0o644)
        self.assertIn("chmod 600", self.start("gateway: { identity: FOLDER/id }"))

    def test_an_audit_log_that_can_not_be_written(self) -> None:
        make_identity(self.folder / "id", Authority.create("CA"))
        config = "gateway: { identity: FOLDER/id }\naudit: { path: /proc/none/audit.jsonl }"
        self.assertIn("the audit log /proc/none/audit.jsonl can't be written", self.start(config))

    def test_a_ca_file_that_is_none(self) -> None:
        make_identity(self.folder / "id", Authority.create("CA"))
        config = "gateway: { identity: FOLDER/id, ca: FOLDER/config.yml }"
        self.assertIn("gateway.ca: ", self.start(config))
