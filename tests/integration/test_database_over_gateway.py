"""Database calls as a caller makes them: curl, a gateway, and two agents of one group."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from attrs import define, field, frozen
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from demo.deployment import Deployment
from demo.processes import command, run
from tests.support.cutting_relay import wait_until

GROUP = "plant"
ROWS = 30_000
MSGPACK = "application/vnd.msgpack"
ARROW = "application/vnd.apache.arrow.stream"


@frozen
class Answer:
    """What curl printed."""

    status: int
    headers: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@define
class Site:
    """A gateway, and two agents of one group that serve the same file."""

    folder: Path
    first: Deployment
    second: Deployment
    token: str = ""
    names: list[str] = field(factory=list)

    @classmethod
    def start(cls) -> Site:
        """All of it, in some seconds."""
        folder = Path(tempfile.mkdtemp(prefix="calls-"))
        profile = {
            "adapter": "sqlite",
            "database": str(folder / "items.db"),
            "pool": {"max": 8},
            "queries": {"named": "select name from items where id = :id"},
        }
        sections = f"database: {json.dumps({'stock': profile})}\n"
        first = Deployment(folder / "one", GROUP, sections)
        second = Deployment(
            folder / "two",
            GROUP,
            sections,
            api_port=first.api_port,
            tunnel_port=first.tunnel_port,
        )
        site = cls(folder, first, second)
        try:
            site.connect()
        except BaseException:
            site.stop()
            raise
        return site

    def connect(self) -> None:
        """Start the gateway and both agents."""
        first, second = self.first, self.second
        first.folder.mkdir()
        first.start()
        second.folder.mkdir()
        second.admin_token = first.admin_token
        second.enrol(first.admin("agent", "code", GROUP))
        second.start_agent()
        wait_until(lambda: len(active(first)) == 2)
        self.names = active(first)
        self.token = first.token("alice", f"{GROUP}:database:*:*")

    def stop(self) -> None:
        """End it and remove the folder."""
        self.second.stop()
        self.first.stop()
        shutil.rmtree(self.folder)


def active(deployment: Deployment) -> list[str]:
    """The names of the group's agents that can be called."""
    status, body = deployment.get(f"/v1/groups/{GROUP}/agents", deployment.admin_token)
    agents = json.loads(body)["agents"] if status == 200 else []
    return [each["name"] for each in agents if each["status"] == "active"]


_running: list[Site] = []


def site() -> Site:
    """The one of this process; it ends with it."""
    if not _running:
        _running.append(Site.start())
        reactor.addSystemEventTrigger("after", "shutdown", lambda: _running.pop().stop())
    return _running[0]


class GatewayCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = site()
        self.first, self.folder = self.site.first, self.site.folder
        self.names, self.token = self.site.names, self.site.token
        with sqlite3.connect(self.folder / "items.db") as connection:
            connection.execute("pragma journal_mode = wal")
            connection.execute("drop table if exists items")
            connection.execute(
                "create table items (id integer primary key, name text, data blob, price real)"
            )
            connection.execute("insert into items values (1, 'one \"é\"', x'0001ff', 1.5)")
        connection.close()

    def curl(
        self, method: str, path: str, *arguments: str, data: bytes | None = None, whole: bool = True
    ) -> Answer:
        """What comes back; ``whole``: and whether curl takes it for complete."""
        url = f"{self.first.url}/v1/groups/{GROUP}/database/stock{path}"
        body = () if data is None else ("--data-binary", "@-")
        argv = ["curl", "-sS", "-i", "-X", method, "-H", f"Authorization: Bearer {self.token}"]
        done = subprocess.run(
            [*argv, "-H", "Expect:", *arguments, *body, url],
            input=data,
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode == 0, whole, done.stderr)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        return Answer(int(head.split()[1]), head.decode("latin-1"), content)

    def post(self, path: str, body: object = None, *arguments: str) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        return self.curl("POST", path, *arguments, data=data)

    def query(self, sql: str, accept: str) -> bytes:
        answer = self.post("/query", {"sql": sql}, "-H", f"Accept: {accept}")
        self.assertEqual(answer.status, 200, answer.body)
        self.assertIn(accept, answer.headers)
        return answer.body

    def count(self) -> int:
        found: int = json.loads(self.query("select count(*) from items", "application/json"))[
            "rows"
        ][0][0]
        return found


