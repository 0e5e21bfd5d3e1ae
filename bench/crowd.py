"""Many callers with small queries at once, in a process of its own.

``python -m bench.crowd SPEC`` prints what they met with: p50 and p99 in milliseconds, and how many
queries were lost.
"""

from __future__ import annotations

import http.client
import json
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from demo.processes import run

CALLERS = 200
EACH = 25
POOL = 10
SQL = (
    "select id, name, amount from (values (1, 'one', 1.5), (2, 'two', 2.5)) as t (id, name, amount)"
)


@frozen
class Crowd:
    """Who asks: by HTTP where there is a path, else with psycopg2 on a pool of ten.

    :ivar dsn: PostgreSQL's.
    """

    dsn: str = ""
    port: int = 0
    path: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@frozen
class Met:
    """Milliseconds that a query took, and queries that were not answered."""

    p50: float
    p99: float
    lost: int


def crowd(what: Crowd) -> Met:
    """Let them ask, 200 callers 25 queries each."""
    root = Path(__file__).parent.parent
    argv = [sys.executable, "-m", "bench.crowd", json.dumps(asdict(what))]
    return Met(**json.loads(run(argv, cwd=root, seconds=300)))


def _by_http(what: Crowd) -> Callable[[], AbstractContextManager[Callable[[], bool]]]:
    body = json.dumps({"sql": SQL}).encode()
    headers = {**dict(what.headers), "Content-Type": "application/json"}

    @contextmanager
    def caller() -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", what.port, timeout=60)

        def ask() -> bool:
            connection.request("POST", what.path, body, headers)
            response = connection.getresponse()
            content = response.read()
            return response.status == 200 and b'"row_count":2' in content.replace(b" ", b"")

        yield ask
        connection.close()

    return caller


def _direct(what: Crowd) -> Callable[[], AbstractContextManager[Callable[[], bool]]]:
    import psycopg2  # noqa: PLC0415 - of this kind of caller only

    pool: queue.Queue[Any] = queue.Queue()
    for _ in range(POOL):
        connection = psycopg2.connect(what.dsn)
        connection.autocommit = True
        pool.put(connection)

    def ask() -> bool:
        connection = pool.get()
        try:
            with connection.cursor() as cursor:
                cursor.execute(SQL)
                return len(cursor.fetchall()) == 2
        finally:
            pool.put(connection)

    return lambda: nullcontext(ask)


def main(spec: str) -> None:
    """Print as JSON what the callers met with."""
    document = json.loads(spec)
    document["headers"] = tuple((name, value) for name, value in document["headers"])
    what = Crowd(**document)
    callers = _by_http(what) if what.path else _direct(what)
    together = threading.Barrier(CALLERS)
    took: list[float] = []
    lost: list[str] = []

    def one() -> None:
        with callers() as ask:
            ask()
            together.wait()
            for _ in range(EACH):
                began = time.perf_counter()
                try:
                    answered = ask()
                except (OSError, http.client.HTTPException) as error:
                    lost.append(repr(error))
                else:
                    took.append(time.perf_counter() - began)
                    if not answered:
                        lost.append("no rows")

    threads = [threading.Thread(target=one) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    missing = CALLERS * EACH - len(took)
    took.sort()
    met = Met(
        p50=took[len(took) // 2] * 1000,
        p99=took[int(len(took) * 0.99)] * 1000,
        lost=max(len(lost), missing),
    )
    print(json.dumps(asdict(met)))


if __name__ == "__main__":
    main(sys.argv[1])
