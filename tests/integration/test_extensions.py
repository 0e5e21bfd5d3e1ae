"""Extensions in processes of their own: what they are told, and what comes of their answers."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from tests.support.extensions import CASES, MIB, ROOT, ExtensionCase
from tests.support.files import Chunks, request
from tests.support.tunnel import reactor, until
from workato_agent.config import AgentConfig, ConfigError, parse_config
from workato_agent.config.jsonschema import config_schema
from workato_agent.served import serve_profiles
from workato_tunnel.problems import Problem


class Calls(ExtensionCase):
    async def test_what_an_extension_is_told(self) -> None:
        os.environ["SOME_SECRET_OF_THE_AGENT"] = "hidden"
        self.addCleanup(os.environ.pop, "SOME_SECRET_OF_THE_AGENT")
        self.serve(secretKey="s3cret", nested={"a": [1, None, True]})
        _, body = await self.call("about", "a=1&b=%C3%A4", method="PUT")
        about = json.loads(body)
        self.assertEqual(about["method"], "PUT")
        self.assertEqual(about["parameters"], {"a": "1", "b": "ä"})
        self.assertEqual(about["header"], "header")
        self.assertEqual((about["caller"], about["profile"]), ("tester", "x"))
        self.assertTrue(20 < about["seconds_left"] <= 30, about)
        nested = {"a": ["1", None, "true"]}  # as the file's text
        self.assertEqual(about["settings"], {"secretKey": "s3cret", "nested": nested})
        self.assertTrue(about["one_thread"])
        self.assertNotIn("s3cret", repr(about["arguments"]) + repr(about["environment"]))
        self.assertNotIn("hidden", repr(about["environment"]))
        self.assertNotIn("s3cret", repr(self.log) + repr(self.service))

    async def test_one_instance_serves_all_calls(self) -> None:
        self.serve()
        first, second = await self.about(), await self.about()
        self.assertEqual((first["pid"], first["calls"]), (second["pid"], second["calls"] - 1))

    async def test_nothing_runs_before_the_first_call(self) -> None:
        self.serve("tests.support.extension_cases.Counts", note=str(self.note))
        await deferLater(reactor, 0.2)
        self.assertFalse(self.note.exists())

    async def test_bodies_of_any_size_both_ways(self) -> None:
        self.serve()
        for sizes in ((), (1,), (65536,) * 40, (300_000, 7, 65537)):
            chunks = [os.urandom(size) for size in sizes]
            response, body = await self.call("echo", body=Chunks(chunks))
            self.assertEqual(response.status, 201)
            self.assertIn(("content-type", "x/y"), response.headers)
            self.assertEqual(
                hashlib.sha256(body).hexdigest(), hashlib.sha256(b"".join(chunks)).hexdigest()
            )

    async def test_a_small_answer_is_whole_and_a_large_one_streams_with_its_length(self) -> None:
        self.serve()
        response, body = await self.call("large", "size=1000")
        self.assertIsInstance(response.body, bytes)
        self.assertEqual(len(body), 1000)
        response, body = await self.call("large", f"size={5 * MIB}")
        self.assertIn(("content-length", str(5 * MIB)), response.headers)
        self.assertEqual(len(body), 5 * MIB)

    async def test_a_caller_that_does_not_read_holds_the_extension_back(self) -> None:
        self.serve()
        response = await self.begin("endless")
        body: Any = response.body
        await deferLater(reactor, 0.3)
        self.assertLessEqual(sum(map(len, body._chunks)), 256 * 1024)
        for _ in range(100):
            await body.__anext__()
        await body.aclose()
        self.assertTrue((await self.about())["pid"])

    async def test_a_body_that_is_not_closed_is_ended_in_the_extension(self) -> None:
        self.serve(note=str(self.note))
        response = await self.begin("endless")
        body: Any = response.body
        await body.__anext__()
        await body.aclose()
        await until(self.note.exists)

    async def test_a_body_that_breaks_never_looks_complete(self) -> None:
        self.serve()
        problem = await self.problem("breaks")
        self.assertEqual(problem.code, "internal_error")

    async def test_head_has_no_body(self) -> None:
        self.serve()
        response, body = await self.call("large", "size=1000", method="HEAD")
        self.assertEqual(body, b"")
        self.assertIn(("content-length", "1000"), response.headers)

    async def test_json_is_read_and_refused(self) -> None:
        self.serve()
        _, body = await self.call("json", body=Chunks([b'{"a"', b": 1}"]))
        self.assertEqual(json.loads(body), {"a": 1})
        self.assertEqual((await self.problem("json", body=Chunks([b"{"]))).code, "bad_request")
        problem = await self.problem("json", body=Chunks([b"1" * 200]))
        self.assertEqual(problem.code, "payload_too_large")

    async def test_calls_run_side_by_side_where_the_profile_allows_it(self) -> None:
        self.serve("tests.support.extension_cases.Parallel", concurrency=3)
        bodies = await gatherResults([Deferred.fromCoroutine(self.call("")) for _ in range(3)])
        self.assertEqual([body for _, body in bodies], [b"all"] * 3)

    async def test_else_one_waits_for_the_other(self) -> None:
        self.serve()
        bodies = await gatherResults(
            [Deferred.fromCoroutine(self.call("about")) for _ in range(20)]
        )
        self.assertEqual([json.loads(body)["calls"] for _, body in bodies], [*range(1, 21)])

    async def test_the_profiles_test(self) -> None:
        self.serve()
        _, body = await self.call("", method="GET")
        self.assertEqual(json.loads(body), {"ok": True, "target": CASES, "detail": "all there"})

    async def test_a_test_that_fails_says_why(self) -> None:
        self.serve(test="fails")
        problem = await self.problem("", method="GET")
        self.assertEqual(
            (problem.code, problem.detail, problem.hint),
            ("target_unreachable", "what it needs is down", "start it"),
        )


class Starting(ExtensionCase):
    async def test_what_can_not_be_started_says_why(self) -> None:
        cases = {
            "no.such.Module": ("no Python module no.such", "python_path"),
            "com.example.SecurityExtension": ("no Python module com.example", "python_path"),
            "tests.support.extension_cases.Missing": ("no class Missing", "subclass"),
            "tests.support.extension_cases.NoExtension": ("no class NoExtension", "subclass"),
            "nosuchentry": ("no installed package", "entry point"),
            "tests.support.extension_cases.Fails": ("can't be made: ValueError", "traceback"),
        }
        for controller, words in cases.items():
            self.serve(controller)
            problem = await self.problem("about")
            self.assertEqual(problem.code, "internal_error")
            for word in words:
                self.assertIn(word, f"{problem.detail} {problem.hint}")
            self.assertNotIn("secret-detail", problem.detail)
            assert self.served is not None
            await self.served.close()

    async def test_a_start_that_hangs_is_given_up(self) -> None:
        self.serve("tests.support.extension_cases.Hangs", start_timeout=0.5)
        problem = await self.problem("about")
        self.assertIn("has not started within 0.5 s", problem.detail)

    async def test_a_module_that_can_not_be_imported(self) -> None:
        (self.folder / "broken.py").write_text("import not_there_at_all\n")
        self.serve("broken.Thing", python_path=str(self.folder))
        problem = await self.problem("about")
        self.assertIn("broken can't be imported: ModuleNotFoundError", problem.detail)

    async def test_an_entry_point_of_an_installed_package(self) -> None:
        meta = self.folder / "colours-1.0.dist-info"
        meta.mkdir()
        (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: colours\nVersion: 1.0\n")
        (meta / "entry_points.txt").write_text("[workato_agent.extensions]\ncolours = colours:C\n")
        (self.folder / "colours.py").write_text(
            "from workato_agent.extension import Extension, Response\n"
            "class C(Extension):\n"
            "    def handle(self, request):\n"
            "        return Response(body='red')\n"
        )
        self.serve("colours", python_path=str(self.folder))
        self.assertEqual((await self.call("x"))[1], b"red")

    async def test_a_folder_that_is_not_there(self) -> None:
        self.serve(python_path=str(self.folder / "none"))
        problem = await self.problem("about")
        self.assertIn("there is no folder", problem.detail)
        self.assertIn("python_path", problem.hint)


class Example(ExtensionCase):
    """The one of the documentation."""

    async def test_prices(self) -> None:
        file = self.folder / "prices.csv"
        file.write_text("article,price\n4711,9.90\n4712,1.20\n0815,3\n")
        folder = ROOT / "etc" / "workato-agent" / "extensions"
        self.serve("prices.Prices", python_path=str(folder), file=str(file))
        _, body = await self.call("4712", method="GET")
        self.assertEqual(json.loads(body), {"article": "4712", "price": "1.20"})
        _, body = await self.call("", "prefix=47", method="GET")
        prices = [json.loads(line)["price"] for line in body.splitlines()]
        self.assertEqual(prices, ["9.90", "1.20"])
        self.assertEqual((await self.problem("0", method="GET")).code, "not_found")
        self.assertEqual((await self.problem("4711", method="PUT")).code, "operation_not_found")
        _, body = await self.call("", method="GET")
        self.assertEqual(json.loads(body)["columns"], ["article", "price"])
        file.unlink()
        self.assertEqual((await self.problem("4711", method="GET")).code, "target_not_found")


class Config(SynchronousTestCase):
    def load(self, **keys: Any) -> AgentConfig:
        return parse_config(
            json.dumps({"extensions": {"x": keys}}), Path("c.yml"), {"KEY": "s3cr3t"}
        )

    def test_secrets_show_nowhere(self) -> None:
        config = self.load(controllerClass="a.B", key={"env": "KEY"}, deep={"er": {"env": "KEY"}})
        profile = config.profiles["extensions"]["x"]
        self.assertNotIn("s3cr3t", repr(profile) + str(profile) + repr(config))
        self.assertEqual(profile.settings["deep"], {"er": "s3cr3t"})  # type: ignore[attr-defined]

    def test_a_changed_setting_changes_the_hash(self) -> None:
        hashes = {self.load(controllerClass="a.B", n=n).config_hash for n in (1, 2, 2)}
        self.assertEqual(len(hashes), 2)

    def test_faults_are_told(self) -> None:
        for keys, word in (
            ({}, "controllerClass"),
            ({"controllerClass": "a b"}, "package.module.Class"),
            ({"controllerClass": "a.B", "concurrency": 0}, "at least 1"),
            ({"controllerClass": "a.B", "memory_limit": "1MiB"}, "at least 32MiB"),
            ({"controllerClass": "a.B", "policy": {"operations": ["GET!"]}}, "operations"),
        ):
            error = self.assertRaises(ConfigError, self.load, **keys)
            self.assertIn(word, str(error))

    def test_a_key_that_looks_misspelt_is_remarked(self) -> None:
        config = self.load(controllerClass="a.B", memmory_limit=1)
        self.assertIn("did you mean 'memory_limit'?", config.remarks[0])

    def test_operations_are_the_methods_that_the_policy_allows(self) -> None:
        config = self.load(controllerClass="a.B", policy={"operations": ["get", "post"]})
        served = serve_profiles(config, reactor)
        profile = served.profiles["extensions"]["x"]
        self.assertEqual(profile.service.operations, ("test", "get", "post"))
        self.assertEqual(profile.service.type, "extension")
        self.assertEqual(profile.service.operation(request("PUT", "a")), "put")
        profile.admit(request("GET", "a"), "get")
        denied = self.assertRaises(Problem, profile.admit, request("PUT", "a"), "put")
        self.assertEqual((denied.code, denied.extra), ("policy_denied", {"rule": "operations"}))

    def test_a_plain_get_is_the_profiles_test_and_other_methods_are_none(self) -> None:
        served = serve_profiles(self.load(controllerClass="a.B"), reactor)
        service = served.profiles["extensions"]["x"].service
        self.assertEqual(service.operation(request("GET")), "test")
        self.assertEqual(service.operation(request("GET", "", "a=1")), "get")
        problem = self.assertRaises(Problem, service.operation, request("BREW", "x"))
        self.assertEqual(problem.code, "operation_not_found")

    def test_the_schema_takes_an_extensions_own_keys(self) -> None:
        section = config_schema()["properties"]["extensions"]["anyOf"][0]
        profile = section["additionalProperties"]
        self.assertEqual(profile["required"], ["controllerClass"])
        self.assertIn("controllerClass", profile["properties"])
        self.assertNotIn("settings", profile["properties"])
        self.assertNotEqual(profile["additionalProperties"], False)
