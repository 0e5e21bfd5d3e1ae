"""The calls of the demo. Each checks its answer and says what it has shown."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from .caller import Answer, Caller, WrongAnswerError
from .onprem_app import STOCK

_SHOP = "/v1/groups/demo/database/shop"
_REPORTS = "/v1/groups/demo/files/reports"


@frozen
class Stage:
    """What the steps act on.

    :ivar reader: a caller whose token covers reading files and nothing else.
    :ivar checksum: SHA-256 of the report in the folder.
    """

    folder: Path
    caller: Caller
    reader: Caller
    checksum: str

    def rows(self, sql: str, *parameters: object) -> list[list[object]]:
        """The same query, straight from the database file."""
        connection = sqlite3.connect(self.folder / "shop.db")
        try:
            return [list(row) for row in connection.execute(sql, parameters)]
        finally:
            connection.close()


def _expect(answer: Answer, status: int) -> Answer:
    if answer.status != status:
        raise WrongAnswerError(f"expected {status}, got {answer.status}: {answer.body[:500]!r}")
    return answer


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise WrongAnswerError(f"{what}: expected {expected!r:.500}, got {found!r:.500}")


def test_profile(stage: Stage) -> str:
    """Is the database there? The agent connects and tells"""
    answer = _expect(stage.caller.call("GET", _SHOP), 200)
    _same("ok", answer.json().get("ok"), True)
    return "the agent opened the database"


def query_json(stage: Stage) -> str:
    """A SQL query with a parameter, as JSON"""
    sql = (
        "select c.name, sum(o.amount) as total from orders o join customers c on c.id = o.customer"
        " where c.region = {} group by c.id order by total desc, c.id limit 3"
    )
    body = {"sql": sql.format(":region"), "params": {"region": "north"}}
    answer = _expect(stage.caller.call("POST", f"{_SHOP}/query", body=body), 200)
    _same("rows", answer.json()["rows"], stage.rows(sql.format("?"), "north"))
    return "the rows are those that are in the database file"


def query_csv(stage: Stage) -> str:
    """All orders, streamed as CSV"""
    sql = "select id, customer, amount, day from orders order by id"
    answer = _expect(
        stage.caller.call(
            "POST", f"{_SHOP}/query", body={"sql": sql}, headers={"Accept": "text/csv"}, show=80
        ),
        200,
    )
    header, *rows = csv.reader(io.StringIO(answer.body.decode(), newline=""))
    _same("header", header, ["id", "customer", "amount", "day"])
    _same("rows", rows, [[str(value) for value in row] for row in stage.rows(sql)])
    return f"{len(rows):,} rows, each as in the database file"


def download(stage: Stage) -> str:
    """A file of 8 MiB out of the folder"""
    path = f"{_REPORTS}/content/2026/annual%20report.bin"
    answer = _expect(stage.reader.call("GET", path), 200)
    _same("SHA-256", hashlib.sha256(answer.body).hexdigest(), stage.checksum)
    return f"its SHA-256 is the file's: {stage.checksum[:16]}…"


def upload(stage: Stage) -> str:
    """A file into the folder, checked on arrival, and read back"""
    content = os.urandom(200_000)
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    path = f"{_REPORTS}/content/inbox.bin"
    answer = stage.caller.call(
        "PUT", path, body=content, headers={"Content-Digest": f"sha-256=:{digest}:"}
    )
    _expect(answer, 201)
    _same("on disk", (stage.folder / "reports" / "inbox.bin").read_bytes(), content)
    _same("read back", _expect(stage.caller.call("GET", path), 200).body, content)
    return "on disk and read back it is what was sent"


def call_app(stage: Stage) -> str:
    """An application behind the firewall that wants a password; only the agent knows it"""
    answer = _expect(stage.caller.call("GET", "/v1/groups/demo/http/stock/items/hinge-m8"), 200)
    _same("stock", answer.json(), STOCK)
    return "the application let the agent in, and the caller never saw the password"


def wrong_sql(stage: Stage) -> str:
    """A mistake in the SQL: the database's own words, and a stable code"""
    body = {"sql": "select nmae from customers"}
    answer = _expect(stage.caller.call("POST", f"{_SHOP}/query", body=body), 422)
    _same("code", answer.json()["code"], "query_failed")
    if "nmae" not in str(answer.json()["detail"]):
        raise WrongAnswerError("the detail does not name the column")
    return "refused, and the reason names the column"


def write_refused(stage: Stage) -> str:
    """A write, to a database that the agent's owner made read-only"""
    body = {"sql": "delete from orders"}
    before = stage.rows("select count(*) from orders")
    answer = _expect(stage.caller.call("POST", f"{_SHOP}/execute", body=body), 403)
    _same("code", answer.json()["code"], "policy_denied")
    _same("orders", stage.rows("select count(*) from orders"), before)
    return "refused by the agent: the gateway can ask, never widen"


def outside_the_folder(stage: Stage) -> str:
    """A path that leads out of the folder"""
    answer = stage.caller.call("GET", f"{_REPORTS}/content/%2E%2E/%2E%2E/etc/passwd")
    if answer.status not in {400, 403, 404}:
        raise WrongAnswerError(f"expected a refusal, got {answer.status}")
    return "refused: the folder is all that callers reach"


def forbidden(stage: Stage) -> str:
    """A token that covers reading files asks the database"""
    answer = _expect(stage.reader.call("POST", f"{_SHOP}/query", body={"sql": "select 1"}), 403)
    _same("code", answer.json()["code"], "forbidden")
    return "refused by the gateway: the call never reached the agent"


STEPS: tuple[Callable[[Stage], str], ...] = (
    test_profile,
    query_json,
    query_csv,
    download,
    upload,
    call_app,
    wrong_sql,
    write_refused,
    outside_the_folder,
    forbidden,
)