def sequence(data: bytes, *, of: int) -> Iterator[Any]:
    """So many values of a MessagePack sequence: an array of as many is what they make."""
    return iter(msgspec.msgpack.decode(b"\xdd" + of.to_bytes(4, "big") + data))


class Formats(GatewayCase):
    NUMBERS = (
        f"with recursive n(x) as (select 1 union all select x + 1 from n limit {ROWS})"
        " select x as n, 'row ' || x as text from n"
    )

    def test_json_ndjson_and_csv(self) -> None:
        expected = [[n, f"row {n}"] for n in range(1, ROWS + 1)]
        found = json.loads(self.query(self.NUMBERS, "application/json"))
        self.assertEqual((found["rows"], found["row_count"]), (expected, ROWS))
        lines = self.query(self.NUMBERS, "application/x-ndjson").splitlines()
        self.assertEqual([list(json.loads(line).values()) for line in lines], expected)
        text = self.query(self.NUMBERS, "text/csv").decode()
        rows = list(csv.reader(io.StringIO(text, newline="")))
        self.assertEqual(rows, [["n", "text"], *([str(n), name] for n, name in expected)])

    def test_messagepack(self) -> None:
        data = self.query(self.NUMBERS, MSGPACK)
        columns, *rows, last = sequence(data, of=ROWS + 2)
        self.assertEqual([column["name"] for column in columns], ["n", "text"])
        self.assertEqual(rows[-1], [ROWS, f"row {ROWS}"])
        self.assertEqual(last, {"row_count": ROWS, "truncated": False})

    def test_arrow(self) -> None:
        table = pa.ipc.open_stream(self.query(self.NUMBERS, ARROW)).read_all()
        self.assertEqual(table.num_rows, ROWS)
        self.assertEqual(table.column("n").to_pylist(), list(range(1, ROWS + 1)))
        item = "select id, name, data, price from items"
        self.assertEqual(
            pa.ipc.open_stream(self.query(item, ARROW)).read_all().to_pylist(),
            [{"id": 1, "name": 'one "é"', "data": b"\0\1\xff", "price": 1.5}],
        )

    def test_what_fails_on_its_way_never_looks_complete(self) -> None:
        failing = self.NUMBERS.replace(
            "x as n", f"case x when {ROWS - 1} then abs(-9223372036854775808) else x end as n"
        )
        body = json.dumps({"sql": failing}).encode()
        found = {}
        for kind in ("application/json", "text/csv", ARROW, "application/x-ndjson", MSGPACK):
            answer = self.curl("POST", "/query", "-H", f"Accept: {kind}", data=body, whole=False)
            self.assertEqual(answer.status, 200)
            found[kind] = answer.body
        last = json.loads(found["application/x-ndjson"].splitlines()[-1])
        self.assertEqual((last["code"], last["status"]), ("query_failed", 422))
        at = found[MSGPACK].rindex(b"\xa4type\xbfurn:") - 1
        last = msgspec.msgpack.decode(found[MSGPACK][at:])
        self.assertEqual((last["code"], last["status"]), ("query_failed", 422))
        self.assertFalse(found[ARROW].endswith(b"\xff\xff\xff\xff\0\0\0\0"))
        with self.assertRaises(pa.ArrowInvalid):
            pa.ipc.open_stream(found[ARROW]).read_all()

    def test_what_comes_out_goes_in_again(self) -> None:
        item = "select id + 1 as id, name, price from items"
        for kind in ("text/csv", "application/x-ndjson", ARROW):
            data = self.query(item, kind)
            content = ("-H", f"Content-Type: {kind}")
            answer = self.curl("POST", "/load/items?on_conflict=update", *content, data=data)
            self.assertEqual((answer.status, answer.json), (200, {"row_count": self.count() - 1}))
        self.assertEqual(self.count(), 4)

    def test_a_large_load_is_streamed(self) -> None:
        data = b"id,name\n" + b"".join(b'%d,"x, %d"\n' % (n, n) for n in range(10, 200_010))
        answer = self.curl(
            "POST",
            "/load/items",
            "-H",
            "Content-Type: text/csv",
            "-H",
            "Transfer-Encoding: chunked",
            data=data,
        )
        self.assertEqual((answer.status, answer.json), (200, {"row_count": 200_000}))
        self.assertEqual(self.count(), 200_001)

    def test_hostile_messagepack_is_a_problem(self) -> None:
        for data in (b"\x91" * 1_000_000, b"\xdd\xff\xff\xff\xff", b"\xc1", b"\xdf" * 100):
            answer = self.curl("POST", "/query", "-H", f"Content-Type: {MSGPACK}", data=data)
            self.assertEqual((answer.status, answer.json["code"]), (400, "bad_request"))


