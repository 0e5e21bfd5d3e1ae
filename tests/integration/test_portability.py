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
from typing import Any, Final, Self

from attrs import define
from twisted.internet import reactor as _reactor
from twisted.trial.unittest import SynchronousTestCase

from demo.deployment import Deployment
from demo.processes import Background, command
from tests.support.elsewhere import OURS, ROOT
from tests.support.premises import HttpApplication
from workato_agent.cli.main import parser

reactor: Any = _reactor

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
# Windows has a service's reactor in another thread than the first; elsewhere children need them.
reactor.run(installSignalHandlers=sys.platform != "win32")
"""
"""What etc/windows/workato_agent_service.py does, where the end of standard input is SvcStop."""


def elsewhere(platform: str, *modules: str, program: Sequence[str] = ()) -> list[str]:
    """The command that runs a program without what another system lacks."""
    return [sys.executable, "-m", "tests.support.elsewhere", platform, *modules, "--", *program]


def done(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


class Importing(SynchronousTestCase):
    def test_nothing_that_starts_imports_what_only_unix_has(self) -> None:
        programs = [*(f"{name}.cli.main" for name in OURS[:2]), f"{OURS[2]}.cli"]
        outcome = done(elsewhere("win32", *programs, "workato_agent.tap", "workato_gateway.tap"))
        self.assertEqual(outcome.returncode, 0, outcome.stderr)

    def test_what_only_unix_has_is_really_gone(self) -> None:
        outcome = done(elsewhere("win32", "workato_agent.services.extensions.host"))
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


@define
class Premises:
    """One gateway, an identity for the agents that come one after another, and their targets."""

    folder: Path
    application: HttpApplication
    deployment: Deployment
    token: str

    @classmethod
    def start(cls) -> Self:
        folder = Path(tempfile.mkdtemp(prefix="elsewhere-"))
        application = HttpApplication()
        database = sqlite3.connect(folder / "shop.db")
        database.executescript("create table items (name); insert into items values ('hinge')")
        database.close()
        sections = (
            f"database:\n  shop: {{ adapter: sqlite, database: {folder}/shop.db }}\n"
            f"http:\n  app: {{ base_url: 'http://127.0.0.1:{application.port}' }}\n"
            f"logging: {{ path: {folder}/own.log }}\n"
        )
        deployment = Deployment(folder, "plant", sections)
        deployment.make_gateway()
        deployment.start_gateway()
        deployment.admin("group", "create", "plant")
        deployment.enrol(deployment.admin("agent", "code", "plant"))
        return cls(folder, application, deployment, deployment.token("tester", "plant:*:*:*"))

    def stop(self) -> None:
        self.deployment.stop()
        self.application.stop()
        shutil.rmtree(self.folder)


def premises() -> Premises:
    """Those that all tests here share; they end with the reactor."""
    if not _running:
        _running.append(Premises.start())
        reactor.addSystemEventTrigger("after", "shutdown", lambda: _running.pop().stop())
    return _running[0]


_running: Final[list[Premises]] = []


class Serving(SynchronousTestCase):
    def setUp(self) -> None:
        shared = premises()
        self.folder, self.deployment, self.token = shared.folder, shared.deployment, shared.token
        config = self.deployment.config
        self.addCleanup(config.write_text, config.read_text())
        assert self.deployment.gateway is not None
        self.deployment.gateway.wait_until(
            lambda: not self.deployment.connected(), "told that the agent before has gone"
        )

    def call(self, method: str, path: str, body: object = None, status: int = 200) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.deployment.api_port, timeout=20)
        try:
            content = None if body is None else json.dumps(body)
            headers = {
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
            }
            connection.request(method, f"/v1/groups/plant/{path}", content, headers)
            response = connection.getresponse()
            answer = response.read()
            self.assertEqual(response.status, status, answer)
            return answer
        finally:
            connection.close()

    def check_calls(self) -> None:
        answer = self.call("POST", "database/shop/query", {"sql": "select name from items"})
        self.assertEqual(json.loads(answer)["rows"], [["hinge"]])
        self.assertIn(b"GET /hello", self.call("GET", "http/app/hello"))

    def test_under_the_asyncio_reactor(self) -> None:
        """The other tests here run under ``select``."""
        argv = [command("twistd"), "--reactor=asyncio", "--nodaemon", "--pidfile="]
        argv += ["workato-agent", f"--config={self.deployment.config}"]
        agent = Background.start("agent", argv, cwd=self.folder)
        self.addCleanup(agent.stop)
        agent.wait_until(self.deployment.connected, "connected")
        self.check_calls()
        agent.process.terminate()
        self.assertEqual(agent.process.wait(60), 0, agent.output())

    def serve(self, platform: str) -> tuple[subprocess.Popen[bytes], Path]:
        """An agent as a service of another system; stop it by closing its standard input."""
        program = self.folder / "service.py"
        program.write_text(SERVICE)
        self.argv = elsewhere(
            platform,
            *("workato_agent.hosted", "workato_agent.cli.main"),
            program=[str(program), str(self.deployment.config)],
        )
        errors = self.folder / "errors.log"
        with errors.open("wb") as file:
            process = subprocess.Popen(self.argv, cwd=ROOT, stdin=subprocess.PIPE, stderr=file)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        Background("agent", errors, process).wait_until(self.deployment.connected, "connected")
        return process, errors

    def check_end(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        process.communicate(b"", timeout=60)
        self.assertEqual(process.returncode, 0, errors.read_text())
        log = (self.folder / "own.log").read_text()
        self.assertIn("Stopped", log)
        self.assertNotIn("Traceback", log + errors.read_text())
        self.assertFalse((self.folder / "identity" / "status.sock").exists())
        audit = str(self.folder / "identity" / "audit" / "audit.jsonl")
        verified = done([command("workato-agent"), "verify-audit", audit])
        self.assertEqual(verified.returncode, 0, verified.stdout + verified.stderr)

    def status(self) -> dict[str, Any]:
        config = f"--config={self.deployment.config}"
        shown = done([command("workato-agent"), "status", "--json", config])
        found: dict[str, Any] = json.loads(shown.stdout)
        return found

    def test_without_what_windows_lacks(self) -> None:
        process, errors = self.serve("win32")
        self.check_calls()
        # What stands in place of the Unix socket is a file with a port and a secret.
        self.assertTrue(self.status()["connected"])
        self.assertTrue((self.folder / "identity" / "status.sock").is_file())
        self.check_end(process, errors)

        with self.deployment.config.open("a") as file:
            file.write(f"files:\n  share: {{ base: {self.folder} }}\n")
        refused = done(self.argv)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("files.share: files profiles are served on Linux and macOS", refused.stderr)

    def test_without_what_macos_lacks(self) -> None:
        share = self.folder / "share"
        share.mkdir()
        (self.folder / "prices.csv").write_text("article,price\n4711,12.50\n")
        with self.deployment.config.open("a") as file:
            file.write(
                f"files:\n  share: {{ base: {share} }}\n"
                "command_line_scripts:\n  jobs:\n    allow_root: true\n    scripts:\n"
                "      hello: { name: Hello, command: [echo, hello] }\n"
                "extensions:\n  prices:\n    controllerClass: prices.Prices\n"
                f"    python_path: {ROOT}/etc/workato-agent/extensions\n"
                f"    file: {self.folder}/prices.csv\n"
            )
        process, errors = self.serve("darwin")
        self.check_calls()
        self.call("PUT", "files/share/content/new.txt", "some text", status=201)
        self.assertEqual(json.loads(self.call("GET", "files/share/content/new.txt")), "some text")
        self.assertIn(b"new.txt", self.call("GET", "files/share/list/"))
        ended = json.loads(self.call("POST", "scripts/jobs/hello", {}))
        self.assertEqual((ended["exit_code"], ended["stdout"]), (0, "hello\n"))
        self.assertIn(b"12.50", self.call("GET", "extensions/prices/4711"))
        self.assertTrue(self.status()["connected"])
        self.check_end(process, errors)
