"""The agent where there is less than on Linux, and under other reactors."""

from __future__ import annotations

import http.client
import json
import plistlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from demo.deployment import Deployment
from demo.processes import Background, command
from tests.support.elsewhere import OURS, ROOT
from tests.support.premises import HttpApplication
from workato_agent.cli.main import parser

SERVICE: Final = """\
import sys
from pathlib import Path
from threading import Thread
from twisted.internet import reactor
from workato_agent.app import StartError
from workato_agent.config import ConfigError
from workato_agent.hosted import start

def stop_when_told():
    sys.stdin.read()
    reactor.callFromThread(reactor.stop)

try:
    start(Path(sys.argv[1]), reactor)
except (ConfigError, StartError) as error:
    sys.exit(str(error))
Thread(target=stop_when_told, daemon=True).start()
reactor.run(installSignalHandlers=False)
"""
"""What etc/windows/workato_agent_service.py does, where the end of standard input is SvcStop."""


def elsewhere(*modules: str, program: Sequence[str] = ()) -> list[str]:
    """The command that runs a program without what Windows lacks."""
    return [sys.executable, "-m", "tests.support.elsewhere", *modules, "--", *program]


def done(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


class Importing(SynchronousTestCase):
    def test_nothing_that_starts_imports_what_only_unix_has(self) -> None:
        programs = [*(f"{name}.cli.main" for name in OURS[:2]), f"{OURS[2]}.cli"]
        outcome = done(elsewhere(*programs, "workato_agent.tap", "workato_gateway.tap"))
        self.assertEqual(outcome.returncode, 0, outcome.stderr)

    def test_what_only_unix_has_is_really_gone(self) -> None:
        outcome = done(elsewhere("workato_agent.services.extensions.host"))
        self.assertIn("No module named 'resource'", outcome.stderr)


class SystemFiles(SynchronousTestCase):
    def test_the_launchd_plist_starts_a_command_that_exists(self) -> None:
        with (ROOT / "etc/macos/workato-agent.plist").open("rb") as file:
            plist = plistlib.load(file)
        program, *arguments = plist["ProgramArguments"]
        self.assertEqual(Path(program).name, "workato-agent")
        parsed = parser().parse_args(arguments)
        self.assertEqual(parsed.config, Path("/etc/workato-agent/config.yml"))
        self.assertGreater(plist["ExitTimeOut"], 30)
        self.assertEqual(plist["Umask"], 0o077)

    def test_the_windows_service_compiles_and_names_what_exists(self) -> None:
        text = (ROOT / "etc/windows/workato_agent_service.py").read_text(encoding="utf-8")
        compile(text, "workato_agent_service.py", "exec")
        ours = [line for line in text.splitlines() if line.startswith("from workato_agent")]
        self.assertEqual(len(ours), 4)
        exec("\n".join(ours), {})  # noqa: S102 - imports alone


class Serving(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="elsewhere-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.application = HttpApplication()
        self.addCleanup(self.application.stop)
        database = sqlite3.connect(self.folder / "shop.db")
        database.execute("create table items (name text)")
        database.execute("insert into items values ('hinge')")
        database.commit()
        database.close()
        sections = (
            f"database:\n  shop: {{ adapter: sqlite, database: {self.folder}/shop.db }}\n"
            f"http:\n  app: {{ base_url: 'http://127.0.0.1:{self.application.port}' }}\n"
            f"logging: {{ path: {self.folder}/own.log }}\n"
        )
        self.deployment = Deployment(self.folder, "plant", sections)
        self.addCleanup(self.deployment.stop)
        self.deployment.make_gateway()
        self.deployment.start_gateway()
        self.deployment.admin("group", "create", "plant")
        self.deployment.enrol(self.deployment.admin("agent", "code", "plant"))
        self.token = self.deployment.token("tester", "plant:*:*:*")

    def call(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.deployment.api_port, timeout=20)
        try:
            content = None if body is None else json.dumps(body)
            headers = {
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
            }
            connection.request(method, f"/v1/groups/plant/{path}", content, headers)
            response = connection.getresponse()
            self.assertEqual(response.status, 200)
            return response.read()
        finally:
            connection.close()

    def check_calls(self) -> None:
        answer = self.call("POST", "database/shop/query", {"sql": "select name from items"})
        self.assertEqual(json.loads(answer)["rows"], [["hinge"]])
        self.assertIn(b"GET /hello", self.call("GET", "http/app/hello"))

    def start(self, argv: Sequence[str], cwd: Path) -> Background:
        agent = Background.start("agent", argv, cwd=cwd)
        self.addCleanup(agent.stop)
        agent.wait_until(self.deployment.connected, "connected")
        return agent

    def test_under_the_reactors_of_other_systems(self) -> None:
        for reactor in ("select", "asyncio"):
            argv = [command("twistd"), f"--reactor={reactor}", "--nodaemon", "--pidfile="]
            argv += ["workato-agent", f"--config={self.deployment.config}"]
            agent = self.start(argv, self.folder)
            self.check_calls()
            agent.process.terminate()
            self.assertEqual(agent.process.wait(20), 0, agent.output())
            self.wait_until_gone()

    def wait_until_gone(self) -> None:
        assert self.deployment.gateway is not None
        self.deployment.gateway.wait_until(
            lambda: not self.deployment.connected(), "told that the agent has gone"
        )

    def test_as_a_service_without_what_windows_lacks(self) -> None:
        program = self.folder / "service.py"
        program.write_text(SERVICE)
        config = self.deployment.config
        modules = ("workato_agent.hosted", "workato_agent.cli.main")
        argv = elsewhere(*modules, program=[str(program), str(config)])
        errors = self.folder / "errors.log"
        with errors.open("wb") as file:
            process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stderr=file)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        Background("agent", errors, process).wait_until(self.deployment.connected, "connected")
        self.check_calls()
        # What stands in place of the Unix socket is a file with a port and a secret.
        status = json.loads(
            done([command("workato-agent"), "status", "--json", f"--config={config}"]).stdout
        )
        self.assertTrue(status["connected"])
        self.assertTrue((self.folder / "identity" / "status.sock").is_file())
        process.communicate(b"", timeout=20)
        self.assertEqual(process.returncode, 0, errors.read_text())
        log = (self.folder / "own.log").read_text()
        self.assertIn("Stopped", log)
        self.assertNotIn("Traceback", log + errors.read_text())
        self.assertFalse((self.folder / "identity" / "status.sock").exists())
        audit = str(self.folder / "identity" / "audit" / "audit.jsonl")
        verified = done([command("workato-agent"), "verify-audit", audit])
        self.assertEqual(verified.returncode, 0, verified.stdout + verified.stderr)

        with config.open("a") as file:
            file.write(f"files:\n  share: {{ base: {self.folder} }}\n")
        refused = done(argv)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("files.share: files profiles are served on Linux and macOS", refused.stderr)
