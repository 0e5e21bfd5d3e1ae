"""The ldap service on a real OpenLDAP: what is found, what is changed, what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.support.database import request
from tests.support.ldap_service import NDJSON, LdapCase
from tests.support.slapd import PEOPLE, PICTURE, READER_LIMIT, SUFFIX, shared_slapd
from workato_agent.services.ldap.service import LdapService
from workato_tunnel.problems import Problem

PICTURE_BASE64 = {"base64": base64.b64encode(PICTURE).decode()}
STAR = {"attribute": "uid", "equals": "star*(one)"}


class ServerCase(LdapCase):
    def setUp(self) -> None:
        self.server = shared_slapd()
        self.admin = self.serve(self.profile())


class Searching(ServerCase):
    async def test_an_entry_as_it_is(self) -> None:
        (found,) = await self.entries(self.admin, base="ou=other", filter=STAR)
        self.assertEqual(found["dn"], f"uid=star*(one),ou=other,{SUFFIX}")
        self.assertEqual(found["attributes"]["cn"], ['Star, "one" + more'])
        self.assertEqual(found["attributes"]["jpegPhoto"], [PICTURE_BASE64])

    async def test_names_are_relative_or_absolute(self) -> None:
        for base in ("uid=u7,ou=people", f"UID=U7, ou=people,{SUFFIX}"):
            (found,) = await self.entries(self.admin, base=base, scope="base")
            self.assertEqual(found["dn"], f"uid=u7,ou=people,{SUFFIX}")

    async def test_scopes(self) -> None:
        for scope, count in (("base", 1), ("one", 4), ("sub", PEOPLE + 8)):
            answered = await self.call(
                self.admin, "search", {"scope": scope, "attributes": []}, accept=NDJSON
            )
            entries = [json.loads(line) for line in answered.body.splitlines()]
            self.assertEqual(len([each for each in entries if "dn" in each]), count)
            self.assertEqual(answered.rows, count)

    async def test_more_entries_than_a_page_in_json_and_ndjson(self) -> None:
        for size in (100, 500, 10_000):
            body = {"base": "ou=people", "scope": "one", "page_size": size, "attributes": ["uid"]}
            answered = await self.call(self.admin, "search", body)
            found = answered.json
            uids = {entry["attributes"]["uid"][0] for entry in found["entries"]}
            self.assertEqual(uids, {f"u{number}" for number in range(PEOPLE)})
            self.assertEqual((found["entry_count"], found["truncated"]), (PEOPLE, False))
            lines = (await self.call(self.admin, "search", body, accept=NDJSON)).body.splitlines()
            self.assertEqual([json.loads(line) for line in lines], found["entries"])

    async def test_limits_of_the_caller(self) -> None:
        for limit, size in ((1, 500), (500, 500), (501, 500), (7, 3)):
            body = {"base": "ou=people", "max_entries": limit, "page_size": size}
            found = (await self.call(self.admin, "search", body)).json
            self.assertEqual((found["entry_count"], found["truncated"]), (limit, True))
            lines = (await self.call(self.admin, "search", body, accept=NDJSON)).body.splitlines()
            self.assertEqual((len(lines), json.loads(lines[-1])), (limit + 1, {"truncated": True}))
        body = {"base": "uid=u1,ou=people", "max_entries": 1}
        self.assertFalse((await self.call(self.admin, "search", body)).json["truncated"])

    async def test_parameters_are_taken_literally(self) -> None:
        for value in ("*", "*)(uid=*", "u*", ")(objectClass=*", "star*(one", r"\2a", "u1)(cn=*"):
            found = await self.entries(
                self.admin, filter="(&(uid=:uid)(objectClass=person))", params={"uid": value}
            )
            self.assertEqual(found, [])
        for text in ("(uid=:uid)", "(uid=:uid*)", "(uid=*:uid*)"):
            found = await self.entries(self.admin, filter=text, params={"uid": "star*(one)"})
            self.assertEqual([entry["attributes"]["sn"] for entry in found], [["=x"]])

    async def test_matching_is_the_directorys(self) -> None:
        found = await self.entries(self.admin, filter="(cn=:cn)", params={"cn": "čeněk 5"})
        self.assertEqual([entry["attributes"]["uid"] for entry in found], [["u5"]])
        body: dict[str, Any] = {"dn": "uid=u5,ou=people", "attribute": "sn", "value": "novák"}
        self.assertTrue((await self.call(self.admin, "compare", body)).json["match"])
        body["value"] = "Nov*"
        self.assertFalse((await self.call(self.admin, "compare", body)).json["match"])

    async def test_what_the_caller_calls_binary_is_base64(self) -> None:
        (found,) = await self.entries(
            self.admin, base="uid=u5,ou=people", binary=["MAIL"], attributes=["mail", "uid"]
        )
        mail = {"base64": base64.b64encode(b"u5@ex.org").decode()}
        self.assertEqual(found["attributes"], {"mail": [mail], "uid": ["u5"]})

    async def test_referrals_are_told_and_not_followed(self) -> None:
        body = {"base": "ou=other", "attributes": ["cn"]}
        told = ["ldap://other.example/ou=elsewhere,dc=other??sub"]
        self.assertEqual((await self.call(self.admin, "search", body)).json["referrals"], told)
        lines = (await self.call(self.admin, "search", body, accept=NDJSON)).body.splitlines()
        self.assertIn({"referrals": told}, [json.loads(line) for line in lines])
        problem = await self.refused(
            self.admin, "search", {"base": "cn=below,cn=elsewhere,ou=other"}
        )
        self.assertEqual((problem.code, problem.extra["result_name"]), ("not_found", "referral"))
        self.assertIn("ldap://other.example/", str(problem.extra["referrals"]))

    async def test_aliases_lead_nowhere(self) -> None:
        service = self.serve(self.profile(base=f"ou=other,{SUFFIX}"))
        for base in ("", "cn=pointer"):
            found = await self.entries(service, base=base, attributes=["aliasedObjectName"])
            self.assertFalse([entry for entry in found if "people" in entry["dn"]])
            self.assertIn(f"ou=people,{SUFFIX}", str(found))

    async def test_the_directorys_own_limit_is_an_error(self) -> None:
        reader = self.serve(self.reader(page_size=50))
        problem = await self.refused(reader, "search", {"base": "ou=people", "page_size": 900})
        self.assertEqual((problem.code, problem.extra["result_code"]), ("overloaded", 4))

    async def test_what_fails_on_its_way_never_looks_complete(self) -> None:
        reader = self.serve(self.reader(page_size=50))
        for accept in ("application/json", NDJSON):
            sent = request("POST", "search", {"base": "ou=people"}, accept=accept)
            body = (await reader.handle(sent)).body
            assert not isinstance(body, bytes)
            chunks = []
            with self.assertRaises(Problem) as caught:
                async for chunk in body:
                    chunks.append(chunk)  # noqa: PERF401 - the iteration fails
            self.assertEqual(caught.exception.code, "overloaded")
            *lines, last = b"".join(chunks).splitlines()
            if accept == NDJSON:
                self.assertEqual(json.loads(last)["code"], "overloaded")
                self.assertEqual(len(lines), READER_LIMIT)
            else:
                self.assertRaises(ValueError, json.loads, last)

    async def test_what_may_not_be_read_is_not_there(self) -> None:
        reader = self.serve(self.reader())
        (found,) = await self.entries(reader, base="uid=u1,ou=people")
        self.assertNotIn("userPassword", found["attributes"])
        problem = await self.refused(reader, "search", {"base": "ou=secret"})
        self.assertEqual((problem.code, problem.extra["result_code"]), ("not_found", 32))

    async def test_bodies_that_are_none_are_refused(self) -> None:
        for body, field in (
            ({"scope": "all"}, "scope"),
            ({"bsae": "x"}, "bsae"),
            ({"base": "people"}, "base"),
            ({"max_entries": 0}, "max_entries"),
            ({"page_size": 10_001}, "page_size"),
            ({"attributes": ["cn)("]}, "attributes[0]"),
            ({"binary": ["*"]}, "binary"),
            ({"filter": 1}, "filter"),
        ):
            problem = await self.refused(self.admin, "search", body)
            self.assertEqual((problem.code, problem.extra["field"]), ("bad_request", field))
        for raw in (b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"base":"\\ud800"}'):
            problem = await self.refused(self.admin, "search", raw)
            self.assertEqual(problem.code, "bad_request")
        problem = await self.refused(self.admin, "search", {}, accept="text/csv")
        self.assertEqual(problem.extra, {"field": "Accept"})
        problem = await self.refused(self.admin, "serach", {})
        self.assertEqual(problem.code, "operation_not_found")


class Changing(ServerCase):
    DN = "uid=new,ou=other"

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        await self.call(self.admin, "add", self.person())
        self.addCleanup(self.remove, self.DN)

    def person(self, **attributes: Any) -> dict[str, Any]:
        known = {"objectClass": ["inetOrgPerson"], "cn": "New", "sn": ["One"], **attributes}
        return {"dn": self.DN, "attributes": known}

    async def remove(self, dn: str) -> None:
        if await self.entries(self.admin, base="ou=other", filter=f"({dn.partition(',')[0]})"):
            await self.call(self.admin, "delete", {"dn": dn})

    async def attributes(self, dn: str = DN) -> dict[str, Any]:
        (found,) = await self.entries(self.admin, base=dn, scope="base")
        attributes: dict[str, Any] = found["attributes"]
        return attributes

    async def modify(self, *changes: dict[str, Any]) -> None:
        await self.call(self.admin, "modify", {"dn": self.DN, "changes": list(changes)})

    async def test_what_is_added_is_there_and_not_twice(self) -> None:
        self.assertEqual((await self.attributes())["uid"], ["new"])
        problem = await self.refused(self.admin, "add", self.person())
        self.assertEqual(
            (problem.code, problem.extra["result_name"]), ("conflict", "entryAlreadyExists")
        )

    async def test_modifications(self) -> None:
        await self.modify(
            {"operation": "add", "attribute": "mail", "values": ["a@x", "b@x"]},
            {"operation": "replace", "attribute": "sn", "values": "Two"},
            {"operation": "add", "attribute": "jpegPhoto", "values": [PICTURE_BASE64]},
            {"operation": "add", "attribute": "employeeNumber", "values": 7},
        )
        found = await self.attributes()
        self.assertEqual(sorted(found["mail"]), ["a@x", "b@x"])
        self.assertEqual((found["sn"], found["employeeNumber"]), (["Two"], ["7"]))
        self.assertEqual(found["jpegPhoto"], [PICTURE_BASE64])
        await self.modify(
            {"operation": "delete", "attribute": "mail", "values": ["a@x"]},
            {"operation": "delete", "attribute": "jpegPhoto"},
        )
        found = await self.attributes()
        self.assertEqual((found["mail"], "jpegPhoto" in found), (["b@x"], False))

    async def test_increments(self) -> None:
        await self.modify(
            {"operation": "add", "attribute": "objectClass", "values": "posixAccount"},
            {"operation": "add", "attribute": "uidNumber", "values": 1000},
            {"operation": "add", "attribute": "gidNumber", "values": "100"},
            {"operation": "add", "attribute": "homeDirectory", "values": "/home/new"},
        )
        await self.modify({"operation": "increment", "attribute": "uidNumber", "values": 5})
        self.assertEqual((await self.attributes())["uidNumber"], ["1005"])

    async def test_all_of_it_or_nothing(self) -> None:
        changes = [
            {"operation": "replace", "attribute": "sn", "values": "Three"},
            {"operation": "add", "attribute": "nonsense", "values": "x"},
        ]
        body = {"dn": self.DN, "changes": changes}
        problem = await self.refused(self.admin, "modify", body)
        self.assertEqual((problem.code, problem.extra["result_code"]), ("bad_request", 17))
        self.assertIn("nonsense", problem.detail)
        self.assertEqual((await self.attributes())["sn"], ["One"])

    async def test_renaming_and_moving(self) -> None:
        for body, dn in (
            ({"new_rdn": "uid=two"}, "uid=two,ou=other"),
            ({"new_rdn": "uid=three", "delete_old_rdn": False}, "uid=three,ou=other"),
            ({"new_rdn": "uid=three", "new_parent": "ou=people"}, "uid=three,ou=people"),
            ({"new_rdn": "uid=new", "new_parent": "ou=other"}, self.DN),
        ):
            before = getattr(self, "where", self.DN)
            answered = await self.call(self.admin, "rename", {"dn": before, **body})
            self.assertEqual(answered.json, {"ok": True, "dn": f"{dn},{SUFFIX}"})
            self.where = dn
        self.assertEqual(sorted((await self.attributes())["uid"]), ["new", "two"])

    async def test_deleting(self) -> None:
        await self.call(self.admin, "delete", {"dn": self.DN})
        problem = await self.refused(self.admin, "delete", {"dn": self.DN})
        self.assertEqual(
            (problem.code, problem.extra["matched_dn"]), ("not_found", f"ou=other,{SUFFIX}")
        )
        problem = await self.refused(self.admin, "delete", {"dn": "ou=other"})
        self.assertEqual((problem.code, problem.extra["result_code"]), ("conflict", 66))

    async def test_passwords_by_the_standard_operation(self) -> None:
        await self.call(self.admin, "password", {"dn": self.DN, "new": "first pässword"})
        own = self.serve(self.profile(username=f"{self.DN},{SUFFIX}", password="first pässword"))
        changed = {"dn": self.DN, "old": "first pässword", "new": "second"}
        await self.call(own, "password", changed)
        problem = await self.refused(own, "password", changed)
        self.assertNotIn("first", problem.detail)
        self.assertIn(problem.code, ("target_permission_denied", "query_failed"))
        self.assertNotEqual((await self.attributes())["userPassword"], ["second"])
        again = self.serve(self.profile(username=f"{self.DN},{SUFFIX}", password="second"))
        self.assertTrue((await self.call(again, "")).json["ok"])

    async def test_who_may_not_is_told_so(self) -> None:
        reader = self.serve(self.reader())
        change = {"operation": "replace", "attribute": "sn", "values": "x"}
        for path, body in (
            ("delete", {"dn": self.DN}),
            ("modify", {"dn": self.DN, "changes": [change]}),
        ):
            problem = await self.refused(reader, path, body)
            self.assertEqual(
                (problem.code, problem.extra["result_code"]), ("target_permission_denied", 50)
            )

    async def test_bodies_that_are_none_are_refused(self) -> None:
        change = {"operation": "replace", "attribute": "sn", "values": "x"}
        for path, body, field in (
            ("add", {"dn": self.DN}, "attributes"),
            ("add", self.person(mail=None), "attributes.mail"),
            ("add", self.person(**{"m)": "x"}), "attributes.m)"),
            ("add", self.person(mail=[]), "attributes.mail"),
            ("add", self.person(mail=[1.5]), "attributes.mail[0]"),
            ("modify", {"dn": self.DN, "changes": []}, "changes"),
            ("modify", {"dn": self.DN, "changes": [{**change, "operation": "set"}]},
             "changes[0].operation"),
            ("modify", {"dn": self.DN, "changes": [{**change, "attribute": "*"}]},
             "changes[0].attribute"),
            ("modify", {"dn": self.DN, "changes": [change, {**change, "values": {"x": 1}}]},
             "changes[1].values"),
            ("modify", {"dn": self.DN, "changes": [{**change, "operation": "add", "values": []}]},
             "changes[0].values"),
            ("delete", {"dn": "new"}, "dn"),
            ("rename", {"dn": self.DN, "new_rdn": "uid=a,ou=x"}, "new_rdn"),
            ("compare", {"dn": self.DN, "attribute": "cn", "value": None}, "value"),
            ("password", {"dn": self.DN, "new": ""}, "new"),
        ):  # fmt: skip
            problem = await self.refused(self.admin, path, body)
            self.assertEqual((problem.code, problem.extra["field"]), ("bad_request", field))


class Policy(ServerCase):
    def limited(self, **rules: Any) -> LdapService:
        return self.serve(self.profile(policy=rules))

    async def rule(self, service: LdapService, path: str, body: dict[str, Any]) -> object:
        problem = await self.refused(service, path, body)
        self.assertEqual(problem.code, "policy_denied")
        return problem.extra["rule"]

    async def test_attributes_that_may_be_read(self) -> None:
        service = self.limited(read_attributes=["cn", "uid"])
        for wanted in (None, ["*"], ["cn", "uid"]):
            (found,) = await self.entries(service, base="uid=u1,ou=people", attributes=wanted)
            self.assertEqual(set(found["attributes"]), {"cn", "uid"})
        for wanted in (["mail"], ["cn", "MAIL;lang-de"], ["+"], ["2.5.4.4"]):
            body = {"base": "uid=u1,ou=people", "attributes": wanted}
            self.assertEqual(await self.rule(service, "search", body), "read_attributes")
        (found,) = await self.entries(service, base="uid=u1,ou=people", attributes=["1.1"])
        self.assertEqual(found["attributes"], {})

    async def test_what_may_not_be_read_can_not_be_guessed_at(self) -> None:
        service = self.limited(read_attributes=["cn", "uid"])
        for text in (
            "(userPassword=pw1)",
            "(&(uid=u1)(!(userPassword=p*)))",
            "(mail:caseIgnoreMatch:=x)",
            "(:caseIgnoreMatch:=x)",
            "(cn:dn:=people)",
        ):
            self.assertEqual(
                await self.rule(service, "search", {"filter": text}), "read_attributes"
            )
        body = {"dn": "uid=u1,ou=people", "attribute": "mail", "value": "x"}
        self.assertEqual(await self.rule(service, "compare", body), "read_attributes")
        found = await self.entries(service, filter="(&(objectClass=person)(uid=u1))")
        self.assertEqual(len(found), 1)

    async def test_subtypes_of_what_may_be_read_are_left_out(self) -> None:
        """``name`` is the supertype of cn, sn and others: the directory answers with those."""
        service = self.limited(read_attributes=["name"])
        (found,) = await self.entries(service, base="uid=u1,ou=people")
        self.assertEqual(found["attributes"], {})

    async def test_attributes_that_may_be_written(self) -> None:
        service = self.limited(write_attributes=["mail"])
        change = {"operation": "replace", "attribute": "sn", "values": "x"}
        for path, body in (
            ("modify", {"dn": "uid=u1,ou=people", "changes": [change]}),
            ("add", {"dn": "mail=x", "attributes": {"mail": "x", "objectClass": "person"}}),
            ("add", {"dn": "uid=x", "attributes": {"mail": "x"}}),
            ("rename", {"dn": "uid=u1,ou=people", "new_rdn": "mail=x"}),
        ):
            self.assertEqual(await self.rule(service, path, body), "write_attributes")

    async def test_subtrees(self) -> None:
        service = self.limited(bases=["ou=people"])
        self.assertEqual(len(await self.entries(service, base="ou=people", max_entries=3)), 3)
        change = {"operation": "replace", "attribute": "sn", "values": "x"}
        for path, body in (
            ("search", {}),
            ("search", {"base": "ou=other"}),
            ("search", {"base": r"ou=other\,ou=people"}),
            ("delete", {"dn": "uid=plain,ou=other"}),
            ("modify", {"dn": "uid=plain,ou=other", "changes": [change]}),
            ("add", {"dn": "uid=x,ou=other", "attributes": {"sn": "x"}}),
            ("compare", {"dn": "uid=plain,ou=other", "attribute": "sn", "value": "x"}),
            ("password", {"dn": "uid=plain,ou=other", "new": "x"}),
            ("rename", {"dn": "uid=u1,ou=people", "new_rdn": "uid=u1", "new_parent": "ou=other"}),
            ("rename", {"dn": "ou=people", "new_rdn": "ou=staff"}),
        ):
            self.assertEqual(await self.rule(service, path, body), "bases")

    async def test_nothing_outside_of_the_base_is_reached(self) -> None:
        service = self.serve(self.profile(base=f"ou=people,{SUFFIX}"))
        for base in (f"ou=other,{SUFFIX}", SUFFIX, f"uid=plain,ou=other,{SUFFIX}"):
            problem = await self.refused(service, "search", {"base": base})
            self.assertEqual((problem.code, problem.extra["result_code"]), ("not_found", 32))
        found = await self.entries(service, filter="(uid=plain)")
        self.assertEqual(found, [])

    async def test_the_customers_limits_are_told(self) -> None:
        service = self.limited(max_entries=3)
        for asked in ({}, {"max_entries": 9}, {"max_entries": 3}):
            found = (await self.call(service, "search", {"base": "ou=people", **asked})).json
            self.assertEqual((found["entry_count"], found["truncated"]), (3, True))
        service = self.limited(max_bytes=1000)
        answered = await self.call(service, "search", {"base": "ou=people"})
        self.assertTrue(answered.json["truncated"])
        self.assertLess(len(answered.body), 1100)
        self.assertGreater(answered.json["entry_count"], 2)
        nothing = {"entries": [], "entry_count": 0, "truncated": True, "referrals": []}
        service = self.limited(max_bytes=20)
        self.assertEqual((await self.call(service, "search", {})).json, nothing)
        self.assertEqual(answered.rows, answered.json["entry_count"])
