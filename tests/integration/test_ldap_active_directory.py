"""The ldap service on a real Samba Active Directory domain controller."""

from __future__ import annotations

from typing import Any

from tests.support.ldap_service import LdapCase
from tests.support.samba import ADMINISTRATOR, BASE, PASSWORD, shared_samba
from workato_agent.services.ldap.service import LdapService

ANN = "CN=Ann,CN=Users"
FIRST, SECOND = "F1rst.password", "S3cond.pässword"


class DomainCase(LdapCase):
    timeout = 180

    def setUp(self) -> None:
        self.domain = shared_samba()
        self.admin = self.serve(self.domain_profile())

    def domain_profile(self, **keys: Any) -> dict[str, Any]:
        known = {
            "url": self.domain.url("ldaps"),
            "username": ADMINISTRATOR,
            "password": PASSWORD,
            "base": BASE,
            "ssl": {"cert": str(self.domain.folder / "ca.crt")},
            **keys,
        }
        return {key: value for key, value in known.items() if value is not None}

    async def attributes(self, dn: str, *names: str) -> dict[str, Any]:
        (found,) = await self.entries(self.admin, base=dn, scope="base", attributes=list(names))
        attributes: dict[str, Any] = found["attributes"]
        return attributes


class Domain(DomainCase):
    async def test_the_profile_is_tested(self) -> None:
        for keys in (
            {},
            {"url": self.domain.url("ldap"), "startTls": True},
            {"username": "ADT\\Administrator"},
            {"username": f"CN=Administrator,CN=Users,{BASE}"},
        ):
            told = (await self.call(self.serve(self.domain_profile(**keys)), "")).json
            self.assertIn("Samba", told["product"])
            self.assertTrue(told["tls"].startswith("TLSv1."))

    async def test_a_login_in_the_clear_is_refused_with_what_to_do(self) -> None:
        plain = self.serve(self.domain_profile(url=self.domain.url("ldap"), ssl=None))
        problem = await self.refused(plain, "")
        self.assertEqual(problem.code, "target_login_failed")
        self.assertEqual(problem.extra["result_name"], "strongAuthRequired")
        self.assertIn("ldaps://", problem.hint)

    async def test_a_wrong_password_is_explained(self) -> None:
        problem = await self.refused(self.serve(self.domain_profile(password="wr0ng")), "")
        self.assertEqual((problem.code, problem.extra["result_code"]), ("target_login_failed", 49))
        self.assertIn("the user name or the password is wrong", problem.detail)

    async def test_identifiers_are_bytes_and_groups_are_found_by_rule(self) -> None:
        found = await self.attributes("CN=Administrator,CN=Users", "objectGUID", "objectSid")
        for name in ("objectGUID", "objectSid"):
            self.assertEqual(set(found[name][0]), {"base64"})
        by_guid = await self.entries(
            self.admin, filter="(objectGUID=:guid)", params={"guid": found["objectGUID"][0]}
        )
        self.assertEqual([entry["dn"] for entry in by_guid], [f"CN=Administrator,CN=Users,{BASE}"])
        nested = await self.entries(
            self.admin,
            filter="(&(objectClass=user)(memberOf:1.2.840.113556.1.4.1941:=:group))",
            params={"group": f"CN=Administrators,CN=Builtin,{BASE}"},
            attributes=["sAMAccountName"],
        )
        self.assertIn("Administrator", str(nested))

    async def test_pages(self) -> None:
        one = (await self.call(self.admin, "search", {"page_size": 7, "attributes": []})).json
        other = (await self.call(self.admin, "search", {"attributes": []})).json
        self.assertGreater(one["entry_count"], 100)
        self.assertEqual(
            sorted(entry["dn"] for entry in one["entries"]),
            sorted(entry["dn"] for entry in other["entries"]),
        )
        self.assertFalse(one["truncated"])
        some = (await self.call(self.admin, "search", {"page_size": 7, "max_entries": 20})).json
        self.assertEqual((some["entry_count"], some["truncated"]), (20, True))

    async def test_referrals_to_other_parts_of_the_forest_are_told(self) -> None:
        found = (await self.call(self.admin, "search", {"filter": "(cn=Ann)"})).json
        self.assertTrue(any("CN=Configuration" in url for url in found["referrals"]))


class Accounts(DomainCase):
    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        await self.call(
            self.admin,
            "add",
            {
                "dn": ANN,
                "attributes": {
                    "objectClass": ["user"],
                    "sAMAccountName": "ann",
                    "userPrincipalName": "ann@ad.test",
                },
            },
        )
        self.addCleanup(self.call, self.admin, "delete", {"dn": ANN})

    def as_ann(self, password: str) -> LdapService:
        return self.serve(self.domain_profile(username="ann@ad.test", password=password))

    async def enabled(self) -> None:
        await self.call(self.admin, "password", {"dn": ANN, "new": FIRST})
        change = {"operation": "replace", "attribute": "userAccountControl", "values": 512}
        await self.call(self.admin, "modify", {"dn": ANN, "changes": [change]})

    async def test_a_password_is_reset_and_changed(self) -> None:
        problem = await self.refused(self.as_ann(FIRST), "")
        self.assertEqual(problem.code, "target_login_failed")
        await self.enabled()
        own = self.as_ann(FIRST)
        self.assertTrue((await self.call(own, "")).json["ok"])
        wrong = await self.refused(own, "password", {"dn": ANN, "old": "n0t.this", "new": SECOND})
        self.assertNotIn("n0t.this", str(wrong.members("")))
        # The domain's own rules: a day between two changes, unless one is administrator.
        await self.call(self.admin, "password", {"dn": ANN, "new": SECOND})
        self.assertTrue((await self.call(self.as_ann(SECOND), "")).json["ok"])

    async def test_a_password_against_the_rules_is_refused_in_the_domains_words(self) -> None:
        problem = await self.refused(self.admin, "password", {"dn": ANN, "new": "short"})
        self.assertEqual((problem.code, problem.extra["result_code"]), ("bad_request", 19))
        self.assertIn("password", problem.detail.lower())

    async def test_accounts_are_moved_and_put_into_groups(self) -> None:
        group = "CN=Domain Guests,CN=Users"
        dn = f"{ANN},{BASE}"
        change = {"operation": "add", "attribute": "member", "values": dn}
        await self.call(self.admin, "modify", {"dn": group, "changes": [change]})
        self.assertEqual((await self.attributes(ANN, "memberOf"))["memberOf"], [f"{group},{BASE}"])
        moved = {"dn": ANN, "new_rdn": "CN=Ann", "new_parent": "CN=Computers"}
        await self.call(self.admin, "rename", moved)
        back = {"dn": "CN=Ann,CN=Computers", "new_rdn": "CN=Ann", "new_parent": "CN=Users"}
        await self.call(self.admin, "rename", back)
        self.assertEqual((await self.attributes(ANN, "cn"))["cn"], ["Ann"])

    async def test_who_may_not_is_told_so(self) -> None:
        await self.enabled()
        problem = await self.refused(self.as_ann(FIRST), "delete", {"dn": "CN=Guest,CN=Users"})
        self.assertEqual(
            (problem.code, problem.extra["result_code"]), ("target_permission_denied", 50)
        )
