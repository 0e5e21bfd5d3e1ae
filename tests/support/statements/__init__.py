"""Statements for a profile that may touch ``sales.*`` and ``products``, by database.

``allowed_…`` holds what analysts write, each ending in a semicolon at the end of a line;
``denied_…`` holds, a line each, what reaches for more.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TABLES: Final = ("sales.*", "products")
PRODUCTS: Final = ("postgresql", "redshift", "mysql", "sqlite", "sqlserver", "oracle")
SAMPLE_TABLES: Final = (
    "sales.orders", "sales.lines", "sales.customers", "sales.parts", "products", "secret",
)  # fmt: skip
SAMPLE_COLUMNS: Final = """
    id int, x int, total numeric, region text, day date, customer_id int, order_id int,
    quantity int, price numeric, country text, name text, product text, product_id int,
    discount numeric, balance numeric, shipped int, cancelled int, a int, b int, parent int,
    checked int, surname text, email text, gone int, c int, primary key (id)
    """
"""Of every sample table, enough for most statements to be valid."""

_TOKEN: Final = re.compile(r"\s+|\w+|'[^']*'|.", re.DOTALL)
_REACHING: Final = (
    "secret", ", secret", "from secret", "table secret", "(table secret)", "join secret on true",
    "(select x from secret)", "in secret", "in (secret)", "only secret", "secret s", "(secret)",
    "union table secret", "union select x from secret", "into secret", "secret.x", "'secret'",
    '"secret"', "`secret`", "[secret]", "secret()", "secret(x)", "using secret", "as secret",
    "returning (select x from secret)", "secret, sales.orders", "lateral secret", "secret.*",
    "with secret as (select 1 x)", "with recursive secret as (select 1 x)", "array(table secret)",
    "exists (table secret)", "= any (table secret)", "for update of secret", "main.secret",
    "natural join secret", "cross join secret", "public.secret", "tablesample system (secret)",
    "over (partition by (table secret))", "filter (where exists (table secret))", "::secret",
    "at time zone (select x from secret)", "sales secret", "secret indexed by x", "not indexed",
    "window w as (order by (table secret))", "row(secret)", "values (1)", "leak(1)", ".leak",
    "(1).leak", "leak", "generate_series(1, 1) as leak", ", generate_series(1, 1) as g", "g.leak",
    "as", "from", "select", "(", ")", ",", "on", "with", "union", "order by", "limit", "not", "is",
    "null", "*", ".", "set", "where", "/* x */", "-- x\n", "case when", "end", "interval", "date",
    "default", "excluded",
)  # fmt: skip
_FOLDER: Final = Path(__file__).parent


def allowed(product: str) -> list[str]:
    """What has to pass."""
    text = _both("allowed", product)
    return [statement.strip() for statement in text.split(";\n") if statement.strip()]


def denied(product: str) -> list[str]:
    """What has to be refused."""
    return _both("denied", product).splitlines()


def spliced(product: str, *, seed: int, count: int) -> Iterator[str]:
    """Statements with pieces put in, taken out and exchanged; they name ``secret`` or ``leak``."""
    chance = random.Random(seed)
    pool = [*allowed(product), *denied(product)]
    for _ in range(count):
        sql = _spliced(chance, pool)
        if "secret" in sql or "leak" in sql:
            yield sql


def _spliced(chance: random.Random, pool: list[str]) -> str:
    tokens = _TOKEN.findall(chance.choice(pool))
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(tokens) + 1)
        how = chance.random()
        if how < 0.6:
            tokens.insert(at, f" {chance.choice(_REACHING)} ")
        elif how < 0.7:
            del tokens[at : at + 1]
        elif how < 0.85:
            tokens[at : at + 1] = [f" {chance.choice(_REACHING)} "]
        else:
            others = _TOKEN.findall(chance.choice(pool))
            begin = chance.randrange(len(others))
            tokens[at:at] = [" ", *others[begin : begin + chance.randrange(1, 8)], " "]
    return "".join(tokens)


def _both(kind: str, product: str) -> str:
    own = "postgresql" if product == "redshift" and kind == "denied" else product
    paths = (_FOLDER / f"{kind}_{name}.sql" for name in ("common", own))
    return "".join(path.read_text("utf-8") for path in paths if path.exists())
