"""Columns that some databases take for the call of a function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .guard_patterns import Refused

if TYPE_CHECKING:
    from sqlglot import exp

_ROW_FIELDS: Final = frozenset(("key", "value", "ordinality"))


def check_columns(tree: exp.Expr, product: str) -> None:
    """Refuse what may be a function. Raises Refused."""
    if product in ("postgresql", "redshift"):
        _check_fields(tree)
    elif product == "oracle":
        _check_qualifiers(tree)


def _check_fields(tree: exp.Expr) -> None:
    """PostgreSQL takes ``g.f``, where ``g`` is the result of a function, for a call of ``f(g)``."""
    results: dict[str, set[str]] = {}
    for node in tree.walk():
        if type(node).__name__ == "TableAlias" and node.this is not None and not _is_named(node):
            columns = {column.name.lower() for column in node.args.get("columns") or ()}
            results.setdefault(node.this.this.lower(), set()).update(columns)
    for node in tree.walk():
        table = node.args.get("table")
        if type(node).__name__ != "Column" or type(table).__name__ != "Identifier" or not table:
            continue
        qualifier = table.this.lower()
        if qualifier not in results or type(node.this).__name__ == "Star":
            continue
        if node.name.lower() not in results[qualifier] | _ROW_FIELDS | {qualifier}:
            raise Refused(
                f"{table.this}.{node.name} may be a function: name the columns of {table.this}, "
                f"as in AS {table.this}({node.name})",
                table.meta.get("start"),
            )


def _check_qualifiers(tree: exp.Expr) -> None:
    """Oracle takes ``p.f`` for a function of package or schema ``p`` where that is no table."""
    known = set()
    for node in tree.walk():
        if type(node).__name__ in ("Table", "TableAlias") and hasattr(node.this, "name"):
            known.add(node.this.name.lower())
    for node in tree.walk():
        if type(node).__name__ != "Column":
            continue
        table = node.args.get("table")
        if table is not None and table.name.lower() not in known:
            raise Refused(
                f"{table.name}.{node.name} is no column of a table here", table.meta.get("start")
            )


def _is_named(alias: exp.Expr) -> bool:
    """Whether it is the alias of a table or a query, and not of what a function brings."""
    owner = alias.parent
    kind = type(owner).__name__
    if kind == "Table" and owner is not None:
        return type(owner.this).__name__ == "Identifier"
    if kind == "Lateral" and owner is not None:
        return type(owner.this).__name__ == "Subquery"
    return kind in ("CTE", "Subquery", "Values")
