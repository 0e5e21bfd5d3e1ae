"""What every store keeps, whatever database is behind it."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.support.folders import folder_for
from tests.support.stores import NOW
from workato_gateway.storage.interface import (
    ActivationCodeRecord,
    Agent,
    Attendance,
    AuditEntry,
    Certificate,
    Group,
    Kind,
    NameTakenError,
    Store,
    StoreError,
    Token,
    Transaction,
)
from workato_gateway.storage.sqlite import SqliteStore, create_file

reactor: Any = _reactor
GROUP = Group("g", ("10.0.0.0/8",), NOW)
AGENT = Agent("a1", "g", "one", NOW)
CODE = ActivationCodeRecord(b"d" * 32, "g", None, NOW, "me", NOW + 3600)
TOKEN = Token("t1", "bob", b"t" * 32, ("g:*:*:GET",), NOW, NOW + 60)


class StoreContract:
    """The suite; a class below says how to open a store."""

    store: Store

    async def write(self, name: str, *arguments: Any, **named: Any) -> Any:
        return await self.store.write(lambda rows: getattr(rows, name)(*arguments, **named))

    async def read(self, name: str, *arguments: Any, **named: Any) -> Any:
        return await self.store.read(lambda rows: getattr(rows, name)(*arguments, **named))

    async def changed(self, name: str, *arguments: Any) -> frozenset[tuple[Kind, str]]:
        """What a write makes known."""
        point = (await self.read("changes_after", None)).latest
        await self.write(name, *arguments)
        changes = await self.read("changes_after", point)
        assert changes.complete
        found: frozenset[tuple[Kind, str]] = changes.subjects
        return found

    async def test_groups_come_back_by_name(self: Any) -> None:
        other = Group("b", (), NOW)
        for group in (GROUP, other):
            await self.write("add_group", group)
        self.assertEqual(await self.read("groups"), [other, GROUP])
        self.assertEqual(await self.read("group", "g"), GROUP)
        self.assertIsNone(await self.read("group", "none"))
        await self.write("set_allowed_networks", "g", ["::/0"])
        self.assertEqual((await self.read("group", "g")).allowed_networks, ("::/0",))
        await self.write("delete_group", "g")
        self.assertEqual(await self.read("groups"), [other])

    async def test_a_second_group_of_a_name_is_refused(self: Any) -> None:
        await self.write("add_group", GROUP)
        with self.assertRaises(NameTakenError):
            await self.write("add_group", GROUP)

    async def test_an_agents_name_is_its_groups(self: Any) -> None:
        await self.write("add_agent", AGENT)
        await self.write("add_agent", evolve(AGENT, id="a2", group="h"))
        with self.assertRaises(NameTakenError):
            await self.write("add_agent", evolve(AGENT, id="a3"))
        self.assertEqual([a.id for a in await self.read("agents")], ["a1", "a2"])
        self.assertEqual([a.id for a in await self.read("agents", "h")], ["a2"])
        self.assertEqual(await self.read("agent_named", "g", "one"), AGENT)
        self.assertEqual(await self.read("agent", "a1"), AGENT)
        self.assertIsNone(await self.read("agent_named", "g", "two"))

    async def test_revoking_frees_the_name_and_takes_certificates_and_codes(self: Any) -> None:
        await self.write("add_agent", AGENT)
        await self.write("add_certificate", Certificate("c1", "a1", NOW, NOW + 9))
        await self.write("add_code", evolve(CODE, agent_id="a1"))
        await self.write("revoke_agent", "a1", NOW + 1)
        self.assertEqual(await self.read("agents"), [])
        self.assertEqual([a.id for a in await self.read("agents", revoked=True)], ["a1"])
        self.assertEqual((await self.read("agent", "a1")).revoked, NOW + 1)
        self.assertEqual((await self.read("certificate", "c1")).revoked, NOW + 1)
        self.assertIsNone(await self.read("code", CODE.digest))
        await self.write("add_agent", evolve(AGENT, id="a2"))
        await self.write("revoke_agent", "a1", NOW + 2)
        self.assertEqual((await self.read("agent", "a1")).revoked, NOW + 1)

    async def test_an_agent_is_disabled_and_enabled(self: Any) -> None:
        await self.write("add_agent", AGENT)
        await self.write("set_enabled", "a1", False)
        self.assertFalse((await self.read("agent", "a1")).enabled)
        await self.write("set_enabled", "a1", True)
        self.assertTrue((await self.read("agent", "a1")).enabled)

    async def test_attendance_keeps_what_it_is_not_told(self: Any) -> None:
        await self.write("add_agent", AGENT)
        first = Attendance("a1", NOW, connected=True, address="10.0.0.1", catalogue=b"\x80")
        await self.write("record_attendance", [first])
        await self.write("record_attendance", [Attendance("a1", NOW + 5, connected=False)])
        self.assertEqual(
            await self.read("agent", "a1"),
            evolve(AGENT, last_seen=NOW + 5, last_address="10.0.0.1", catalogue=b"\x80"),
        )
        await self.write("record_attendance", [evolve(first, at=NOW + 9)])
        await self.write("forget_attendance")
        agent = await self.read("agent", "a1")
        self.assertEqual((agent.connected, agent.last_seen), (False, NOW + 9))

    async def test_a_code_is_used_once(self: Any) -> None:
        await self.write("add_code", CODE)
        self.assertEqual(await self.read("code", CODE.digest), CODE)
        self.assertTrue(await self.write("use_code", CODE.digest, NOW))
        self.assertFalse(await self.write("use_code", CODE.digest, NOW))
        self.assertFalse(await self.write("use_code", b"x" * 32, NOW))
        self.assertEqual((await self.read("code", CODE.digest)).used_at, NOW)

    async def test_of_many_who_use_a_code_at_once_one_wins(self: Any) -> None:
        await self.write("add_code", CODE)
        attempts = [
            Deferred.fromCoroutine(self.write("use_code", CODE.digest, NOW)) for _ in range(20)
        ]
        outcomes = await gatherResults(attempts)
        self.assertEqual(sorted(outcomes), [False] * 19 + [True])

    async def test_old_codes_and_a_deleted_groups_codes_are_forgotten(self: Any) -> None:
        await self.write("add_code", CODE)
        await self.write("delete_codes_expired_before", CODE.expires)
        self.assertIsNotNone(await self.read("code", CODE.digest))
        await self.write("delete_codes_expired_before", CODE.expires + 1)
        self.assertIsNone(await self.read("code", CODE.digest))
        await self.write("add_code", CODE)
        await self.write("delete_group", "g")
        self.assertIsNone(await self.read("code", CODE.digest))

    async def test_the_newest_certificate_is_the_agents(self: Any) -> None:
        await self.write("add_agent", AGENT)
        for number in (1, 2):
            issued = Certificate(f"c{number}", "a1", NOW + number, NOW + 10 * number)
            await self.write("add_certificate", issued)
            self.assertEqual(await self.read("certificate", issued.serial), issued)
        agent = await self.read("agent", "a1")
        self.assertEqual((agent.serial, agent.certificate_expires), ("c2", NOW + 20))
        self.assertEqual(await self.read("certificates_issued_since", "a1", NOW + 2), 1)
        await self.write("revoke_certificates", "a1", NOW + 3)
        self.assertEqual((await self.read("certificate", "c1")).revoked, NOW + 3)
        await self.write("delete_certificates_expired_before", NOW + 15)
        self.assertIsNone(await self.read("certificate", "c1"))
        self.assertIsNotNone(await self.read("certificate", "c2"))

    async def test_tokens_come_back_and_are_revoked_once(self: Any) -> None:
        await self.write("add_token", TOKEN)
        self.assertEqual(await self.read("tokens"), [TOKEN])
        await self.write("record_token_use", {"t1": NOW + 1, "unknown": NOW})
        await self.write("revoke_token", "t1", NOW + 2)
        await self.write("revoke_token", "t1", NOW + 3)
        expected = evolve(TOKEN, last_used=NOW + 1, revoked=NOW + 2)
        self.assertEqual(await self.read("token", "t1"), expected)
        self.assertIsNone(await self.read("token", "unknown"))

    async def test_the_audit_is_read_newest_first_in_pages(self: Any) -> None:
        for number in range(5):
            entry = AuditEntry(NOW + number, "me", "::1", "x", str(number), {"n": [number]})
            await self.write("add_audit", entry)
        page = await self.read("audit", limit=2)
        self.assertEqual([entry.subject for entry in page], ["4", "3"])
        self.assertEqual(page[0].detail, {"n": [4]})
        page = await self.read("audit", limit=9, before=page[-1].seq)
        self.assertEqual([entry.subject for entry in page], ["2", "1", "0"])
        later = await self.read("audit_after", page[-1].seq, limit=2)
        self.assertEqual([entry.seq for entry in later], [page[-1].seq + 1, page[-1].seq + 2])
        await self.write("delete_audit_before", NOW + 4)
        self.assertEqual(len(await self.read("audit", limit=9)), 1)

    async def test_what_a_gateway_must_notice_is_a_change(self: Any) -> None:
        await self.write("add_agent", AGENT)
        await self.write("add_token", TOKEN)
        await self.write("add_group", GROUP)
        for name, arguments, subject in (
            ("add_group", (Group("h", (), NOW),), (Kind.GROUP, "h")),
            ("set_allowed_networks", ("g", []), (Kind.GROUP, "g")),
            ("delete_group", ("g",), (Kind.GROUP, "g")),
            ("add_agent", (evolve(AGENT, id="a2", name="two"),), (Kind.AGENT, "a2")),
            ("set_enabled", ("a1", False), (Kind.AGENT, "a1")),
            ("revoke_certificates", ("a1", NOW), (Kind.AGENT, "a1")),
            ("revoke_agent", ("a1", NOW), (Kind.AGENT, "a1")),
            ("add_token", (evolve(TOKEN, id="t2", digest=b"2"),), (Kind.TOKEN, "t2")),
            ("revoke_token", ("t1", NOW), (Kind.TOKEN, "t1")),
        ):
            self.assertEqual(await self.changed(name, *arguments), {subject}, name)

    async def test_what_it_need_not_notice_is_none(self: Any) -> None:
        await self.write("add_agent", AGENT)
        await self.write("add_token", TOKEN)
        for name, arguments in (
            ("record_attendance", ([Attendance("a1", NOW, connected=True)],)),
            ("record_token_use", ({"t1": NOW},)),
            ("add_certificate", (Certificate("c", "a1", NOW, NOW),)),
            ("add_code", (CODE,)),
            ("use_code", (CODE.digest, NOW)),
            ("add_audit", (AuditEntry(NOW, "", "", "", ""),)),
        ):
            self.assertEqual(await self.changed(name, *arguments), frozenset(), name)

    async def test_a_point_of_the_past_or_of_another_store_means_look_at_everything(
        self: Any,
    ) -> None:
        await self.write("add_group", GROUP)
        self.assertTrue((await self.read("changes_after", 0)).complete)
        self.assertFalse((await self.read("changes_after", -1)).complete)
        self.assertFalse((await self.read("changes_after", 999)).complete)

    async def test_a_unit_that_fails_leaves_nothing(self: Any) -> None:
        def work(rows: Transaction) -> None:
            rows.add_group(GROUP)
            raise LookupError("no")

        with self.assertRaises(LookupError):
            await self.store.write(work)
        self.assertEqual(await self.read("groups"), [])
        self.assertEqual((await self.read("changes_after", 0)).latest, 0)

    async def test_reading_can_not_write(self: Any) -> None:
        with self.assertRaises(StoreError):
            await self.read("add_group", GROUP)
        await self.write("add_group", GROUP)

    async def test_a_closed_store_says_so(self: Any) -> None:
        await self.store.close()
        await self.store.close()
        with self.assertRaisesRegex(StoreError, "closed"):
            await self.read("groups")


class SqliteHere(StoreContract, TestCase):
    """In the calling thread, as on the command line."""

    def setUp(self) -> None:
        self.store = SqliteStore.open_here(folder_for(self) / "s.db", create=True)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.store.close()))


class SqliteBeside(StoreContract, TestCase):
    """In a thread of its own, as in the gateway."""

    def setUp(self) -> None:
        path = folder_for(self) / "s.db"
        create_file(path)
        self.store = SqliteStore.beside(path, reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.store.close()))