class Sessions(GatewayCase):
    def open(self, agent: str) -> str:
        answer = self.post("/sessions", None, "-H", f"X-Agent: {agent}")
        self.assertEqual(answer.status, 201)
        identifier: str = answer.json["session"]
        headers = dict(line.split(": ", 1) for line in answer.headers.splitlines()[1:])
        location = {name.lower(): value for name, value in headers.items()}["location"]
        self.assertEqual(location, f"sessions/{identifier}")
        return identifier

    def test_every_call_of_a_session_reaches_its_agent(self) -> None:
        for agent in self.names:
            session = self.open(agent)
            self.assertEqual(session.partition("~")[0], agent)
            insert = {"sql": "insert into items (name) values (?)", "params": ["x"]}
            for number in range(20):
                answer = self.post(f"/sessions/{session}/execute", insert)
                self.assertEqual(answer.status, 200, answer.body)
                count = {"sql": "select count(*) from items"}
                answer = self.post(f"/sessions/{session}/query", count)
                self.assertEqual(answer.json["rows"], [[number + 2]])
            self.assertEqual(self.count(), 1)
            answer = self.post(f"/sessions/{session}/queries/named", {"params": {"id": 1}})
            self.assertEqual(answer.json["rows"], [['one "é"']])
            self.assertEqual(self.post(f"/sessions/{session}/rollback").json, {"ok": True})
            self.assertEqual(self.curl("DELETE", f"/sessions/{session}").status, 204)
            gone = self.post(f"/sessions/{session}/commit")
            self.assertEqual((gone.status, gone.json["code"]), (404, "not_found"))

    def test_another_callers_session_is_not_there(self) -> None:
        session = self.open(self.names[0])
        stranger = self.first.token("bob", f"{GROUP}:database:*:*")
        own, self.token = self.token, stranger
        try:
            answer = self.post(f"/sessions/{session}/commit")
        finally:
            self.token = own
        self.assertEqual((answer.status, answer.json["code"]), (404, "not_found"))
        self.assertEqual(self.curl("DELETE", f"/sessions/{session}").status, 204)

    def test_a_session_ends_with_its_agent(self) -> None:
        deployments = {self.name_of(each): each for each in (self.site.first, self.site.second)}
        staying, leaving = self.names
        kept, lost = self.open(staying), self.open(leaving)
        delete = {"sql": "delete from items"}
        self.assertEqual(self.post(f"/sessions/{lost}/execute", delete).status, 200)
        deployments[leaving].agent.stop()  # type: ignore[union-attr]
        wait_until(lambda: active(self.first) == [staying])
        answer = self.post(f"/sessions/{lost}/commit")
        self.assertEqual((answer.status, answer.json["code"]), (503, "agent_inactive"))
        self.assertIn(leaving, answer.json["detail"])
        self.assertEqual(self.count(), 1)
        deployments[leaving].start_agent()
        wait_until(lambda: len(active(self.first)) == 2)
        answer = self.post(f"/sessions/{lost}/commit")
        self.assertEqual((answer.status, answer.json["code"]), (404, "not_found"))
        self.assertEqual(self.post(f"/sessions/{kept}/commit").status, 200)
        self.curl("DELETE", f"/sessions/{kept}")

    def name_of(self, deployment: Deployment) -> str:
        argv = [command("workato-agent"), "status", "--json", f"--config={deployment.config}"]
        found: str = json.loads(run(argv, cwd=deployment.folder))["agent"]["name"]
        return found

    def test_the_secret_of_an_id_is_in_no_log(self) -> None:
        session = self.open(self.names[0])
        self.post(f"/sessions/{session}/query", {"sql": "select 1"})
        self.curl("DELETE", f"/sessions/{session}")
        secret = session.partition("~")[2]
        files = [*self.folder.rglob("*.log"), *self.folder.rglob("audit*")]

        def written() -> str:
            return "".join(path.read_text() for path in files if path.is_file())

        wait_until(lambda: f"sessions/{self.names[0]}~*/query" in written())
        self.assertNotIn(secret, written())
