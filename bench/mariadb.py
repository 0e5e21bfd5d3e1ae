"""A throw-away MariaDB with one big table, and how fast PyMySQL reads it directly.

``python -m bench.mariadb PORT`` reads it and prints rows a second.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pymysql
from pymysql.cursors import SSCursor

from demo.processes import Background, free_port, run

from .postgres import PASSWORD

ROWS = 300_000
SQL = "select * from measurements"
_SERVER = "/usr/sbin/mariadbd"
_TABLE = f"""
create table measurements as
select seq as id,
       concat('customer ', seq) as name,
       cast(seq * 7 % 1000000 / 100.0 as decimal(12, 2)) as amount,
       cast(seq / 3.0 as double) as ratio,
       seq % 3 = 0 as active,
       timestamp '2024-01-01 00:00:00' + interval seq minute as created,
       date '2020-01-01' + interval seq % 3650 day as day,
       md5(seq) as code,
       case when seq % 5 = 0 then null else concat('a note of row ', seq) end as note,
       seq % 1000 as quantity
from seq_1_to_{ROWS}
"""


def start_mariadb(folder: Path, running: list[Background]) -> int:
    """A server with the table loaded: its port."""
    port = free_port()
    home = folder / "mariadb"
    home.mkdir()
    demoted: list[str] = []
    if os.geteuid() == 0:
        run(["chown", "mysql:mysql", str(home)], cwd=folder)
        demoted = ["setpriv", "--reuid=mysql", "--regid=mysql", "--clear-groups"]
    data = f"--datadir={home}/data"
    run(
        [*demoted, "mariadb-install-db", "--no-defaults", data, "--skip-test-db",
         "--auth-root-authentication-method=normal"],
        cwd=home,
    )  # fmt: skip
    server = Background.start(
        "mariadb",
        [*demoted, _SERVER, "--no-defaults", data, f"--port={port}", f"--socket={home}/socket",
         f"--pid-file={home}/pid", "--bind-address=127.0.0.1", "--skip-name-resolve",
         "--innodb-buffer-pool-size=256M", "--innodb-flush-log-at-trx-commit=0"],
        cwd=folder,
    )  # fmt: skip
    running.append(server)
    server.wait_until(lambda: _serves(port), "serving")
    root = pymysql.connect(host="127.0.0.1", port=port, user="root")
    with root, root.cursor() as cursor:
        cursor.execute("create database shop")
        cursor.execute("use shop")
        cursor.execute(_TABLE)
        cursor.execute(f"create user bench identified by '{PASSWORD}'")
        cursor.execute("grant all on shop.* to bench")
        root.commit()
    return port


def _serves(port: int) -> bool:
    try:
        pymysql.connect(host="127.0.0.1", port=port, user="root").close()
    except pymysql.Error:
        return False
    return True


def read_directly(port: int) -> float:
    """Rows a second by PyMySQL's server-side cursor, in a process of its own."""
    root = Path(__file__).parent.parent
    return float(run([sys.executable, "-m", "bench.mariadb", str(port)], cwd=root))


def main(port: str) -> None:
    """Read the table once and print rows a second."""
    connection: Any = pymysql.connect(
        host="127.0.0.1",
        port=int(port),
        user="bench",
        password=PASSWORD,
        database="shop",
        cursorclass=SSCursor,
    )
    began = time.perf_counter()
    count = 0
    with connection.cursor() as cursor:
        cursor.execute(SQL)
        for _row in cursor:
            count += 1
    print(count / (time.perf_counter() - began))


if __name__ == "__main__":
    main(*sys.argv[1:])
