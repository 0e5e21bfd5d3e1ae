"""Sessions as a caller uses them, on a real SQLite database."""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs

from tests.support.database import request
from tests.support.database_service import CSV, ServiceCase


class Sessions(ServiceCase):
    async def open(self, **options: Any) -> str:
        answered = await self.post("sessions", **options)
        self.assertEqual(answered.status, 201)
        self.assertIn(b'"timeout":60}', answered.body)
        identifier: str = answered.json["session"]
        self.assertEqual(answered.headers["location"], f"sessions/{identifier}")
        return identifier

    async def test_a_transaction_over_several_calls(self) -> None:
        path = "sessions/" + await self.open()
        await self.post(f"{path}/execute", {"sql": "update items set name = 'x'"})
        sets = {"sql": "insert into items (id) values (?)", "params": [[2], [3]]}
        await self.post(f"{path}/batch", sets)
        await self.post(f"{path}/load/items", b"id\n4\n", kind=CSV)
        self.assertEqual((await self.post(f"{path}/queries/all")).json["rows"], [[4]])
        self.assertEqual((await self.call("GET", f"{path}/schema/items")).status, 200)
        self.assertEqual(await self.names(), {1: "one"})
        self.assertEqual((await self.post(f"{path}/commit")).json, {"ok": True})
        self.assertEqual(len(await self.names()), 4)
        await self.post(f"{path}/execute", {"sql": "delete from items"})
        await self.post(f"{path}/rollback")
        self.assertEqual(len(await self.names()), 4)
        await self.post(f"{path}/execute", {"sql": "delete from items"})
        self.assertEqual((await self.call("DELETE", path)).status, 204)
        self.assertEqual(len(await self.names()), 4)
        self.assertEqual((await self.refused("DELETE", path)).code, "not_found")

    async def test_a_batch_or_load_that_fails_leaves_only_the_rollback(self) -> None:
        path = "sessions/" + await self.open()
        sql = "insert into items (id) values (?)"
        rows = b"id\n" + b"".join(b"%d\n" % n for n in range(2, 50_000))
        for rest, body, kind in (
            ("batch", {"sql": sql, "params": [[2], [3], [1]]}, None),
            ("load/items", rows + b"1,2\n", CSV),
        ):
            await self.post(f"{path}/execute", {"sql": "update items set name = 'x'"})
            await self.refused("POST", f"{path}/{rest}", body, kind=kind)
            for again, given in (("commit", None), ("query", {"sql": "select 1"}), (rest, body)):
                content = kind if again == rest else None
                problem = await self.refused("POST", f"{path}/{again}", given, kind=content)
                self.assertEqual(problem.code, "conflict")
                self.assertIn("rollback", problem.hint or "")
            await self.post(f"{path}/rollback")
            await self.post(f"{path}/commit")
            self.assertEqual(await self.names(), {1: "one"})
        await self.refused("POST", f"{path}/batch", {"sql": sql, "params": [[2], [3, 4]]})
        await self.post(f"{path}/commit")

    async def test_ids_name_the_agent_and_can_not_be_guessed(self) -> None:
        one, two = await self.open(), await self.open()
        self.assertRegex(one, r"\Aagent-1~[A-Za-z0-9_-]{32}\Z")
        self.assertNotEqual(one, two)

    async def test_a_session_is_its_callers_alone(self) -> None:
        identifier = await self.open(caller="alice")
        for method, rest in (("POST", "/rollback"), ("POST", "/query"), ("DELETE", "")):
            problem = await self.refused(method, f"sessions/{identifier}{rest}", {}, caller="bob")
            self.assertEqual(problem.code, "not_found")
            self.assertNotIn(identifier, str(problem.detail) + str(problem.hint))
        await self.post(f"sessions/{identifier}/commit", caller="alice")

    async def test_there_are_so_many(self) -> None:
        first = await self.open()
        await self.open()
        problem = await self.refused("POST", "sessions")
        self.assertEqual((problem.code, problem.retry_after), ("overloaded", 60))
        # A plain call still finds a connection.
        self.assertEqual(await self.names(), {1: "one"})
        await self.call("DELETE", f"sessions/{first}")
        await self.open()

    async def test_one_call_at_a_time(self) -> None:
        path = "sessions/" + await self.open()
        endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select x from n"
        sent = request("POST", f"{path}/query", {"sql": endless})
        response = await self.service.handle(sent)
        for method, rest in (("POST", "/query"), ("POST", "/commit"), ("DELETE", "")):
            body = {"sql": "select 1"} if rest == "/query" else None
            problem = await self.refused(method, path + rest, body)
            self.assertEqual(problem.code, "conflict", rest)
        body = response.body
        assert not isinstance(body, bytes)
        await anext(body)
        await body.aclose()  # type: ignore[attr-defined]
        # Work that was cut ends the session.
        problem = await self.refused("POST", f"{path}/commit")
        self.assertEqual(problem.code, "not_found")

    async def test_a_result_read_to_its_end_leaves_it_free(self) -> None:
        path = "sessions/" + await self.open()
        numbers = "with recursive n(x) as (select 1 union all select x + 1 from n limit 50000)"
        sql = f"{numbers} select x from n"
        for _ in range(3):
            answered = await self.post(f"{path}/query", {"sql": sql}, accept=CSV)
            self.assertEqual(answered.rows, 50_000)
        problem = await self.refused("POST", f"{path}/query", {"sql": "select nothing"})
        self.assertEqual(problem.code, "query_failed")
        await self.post(f"{path}/commit")

    async def test_bodies_are_checked(self) -> None:
        self.assertEqual((await self.refused("POST", "sessions", {"a": 1})).code, "bad_request")
        await self.post("sessions", {})

    async def test_closing_the_service_rolls_back(self) -> None:
        service = self.serve()
        answered = await self.post("sessions", service=service)
        path = f"sessions/{answered.json['session']}"
        await self.post(f"{path}/execute", {"sql": "delete from items"}, service=service)
        await service.close()
        self.assertEqual(await self.names(), {1: "one"})
        problem = await self.refused("POST", "sessions", service=service)
        self.assertEqual(problem.code, "overloaded")

    async def test_nothing_is_logged_of_an_id(self) -> None:
        service = self.serve(debug=True)
        with capturedLogs() as events:
            answered = await self.post("sessions", service=service)
            path = f"sessions/{answered.json['session']}"
            await self.post(f"{path}/query", {"sql": "select 1"}, service=service)
            await self.call("DELETE", path, service=service)
        self.assertIn("select 1", repr(events))
        self.assertNotIn(path.partition("~")[2], repr(events))


class WithoutSessions(ServiceCase):
    operations = ("test", "query")

    async def test_a_session_needs_the_right_to_have_one(self) -> None:
        problem = await self.refused("POST", "sessions/agent-1~x/query", {"sql": "select 1"})
        self.assertEqual((problem.code, problem.extra), ("policy_denied", {"rule": "operations"}))
