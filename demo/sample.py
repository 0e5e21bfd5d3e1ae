"""What stands behind the firewall in the demo: a database, a folder, and their owner's config."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from pathlib import Path

CUSTOMERS, ORDERS = 400, 6_000
APP_USER, APP_PASSWORD = "agent", "known-to-the-agent-only"
_REGIONS = ("north", "south", "east", "west")
_WORDS = ("Acme", "Birch", "Cobalt", "Delta", "Ember", "Fjord", "Granit", "Härtel", "Iris", "Jura")

# Decided here so that each run shows the same numbers.
_SEED = 20


def make_database(path: Path) -> None:
    """Customers and their orders in SQLite."""
    choose = random.Random(_SEED)  # noqa: S311 (sample data)
    connection = sqlite3.connect(path)
    with connection:
        connection.executescript(
            """
            create table customers
                (id integer primary key, name text not null, region text not null);
            create table orders
                (id integer primary key, customer integer not null references customers,
                 amount integer not null, day text not null);
            """
        )
        connection.executemany(
            "insert into customers values (?, ?, ?)",
            (
                (number, f"{choose.choice(_WORDS)} {number}", choose.choice(_REGIONS))
                for number in range(1, CUSTOMERS + 1)
            ),
        )
        connection.executemany(
            "insert into orders values (?, ?, ?, ?)",
            (
                (
                    number,
                    choose.randint(1, CUSTOMERS),
                    choose.randint(5, 5_000),
                    f"2026-{choose.randint(1, 12):02}-{choose.randint(1, 28):02}",
                )
                for number in range(1, ORDERS + 1)
            ),
        )
    connection.close()


def make_folder(path: Path) -> str:
    """A folder with a report of 8 MiB; returns the report's SHA-256."""
    (path / "2026").mkdir(parents=True)
    content = random.Random(_SEED).randbytes(8 * 1024 * 1024)  # noqa: S311 (sample data)
    (path / "2026" / "annual report.bin").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def agent_sections(database: Path, folder: Path, app_port: int) -> str:
    """The agent's config: what its owner lets callers reach, and how."""
    return f"""
database:
  shop:
    adapter: sqlite
    database: {database}
    policy: {{read_only: true}}

files:
  reports:
    base: {folder}

http:
  stock:
    base_url: http://127.0.0.1:{app_port}
    methods: [GET]
    auth:
      basic: {{username: {APP_USER}, password: {APP_PASSWORD}}}
"""
