"""Scripts: what becomes of values, what the config refuses, and real processes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.files import Chunks, whole
from tests.support.folders import folder_for
from workato_agent.config import ConfigError, parse_config
from workato_agent.config.placeholders import placeholders
from workato_agent.requests import Request
from workato_agent.served import serve_profiles
from workato_agent.services.scripts import processes
from workato_agent.services.scripts.settings import Element, Parameter, Quote, Script
from workato_agent.services.scripts.templates import MAX_VALUE, arguments
from workato_tunnel.problems import Problem

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def script(*command: str | tuple[str, str], **parameters: Any) -> Script:
    return Script(
        "a script",
        tuple(Element(e) if isinstance(e, str) else Element(*e) for e in command),
        tuple(Parameter(name, **more) for name, more in parameters.items()),
    )


class TemplateTests(SynchronousTestCase):
    def problem(self, made: Script, **given: object) -> Problem:
        problem: Problem = self.assertRaises(Problem, arguments, made, given)
        self.assertEqual(problem.code, "bad_request")
        return problem

    def test_values_go_where_their_names_stand(self) -> None:
        made = script("cp", "{{ from }}", "--to={{{to}}}/{{&to}}", "-{{n}}", "{{ok}}",
                      **{"from": {}}, to={}, n={}, ok={})  # fmt: skip
        self.assertEqual(
            arguments(made, {"from": "a b; $(x)", "to": "{{n}}", "n": 7, "ok": True}),
            ["cp", "a b; $(x)", "--to={{n}}/{{n}}", "-7", "true"],
        )

    def test_an_argument_with_a_condition_comes_with_its_value(self) -> None:
        made = script("x", ("-r", "r"), ("{{o}}", "o"), r={"optional": True}, o={"optional": True})
        self.assertEqual(arguments(made, {}), ["x"])
        self.assertEqual(arguments(made, {"r": True, "o": "y"}), ["x", "-r", "y"])
        for nothing in (False, "", None, "false"):
            self.assertEqual(arguments(made, {"r": nothing}), ["x"])

    def test_an_optional_value_that_is_missing_is_empty(self) -> None:
        made = script("x", "[{{o}}]", o={"optional": True, "quote": Quote('"', '"')})
        self.assertEqual(arguments(made, {}), ["x", "[]"])

    def test_what_can_not_be_given_is_refused_by_name(self) -> None:
        made = script(
            "x", "{{a}}", a={"choices": (("One", "1"), ("Two", "2"))},
            b={"optional": True, "pattern": r"\d+"},
        )  # fmt: skip
        for given_values, word in (
            ({}, "missing"),
            ({"a": None}, "missing"),
            ({"a": "3"}, "one of '1', '2'"),
            ({"a": "1", "c": 1}, "no parameter 'c'"),
            ({"a": ["1"]}, "text, a number"),
            ({"a": {"x": 1}}, "text, a number"),
            ({"a": "1", "b": "1x"}, "does not match"),
            ({"a": "1", "b": "1\n"}, "does not match"),
            ({"a": "1", "b": "\0"}, "NUL"),
            ({"a": "1", "b": "\ud800"}, "no Unicode"),
            ({"a": "1", "b": "1" * (MAX_VALUE + 1)}, "longer than"),
        ):
            problem = self.problem(made, **given_values)
            self.assertIn(word, problem.detail)
            self.assertTrue(problem.extra["field"].startswith("parameters."))
        self.assertEqual(arguments(made, {"a": 2, "b": "12"}), ["x", "2"])

    def test_quotes_escape_themselves_and_their_escape(self) -> None:
        self.assertEqual(Quote('"', '"').around('a"b\\c'), '"a\\"b\\\\c"')
        self.assertEqual(Quote("<", ">", "^").around("a>b^<"), "<a^>b^^<>")
        self.assertEqual(Quote('"', '"', '"').around('a"b'), '"a""b"')

    def test_only_variables_are_placeholders(self) -> None:
        self.assertEqual(list(placeholders("a{{b}}c{{{ d-1 }}}{{&e.f}}{x}")), ["b", "d-1", "e.f"])
        for template in ("{{#a}}x{{/a}}", "{{>a}}", "{{a", "a}}", "{{}}", "{{a b}}", "{{!a}}"):
            self.assertRaises(ValueError, list, placeholders(template))

    @settings(max_examples=25, deadline=None)
    @given(TEXT, st.sampled_from("'\""))
    def test_a_quoted_value_is_one_word_of_a_shell(self, value: str, quote: str) -> None:
        made = script(
            "sh", "-c", "printf %s {{v}}", v={"quote": Quote(quote, quote, "\\", posix_shell=True)}
        )
        done = subprocess.run(arguments(made, {"v": value}), capture_output=True, check=True)
        self.assertEqual(done.stdout.decode(), value)


class ServiceCase(TestCase):
    SCRIPTS = """
        echo: { name: Echo, command: [echo, "{{text}}"], parameters: [{ name: text }] }
        fail: { name: Fail, command: [sh, -c, "echo out; echo err >&2; exit 3"] }
        flood: { name: Flood, command: [sh, -c, "yes|head -c 3000000; yes é|head -c 300000 >&2"] }
        env: { name: Environment, command: [env] }
        sleep: { name: Sleep, command: [sh, -c, "sleep 60 & echo started; wait"] }
        stubborn: { name: Stubborn, command: [sh, -c, "trap '' TERM; while :; do sleep 0.1; done"] }
        missing: { name: Missing, command: [/no/such/program] }
        orphan: { name: Orphan, command: [sh, -c, "sleep 3 & echo left"] }
        who: { name: Who, command: [id, -un] }
        touch: { name: Touch, command: [touch, "{{path}}"], parameters: [{ name: path }] }
    """

    def setUp(self) -> None:
        self.folder = folder_for(self)
        self.make()

    def make(self, more: str = "") -> None:
        served = self.served = serve_profiles(
            parse_config(
                "command_line_scripts:\n  s:\n"
                f"    allow_root: true\n    directory: {self.folder}\n{more}"
                f"    scripts: {self.SCRIPTS}",
                self.folder / "config.yml",
            ),
            reactor,
            "agent-1",
        )
        self.served.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(served.close()))
        self.service = self.served.profiles["scripts"]["s"].service

    def start(
        self, path: str, body: object = None, method: str = "POST", caller: str = "me"
    ) -> Deferred[Any]:
        data = (
            b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        asked = Request(
            service="scripts", profile="s", method=method, path=path, query="", headers=(),
            body=Chunks((data,)), caller=caller, deadline=0.0, trace="", request_id="r",
        )  # fmt: skip

        async def answer() -> Any:
            response = await self.service.handle(asked)
            return {"status": response.status, **json.loads(await whole(response))}

        return Deferred.fromCoroutine(answer())

    async def problem(self, code: str, *asked: Any, **more: Any) -> Problem:
        try:
            await self.start(*asked, **more)
        except Problem as problem:
            self.assertEqual(problem.code, code, problem)
            return problem
        raise AssertionError("no problem")

    def sleeping(self) -> bool:
        """Whether a ``sleep 60`` of this test's runs."""
        found = subprocess.run(
            ["pgrep", "-f", "-x", "sleep 60"], capture_output=True, text=True, check=False
        )
        mine = [
            pid
            for pid in found.stdout.split()
            if os.path.realpath(f"/proc/{pid}/cwd") == str(self.folder)
        ]
        return bool(mine)

    async def eventually(self, check: Any) -> None:
        until = time.monotonic() + 15
        while not check():
            self.assertLess(time.monotonic(), until)
            pause: Deferred[None] = Deferred()
            reactor.callLater(0.02, pause.callback, None)
            await pause


