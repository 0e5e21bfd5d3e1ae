"""A throw-away PostgreSQL with one big table, and how fast psycopg2 reads it directly.

``python -m bench.postgres PORT fetchall|cursor`` reads it and prints rows a second.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psycopg2

from demo.processes import Background, ProgramError, free_port, run

ROWS = 1_000_000
SQL = "select * from measurements"
PASSWORD = "throw-away"
_TABLE = f"""
create table measurements as
select n as id,
       'customer ' || n as name,
       (n * 7 % 1000000) / 100.0::numeric(12, 2) as amount,
       n / 3.0::double precision as ratio,
       n % 3 = 0 as active,
       timestamptz '2024-01-01 00:00:00+00' + n * interval '1 minute' as created,
       date '2020-01-01' + n % 3650 as day,
       md5(n::text)::uuid as code,
       case when n % 5 = 0 then null else 'a note of row ' || n end as note,
       n % 1000 as quantity
from generate_series(1, {ROWS}) as n
"""


def start_postgres(folder: Path, running: list[Background]) -> int:
    """The newest PostgreSQL installed, as an unprivileged user, with the table loaded: its port."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parts[-2])
    if not programs:
        raise ProgramError("PostgreSQL's server is not installed (apt: postgresql)")
    port = free_port()
    home = folder / "postgres"
    home.mkdir()
    demoted: list[str] = []
    if os.geteuid() == 0:
        run(["chown", "nobody:nogroup", str(home)], cwd=folder)
        demoted = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    (home / "password").write_text(PASSWORD, encoding="utf-8")
    (home / "password").chmod(0o644)
    run(
        [*demoted, str(programs[-1] / "initdb"), f"--pgdata={home}/data", "--username=bench",
         "--auth=scram-sha-256", f"--pwfile={home}/password", "--no-sync", "--encoding=UTF8"],
        cwd=home,
    )  # fmt: skip
    server = Background.start(
        "postgres",
        [*demoted, str(programs[-1] / "postgres"), "-D", f"{home}/data", "-p", str(port),
         "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={home}",
         "-c", "fsync=off", "-c", "shared_buffers=512MB", "-c", "max_wal_size=4GB",
         "-c", "autovacuum=off"],
        cwd=folder,
    )  # fmt: skip
    running.append(server)
    server.wait_until(lambda: _serves(port), "serving")
    connection = psycopg2.connect(dsn(port))
    with connection, connection.cursor() as cursor:
        cursor.execute(_TABLE)
    connection.close()
    return port


def _serves(port: int) -> bool:
    """It listens a moment before it lets anybody in."""
    try:
        psycopg2.connect(dsn(port)).close()
    except psycopg2.OperationalError:
        return False
    return True


def read_directly(port: int, how: str) -> float:
    """Rows a second by psycopg2 in a process of its own, ``fetchall`` or ``cursor``."""
    root = Path(__file__).parent.parent
    return float(run([sys.executable, "-m", "bench.postgres", str(port), how], cwd=root))


def dsn(port: int) -> str:
    """How to reach it."""
    return f"host=127.0.0.1 port={port} dbname=postgres user=bench password={PASSWORD}"


def main(port: str, how: str) -> None:
    """Read the table once and print rows a second."""
    connection = psycopg2.connect(dsn(int(port)))
    began = time.perf_counter()
    count = 0
    if how == "fetchall":
        with connection.cursor() as cursor:
            cursor.execute(SQL)
            count = len(cursor.fetchall())
    else:
        with connection.cursor("reader") as cursor:
            cursor.itersize = 2000
            cursor.execute(SQL)
            for _row in cursor:
                count += 1
    print(count / (time.perf_counter() - began))


if __name__ == "__main__":
    main(*sys.argv[1:])
