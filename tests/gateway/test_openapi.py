"""The description of the API: valid as OpenAPI, shipped, and as the code is."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator
from twisted.trial.unittest import SynchronousTestCase

from workato_gateway.api.heads import SINGLE
from workato_tunnel.problems import PROBLEM_TYPES, Problem

CALLS = "/v1/groups/{group}/{service}/{profile}"


class Description(SynchronousTestCase):
    def setUp(self) -> None:
        text = files("workato_gateway.api").joinpath("openapi.yml").read_text(encoding="utf-8")
        self.described: Any = yaml.safe_load(text)
        self.components = self.described["components"]

    def test_it_is_valid_openapi(self) -> None:
        self.assertEqual(self.described["openapi"], "3.1.0")
        errors = [str(error) for error in OpenAPIV31SpecValidator(self.described).iter_errors()]
        self.assertEqual(errors, [])

    def test_every_problem_code_is_listed_and_no_other(self) -> None:
        self.assertEqual(self.components["schemas"]["ProblemCode"]["enum"], list(PROBLEM_TYPES))

    def test_a_problem_has_the_members_described(self) -> None:
        schema = self.components["schemas"]["Problem"]
        members = Problem("bad_request", "a: wrong", extra={"field": "a"}).members("r1")
        self.assertEqual(set(schema["required"]), set(members) - {"field"})
        self.assertLess(set(members), set(schema["properties"]))

    def test_calls_take_what_the_gateway_reads_of_their_heads(self) -> None:
        read = SINGLE - {"authorization", "content-length", "host"}
        for path in (CALLS, f"{CALLS}/{{path}}"):
            parameters = [
                self.components["parameters"][each["$ref"].rpartition("/")[2]]
                for each in self.described["paths"][path]["parameters"]
            ]
            names: dict[str, set[str]] = {"path": set(), "header": set(), "query": set()}
            for parameter in parameters:
                names[parameter["in"]].add(parameter["name"].lower())
            self.assertEqual(names["header"], read)
            self.assertEqual(names["query"], {"timeout"})
            self.assertEqual(names["path"], set(re.findall(r"\{(\w+)\}", path)))

    def test_a_token_is_asked_for_except_by_what_is_outside_v1(self) -> None:
        self.assertEqual(self.described["security"], [{"token": []}])
        for path, item in self.described["paths"].items():
            for method in set(item) - {"parameters"}:
                open_to_all = item[method].get("security") == []
                self.assertEqual(open_to_all, not path.startswith("/v1/"), (path, method))