class RunTests(ServiceCase):
    async def test_a_script_runs_without_a_shell(self) -> None:
        answer = await self.start("echo", {"parameters": {"text": "a; $(id) 'b' ☃"}})
        self.assertEqual(answer["stdout"], "a; $(id) 'b' ☃\n")
        self.assertEqual(
            (answer["exit_code"], answer["stderr"], answer["truncated"]), (0, "", False)
        )
        self.assertTrue(answer["run"].startswith("agent-1~"))
        self.assertGreater(answer["pid"], 1)

    async def test_a_script_that_fails_says_so_itself(self) -> None:
        answer = await self.start("fail")
        self.assertEqual(
            (answer["status"], answer["exit_code"], answer["stdout"], answer["stderr"]),
            (200, 3, "out\n", "err\n"),
        )

    async def test_output_is_kept_up_to_a_limit_and_that_is_told(self) -> None:
        answer = await self.start("flood")
        self.assertEqual((len(answer["stdout"]), len(answer["stderr"])), (50_000, 50_000))
        self.assertTrue(answer["truncated"])
        self.assertEqual(answer["exit_code"], 0)
        self.assertEqual(answer["stderr"][:2], "é\n")

    async def test_the_environment_is_what_the_profile_says(self) -> None:
        os.environ["LEAKED"] = "secret"
        self.addCleanup(os.environ.pop, "LEAKED")
        self.make("    environment: { REPORT: yearly }\n")
        answer = await self.start("env")
        names = {line.partition("=")[0] for line in answer["stdout"].splitlines()}
        self.assertEqual(names, {"PATH", "LANG", "HOME", "REPORT"})

    async def test_what_can_not_be_run_is_told_apart(self) -> None:
        problem = await self.problem("target_not_found", "missing")
        self.assertIn("/no/such/program", problem.detail)
        self.assertIn("No such file", problem.detail)
        problem = await self.problem("not_found", "ech")
        self.assertIn("echo", problem.hint or "")
        await self.problem("bad_request", "echo")
        for body in (b"[]", b"{", b'{"params": {}}', b'{"parameters": []}', b"\xff"):
            await self.problem("bad_request", "echo", body)
        for method, path in (("PUT", "echo"), ("POST", "a/b"), ("GET", "echo"), ("DELETE", "")):
            await self.problem("operation_not_found", path, method=method)

    async def test_a_script_that_takes_too_long_is_ended_with_its_children(self) -> None:
        self.make("    timeout: 0.5\n")
        problem = await self.problem("deadline_exceeded", "sleep")
        self.assertIn("0.5 s", problem.detail)
        self.assertEqual(problem.extra["stdout"], "started\n")
        await self.eventually(lambda: not self.sleeping())

    async def test_a_script_that_ignores_its_end_is_killed(self) -> None:
        self.patch(processes, "GRACE", 0.3)
        from workato_agent.services.scripts import service  # noqa: PLC0415

        self.patch(service, "GRACE", 0.3)
        self.make("    timeout: 0.5\n")
        began = time.monotonic()
        await self.problem("deadline_exceeded", "stubborn")
        self.assertLess(time.monotonic() - began, 10)

    async def test_a_caller_who_leaves_ends_the_script(self) -> None:
        running = self.start("sleep")
        await self.eventually(self.sleeping)
        running.cancel()
        with self.assertRaises(CancelledError):
            await running
        await self.eventually(lambda: not self.sleeping())

    async def test_a_child_that_keeps_the_output_open_is_not_waited_for(self) -> None:
        began = time.monotonic()
        answer = await self.start("orphan")
        self.assertEqual(answer["stdout"], "left\n")
        self.assertLess(time.monotonic() - began, 2.8)

    async def test_no_more_run_at_once_than_the_profile_lets(self) -> None:
        self.make("    concurrency_limit: 1\n")
        first = self.start("sleep", {"background": True})
        run = (await first)["run"]
        await self.eventually(self.sleeping)
        second = self.start("touch", {"parameters": {"path": str(self.folder / "x")}})
        state = await self.start(f"runs/{run}", method="GET")
        self.assertEqual(state["state"], "running")
        self.assertFalse((self.folder / "x").exists())
        second.cancel()
        with self.assertRaises(CancelledError):
            await second
        self.assertFalse((self.folder / "x").exists())


