"""The commands as an operator meets them: help, exit status, output, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.agent.test_config_load import SAMPLE
from tests.support.audits import a_chain, lines_of
from tests.support.commands import ROOT, run_apart, run_here
from workato_agent.status import StatusSocket

COMMANDS = ("enrol", "check", "run", "encrypt", "status", "verify-audit")


class Everywhere(SynchronousTestCase):
    def test_help_lists_every_command_and_each_has_an_example(self) -> None:
        whole = run_here("--help")
        self.assertEqual(whole.status, 0)
        for command in COMMANDS:
            self.assertIn(f"  {command}", whole.out)
            one = run_here(command, "--help")
            self.assertEqual(one.status, 0)
            self.assertIn(f"example:\n  workato-agent {command}", one.out)

    def test_wrong_use_is_2_and_on_stderr(self) -> None:
        for arguments in (
            (),
            ("nothing",),
            ("check", "--nothing"),
            ("check", "--sch"),
            ("enrol",),
            ("verify-audit",),
            ("verify-audit", "x", "--contains", "y"),
        ):
            outcome = run_here(*arguments)
            self.assertEqual((outcome.status, outcome.out), (2, ""), arguments)
            self.assertIn("usage: workato-agent", outcome.err)

    def test_a_config_that_is_not_there_is_1_for_every_command(self) -> None:
        for arguments in (("check",), ("run",), ("status",), ("enrol", "--code", "x")):
            outcome = run_here(*arguments, "--config", "none.yml")
            self.assertEqual((outcome.status, outcome.out), (1, ""))
            self.assertIn("none.yml: can't be read: No such file", outcome.err)

    def test_a_reader_who_leaves_is_no_traceback(self) -> None:
        read, write = os.pipe()
        os.close(read)
        process = subprocess.run(
            [sys.executable, "-m", "workato_agent.cli.main", "check", "--schema"],
            stdout=write,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        os.close(write)
        self.assertEqual((process.returncode, process.stderr), (1, b""))


class Check(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(mkdtemp(dir=".")).absolute()
        self.config = self.folder / "config.yml"

    def test_a_valid_file_is_said_to_be(self) -> None:
        outcome = run_here("check", "--no-connect", "--config", SAMPLE)
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertRegex(outcome.out, r"config.yml: valid, 0 profiles, hash [0-9a-f]{16}\n$")

    def test_every_fault_is_a_line_on_stderr(self) -> None:
        self.config.write_text("sap:\nsaprfc:\n")
        outcome = run_here("check", "--no-connect", "--config", self.config)
        self.assertEqual((outcome.status, outcome.out), (1, ""))
        self.assertEqual(len(outcome.err.splitlines()), 2)

    def test_faults_as_json_have_path_line_message_and_hint(self) -> None:
        self.config.write_text("\ngatewy: {}\n")
        outcome = run_here("check", "--no-connect", "--json", "--config", self.config)
        self.assertEqual(outcome.status, 1)
        (problem,) = json.loads(outcome.out)["problems"]
        self.assertEqual(
            problem,
            {
                "path": "gatewy",
                "line": 2,
                "message": "unknown section",
                "hint": "did you mean 'gateway'?",
            },
        )

    def test_the_schema_is_json(self) -> None:
        outcome = run_here("check", "--schema", "--config", "none.yml")
        self.assertEqual(outcome.status, 0)
        self.assertIn("$schema", json.loads(outcome.out))

    def test_a_profile_that_is_not_there_is_wrong_use(self) -> None:
        self.config.write_text("files: {a: {base: .}}")
        outcome = run_here("check", "--config", self.config, "a", "b", "files/c")
        self.assertEqual(outcome.status, 2)
        self.assertIn("no profile b, files/c", outcome.err)

    def test_remarks_are_notes_on_stderr(self) -> None:
        self.config.write_text("http: {a: {base_url: https://a, trustAll: true}}")
        outcome = run_here("check", "--no-connect", "--config", self.config)
        self.assertEqual(outcome.status, 0)
        self.assertIn("note: http.a: trustAll is on", outcome.err)

    def test_each_profile_is_tested_and_told(self) -> None:
        self.config.write_text(
            "gateway: {identity: none}\n"
            "files: {here: {base: .}, gone: {base: none}}\n"
            "http: {dead: {base_url: 'http://127.0.0.1:1'}}\n"
            "database: {x: {adapter: sqlite, database: x.db, create: true}}\n"
        )
        outcome = run_apart("check", "--config", self.config)
        self.assertEqual(outcome.status, 1)
        lines = {line.split()[1]: line for line in outcome.out.splitlines()}
        profiles = {"files/here", "files/gone", "http/dead", "database/x"}
        self.assertEqual(set(lines), {*profiles, "tunnel/identity", "tunnel/agent"})
        self.assertTrue(lines["files/here"].startswith("ok "))
        self.assertTrue(lines["database/x"].startswith("ok "))
        self.assertIn("target_not_found", lines["files/gone"])
        self.assertIn("target_unreachable", lines["http/dead"])
        self.assertNotIn("\x1b", outcome.out)

    def test_only_the_named_profiles_are_tested(self) -> None:
        self.config.write_text("files: {here: {base: .}, gone: {base: none}}")
        outcome = run_apart("check", "--json", "--config", self.config, "here")
        self.assertEqual(outcome.status, 0, outcome.err)
        document = json.loads(outcome.out)
        self.assertIs(document["ok"], True)
        self.assertEqual([each["profile"] for each in document["profiles"]], ["here"])


class VerifyAudit(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(mkdtemp(dir=".")).absolute()
        self.path = self.folder / "audit.jsonl"
        a_chain(self.path, 50, max_size=4096).close()

    def spoil(self) -> None:
        self.path.write_bytes(self.path.read_bytes().replace(b'"me"', b'"us"', 1))

    def test_an_intact_folder_is_0(self) -> None:
        outcome = run_here("verify-audit", self.folder)
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertIn("INTACT  audit.jsonl: 50 lines in", outcome.out)

    def test_a_single_file_of_a_chain_can_be_verified(self) -> None:
        outcome = run_here("verify-audit", self.path)
        self.assertEqual(outcome.status, 0)
        self.assertIn("are not here", outcome.out)

    def test_a_broken_line_is_1_and_named(self) -> None:
        self.spoil()
        outcome = run_here("verify-audit", self.folder)
        self.assertEqual(outcome.status, 1)
        self.assertIn(f"BROKEN  {self.path}:1: this line was changed", outcome.out)

    def test_nothing_to_verify_is_2(self) -> None:
        for path in (self.folder / "none", Path(mkdtemp(dir="."))):
            outcome = run_here("verify-audit", path)
            self.assertEqual((outcome.status, outcome.out), (2, ""))
            self.assertTrue(outcome.err)

    def test_the_result_is_json_on_demand(self) -> None:
        document = json.loads(run_here("verify-audit", "--json", self.folder).out)
        (chain,) = document["chains"]
        self.assertIs(document["ok"], True)
        self.assertEqual((chain["lines"], chain["last"]["seq"], chain["broken"]), (50, 50, None))
        self.spoil()
        outcome = run_here("verify-audit", "--json", self.folder)
        self.assertEqual(outcome.status, 1)
        document = json.loads(outcome.out)
        self.assertIs(document["ok"], False)
        self.assertEqual(document["chains"][0]["broken"]["line"], 1)

    def test_a_hash_that_was_noted_must_be_there(self) -> None:
        noted = str(lines_of(self.path)[-1]["hash"])
        self.assertEqual(run_here("verify-audit", self.folder, "--contains", noted).status, 0)
        outcome = run_here("verify-audit", self.folder, "--contains", "0" * 64)
        self.assertEqual(outcome.status, 1)
        self.assertIn("written anew", outcome.out)


class Enrol(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(mkdtemp(dir=".")).absolute()
        self.config = self.folder / "config.yml"
        self.config.write_text("gateway: {identity: id}\ndatabase: {a: {password: {env: NONE}}}")

    def test_a_code_that_is_none_is_1_and_not_repeated(self) -> None:
        for arguments, stdin in ((("--code", "nonsense"), ""), (("--code", "-"), "nonsense\n")):
            outcome = run_apart("enrol", *arguments, "--config", self.config, stdin=stdin)
            self.assertEqual((outcome.status, outcome.out), (1, ""))
            self.assertTrue(outcome.err.startswith("not enrolled: "), outcome.err)
            self.assertNotIn("nonsense", outcome.err)

    def test_failing_is_json_on_demand(self) -> None:
        outcome = run_apart("enrol", "--code", "x", "--json", "--config", self.config)
        self.assertEqual(outcome.status, 1)
        self.assertIs(json.loads(outcome.out)["ok"], False)

    def test_no_code_on_stdin_is_wrong_use(self) -> None:
        self.assertEqual(run_apart("enrol", "--code", "-", "--config", self.config).status, 2)


class Status(TestCase):
    STATE = {  # noqa: RUF012 - a constant
        "connected": True,
        "calls_in_flight": 3,
        "tunnel": {"gateway": "gw:8443", "problem": None, "round_trip": 0.0123456789},
        "profiles": [{"service": "files", "name": "hr"}],
    }

    def setUp(self) -> None:
        self.folder = Path(mkdtemp())
        self.config = self.folder / "config.yml"
        self.config.write_text("gateway: {identity: .}\ndatabase: {a: {password: {env: NONE}}}")

    def serve(self) -> None:
        service = StatusSocket(self.folder / "status.sock", lambda: self.STATE, reactor)  # type: ignore[arg-type]
        service.startService()
        self.addCleanup(service.stopService)

    async def test_a_running_agent_is_told_as_text(self) -> None:
        self.serve()
        outcome = await deferToThread(run_apart, "status", "--config", self.config)
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        for line in (
            "connected        yes",
            "calls in flight  3",
            "  gateway     gw:8443",
            "  problem     -",
            "  service=files  name=hr",
        ):
            self.assertIn(line, outcome.out.splitlines())

    async def test_a_running_agent_is_told_as_json(self) -> None:
        self.serve()
        for arguments in (("--config", self.config), ("--socket", self.folder / "status.sock")):
            outcome = await deferToThread(run_apart, "status", "--json", *arguments)
            self.assertEqual(json.loads(outcome.out), self.STATE)

    async def test_no_agent_is_1_with_what_to_do(self) -> None:
        outcome = run_here("status", "--config", self.config)
        self.assertEqual((outcome.status, outcome.out), (1, ""))
        self.assertIn("no agent is running", outcome.err)
        outcome = run_here("status", "--json", "--config", self.config)
        self.assertEqual(outcome.status, 1)
        self.assertIs(json.loads(outcome.out)["running"], False)
