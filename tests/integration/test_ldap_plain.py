"""The ldap service on a directory that lacks what OpenLDAP and Active Directory have."""

from __future__ import annotations

from typing import Any

from tests.support.ldap_service import LdapCase
from tests.support.plain_directory import PlainDirectory
from workato_agent.services.ldap.service import LdapService

ACTIVE_DIRECTORY = [b"1.2.840.113556.1.4.800"]


class Plain(LdapCase):
    def on(self, directory: PlainDirectory, **keys: Any) -> LdapService:
        profile = {"url": directory.url, "base": "o=x", "timeout": 5, **keys}
        return self.serve(profile)

    async def test_without_pages_everything_comes_all_the_same(self) -> None:
        directory = PlainDirectory.start(self, entries=2000)
        service = self.on(directory, page_size=10)
        self.assertEqual(len(await self.entries(service)), 2000)
        found = (await self.call(service, "search", {"max_entries": 15})).json
        self.assertEqual((found["entry_count"], found["truncated"]), (15, True))
        # That search had to be given up with its connection, and the next is served.
        self.assertEqual(len(await self.entries(service)), 2000)
        self.assertIn("LDAPAbandonRequest", directory.asked)

    async def test_a_directory_that_can_not_change_passwords(self) -> None:
        directory = PlainDirectory.start(self, supportedExtension=[b"1.3.6.1.4.1.4203.1.11.3"])
        problem = await self.refused(
            self.on(directory), "password", {"dn": "cn=a", "new": "s3cret-new"}
        )
        self.assertEqual(problem.code, "operation_not_found")
        self.assertNotIn("s3cret", str(problem.members("")))

    async def test_active_directory_is_sent_no_password_in_the_clear(self) -> None:
        directory = PlainDirectory.start(self, supportedCapabilities=ACTIVE_DIRECTORY)
        problem = await self.refused(
            self.on(directory), "password", {"dn": "cn=a", "new": "s3cret-new"}
        )
        self.assertEqual(problem.code, "target_permission_denied")
        self.assertIn("ldaps://", problem.hint)
        self.assertNotIn("LDAPModifyRequest", directory.asked)
        # Nor where a server with TLS stands beside it.
        both = self.on(directory, url=f"{directory.url},ldaps://127.0.0.1:1")
        problem = await self.refused(both, "password", {"dn": "cn=a", "new": "s3cret-new"})
        self.assertEqual(problem.code, "target_permission_denied")

    async def test_without_starttls_nothing_is_said_in_the_clear(self) -> None:
        directory = PlainDirectory.start(self)
        service = self.on(directory, startTls=True, username="cn=a", password="s3cret")
        problem = await self.refused(service, "")
        self.assertEqual((problem.code, problem.extra["reason"]), ("target_tls_failed", "no_tls"))
        self.assertNotIn("LDAPBindRequest", directory.asked)

    async def test_what_the_server_is_called(self) -> None:
        for root, product in (
            ({"vendorName": [b"389 Project"], "vendorVersion": [b"2.3"]}, "389 Project 2.3"),
            ({"supportedCapabilities": ACTIVE_DIRECTORY}, "Active Directory"),
            ({"objectClass": [b"top", b"OpenLDAProotDSE"]}, "OpenLDAP"),
            ({}, "LDAP directory"),
        ):
            service = self.on(PlainDirectory.start(self, **root))
            self.assertEqual((await self.call(service, "")).json["product"], product)