class BackgroundTests(ServiceCase):
    async def ended(self, run: str) -> Any:
        found: dict[str, Any] = {}
        until = time.monotonic() + 15
        while found.get("state") not in ("ended", "failed"):
            self.assertLess(time.monotonic(), until)
            found = await self.start(f"runs/{run}", method="GET")
            pause: Deferred[None] = Deferred()
            reactor.callLater(0.02, pause.callback, None)
            await pause
        return found

    async def test_its_result_is_read_later_by_who_started_it(self) -> None:
        started = await self.start("fail", {"background": True})
        self.assertEqual(started["status"], 202)
        found = await self.ended(started["run"])
        self.assertEqual(
            (found["exit_code"], found["stdout"], found["script"]), (3, "out\n", "fail")
        )
        await self.problem("not_found", f"runs/{started['run']}", method="GET", caller="another")
        await self.problem("not_found", "runs/agent-1~x", method="GET")

    async def test_what_went_wrong_is_in_the_result(self) -> None:
        started = await self.start("missing", {"background": True})
        found = await self.ended(started["run"])
        self.assertEqual((found["state"], found["problem"]["code"]), ("failed", "target_not_found"))

    async def test_an_agent_that_stops_ends_what_runs(self) -> None:
        started = await self.start("sleep", {"background": True})
        self.assertEqual(started["status"], 202)
        await self.eventually(self.sleeping)
        await Deferred.fromCoroutine(self.served.close())
        await self.eventually(lambda: not self.sleeping())


