"""What a profile's policy lets callers ask of the database: ``adhoc``, ``read_only``, ``tables``.

The database's own means come first (a read-only transaction, the rights of the profile's user).
What is here is decided before a statement is sent: it closes the ways around those means, and it
holds where the database has none. Whatever can't be understood is refused.
"""

from __future__ import annotations

from typing import Final, Self

from attrs import frozen

from workato_tunnel.problems import Problem

from .guard_lexis import PRODUCTS
from .guard_patterns import NotListed, Patterns, Reference, Refused, fold
from .guard_readonly import call_reason, reason
from .guard_tables import check
from .parameters import Number
from .settings import DatabasePolicy
from .statements import Dialect, Statement, TableName

NAMED: Final = "queries"
"""The operation whose statements the customer wrote: ``adhoc`` and ``tables`` don't apply."""


@frozen
class Guard:
    """Judges what a caller asks of one profile. Every method raises Problem ``policy_denied``.

    The problem's ``rule`` is ``adhoc``, ``read_only`` or ``tables``.
    """

    _policy: DatabasePolicy
    _product: str
    _dialect: Dialect
    _patterns: Patterns | None = None

    @classmethod
    def of(cls, policy: DatabasePolicy, product: str, dialect: Dialect) -> Self:
        """The guard of a profile: its policy, and its adapter's ``type`` and ``dialect``.

        Raises ValueError for ``tables`` of a database of which it isn't known how it reads SQL.
        """
        if policy.tables is None:
            return cls(policy, product, dialect)
        reads = product if product in PRODUCTS else policy.dialect
        if reads not in PRODUCTS:
            raise ValueError(
                f"policy.tables: name the database's SQL in policy.dialect ({', '.join(PRODUCTS)})"
            )
        return cls(policy, product, dialect, Patterns.of(policy.tables, reads, policy.database))

    def check_statement(self, statement: Statement, operation: str) -> None:
        """A statement, bound to its values, also one of a session.

        ``operation`` is ``query``, ``execute``, ``batch`` or ``queries`` for a named one. See
        :attr:`parses`.
        """
        if operation != NAMED and not self._policy.adhoc:
            raise _denied(
                "adhoc",
                f"{operation} with a statement of the caller's own is not allowed",
                "the profile's policy allows named queries only: call queries/NAME",
            )
        if self._policy.read_only:
            self._deny_writing(reason(statement.sql, self._dialect, self._product))
        if self._patterns is not None and operation != NAMED:
            self._check_tables(statement, self._patterns)

    def check_table(self, table: TableName, operation: str) -> None:
        """A table that ``load`` writes or ``schema`` shows."""
        if operation == "load" and self._policy.read_only:
            self._deny_writing("load writes")
        if not self.shows(table):
            raise self._not_listed(str(table))

    def check_procedure(self, procedure: TableName) -> None:
        """A procedure or function that ``call`` runs."""
        if self._policy.read_only:
            self._deny_writing(call_reason(procedure, self._product))
        if self._patterns is not None:
            raise _denied(
                "tables",
                f"{procedure} can't be called: it is not known which tables it touches",
                "the profile's policy lists tables: ask for a named query that makes this call",
            )

    def shows(self, table: TableName) -> bool:
        """Whether the list of tables may name this one."""
        if self._patterns is None:
            return True
        product = self._patterns.product
        schema = None if table.schema is None else fold(table.schema, product, quoted=True)
        name = fold(table.name, product, quoted=True)
        return self._patterns.covers(Reference(None, schema, name))

    @property
    def parses(self) -> bool:
        """Whether a check takes so long that it belongs in a thread."""
        return self._patterns is not None

    def _check_tables(self, statement: Statement, patterns: Patterns) -> None:
        rendered = statement.render(_stand_in)
        try:
            check(rendered.sql, patterns.product, patterns)
        except NotListed as refusal:
            raise self._not_listed(str(refusal.table)) from None
        except Refused as refusal:
            extra: dict[str, object] = {"rule": "tables"}
            if refusal.offset is not None:
                extra["position"] = rendered.caller_position(refusal.offset + 1)
            raise Problem(
                "policy_denied",
                f"the statement can't be checked against the tables of the policy: {refusal}",
                hint="the profile's policy lists tables, and what can't be understood is refused",
                extra=extra,
            ) from None

    def _not_listed(self, table: str) -> Problem:
        allowed = self._policy.tables or ()
        qualify = "." not in table and any("." in text for text in allowed)
        return _denied(
            "tables",
            f"the table {table} is not among those that the policy lists",
            f"the profile's policy lists {', '.join(allowed)}"
            + ("; a table is named with its schema, as it is there" if qualify else ""),
        )

    def _deny_writing(self, why: str | None) -> None:
        if why is not None:
            raise _denied("read_only", why, "the profile's policy is read_only: send one query")


def _denied(rule: str, detail: str, hint: str) -> Problem:
    return Problem("policy_denied", detail, hint=hint, extra={"rule": rule})


def _stand_in(value: object) -> str:
    """What stands for a parameter's value: something of its kind, apart from what is around it."""
    if value is None:
        return " NULL "
    if isinstance(value, bool):
        return " TRUE "
    return " 0 " if isinstance(value, (int, Number)) else " '' "
