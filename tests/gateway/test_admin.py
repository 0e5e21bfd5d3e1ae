"""The administrative resources: groups, agents, codes, tokens, audit, health."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import yaml
from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.enrolments import EnrolmentCase
from tests.support.memory_agents import MemoryAgent
from tests.support.stores import NOW
from workato_gateway.addresses import parse_network
from workato_gateway.api.activation import ActivationCodes
from workato_gateway.api.agents import Agents
from workato_gateway.api.figures import Figures
from workato_gateway.api.groups import Groups
from workato_gateway.api.health import STORE_DEADLINE, Health
from workato_gateway.api.messages import AdminRequest, AdminResponse
from workato_gateway.api.resources import RESERVED, Resources
from workato_gateway.api.tokens import AuditResource, TokenResource
from workato_gateway.identity.authority import serial_text
from workato_gateway.identity.tokens import Caller, Tokens
from workato_gateway.storage.interface import Attendance, StoreError
from workato_tunnel.activation import ActivationCode
from workato_tunnel.frames import Catalogue, Profile
from workato_tunnel.problems import Problem

ADMIN = Caller("alice", "t0", ("admin",))
DESCRIPTION = Path(__file__).parents[2] / "workato_gateway/api/openapi.yml"


class Case(EnrolmentCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.changes = 0
        self.live: list[MemoryAgent] = []
        self.health = Health(self.store, self.clock)

        async def changed() -> None:
            self.changes += 1

        self.resources = Resources(
            groups=Groups(self.store, changed, self.now),
            agents=Agents(self.store, lambda _: self.live, changed, self.now),  # type: ignore[arg-type, return-value]
            codes=ActivationCodes(self.store, self.enrolment, self.now),
            tokens=TokenResource(self.store, changed, self.now),
            audit=AuditResource(self.store),
            health=self.health,
            figures=Figures(lambda: ("text/x", b"figures 1\n"), (parse_network("10.0.0.0/8"),)),
        )

    def answer(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        caller: Caller = ADMIN,
        query: dict[str, str] | None = None,
    ) -> AdminResponse:
        content = body if isinstance(body, bytes) else json.dumps(body).encode() if body else b""
        request = AdminRequest(
            method, tuple(path.split("/")), query or {}, content, caller, "r1", "192.0.2.9"
        )
        return self.result(self.resources.answer(request))

    def document(self, method: str, path: str, body: object = None, **named: Any) -> Any:
        answer = self.answer(method, path, body, **named)
        self.assertIn(answer.status, (200, 201, 204))
        return json.loads(answer.body()) if answer.content is not None else None

    def problem(self, method: str, path: str, body: object = None, **named: Any) -> Problem:
        with self.assertRaises(Problem) as caught:
            self.answer(method, path, body, **named)
        return caught.exception

    def audited(self) -> list[tuple[str, str]]:
        entries = self.document("GET", "audit")["entries"]
        return [(entry["action"], entry["subject"]) for entry in entries]


class Access(Case):
    def test_only_administrators_get_in(self) -> None:
        caller = Caller("bob", "t1", ("*:*:*:*",))
        for route in self.resources.routes:
            for method in route.methods:
                path = route.template.removeprefix("/v1/").replace("{", "").replace("}", "")
                problem = self.problem(method, path, caller=caller)
                self.assertEqual(problem.code, "forbidden", (method, path))
        self.assertEqual(self.changes, 0)

    def test_unknown_paths_are_not_found(self) -> None:
        for path in ("", "x", "groups/g/agents/a/b", "tokens/a/b", "groups/", "groups/g/agents/a/"):
            with self.subTest(path):
                self.assertIn(self.problem("GET", path).code, ("not_found", "group_not_found"))

    def test_a_method_that_is_not_there_is_told_with_those_that_are(self) -> None:
        answer = self.answer("PUT", "groups/g")
        self.assertEqual(answer.status, 405)
        self.assertIn(("allow", "GET, PATCH, DELETE"), answer.headers)
        self.assertEqual(json.loads(answer.body())["status"], 405)

    def test_head_is_answered_as_get(self) -> None:
        self.assertEqual(self.answer("HEAD", "groups").status, 200)

    def test_malformed_bodies_are_bad_requests_that_name_the_field(self) -> None:
        for body, field in (
            (b"{", None),
            (b"[]", None),
            (b"\xff", None),
            (b"[" * 100000, None),
            (b"{}", None),
            ({"name": 5}, "name"),
            ({"name": "x", "unknown": 1}, None),
            ({"name": "x", "allowed_networks": ["10.0.0.0/8", 5]}, "allowed_networks[1]"),
            ({"name": "x", "allowed_networks": ["10.0.0.1/8"]}, "allowed_networks"),
            ({"name": "x", "allowed_networks": ["::/0"] * 1001}, "allowed_networks"),
        ):
            problem = self.problem("POST", "groups", body)
            self.assertEqual(problem.code, "bad_request", body)
            self.assertEqual(problem.extra.get("field"), field)

    def test_a_store_that_fails_is_an_internal_error_that_leaks_nothing(self) -> None:
        self.result(self.store.close())
        problem = self.problem("GET", "groups")
        self.assertEqual(problem.code, "internal_error")
        self.assertNotIn(str(self.folder), str(problem.members("")))
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 1)

    def test_services_can_not_be_called_as_resources_are(self) -> None:
        words = {
            route.path[2]
            for route in self.resources.routes
            if len(route.path) > 2 and route.path[0] == "groups"
        }
        self.assertEqual(words, RESERVED)


class GroupResource(Case):
    def test_a_group_comes_and_goes(self) -> None:
        body = {"name": "plant-3", "allowed_networks": ["192.0.2.1", "10.0.0.0/8"]}
        answer = self.answer("POST", "groups", body)
        self.assertEqual(answer.status, 201)
        self.assertIn(("location", "/v1/groups/plant-3"), answer.headers)
        expected = {
            "name": "plant-3",
            "allowed_networks": ["192.0.2.1/32", "10.0.0.0/8"],
            "created": "2027-01-15T08:00:00Z",
            "agents": 0,
        }
        self.assertEqual(json.loads(answer.body()), expected)
        self.assertEqual(self.document("GET", "groups/plant-3"), expected)
        names = [group["name"] for group in self.document("GET", "groups")["groups"]]
        self.assertEqual(names, ["g", "plant-3"])
        changed = self.document("PATCH", "groups/plant-3", {"allowed_networks": []})
        self.assertEqual(changed["allowed_networks"], [])
        self.assertEqual(self.answer("DELETE", "groups/plant-3").status, 204)
        self.assertEqual(self.problem("GET", "groups/plant-3").code, "group_not_found")
        self.assertEqual(
            self.audited(),
            [(f"group.{done}", "plant-3") for done in ("delete", "change", "create")],
        )
        self.assertEqual(self.changes, 3)

    def test_a_name_is_taken_once(self) -> None:
        self.assertEqual(self.problem("POST", "groups", {"name": "g"}).code, "conflict")
        self.assertEqual(self.changes, 0)

    def test_impossible_names_are_refused(self) -> None:
        for name in ("", "a b", "a/b", "ä", "x" * 65, ".", "a:b", "*"):
            problem = self.problem("POST", "groups", {"name": name})
            self.assertEqual((problem.code, problem.extra), ("bad_request", {"field": "name"}))

    def test_groups_that_are_not_there_are_not_found(self) -> None:
        for method, path, body in (
            ("GET", "groups/none", None),
            ("PATCH", "groups/none", {"allowed_networks": []}),
            ("DELETE", "groups/none", None),
            ("GET", "groups/none/agents", None),
            ("GET", "groups/none/agents/x", None),
            ("POST", "groups/none/activation-codes", None),
        ):
            self.assertEqual(self.problem(method, path, body).code, "group_not_found", path)

    def test_a_group_with_agents_goes_only_by_force(self) -> None:
        self.enrol(self.code("one"))
        problem = self.problem("DELETE", "groups/g")
        self.assertEqual(problem.code, "conflict")
        self.assertIn("1 agents", problem.detail)
        self.problem("DELETE", "groups/g", query={"force": "yes"})
        self.document("DELETE", "groups/g", query={"force": "true"})
        self.assertEqual(self.document("GET", "groups")["groups"], [])
        agents = self.result(self.store.read(lambda rows: rows.agents(revoked=True)))
        self.assertEqual([agent.revoked for agent in agents], [NOW])


class AgentResource(Case):
    def agent(self, name: str = "one") -> dict[str, Any]:
        document: dict[str, Any] = self.document("GET", f"groups/g/agents/{name}")
        return document

    def test_an_agent_goes_through_its_states(self) -> None:
        code = self.document("POST", "groups/g/activation-codes", {"name": "one"})["code"]
        self.assertEqual(self.agent()["status"], "awaiting_setup")
        answer = self.enrol(ActivationCode.parse(code))
        self.assertEqual(self.agent()["status"], "no_response")
        seen = Attendance(answer.agent_id, NOW, connected=True, address="10.1.1.1")
        self.result(self.store.write(lambda rows: rows.record_attendance([seen])))
        self.assertEqual((self.agent()["status"], self.agent()["address"]), ("active", "10.1.1.1"))
        self.now.advance(31)
        self.assertEqual(self.agent()["status"], "no_response")
        self.document("PATCH", "groups/g/agents/one", {"enabled": False})
        self.assertEqual(self.agent()["status"], "disabled")
        self.document("PATCH", "groups/g/agents/one", {"enabled": True})
        self.assertEqual(self.agent()["status"], "no_response")
        self.assertEqual(self.answer("DELETE", "groups/g/agents/one").status, 204)
        self.assertEqual(self.problem("GET", "groups/g/agents/one").code, "not_found")
        self.assertEqual(self.document("GET", "groups/g/agents")["agents"], [])
        self.assertEqual(
            [action for action, subject in self.audited() if subject == "g/one"],
            ["agent.revoke", "agent.enable", "agent.disable", "agent.enrol", "code.create"],
        )
        self.assertEqual(self.changes, 3)

    def test_a_live_agent_shows_what_it_is(self) -> None:
        answer = self.enrol(self.code("one"))
        certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
        live = MemoryAgent("one", "g")
        live.agent_id = answer.agent_id
        live.streams = 3
        live.catalogue = Catalogue(
            (Profile("database", "erp", "postgresql", ("query",), True),),
            "abcd",
            "1.2.3",
            "host",
            "Debian",
            42,
            "svc",
            NOW - 60,
        )
        self.live.append(live)
        document = self.agent()
        self.assertEqual(
            document,
            {
                "id": answer.agent_id,
                "name": "one",
                "group": "g",
                "status": "active",
                "created": "2027-01-15T08:00:00Z",
                "last_seen": "2027-01-15T08:00:00Z",
                "address": None,
                "version": "1.2.3",
                "host": "host",
                "os": "Debian",
                "pid": 42,
                "user": "svc",
                "uptime": 60,
                "certificate_serial": serial_text(certificate),
                "certificate_expires": "2027-02-14T08:00:00Z",
                "config_hash": "abcd",
                "config_problem": None,
                "calls": 3,
                "round_trip_ms": 2.0,
                "profiles": [
                    {
                        "service": "database",
                        "name": "erp",
                        "type": "postgresql",
                        "operations": ["query"],
                        "ok": True,
                    }
                ],
            },
        )
        live.connected = False
        self.assertEqual(self.agent()["status"], "no_response")
        self.assertIsNone(self.agent()["uptime"])

    def test_an_agent_that_is_gone_shows_what_it_was(self) -> None:
        answer = self.enrol(self.code("one"))
        catalogue = msgspec.msgpack.encode(Catalogue(version="1.2.3", host="h"))
        seen = Attendance(answer.agent_id, NOW, connected=False, catalogue=catalogue)
        self.result(self.store.write(lambda rows: rows.record_attendance([seen])))
        self.assertEqual((self.agent()["version"], self.agent()["host"]), ("1.2.3", "h"))

    def test_of_two_sessions_the_one_that_answers_is_shown(self) -> None:
        answer = self.enrol(self.code("one"))
        for connected in (False, True, False):
            live = MemoryAgent("one", "g", connected=connected)
            live.agent_id = answer.agent_id
            self.live.append(live)
            expected = any(each.connected for each in self.live)
            self.assertEqual(self.agent()["status"], "active" if expected else "no_response")

    def test_an_agent_is_found_by_id_too_but_in_its_group_only(self) -> None:
        agent_id = self.enrol(self.code("one")).agent_id
        self.assertEqual(self.agent(agent_id)["name"], "one")
        self.document("POST", "groups", {"name": "h"})
        for method in ("GET", "DELETE"):
            problem = self.problem(method, f"groups/h/agents/{agent_id}")
            self.assertEqual(problem.code, "not_found")

    def test_a_change_says_what_changes(self) -> None:
        self.code("one")
        self.assertEqual(self.problem("PATCH", "groups/g/agents/one", {}).code, "bad_request")
        problem = self.problem("PATCH", "groups/g/agents/one", {"enabled": "no"})
        self.assertEqual(problem.extra, {"field": "enabled"})


class CodeResource(Case):
    def test_a_code_is_made_and_not_kept(self) -> None:
        answer = self.answer("POST", "groups/g/activation-codes")
        self.assertEqual(answer.status, 201)
        self.assertIn(("cache-control", "no-store"), answer.headers)
        document = json.loads(answer.body())
        code = ActivationCode.parse(document.pop("code"))
        self.assertEqual(
            document,
            {"group": "g", "name": None, "replaces": False, "expires": "2027-01-15T09:00:00Z"},
        )
        self.assertNotIn(code.secret_text, json.dumps(self.document("GET", "audit")))
        self.enrol(code)

    def test_a_code_for_an_agent_that_is_set_up_says_that_it_replaces(self) -> None:
        for replaces in (False, True):
            document = self.document("POST", "groups/g/activation-codes", {"name": "one"})
            self.assertIs(document["replaces"], replaces)
            self.enrol(ActivationCode.parse(document["code"]))


class TokenResources(Case):
    def test_a_token_is_shown_once(self) -> None:
        body = {"owner": "bob", "scopes": ["g:*:*:get"], "expires_in": 60}
        answer = self.answer("POST", "tokens", body)
        self.assertEqual(answer.status, 201)
        self.assertIn(("cache-control", "no-store"), answer.headers)
        created = json.loads(answer.body())
        text = created.pop("token")
        tokens = Tokens(self.store, self.now)
        self.result(tokens.refresh())
        self.assertTrue(tokens.authenticate(f"Bearer {text}").allows("g", "s", "p", "GET"))
        self.assertEqual(
            created,
            {
                "id": created["id"],
                "owner": "bob",
                "scopes": ["g:*:*:GET"],
                "status": "valid",
                "created": "2027-01-15T08:00:00Z",
                "expires": "2027-01-15T08:01:00Z",
                "revoked": None,
                "last_used": None,
            },
        )
        self.assertEqual(self.document("GET", "tokens"), {"tokens": [created]})
        self.assertEqual(self.document("GET", f"tokens/{created['id']}"), created)
        self.now.advance(60)
        self.assertEqual(self.document("GET", "tokens")["tokens"][0]["status"], "expired")
        self.assertEqual(self.answer("DELETE", f"tokens/{created['id']}").status, 204)
        self.assertEqual(self.document("GET", "tokens")["tokens"][0]["status"], "revoked")
        self.assertEqual(
            self.audited(), [(f"token.{done}", created["id"]) for done in ("revoke", "create")]
        )
        self.assertNotIn(text, json.dumps(self.document("GET", "audit")))

    def test_what_can_not_be_a_token_is_named(self) -> None:
        for change, field in (
            ({"scopes": ["g:*:*"]}, "scopes"),
            ({"scopes": []}, "scopes"),
            ({"scopes": ["admin"] * 101}, "scopes"),
            ({"scopes": "admin"}, "scopes"),
            ({"owner": ""}, "owner"),
            ({"owner": "a\u0000b"}, "owner"),
            ({"expires_in": 0}, "expires_in"),
            ({"expires_in": -5}, "expires_in"),
            ({"expires_in": 1e300}, "expires_in"),
            ({"expires_in": "30d"}, "expires_in"),
        ):
            body = {"owner": "bob", "scopes": ["admin"]} | change
            problem = self.problem("POST", "tokens", body)
            self.assertEqual(problem.extra, {"field": field}, change)
        self.assertEqual(self.document("GET", "tokens"), {"tokens": []})

    def test_tokens_that_are_not_there_are_not_found(self) -> None:
        for method in ("GET", "DELETE"):
            self.assertEqual(self.problem(method, "tokens/none").code, "not_found")

    def test_the_audit_tells_who_from_where(self) -> None:
        self.document("POST", "groups", {"name": "h"})
        (entry,) = self.document("GET", "audit")["entries"]
        self.assertEqual((entry["actor"], entry["address"]), ("alice (token t0)", "192.0.2.9"))
        self.assertEqual(entry["at"], "2027-01-15T08:00:00Z")

    def test_the_audit_comes_in_pages(self) -> None:
        for number in range(5):
            self.document("POST", "groups", {"name": f"h{number}"})
        subjects, before = [], ""
        for _ in range(3):
            query = {"limit": "2"} | ({"before": before} if before else {})
            page = self.document("GET", "audit", query=query)
            subjects += [entry["subject"] for entry in page["entries"]]
            before = str(page["next"] or "")
        self.assertEqual(subjects, ["h4", "h3", "h2", "h1", "h0"])
        self.assertEqual(before, "")
        for query in ({"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"before": "-1"}):
            self.assertEqual(self.problem("GET", "audit", query=query).code, "bad_request")


class Openness(Case):
    def ask(self, path: str, peer: str = "192.0.2.9") -> AdminResponse:
        request = AdminRequest("GET", (), {}, b"", Caller("", "", ()), "r", peer)
        return self.result(self.resources.public[path](request))  # type: ignore[arg-type]

    def test_it_lives(self) -> None:
        self.assertEqual(self.ask("/healthz").status, 200)

    def test_it_is_ready_when_nothing_is_in_the_way(self) -> None:
        self.assertEqual(self.ask("/readyz").status, 200)
        self.health.add_condition(lambda: None)
        self.health.add_condition(lambda: "the gateway is draining")
        answer = self.ask("/readyz")
        self.assertEqual(answer.status, 503)
        self.assertEqual(json.loads(answer.body())["reasons"], ["the gateway is draining"])

    def test_it_is_not_ready_without_its_store(self) -> None:
        self.result(self.store.close())
        answer = self.ask("/readyz")
        self.assertEqual(answer.status, 503)
        self.assertNotIn(str(self.folder), answer.body().decode())

    def test_it_is_not_ready_while_the_store_hangs(self) -> None:
        class Hanging:
            async def read(self, work: object) -> None:
                await Deferred()

        health = Health(Hanging(), self.clock)  # type: ignore[arg-type]
        request = AdminRequest("GET", (), {}, b"", ADMIN, "r", "::1")
        asked = Deferred.fromCoroutine(health.ready(request))
        self.assertNoResult(asked)
        self.clock.advance(STORE_DEADLINE)
        self.assertEqual(self.successResultOf(asked).status, 503)

    def test_figures_are_for_the_networks_of_the_config(self) -> None:
        answer = self.ask("/metrics", "10.9.9.9")
        self.assertEqual(answer.body(), b"figures 1\n")
        self.assertIn(("content-type", "text/x"), answer.headers)
        with self.assertRaises(Problem) as caught:
            self.ask("/metrics", "192.0.2.1")
        self.assertEqual(caught.exception.code, "forbidden")

    def test_figures_are_for_administrators_from_anywhere(self) -> None:
        self.assertEqual(self.answer("GET", "metrics").body(), b"figures 1\n")


class Description(Case):
    def setUp(self) -> None:
        super().setUp()
        self.described = yaml.safe_load(DESCRIPTION.read_text(encoding="utf-8"))

    def test_every_resource_is_described_and_nothing_else(self) -> None:
        expected = {
            (route.template, method.lower())
            for route in self.resources.routes
            for method in route.methods
        }
        expected |= {(path, "get") for path in self.resources.public}
        expected |= {
            ("/v1/groups/{group}/{service}/{profile}/{path}", method)
            for method in ("get", "put", "post", "delete", "patch")
        }
        expected.add(("/v1/groups/{group}/{service}/{profile}", "get"))
        found = {
            (path, method)
            for path, item in self.described["paths"].items()
            for method in item
            if method != "parameters"
        }
        self.assertEqual(found, expected)

    def test_every_reference_leads_somewhere(self) -> None:
        text = DESCRIPTION.read_text(encoding="utf-8")
        for reference in set(re.findall(r'"#/([^"]+)"', text)):
            place = self.described
            for part in reference.split("/"):
                self.assertIn(part, place, reference)
                place = place[part]

    def test_every_parameter_of_a_path_is_described(self) -> None:
        for path, item in self.described["paths"].items():
            names = {
                reference["$ref"].rpartition("/")[2] for reference in item.get("parameters", [])
            }
            parameters = self.described["components"]["parameters"]
            in_path = {name for name in names if parameters[name]["in"] == "path"}
            self.assertEqual(in_path, set(re.findall(r"\{(\w+)\}", path)), path)

    def test_documents_are_as_described(self) -> None:
        self.enrol(self.code("one"))
        self.document("POST", "tokens", {"owner": "bob", "scopes": ["admin"]})
        for schema, document in (
            ("Group", self.document("GET", "groups/g")),
            ("Agent", self.document("GET", "groups/g/agents/one")),
            ("Token", self.document("GET", "tokens")["tokens"][0]),
            ("AuditEntry", self.document("GET", "audit")["entries"][0]),
            ("ActivationCode", self.document("POST", "groups/g/activation-codes")),
        ):
            properties = self.described["components"]["schemas"][schema]["properties"]
            self.assertEqual(set(properties), set(document), schema)