class CatalogueTests(ServiceCase):
    async def test_the_test_lists_what_there_is(self) -> None:
        answer = await self.start("", method="GET")
        self.assertTrue(answer["ok"])
        (echo,) = [each for each in answer["scripts"] if each["id"] == "echo"]
        self.assertEqual(echo["name"], "Echo")
        self.assertEqual(echo["parameters"][0]["name"], "text")
        self.assertFalse(echo["parameters"][0]["optional"])
        self.assertNotIn("command", echo)


class UserTests(ServiceCase):
    async def test_scripts_run_as_the_user_that_is_named(self) -> None:
        self.folder.chmod(0o755)
        if os.geteuid() == 0:
            self.make("    run_as: nobody\n")
            self.assertEqual((await self.start("who"))["stdout"], "nobody\n")
        else:
            self.assertRaises(ConfigError, self.make, "    run_as: nobody\n")


class ConfigTests(SynchronousTestCase):
    def load(self, text: str) -> Any:
        return parse_config(text, Path("/config.yml"))

    def test_the_documented_format(self) -> None:
        config = self.load(
            """
command_line_scripts:
  workday_reports:
    allow_root: true
    concurrency_limit: 3
    timeout: 30
    scripts:
      copy_file:
        name: Copy file
        command:
          - /bin/cp
          - '{{source_file}}'
          - { value: '--verbose', if: verbose }
          - '{{target_directory}}'
        parameters:
          - { name: source_file }
          - { name: target_directory, quote: '"' }
          - name: verbose
            schema:
              optional: true
              label: Verbose
              control_type: select
              pick_list: [[Yes, true], no]
      append_file:
        name: Append file
        command: [bash, -c, 'echo {{text}} >> {{target_file}}']
        parameters:
          - { name: text, quote: { start: '"', end: '"', escape_char: '\\' } }
          - name: target_file
"""
        )
        profile = config.profiles["scripts"]["workday_reports"]
        self.assertEqual((profile.concurrency_limit, profile.timeout), (3, 30))
        choices = profile.scripts["copy_file"].parameters[2].schema_.pick_list
        self.assertEqual(choices, (("Yes", "true"), ("no", "no")))
        (remark,) = config.remarks
        self.assertIn("append_file: target_file go into a shell", remark)

    def test_every_fault_is_named(self) -> None:
        for text, word in (
            ("{name: x, command: []}", "at least 1"),
            ("{name: x, command: [a, '{{b}}']}", "'b' is not among the parameters"),
            ("{name: x, command: ['{{b}}'], parameters: [{name: b}]}", "program itself"),
            ("{name: x, command: [a, '{{#b}}']}", "is no variable"),
            ("{name: x, command: [a], parameters: [{name: b}, {name: b}]}", "two parameters"),
            ("{name: x, command: [a], parameters: [{name: 'b c'}]}", "made of"),
            ("{name: x, command: [a], parameters: [{name: b, quote: ''}]}", "quoting character"),
            ("{name: x, command: [a], parameters: [{name: b, quote: {start: a}}]}", "quote, or"),
            ("{name: x, command: [a], parameters: [{name: b, schema: {pattern: '['}}]}", "regular"),
            ("{command: [a]}", "required"),
        ):
            error = self.assertRaises(
                ConfigError,
                self.load,
                f"command_line_scripts: {{s: {{allow_root: true, scripts: {{a: {text}}}}}}}",
            )
            self.assertIn(word, str(error), text)

    def test_root_is_not_lent_unasked(self) -> None:
        text = "command_line_scripts: {s: {scripts: {a: {name: x, command: [a]}}}}"
        if os.geteuid() == 0:
            error = self.assertRaises(ConfigError, self.load, text)
            self.assertIn("runs as root", str(error))
        else:
            self.load(text)
